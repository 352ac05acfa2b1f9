"""``autotrain fit``: train with a plan, or probe first."""

from __future__ import annotations

import json
import math
from contextlib import ExitStack
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from autotrain.cli.files import check_writable, write_whole
from autotrain.cli.options import INTERRUPTED, Options, default_of, flag, refuse
from autotrain.cli.probe import run_probe, story_console
from autotrain.cli.target import load_task
from autotrain.errors import AutotrainError

if TYPE_CHECKING:
    from torch import nn

    from autotrain.engine.events import FitEvent, FitObserver


@dataclass(frozen=True, slots=True, kw_only=True)
class FitOptions(Options):
    """What ``autotrain fit`` takes."""

    plan: Annotated[
        Path | None, typer.Option(help="Plan to train with; without one it is probed first.", show_default=False)
    ] = None
    save: Annotated[Path, typer.Option(help="Where to write the trained weights, a state_dict.")] = Path("model.pt")
    log: Annotated[
        Path | None, typer.Option(help="File for one line of JSON per epoch.", show_default=False)
    ] = None


def fit(options: FitOptions) -> int:
    """Train with a plan, or probe first and train with what was found; write the weights at the end.

    The target is TARGET, or --model and --data. Ctrl-C ends the training and writes the weights so far.
    """
    _check(options)
    from autotrain.plan.plan import Plan

    plan = None if options.plan is None else Plan.load(options.plan)
    task = load_task(options)
    from autotrain.api import fit as api_fit
    from autotrain.report.terminal import FitNarrator

    console = story_console()
    source: Plan | Path = plan_path if (plan_path := options.plan) is not None else run_probe(task, options, console).plan
    with ExitStack() as stack:
        narrator = stack.enter_context(FitNarrator(console, quiet=options.quiet))
        log = None if options.log is None else stack.enter_context(History(options.log))
        result = api_fit(task, plan=source, progress=False, fit_observer=_both(narrator, log))
    write_whole(options.save, lambda stream: _save(result.model, stream))
    if not options.quiet:
        console.print(f"\nWrote the weights to {options.save}", soft_wrap=True, markup=False)
    del plan
    return INTERRUPTED if result.interrupted else 0
