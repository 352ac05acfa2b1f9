"""``autotrain explain``: what a plan sets, why, and whether it holds on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from autotrain.cli.options import Interruption

Plan_ = Annotated[Path, typer.Argument(metavar="PLAN", help="A plan, as autotrain probe wrote it.", show_default=False)]


def explain(
    plan: Plan_,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Write the explanation as JSON.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Say in words what a plan sets, why, where it was made, and what speaks against it here.

    Measures nothing and needs no task. The exit code is 0 whether the plan holds here or not.
    """
    del debug  # main reads it
    try:
        _explain(plan, as_json=as_json)
    except KeyboardInterrupt:
        raise Interruption from None


def _explain(path: Path, *, as_json: bool) -> None:
    from autotrain.hardware.machine import machine_facts
    from autotrain.plan.plan import Plan
    from autotrain.report.explanation import explanation
    from autotrain.report.lines import show
    from autotrain.search.planner import machine_provenance

    plan = Plan.load(path)
    here = machine_provenance(machine_facts())
    if as_json:
        print(json.dumps(_values(plan, here), indent=1, allow_nan=False))
        return
    from autotrain.cli.probe import story_console

    show(story_console(), explanation(plan, here, name=str(path)))


def _values(plan: Any, here: Any) -> dict[str, Any]:
    from dataclasses import asdict

    from autotrain.report.explanation import edited, told

    return {
        "plan": plan.as_dict(),
        "settings": [asdict(entry) for entry in told(plan)],
        "edited": list(edited(plan)),
        "differences": list(plan.differences(here)),
    }
