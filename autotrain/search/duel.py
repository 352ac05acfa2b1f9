"""The duel: fresh rigs, interleaved in random order, paired. The only source of claims."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from autotrain.errors import CandidateError
from autotrain.measure.heat import Contender, HeatOptions, heat
from autotrain.measure.measurement import Window
from autotrain.measure.session import DuelRecord
from autotrain.settings import Settings
from autotrain.stats.compare import pairs_needed
from autotrain.workload import Workload

__all__ = ["Contender", "DuelOptions", "Turns", "all_pairs", "duel", "interleave"]

FIRST_PAIRS, MOST_PAIRS = 10, 120
"""Pairs of a duel's first stage, and of both stages together."""

HALF_WIDTH = 0.025
"""How wide the ratio's interval may be on each side; the second stage is as long as that takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DuelOptions:
    """How long a duel lasts; fixed before its first turn, but for the second stage, which looks at the noise alone."""

    pairs: int = FIRST_PAIRS
    """Pairs of the first stage."""

    most_pairs: int = MOST_PAIRS
    half_width: float = HALF_WIDTH
    """Wanted half-width of the interval, as a share of the ratio."""

    turns: int = 2
    """Turns that a side takes in a pair."""

    turn_s: float = 0.1
    """Shortest turn; one step where a step takes longer."""

    turn_steps: int = 4
    """Fewest steps of a turn on an asynchronous device."""

    warmup_s: float = 1.0
    """Untimed seconds of each side before the first turn, at least."""

    limit_s: float = math.inf
    """Seconds after which no further pair begins, however few there were: others may slow the machine down."""

    def heat_options(self, rounds: int) -> HeatOptions:
        """Return the options of a heat in which nobody is left behind."""
        return HeatOptions(
            rounds=rounds,
            turns=self.turns,
            turn_s=self.turn_s,
            turn_steps=self.turn_steps,
            warmup_s=self.warmup_s,
            behind=None,
            limit_s=self.limit_s,
        )


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
        options=options.heat_options(options.pairs),
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


def interleave(
    workload: Workload,
    contenders: Sequence[Settings],
    *,
    rounds: int,
    options: DuelOptions = DuelOptions(),
    seed: int = 0,
    on_round: Callable[[tuple[float | None, ...]], None] | None = None,
) -> list[tuple[float, ...]]:
    """Run all contenders in each round, in random order; return images/s, one tuple per complete round.

    Raises:
        CandidateError: a contender failed.
    """
    result = heat(workload, contenders, options=options.heat_options(rounds), seed=seed, report=on_round)
    for lane in result.lanes:
        if lane.problem is not None:
            raise CandidateError(lane.problem)
    return list(zip(*(lane.rates for lane in result.lanes), strict=True))
