"""The duel: fresh rigs, interleaved in random order, paired. The only source of claims."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from autotrain.engine.rig import Rig
from autotrain.measure.burst import BurstOptions, discard, run_window
from autotrain.measure.clock import Clock
from autotrain.measure.drive import FullDrive
from autotrain.measure.session import DuelRecord
from autotrain.settings import Settings
from autotrain.workload import Workload

FEWEST_PAIRS, MOST_PAIRS = 8, 16
"""Pairs of a duel; the number is fixed before its first turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DuelOptions:
    """How long a duel lasts."""

    pairs: int = 8
    turn_s: float = 0.7
    """Shortest timed part of a turn."""

    turn_steps: int = 4
    """Fewest steps of a turn on an asynchronous device; on a CPU two are enough."""

    warmup_s: float = 1.5
    """Untimed seconds of each side before the first turn, at least."""


class Contender:
    """One side of a duel: a live rig whose workers are frozen while it is not its turn.

    A loader left to itself would fill its stock while the other side runs, on the other side's time, and then serve its
    own turn from it. Frozen by SIGSTOP its state is the same when its turn comes again. Where workers cannot be frozen
    (Windows), each turn first drains twice the stock instead.
    """

    def __init__(self, workload: Workload, settings: Settings, stack: ExitStack, options: DuelOptions) -> None:
        self.settings = settings
        self._clock = Clock()
        self._rig = stack.enter_context(Rig(workload, settings))
        self._drive = FullDrive(self._rig, self._clock)
        steps = max(2, options.turn_steps if self._drive.asynchronous else 2)
        self._window = BurstOptions(window_s=options.turn_s, window_steps=steps)
        self._least_steps = steps
        stack.callback(self._rig.input.loader.resume)

    def warm_up(self, seconds: float) -> None:
        """Run untimed until the loader's stock is used twice over and the time is up."""
        loader = self._rig.input.loader
        with self._rig.active():
            started, steps = self._clock.now(), 0
            while steps < 2 + 2 * self._drive.stock or self._clock.now() - started < seconds:
                discard(self._drive, 1)
                steps += 1
                if self._clock.now() - started > 4 * seconds:
                    break
        loader.pause()

    def turn(self) -> float:
        """Take a turn; return its images/s."""
        loader = self._rig.input.loader
        frozen = loader.resume()
        with self._rig.active():
            discard(self._drive, 1 if frozen or not self._drive.stock else 2 * self._drive.stock)
            images, seconds, steps = 0, 0.0, 0
            while steps < self._least_steps or seconds < self._window.window_s:
                window = run_window(self._drive, self._window, self._clock)
                images, seconds, steps = images + window.images, seconds + window.wall_s, steps + window.steps
        self._drive.losses.clear()
        loader.pause()
        return images / seconds


def duel(
    workload: Workload,
    baseline: Settings,
    candidate: Settings,
    *,
    options: DuelOptions,
    seed: int = 0,
    on_pair: Callable[[int, float, float], None] | None = None,
) -> DuelRecord:
    """Let two settings run against each other; return the paired rates.

    Raises:
        CandidateError: a side failed.
    """
    rates = interleave(
        workload,
        (baseline, candidate),
        rounds=options.pairs,
        options=options,
        seed=seed,
        on_round=None if on_pair is None else lambda number, pair: on_pair(number, pair[0], pair[1]),
    )
    return DuelRecord(
        baseline=baseline,
        candidate=candidate,
        baseline_rates=tuple(pair[0] for pair in rates),
        candidate_rates=tuple(pair[1] for pair in rates),
    )


def interleave(
    workload: Workload,
    contenders: Sequence[Settings],
    *,
    rounds: int,
    options: DuelOptions,
    seed: int = 0,
    on_round: Callable[[int, Sequence[float]], None] | None = None,
) -> list[tuple[float, ...]]:
    """Run all contenders in each round, in random order; return images/s, one tuple per complete round.

    Raises:
        CandidateError: a contender failed.
    """
    order = random.Random(seed)
    rows: list[tuple[float, ...]] = []
    with ExitStack() as stack:
        sides = []
        for settings in contenders:
            sides.append(Contender(workload, settings, stack, options))
            sides[-1].warm_up(options.warmup_s)
        for number in range(rounds):
            rates = [0.0] * len(sides)
            for place in order.sample(range(len(sides)), len(sides)):
                rates[place] = sides[place].turn()
            rows.append(tuple(rates))
            if on_round is not None:
                on_round(number + 1, rates)
    return rows
