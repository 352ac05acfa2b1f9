"""``autotrain compare``: how two plans differ and, where a task is given, which of them is faster here."""

from __future__ import annotations

import json
import shlex
import sys
from contextlib import nullcontext, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autotrain.cli.options import Options
from autotrain.cli.probe import story_console
from autotrain.cli.target import load_task

if TYPE_CHECKING:
    from rich.console import Console

    from autotrain.measure.session import Session
    from autotrain.plan.plan import Plan

CANNOT_TELL, SLOWER = 3, 4
"""Exit codes of a duel that the second plan has not won: nobody has, or the first has."""

NOT_FOR_COMPARING = ("allow", "fix", "study", "sampler", "compile")
"""Options of a search."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareOptions(Options):
    """What ``autotrain compare`` takes."""

    one: Annotated[Path, typer.Argument(metavar="A", help="A plan.", show_default=False)]
    other: Annotated[Path, typer.Argument(metavar="B", help="Another plan.", show_default=False)]
    budget: Annotated[str, typer.Option(help="How long the duel may take, such as 90s; auto: a minute.")] = "auto"
    json: Annotated[bool, typer.Option("--json", help="Write the comparison as JSON, all else not.")] = False


def compare(options: CompareOptions) -> int:
    """Say how two plans differ; with a TARGET, or --model and --data, let them meet in a duel on this machine.

    Exit code: without a task 0. With one 0 where B is faster than A beyond the noise, 4 where it is slower, 3 where
    neither is proven. Ctrl-C: 130.
    """
    from autotrain.plan.plan import Plan

    one, other = Plan.load(options.one), Plan.load(options.other)
    with redirect_stdout(sys.stderr) if options.json else nullcontext():
        console = story_console()
        session = _compare(options, one, other, console)
    if options.json:
        print(json.dumps(_values(one, other, session), indent=1, allow_nan=False), flush=True)
    return 0 if session is None else _code(session)


def _compare(options: CompareOptions, one: Plan, other: Plan, console: Console) -> Session | None:
    from autotrain.report.comparison import side_by_side, unsettled, verdict
    from autotrain.report.lines import show

    loud = not (options.quiet or options.json)
    if loud:
        show(console, side_by_side(one, other, (str(options.one), str(options.other))))
    if (options.target, options.model, options.data) == (None, None, None):
        again = f"autotrain compare {shlex.join((str(options.one), str(options.other)))} TARGET"
        if loud:
            show(console, unsettled(again))
        return None
    session = _duel(options, one, other, console)
    if not options.quiet:
        show(console, verdict(session))
    return session


def _duel(options: CompareOptions, one: Plan, other: Plan, console: Console) -> Session:
    from autotrain.comparison import duel_of_plans
    from autotrain.report.comparison import lettered
    from autotrain.report.terminal import ProbeNarrator

    task = load_task(options)
    names = str(options.one), str(options.other)
    with ProbeNarrator(console, quiet=options.quiet) as narrator:
        told = lettered(narrator)
        return duel_of_plans(
            task, one, other, names=names, budget=options.budget, isolate=options.isolate, observer=told
        )


def _code(session: Session) -> int:
    from autotrain.report.comparison import decided
    from autotrain.stats.compare import Verdict

    comparison = decided(session)
    found = Verdict.INCONCLUSIVE if comparison is None else comparison.verdict
    return {Verdict.FASTER: 0, Verdict.SLOWER: SLOWER, Verdict.INCONCLUSIVE: CANNOT_TELL}[found]


def _values(one: Plan, other: Plan, session: Session | None) -> dict[str, Any]:
    from autotrain.report.comparison import decided

    theirs = other.settings.as_dict()
    changes = one.settings.changes(other.settings)
    values: dict[str, Any] = {
        "settings": {name: {"A": value, "B": theirs[name]} for name, value in changes.items()},
        "A": one.as_dict(),
        "B": other.as_dict(),
        "duel": None,
    }
    comparison = None if session is None else decided(session)
    if session is not None:
        record = session.final_duel
        values["duel"] = {
            "verdict": None if comparison is None else comparison.verdict.value,
            "ratio": None if comparison is None else comparison.ratio.as_dict(),
            "pairs": None if record is None else asdict(record),
        }
    return values
