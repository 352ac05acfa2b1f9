"""``autotrain probe``: measure, search, prove, and write the plan."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext, redirect_stdout
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autotrain.cli.files import check_writable
from autotrain.cli.options import INTERRUPTED, Options, flag
from autotrain.cli.target import load_task
from autotrain.world import world

if TYPE_CHECKING:
    from rich.console import Console

    from autotrain.api import ProbeResult
    from autotrain.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeOptions(Options):
    """What ``autotrain probe`` takes."""

    out: Annotated[Path, typer.Option(help="Where to write the plan.")] = Path("plan.yaml")
    json: Annotated[
        bool, typer.Option("--json", help="Write plan, finding and session as JSON to standard output, all else not.")
    ] = False
    session: Annotated[
        Path | None, typer.Option(help="Where to write all measurements, as JSON.", show_default=False)
    ] = None
    report: Annotated[Path | None, typer.Option(help="Where to write an HTML report.", show_default=False)] = None


def probe(options: ProbeOptions) -> int:
    """Measure a training job, search for the fastest settings, prove them, and write them as a plan.

    The target is TARGET, or --model and --data. Ctrl-C ends the search early and proves the best found so far.
    """
    check_writable(options.out, "--out")
    for path, name in ((options.session, "--session"), (options.report, "--report")):
        if path is not None:
            check_writable(path, name)
    options.fixed()
    if world().rank:  # one rank tells what all do, and writes
        run_probe(load_task(options), replace(options, quiet=True), story_console())
        return 0
    with redirect_stdout(sys.stderr) if options.json else nullcontext():
        console = story_console()
        result = run_probe(load_task(options), options, console)
        replaced = options.out.exists()
        result.plan.save(options.out)
        written = _write_more(result, options)
        if not options.quiet:
            again = f"autotrain fit {options.again()} {flag('plan')} {options.out}"
            console.print(
                f"\n{'Replaced' if replaced else 'Wrote'} {options.out}. Train with it:", soft_wrap=True, markup=False
            )
            console.print(f"  {again}", soft_wrap=True, markup=False)
            for words in written:
                console.print(words, soft_wrap=True, markup=False)
    if options.json:
        print(json.dumps(as_dict(result), indent=1, allow_nan=False), flush=True)
    return INTERRUPTED if result.plan.evidence.verdict == "not proven" else 0


def _write_more(result: ProbeResult, options: ProbeOptions) -> list[str]:
    """Write session and report where they are wanted; return a line about each."""
    written = []
    if options.session is not None:
        result.session.save(options.session)
        written.append(f"Wrote {options.session}, all measurements.")
    if options.report is not None:
        from autotrain.report.html.page import save_report

        save_report(options.report, result.session, result.plan, result.finding)
        written.append(f"Wrote {options.report}. Open it in a browser.")
    return written


def story_console() -> Console:
    """Return a console on what is standard output now."""
    from rich.console import Console

    return Console(highlight=False)


def run_probe(task: Task, options: Options, console: Console, *, before_training: bool = False) -> ProbeResult:
    """Probe a task, telling the story and the result unless quiet."""
    from autotrain.api import probe as api_probe
    from autotrain.report.summary import show_result
    from autotrain.report.terminal import ProbeNarrator

    with ProbeNarrator(console, quiet=options.quiet, verbose=options.debug) as narrator:
        result = api_probe(
            task,
            budget=options.budget,
            allow=options.allow.value,
            fix=options.fixed(),
            study=options.study,
            optuna_sampler=options.sampler.value,
            compile=options.compile.value,
            isolate=options.isolate,
            before_training=before_training,
            progress=False,
            observer=narrator,
        )
    if not options.quiet:
        show_result(result.session, result.plan, result.finding, console)
    return result


def as_dict(result: ProbeResult) -> dict[str, Any]:
    """Return all that a probe gives as values that JSON has; what is not finite is null."""
    from autotrain.report.html.facts import finite

    finding: dict[str, Any] | None = None
    if result.finding is not None:
        finding = asdict(result.finding) | {"bottleneck": result.finding.bottleneck.value}
    values = {"plan": result.plan.as_dict(), "finding": finding, "session": json.loads(result.session.to_json())}
    return {name: finite(value) for name, value in values.items()}
