"""The command ``autotrain``: its commands, and how their errors become one line and an exit code."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

import typer

from autotrain import __version__
from autotrain.cli.cache import cache
from autotrain.cli.compare import NOT_FOR_COMPARING, CompareOptions, compare
from autotrain.cli.doctor import doctor
from autotrain.cli.explain import explain
from autotrain.cli.export import export
from autotrain.cli.fit import FitOptions, fit
from autotrain.cli.options import INTERRUPTED, Interruption, command
from autotrain.cli.probe import ProbeOptions, probe
from autotrain.cli.report import report
from autotrain.cli.simd import simd
from autotrain.errors import AutotrainError
from autotrain.installation import check_installation

USAGE, UNEXPECTED = 2, 1
"""Exit codes: what the user gave does not work; autotrain itself failed."""

app = typer.Typer(
    name="autotrain",
    help="Measures a PyTorch vision training job on this machine, proves which settings are fastest, trains with them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("probe", short_help="Measure, search, prove; write the plan.")(command(ProbeOptions, probe))
app.command("fit", short_help="Train with a plan, or probe first.")(command(FitOptions, fit))
app.command("explain", short_help="Say what a plan sets, why, and whether it holds here.")(explain)
app.command("compare", short_help="Say how two plans differ; with a task, which is faster.")(
    command(CompareOptions, compare, first=("one", "other"), without=NOT_FOR_COMPARING)
)
app.command("export", short_help="Write a plan for Lightning, Accelerate, timm and others.")(export)
app.command("report", short_help="Write a stored session as an HTML page.")(report)
app.command("doctor", short_help="Check this environment for what costs.")(doctor)
app.command("cache", short_help="List or remove disk caches of samples.")(cache)
app.command("simd", short_help="Build Pillow-SIMD, a faster decoder.")(simd)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"autotrain {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    del version


def main() -> None:
    """Run the command line and exit with its code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a file name in another encoding must not end the command
            stream.reconfigure(errors="backslashreplace")
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command line; return the exit code.

    Returns:
        0; 2 for what the user can mend; 130 after Ctrl-C; 1 for what should not have happened; doctor's 3 for findings.
    """
    debug = "--debug" in arguments
    with _warnings_shown(logging.INFO if debug else logging.WARNING):
        try:
            if "doctor" not in arguments[:1]:  # which tells of it itself, beside all else
                check_installation()
            app(args=list(arguments), prog_name="autotrain")
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else int(end.code is not None)
        except (Interruption, KeyboardInterrupt):
            _complain("interrupted", debug=False)
            return INTERRUPTED
        except AutotrainError as problem:
            _complain(f"error: {one_line(str(problem))}", debug=debug)
            return USAGE
        except Exception as problem:
            hint = "" if debug else ". Run again with --debug to see where"
            what = f"{type(problem).__name__}: {one_line(str(problem))}".rstrip(": .")
            _complain(f"error: unexpected {what}{hint}", debug=debug)
            return UNEXPECTED
    return 0


def one_line(text: str) -> str:
    """Return a message on one line, whatever it quotes."""
    return " ".join(text.split())


def _complain(text: str, *, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    print(f"autotrain: {text}", file=sys.stderr, flush=True)


class _Lines(logging.Handler):
    """Writes records as ``autotrain: warning: ...`` to whatever standard error is at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        print(f"autotrain: {record.levelname.lower()}: {one_line(record.getMessage())}", file=sys.stderr, flush=True)


@contextmanager
def _warnings_shown(level: int) -> Iterator[None]:
    """Show autotrain's own log while a command runs."""
    log, handler, before = logging.getLogger("autotrain"), _Lines(level), logging.getLogger("autotrain").level
    log.addHandler(handler)
    log.setLevel(level)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before)
