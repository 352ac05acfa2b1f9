"""``autotrain export``: a plan as another library's own configuration, or the schema of plans for editors."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autotrain.cli.files import check_writable, write_whole
from autotrain.cli.options import Interruption
from autotrain.errors import AutotrainError

if TYPE_CHECKING:
    from autotrain.integrations.target import Target
    from autotrain.plan.plan import Plan


class Library(StrEnum):
    """Where a plan can be taken."""

    LIGHTNING = "lightning"
    ACCELERATE = "accelerate"
    TRANSFORMERS = "transformers"
    TIMM = "timm"
    COMPOSER = "composer"
    RAY = "ray"
    JSON = "json"


Plan_ = Annotated[Path | None, typer.Argument(metavar="PLAN", help="A plan.", show_default=False)]
To = Annotated[Library | None, typer.Option(help="The library; json: the whole plan.", show_default=False)]
Out = Annotated[Path | None, typer.Option(help="Where to write it; standard output if not given.", show_default=False)]


def export(
    plan: Plan_ = None,
    *,
    to: To = None,
    out: Out = None,
    schema: Annotated[bool, typer.Option("--schema", help="Write the JSON schema of plans, for editors.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Do not tell what is lost.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Write what of a plan another library can express, in its own form; say on standard error what is lost.

    The library need not be installed. What was measured was autotrain's own loader and step: how fast a training with
    the exported part is, nobody has measured.
    """
    del debug  # main reads it
    try:
        if schema:
            _schema(plan, to, out)
        else:
            _export(plan, to, out, quiet=quiet)
    except KeyboardInterrupt:
        raise Interruption from None


def _schema(plan: Path | None, to: Library | None, out: Path | None) -> None:
    if plan is not None or to is not None:
        raise AutotrainError("--schema: is that of all plans; give it without a PLAN and without --to")
    from autotrain.plan.schema import plan_schema

    _write(json.dumps(plan_schema(), indent=2) + "\n", out)


def _export(plan: Path | None, to: Library | None, out: Path | None, *, quiet: bool) -> None:
    if plan is None or to is None:
        missing = "PLAN" if plan is None else "--to"
        raise AutotrainError(f"{missing}: missing. Give both, such as autotrain export plan.yaml --to lightning")
    from autotrain.integrations.targets import target
    from autotrain.plan.plan import Plan

    loaded, wanted = Plan.load(plan), target(to.value)
    text = wanted.text(loaded)
    _write(text, out)
    if not quiet and to is not Library.JSON:
        _tell(wanted, loaded)


def _write(text: str, out: Path | None) -> None:
    if out is None:
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    check_writable(out, "--out")
    write_whole(out, lambda stream: stream.write(text.encode()))
    print(f"Wrote {out}", file=sys.stderr)


def _tell(wanted: Target, plan: Plan) -> None:
    """Say on standard error what the text does not hold, and what nobody has measured."""
    from rich.console import Console

    from autotrain.integrations.draft import promise
    from autotrain.report.lines import Line, show

    def lines() -> Iterable[Line]:
        yield Line(text=promise(plan, wanted.title))
        for words in wanted.missing(wanted.draft(plan)):
            indent = len(words) - len(words.lstrip())
            yield Line(lead="  - " if indent else "", text=words.lstrip())

    show(Console(stderr=True, highlight=False), lines())
