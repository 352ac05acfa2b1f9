"""``autotrain doctor``: check the environment, say what each finding costs and how to mend it."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated

import typer

from autotrain import __version__
from autotrain.cli.options import Interruption
from autotrain.errors import InstallationError

PROBLEMS = 3
"""Exit code where something slows training down or may crash it."""


def doctor(
    *,
    data: Annotated[
        Path | None, typer.Option(help="Folder with the training's files: their size and storage's speed.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Import no torch, measure little: about two seconds.")] = False,
    skip: Annotated[
        list[str] | None, typer.Option(metavar="CHECK", help="A check to leave out, by its name; may be repeated.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON to standard output, all else not.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.", show_default=False)] = False,
) -> None:
    """Check this environment: what slows training down or may crash it, what that costs, and how to mend it.

    Exit codes: 0, nothing to mend (something may be worth knowing); 3, something slows training down or may crash it;
    2, wrong usage; 1, the doctor itself failed.
    """
    del debug  # looked for by whoever runs the command
    try:
        healthy = _examine(data, quick=quick, skip=skip or [], as_json=as_json)
    except KeyboardInterrupt:
        raise Interruption from None
    except ModuleNotFoundError as missing:
        raise InstallationError(
            f"the doctor itself needs {missing.name}, which is not installed. Install what autotrain requires, from "
            "your copy of its repository: pip install ."
        ) from missing
    raise SystemExit(0 if healthy else PROBLEMS)


def _examine(data: Path | None, *, quick: bool, skip: list[str], as_json: bool) -> bool:
    from rich.console import Console

    from autotrain.doctor.checks import CHECKS
    from autotrain.doctor.examine import examine
    from autotrain.doctor.facts import Facts
    from autotrain.doctor.folders import check_folder
    from autotrain.doctor.show import show_examination
    from autotrain.report.status import StatusLine

    if data is not None:
        check_folder(data)
    console = Console(highlight=False)
    facts = Facts(data=data, quick=quick)
    if as_json:
        with redirect_stdout(sys.stderr):
            found = examine(facts, CHECKS, skip=skip)
        about = {"autotrain": __version__, "machine": facts.machine.as_dict(), **found.as_dict()}
        print(json.dumps(about, indent=1, allow_nan=False), flush=True)
        return found.healthy
    status = StatusLine(console)
    try:
        found = examine(facts, CHECKS, skip=skip, observer=lambda name: status.show(f"checking: {name} ..."))
    finally:
        status.close()
    console.print(f"autotrain {__version__} on {facts.machine.describe()}", soft_wrap=True, markup=False)
    show_examination(found, console)
    return found.healthy
