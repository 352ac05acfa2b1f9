"""The numerics guard: a candidate must learn as well as fp32 does, from the same start on the same batches."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace
from itertools import pairwise

from autotrain.engine.rig import Rig
from autotrain.knobs.base import Effect
from autotrain.knobs.registry import effects
from autotrain.measure.clock import Clock
from autotrain.measure.drive import FullDrive
from autotrain.measure.session import Guard
from autotrain.settings import Settings
from autotrain.workload import Workload

OTHER_ORDERS = 2
"""Reference runs with other seeds and orders, beside the one with the candidate's own."""

SPREADS = 3.0
"""Spreads of the reference runs by which a candidate's loss may be worse."""

LEAST_SPREAD = 0.02
"""Smallest spread that is believed, as a share of the loss: few runs can agree by chance."""


def needs_guard(settings: Settings, default: Settings) -> bool:
    """Tell whether settings change the rounding."""
    return Effect.NUMERICS in effects(settings, default)


def guard(workload: Workload, candidate: Settings, default: Settings, *, steps: int) -> Guard:
    """Train the same first ``steps`` batches with the candidate and with the default, and compare the losses.

    Raises:
        CandidateError: a run failed.
    """
    reference = replace(
        candidate,
        precision=default.precision,
        memory_format=default.memory_format,
        placement=default.placement,
        decoder=default.decoder,
        resize=default.resize,
        threads=default.threads,
    )
    losses, skipped = _losses(workload, candidate, steps)
    references = [_losses(workload, reference, steps)[0]]
    for number in range(1, OTHER_ORDERS + 1):
        other = replace(workload, task=replace(workload.task, seed=workload.seed + 7919 * number))
        references.append(_losses(other, reference, steps)[0])
    problem = judge(losses, tuple(references), skipped=skipped)
    return Guard(settings=candidate, candidate=losses, references=tuple(references), problem=problem)


def judge(candidate: tuple[float, ...], references: tuple[tuple[float, ...], ...], *, skipped: int = 0) -> str | None:
    """Return why a candidate's losses disqualify it, or None.

    Args:
        candidate: losses by step.
        references: the same of default runs: the candidate's own order first, then other seeds and orders.
        skipped: steps that the loss scaler left out.

    Only *worse* counts: the mean loss of the second half, against the reference run of the same order, by more than
    three times the spread between reference runs.
    """
    finite = [all(map(math.isfinite, run)) for run in references]
    if not all(finite):
        return None  # the default itself diverges here: nothing can be said against the candidate
    for step, loss in enumerate(candidate):
        if not math.isfinite(loss):
            return f"the loss is {loss} at step {step + 1}, where the default's is {references[0][step]:.3f}"
    if skipped > max(2, len(candidate) // 4):
        return f"the loss scaler skipped {skipped} of {len(candidate)} steps"
    tails = [_tail(run) for run in references]
    spread = max(statistics.stdev(tails), LEAST_SPREAD * abs(tails[0]))
    worse = _tail(candidate) - tails[0]
    if worse > SPREADS * spread:
        return (
            f"the loss after {len(candidate)} steps is {_tail(candidate):.3f}, the default's {tails[0]:.3f}: "
            f"worse by {worse / spread:.1f} times the spread between runs"
        )
    return None


def _tail(losses: tuple[float, ...]) -> float:
    return statistics.fmean(losses[len(losses) // 2 :])


def _losses(workload: Workload, settings: Settings, steps: int) -> tuple[tuple[float, ...], int]:
    with Rig(workload, settings, stop=steps) as rig, rig.active():
        drive = FullDrive(rig, Clock())
        scales = [] if rig.step.scaler is None else [rig.step.scaler.get_scale()]
        for _ in range(steps):
            drive.step()
            if rig.step.scaler is not None:
                scales.append(rig.step.scaler.get_scale())
        skipped = sum(later < earlier for earlier, later in pairwise(scales))
        return drive.loss_values(), skipped
