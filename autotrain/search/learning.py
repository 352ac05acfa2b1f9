"""Whether a candidate's short training learned as well as the default's: losses, statistics, evaluation."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence

from autotrain.search.gradients import UPDATE_RATIO, Check, Noise, moves
from autotrain.search.trial import Excerpts, Outcome

Losses = tuple[float, ...]

SPREADS = 3.0
"""Standard errors of a difference between two runs by which a candidate may be worse."""

LEAST_SPREAD = 0.02
"""Smallest spread that is believed, as a share of the loss: few runs can agree by chance."""

LEAST_EVALUATION_SPREAD = 0.1
"""The same in evaluation mode, where the statistics of a few steps stand in for those of a batch."""

OTHER_ORDERS, STATISTICS_FLOOR = 5.0, 0.5
"""Differences between orders, and share of its own change, by which a buffer may be off after the other steps."""

UNSTABLE = 1.5
"""Runs whose loss grows by more than this factor say nothing about learning."""


def judge(candidate: Losses, references: Sequence[Losses], *, skipped: int = 0) -> str | None:
    """Return why a candidate's losses disqualify it, or None.

    Args:
        candidate: losses by step.
        references: the same of default runs: the candidate's own order first, then other seeds and orders.
        skipped: steps that the loss scaler left out.

    Only *worse* counts: the mean loss of the second half, against the reference run of the same order, by more than
    three standard errors of a difference between runs.
    """
    for check in (number_check(candidate, references, skipped=skipped), learning_check(candidate, references)):
        if check.problem is not None:
            return check.problem
    return None


def outcome_checks(candidate: Outcome, references: Sequence[Outcome], noise: Noise) -> Iterator[Check]:
    """Compare whole runs; ``references`` as for ``judge``."""
    losses = [entry.losses for entry in references]
    yield number_check(candidate.losses, losses, skipped=candidate.skipped)
    yield learning_check(candidate.losses, losses)
    if not stable(losses):
        return
    yield moves(candidate.moved, references[0].moved, noise, f"from step 2 to {len(candidate.losses)}")
    yield _statistics_check(candidate.statistics, [entry.statistics for entry in references], noise)
    yield _evaluation_check(candidate.evaluation, [entry.evaluation for entry in references])


def number_check(candidate: Losses, references: Sequence[Losses], *, skipped: int = 0) -> Check:
    """Look for losses that are no numbers, and for steps that the loss scaler left out."""
    name = "finite losses"
    if not _finite(references):
        return Check(
            name=name, share=0.0
        )  # the default itself diverges here: nothing can be said against the candidate
    for step, loss in enumerate(candidate):
        if not math.isfinite(loss):
            words = f"the loss is {loss} at step {step + 1}, where the default's is {references[0][step]:.3f}"
            return Check(name=name, share=math.inf, problem=words)
    allowed = max(2, len(candidate) // 4)
    words = f"the loss scaler skipped {skipped} of {len(candidate)} steps"
    return Check(name=name, share=skipped / allowed, problem=words if skipped > allowed else None)


def learning_check(candidate: Losses, references: Sequence[Losses]) -> Check:
    """Compare the second halves of the losses."""
    name = "loss"
    if not stable(references):
        return Check(name=name, share=0.0)
    tails = [_tail(run) for run in references]
    spread = max(statistics.stdev(tails), _within(references), LEAST_SPREAD * abs(tails[0]))
    worse, allowed = _tail(candidate) - tails[0], SPREADS * math.sqrt(2) * spread
    words = (
        f"the loss after {len(candidate)} steps is {_tail(candidate):.3f}, the default's {tails[0]:.3f}: "
        f"worse by {worse / spread if spread else math.inf:.1f} times the spread between runs"
    )
    return _one_sided(name, worse, allowed, words)


def stable(references: Sequence[Losses]) -> bool:
    """Tell whether the default itself learns here, so that a candidate can do so worse."""
    return _finite(references) and all(_tail(run) <= UNSTABLE * run[0] or run[0] <= 0 for run in references)


def _statistics_check(candidate: Excerpts, references: Sequence[Excerpts], noise: Noise) -> Check:
    name, worst, problem = "later statistics", 0.0, None
    for buffer, theirs in references[0].items():
        if buffer not in candidate or not theirs.any() or not noise.kept(buffer):
            continue
        size, away = float(theirs.norm()), float((candidate[buffer] - theirs).norm())
        between = max(float((entry[buffer] - theirs).norm()) for entry in references[1:])
        allowed = OTHER_ORDERS * between + STATISTICS_FLOOR * size
        own = float(candidate[buffer].norm())
        share = math.inf if not math.isfinite(away) or own == 0.0 else max(away / allowed, size / own / UPDATE_RATIO)
        if share > worst:
            worst = share
            problem = f"{buffer} has gone {away / size:.0%} of its way elsewhere than with the default"
            if not candidate[buffer].any():
                problem = f"{buffer} is not updated after the first step, where the default updates it"
    return Check(name=name, share=worst, problem=problem if worst > 1 else None)


def _evaluation_check(candidate: float, references: Sequence[float]) -> Check:
    name = "evaluation"
    if not all(map(math.isfinite, references)):
        return Check(name=name, share=0.0)
    if not math.isfinite(candidate):
        words = f"the loss in evaluation mode is {candidate}, where the default's is {references[0]:.3f}"
        return Check(name=name, share=math.inf, problem=words)
    spread = max(statistics.stdev(references), LEAST_EVALUATION_SPREAD * abs(references[0]))
    worse = candidate - references[0]
    words = f"the loss in evaluation mode is {candidate:.3f} after the steps, the default's {references[0]:.3f}"
    return _one_sided(name, worse, SPREADS * math.sqrt(2) * spread, words)


def _one_sided(name: str, worse: float, allowed: float, words: str) -> Check:
    share = max(0.0, worse) / allowed if allowed else math.inf if worse > 0 else 0.0
    return Check(name=name, share=share, problem=words if share > 1 else None)


def _finite(runs: Sequence[Losses]) -> bool:
    return all(math.isfinite(loss) for run in runs for loss in run)


def _tail(losses: Losses) -> float:
    return statistics.fmean(losses[len(losses) // 2 :])


def _within(runs: Sequence[Losses]) -> float:
    """Return the spread of a tail that the steps' own scatter about the mean of all runs explains."""
    half = len(runs[0]) // 2
    columns = list(zip(*(run[half:] for run in runs), strict=True))
    variance = statistics.fmean(statistics.variance(column) for column in columns)
    return math.sqrt(variance / len(columns))
