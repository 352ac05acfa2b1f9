"""The duel: fresh rigs, interleaved in random order, paired. The only source of claims."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from autotrain.errors import CandidateError
from autotrain.measure.heat import HeatOptions, heat
from autotrain.measure.measurement import Window
from autotrain.measure.session import DuelRecord
from autotrain.settings import Settings
from autotrain.stats.compare import pairs_needed
from autotrain.workload import Workload

FIRST_PAIRS, MOST_PAIRS = 10, 120
"""Pairs of a duel's first stage, and of both stages together."""

HALF_WIDTH = 0.022
"""How wide the ratio's interval may be on each side; the second stage is as long as that takes."""

TURNS = HeatOptions(warmup_s=1.0, behind=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class DuelOptions:
    """How long a duel lasts; fixed before its first turn, but for the second stage, which looks at the noise alone."""

    pairs: int = FIRST_PAIRS
    """Pairs of the first stage."""

    most_pairs: int = MOST_PAIRS
    half_width: float = HALF_WIDTH
    """Wanted half-width of the interval, as a share of the ratio."""

    heat: HeatOptions = TURNS
    """Its turns; nobody is left behind."""


def duel(
    workload: Workload,
    baseline: Settings,
    candidate: Settings,
    *,
    options: DuelOptions = DuelOptions(),
    seed: int = 0,
    report: Callable[[tuple[float | None, ...]], None] | None = None,
) -> DuelRecord:
    """Let two settings run against each other; return the paired rates.

    Raises:
        CandidateError: a side failed.
    """

    result = heat(
        workload,
        (baseline, candidate),
        options=replace(options.heat, rounds=options.pairs),
        seed=seed,
        report=report,
        more=lambda windows: all_pairs(Turns.of(windows[0]), Turns.of(windows[1]), options),
    )
    for lane in result.lanes:
        if lane.problem is not None:
            raise CandidateError(lane.problem)
    return DuelRecord(
        baseline=baseline,
        candidate=candidate,
        baseline_rates=result.lanes[0].rates,
        candidate_rates=result.lanes[1].rates,
        baseline_seconds=result.lanes[0].seconds,
        candidate_seconds=result.lanes[1].seconds,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """What one side did, by pair."""

    rates: tuple[float, ...]
    """Images/s."""

    seconds: tuple[float, ...]

    @classmethod
    def of(cls, windows: Sequence[Window]) -> Turns:
        """Return the turns of some windows."""
        return cls(
            rates=tuple(entry.images / entry.wall_s for entry in windows),
            seconds=tuple(entry.wall_s for entry in windows),
        )


def all_pairs(baseline: Turns, candidate: Turns, options: DuelOptions) -> int:
    """Return how many pairs a duel has in all, given the turns of its first stage."""
    needed = pairs_needed(
        baseline.rates,
        candidate.rates,
        half_width=options.half_width,
        seconds=(baseline.seconds, candidate.seconds),
    )
    return max(options.pairs, min(options.most_pairs, needed))
