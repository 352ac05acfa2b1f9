"""The proof: the best candidates meet, the best of them passes the guard, and beats the default in a duel or not."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import replace

from autotrain.errors import CandidateError
from autotrain.measure.failure import candidate
from autotrain.measure.measurement import Kind
from autotrain.measure.session import Session
from autotrain.search.budget import Budget
from autotrain.search.duel import FEWEST_PAIRS, MOST_PAIRS, DuelOptions, duel, interleave
from autotrain.search.events import Event, Noted, Stage, Turn
from autotrain.search.guard import guard, needs_guard
from autotrain.search.objective import best, candidates
from autotrain.search.recorder import Recorder, describe
from autotrain.settings import Settings
from autotrain.stats.compare import Verdict

log = logging.getLogger(__name__)

FINALISTS = 3
"""Candidates that meet in the play-off before the best of them meets the default."""

CLOSE = 0.88
"""Candidates whose screening rate is at least this share of the best one's are in the play-off."""

TIE = 1.015
"""Contenders within this factor of the play-off's best are equals, of which the one with the fewest changes wins."""

SHORT_S, FEWEST_IF_SHORT = 45.0, 5
"""Budgets below this get shorter turns in the duel, and need not pay for more pairs than these."""


class Proof:
    """Finds the finalist among what a session measured and puts it to the test.

    Args:
        recorder: holds the session and grows it.
        budget: says how many turns there is time for.
        tell: is told of stages and turns.
    """

    def __init__(self, recorder: Recorder, budget: Budget, tell: Callable[[Event], None]) -> None:
        self._recorder = recorder
        self._budget = budget
        self._tell = tell

    @property
    def _session(self) -> Session:
        return self._recorder.session

    @property
    def _default(self) -> Settings:
        return self._session.default

    def choose(self) -> Settings:
        """Return the settings that have beaten the default, or the default."""
        for _ in range(FINALISTS):
            finalist = self._play_off()
            if finalist is None or finalist == self._default:
                return self._default
            if self._passes_guard(finalist):
                return finalist if self._wins(finalist) else self._default
        return self._default

    def _play_off(self) -> Settings | None:
        """Return the best candidate, after those that are close to it have met each other, interleaved."""
        leader = best(self._session)
        if leader is None:
            return None
        policy = leader.settings.augmentation
        close = [
            entry
            for entry in sorted(candidates(self._session), key=lambda entry: -entry.rate.value)
            if entry.rate.value >= CLOSE * leader.rate.value and entry.settings.augmentation == policy
        ]
        contenders = [entry.settings for entry in close[:FINALISTS]]
        turn_s = max(0.7, 3.5 * self._step_s(leader.settings))
        rounds = min(6, int(0.22 * max(0.0, self._budget.left_s) / (len(contenders) * turn_s)))
        if len(contenders) < 2 or rounds < 2:
            return leader.settings
        self._tell(Stage(title="play-off", steps=rounds))
        options = DuelOptions(turn_s=0.5, warmup_s=0.5)
        workload = self._recorder.workload
        try:
            with candidate():
                rows = interleave(workload, contenders, rounds=rounds, options=options, seed=workload.seed)
        except CandidateError as problem:
            log.info("the play-off ended: %s", problem)
            return leader.settings
        winner = self._winner(contenders, rows)
        self._tell(Noted(words=f"first: {describe(winner, self._default)}"))
        return winner

    def _winner(self, contenders: list[Settings], rows: list[tuple[float, ...]]) -> Settings:
        scores = {
            contender: math.fsum(math.log(row[place]) for row in rows) / len(rows)
            for place, contender in enumerate(contenders)
        }
        tied = [entry for entry, score in scores.items() if score >= max(scores.values()) - math.log(TIE)]
        return min(tied, key=lambda entry: (len(entry.changes(self._default)), -scores[entry]))

    def _passes_guard(self, finalist: Settings) -> bool:
        if not needs_guard(finalist, self._default):
            return True
        steps = max(6, min(24, int(0.12 * self._budget.total_s / (4 * self._step_s(self._default)))))
        self._tell(Stage(title="numerics guard", steps=steps))
        try:
            with candidate():
                result = guard(self._recorder.workload, finalist, self._default, steps=steps)
        except CandidateError as problem:
            self._recorder.failed(finalist, str(problem))
            return False
        self._recorder.note(guards=(*self._session.guards, result))
        if result.problem:
            self._recorder.failed(finalist, f"numerics guard: {result.problem}")
        else:
            self._tell(Noted(words="passed"))
        return result.problem is None

    def _wins(self, finalist: Settings) -> bool:
        short = self._budget.total_s < SHORT_S
        options = DuelOptions(turn_s=0.5, warmup_s=0.5) if short else DuelOptions()
        pair_s = sum(max(options.turn_s + 0.3, 3.5 * self._step_s(side)) for side in (self._default, finalist))
        fewest = FEWEST_IF_SHORT if short else FEWEST_PAIRS
        pairs = max(fewest, min(MOST_PAIRS, int((self._budget.left_s - 2 * options.warmup_s) / pair_s)))
        self._tell(Stage(title="duel", steps=pairs))
        try:
            with candidate():
                record = duel(
                    self._recorder.workload,
                    self._default,
                    finalist,
                    options=replace(options, pairs=pairs),
                    seed=self._recorder.workload.seed,
                    on_pair=lambda pair, first, second: self._tell(
                        Turn(pair=pair, pairs=pairs, baseline_rate=first, candidate_rate=second)
                    ),
                )
        except CandidateError as problem:
            self._recorder.failed(finalist, f"failed in the duel: {problem}")
            return False
        self._recorder.note(duels=(*self._session.duels, record))
        comparison = record.comparison
        return comparison is not None and comparison.verdict is Verdict.FASTER

    def _step_s(self, settings: Settings) -> float:
        measured = self._session.find(Kind.FULL, settings) or self._session.of(Kind.FULL)[0]
        return self._recorder.workload.batch_size / measured.rate.value
