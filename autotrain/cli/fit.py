"""``autotrain fit``: train with a plan, or probe first."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from autotrain.cli.files import check_writable, write_whole
from autotrain.cli.options import INTERRUPTED, OF_THE_SEARCH, Interruption, Options, default_of, flag
from autotrain.cli.probe import run_probe, story_console
from autotrain.cli.target import load_task
from autotrain.errors import AutotrainError, CheckpointError
from autotrain.training import Training
from autotrain.world import world

if TYPE_CHECKING:
    from rich.console import Console
    from torch import nn

    from autotrain.plan.plan import Plan
    from autotrain.task import Task

_CHECKPOINTS = "Folder in which the training is kept, so that it can go on after whatever ends it."
_LOG = "Where every epoch is written down: a .jsonl or .csv file, or a folder for TensorBoard."
_ADAPT = "Try other numbers of workers between epochs when training runs slower than the plan."
_EMA = "Decay per step of an average of the weights, such as 0.9998; it is evaluated, and written beside --save."
_RESUME = "auto: go on from the latest of --checkpoints, if there is one; or the path of a checkpoint."


@dataclass(frozen=True, slots=True, kw_only=True)
class FitOptions(Options):
    """What ``autotrain fit`` takes."""

    plan: Annotated[
        Path | None, typer.Option(help="Plan to train with; without one it is probed first.", show_default=False)
    ] = None
    save: Annotated[Path, typer.Option(help="Where to write the trained weights, a state_dict.")] = Path("model.pt")
    log: Annotated[Path | None, typer.Option(help=_LOG, show_default=False)] = None
    checkpoints: Annotated[Path | None, typer.Option(help=_CHECKPOINTS, show_default=False)] = None
    every: Annotated[str, typer.Option(help="How often: 1ep, 500step, 10min...")] = "1ep"
    keep: Annotated[int, typer.Option(help="How many of the last checkpoints stay.", min=1)] = 3
    resume: Annotated[str, typer.Option(help=_RESUME)] = "never"
    adapt: Annotated[bool, typer.Option("--adapt", help=_ADAPT)] = False
    ema: Annotated[float | None, typer.Option(help=_EMA, show_default=False)] = None
    clip_norm: Annotated[
        float | None, typer.Option(help="Largest norm of the gradient; unlimited without.", show_default=False)
    ] = None


def fit(options: FitOptions) -> int:
    """Train with a plan, or probe first and train with what was found; write the weights at the end.

    The target is TARGET, or --model and --data. Ctrl-C ends the training and writes the weights so far.
    """
    _check(options)
    leads = world().rank == 0
    if not leads:  # one rank tells what all do
        options = replace(options, quiet=True)
    task = load_task(options)
    console = story_console()
    training = Training(
        log=options.log or (),
        checkpoints=options.checkpoints,
        every=options.every,
        keep=options.keep,
        resume=options.resume,
        adapt=options.adapt,
        ema=options.ema,
        clip_norm=options.clip_norm,
    )
    from autotrain.api import fit as api_fit
    from autotrain.engine.keeper import find
    from autotrain.preparation import device_of
    from autotrain.team import join

    # What cannot be gone on from is said before anything is probed.
    begun = join(device_of(task.device)).leaders(lambda: find(training) is not None)
    plan = options.plan if options.plan or begun else _probed(task, options, console)
    from autotrain.report.terminal import FitNarrator

    with ExitStack() as stack:
        narrator = stack.enter_context(FitNarrator(console, quiet=options.quiet))
        result = api_fit(task, plan=plan, training=training, progress=False, fit_observer=narrator)
    written = {options.save: result.model}
    if result.ema is not None:
        written[options.save.with_stem(f"{options.save.stem}-ema")] = result.ema
    for path, model in written.items() if leads else ():
        write_whole(path, partial(save_weights, model))
    if not options.quiet:
        console.print(f"\nWrote the weights to {' and '.join(map(str, written))}", soft_wrap=True, markup=False)
    if result.unsaved is not None:
        raise CheckpointError(f"{result.unsaved}. The weights are in {options.save}")
    return INTERRUPTED if result.interrupted else 0


def _check(options: FitOptions) -> None:
    """Find what cannot work before anything is loaded."""
    check_writable(options.save, "--save")
    if options.log is not None:
        from autotrain.report.logs import check_logs

        check_logs([options.log])
    options.fixed()
    if options.plan is None:
        return
    for entry in fields(options):
        if entry.name in OF_THE_SEARCH and getattr(options, entry.name) != default_of(entry):
            raise AutotrainError(
                f"{flag(entry.name)} is for probing, but with --plan nothing is probed: leave one of the two out"
            )
    from autotrain.plan.plan import Plan

    Plan.load(options.plan)


def _probed(task: Task, options: FitOptions, console: Console) -> Plan:
    plan = run_probe(task, options, console, before_training=True).plan
    if plan.evidence.verdict == "not proven":  # a second Ctrl-C: whoever pressed it does not wait for a training
        raise Interruption
    return plan


def save_weights(model: nn.Module, stream: IO[bytes]) -> None:
    """Write a model's state_dict, its tensors on the CPU so that it can be loaded anywhere."""
    import torch

    state = model.state_dict()
    for name, value in state.items():
        if isinstance(value, torch.Tensor):
            state[name] = value.detach().cpu()
    torch.save(state, stream)
