"""The proof: the best candidate passes the guard, and beats the default in a duel or not."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import replace

from autotrain.errors import CandidateError
from autotrain.knobs.micro_batches import indivisible
from autotrain.measure.contender import HeatOptions
from autotrain.measure.crew import apart
from autotrain.measure.measurement import Kind
from autotrain.measure.session import DuelRecord, Guard, Session
from autotrain.search.budget import DUEL_END, PLAY_OFF_END, Budget
from autotrain.search.duel import FIRST_PAIRS, HALF_WIDTH, MOST_PAIRS, DuelOptions, duel
from autotrain.search.events import Event, Noted, Stage, Turn
from autotrain.search.guard import guard, needs_guard
from autotrain.search.objective import step_s, turn_cost_s
from autotrain.search.recorder import Recorder, describe
from autotrain.search.tournament import Tournament
from autotrain.settings import Settings
from autotrain.stats.compare import Verdict

log = logging.getLogger(__name__)

TRIES = 3
"""Finalists of which the first that passes the guard meets the default."""

SHORT_S, FEWEST_PAIRS = 45.0, 6
"""Budgets below this, and those before a short training, need not pay for a longer first stage than these pairs."""

BRIEF_HALF_WIDTH, PARTS_OF_GAIN = 0.06, 6
"""Before a short training the interval may be as wide as a part of the gain that the heats saw, up to a limit."""

OVERHEAD = 1.15
"""Seconds of a pair over those of its steps."""

SLOWER = 1.5
"""Factor by which a duel may take longer than it was expected to, for instance because other programs run."""

GUARD_SHARE, GUARD_RUNS = 0.1, 4
"""Part of the budget that the steps of the guard's runs may take, about, and how many of them there are."""

LEAST_GUARD_STEPS, MOST_GUARD_STEPS = 6, 24
"""Steps of each."""

LEAST_PART = 8
"""Images at least of the part of a batch that a guard's step trains on where whole batches take too long."""


class Proof:
    """Finds the finalist among what a session measured and puts it to the test.

    Args:
        recorder: holds the session and grows it.
        tournament: finds the best that is left.
        budget: says how many turns there is time for.
        tell: is told of stages and turns.
    """

    def __init__(
        self, recorder: Recorder, tournament: Tournament, budget: Budget, tell: Callable[[Event], None]
    ) -> None:
        self._recorder = recorder
        self._tournament = tournament
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
        for _ in range(TRIES):
            finalist = self._tournament.play_off(until_s=PLAY_OFF_END * self._budget.total_s)
            if finalist is None or finalist == self._default:
                return self._default
            self._tell(Noted(words=f"first: {describe(finalist, self._default)}"))
            if self._passes_guard(finalist):
                return finalist if self.wins(finalist) else self._default
        return self._default

    def holds(self, settings: Settings) -> bool:
        """Tell whether settings pass the guard and beat the default."""
        return self._passes_guard(settings) and self.wins(settings)

    def _passes_guard(self, finalist: Settings) -> bool:
        if not needs_guard(finalist, self._default):
            return True
        steps, parts = self._guard_length(finalist)
        self._tell(Stage(title="numerics guard", steps=steps))
        sides = (finalist, self._default)
        limit_s = 40 * steps * max(step_s(self._session, side) for side in sides)
        try:
            result: Guard = self._recorder.run(guard, *sides, settings=sides, limit_s=limit_s, steps=steps, parts=parts)
        except CandidateError as problem:
            self._recorder.failed(finalist, str(problem))
            return False
        self._recorder.note(guards=(*self._session.guards, result))
        if result.problem:
            self._recorder.failed(finalist, f"numerics guard: {result.problem}")
        else:
            self._tell(Noted(words="passed"))
        return result.problem is None

    def _guard_length(self, finalist: Settings) -> tuple[int, int]:
        """Return the steps of the guard's runs, and of how many parts of a batch they train on one."""
        workload = self._recorder.workload
        images = workload.batch_size if workload.team.alone else apart(workload).batch_size  # of this rank
        affordable = GUARD_SHARE * self._budget.total_s / (GUARD_RUNS * step_s(self._session, self._default))
        steps = max(LEAST_GUARD_STEPS, min(MOST_GUARD_STEPS, int(affordable)))
        whole = indivisible(workload) is not None or finalist.compile != Settings().compile
        most = 1 if whole else max(1, images // LEAST_PART)
        return steps, min(most, math.ceil(steps / affordable))

    def wins(self, finalist: Settings) -> bool:
        """Let settings meet the default in a duel; keep its record, and tell whether they are faster."""
        options = self._duel_options(finalist)
        self._tell(Stage(title="duel", steps=options.most_pairs))
        sides = (self._default, finalist)
        pair = 0

        def told(rates: tuple[float | None, ...]) -> None:
            nonlocal pair
            pair += 1
            first, second = rates
            if first is not None and second is not None:
                pairs = options.most_pairs
                self._tell(Turn(pair=pair, pairs=pairs, baseline_rate=first, candidate_rate=second))

        limit_s = SLOWER * options.most_pairs * self._pair_s(finalist, options.heat)
        options = replace(options, heat=replace(options.heat, limit_s=limit_s))
        try:
            record: DuelRecord = self._recorder.run(
                duel,
                *sides,
                settings=sides,
                limit_s=limit_s + 60,
                report=told,
                options=options,
                seed=self._recorder.workload.seed,
            )
        except CandidateError as problem:
            self._recorder.failed(finalist, f"failed in the duel: {problem}")
            return False
        self._recorder.note(duels=(*self._session.duels, record))
        comparison = record.comparison
        return comparison is not None and comparison.verdict is Verdict.FASTER

    def _duel_options(self, finalist: Settings) -> DuelOptions:
        """Fix the duel's length by the time there is: its first stage, and what its second may take."""
        turn_s, turns_each, again = self._tournament.turn_s, self._tournament.turns, not self._recorder.busy
        turns = replace(DuelOptions().heat, turn_s=turn_s, turns=turns_each, again=again)
        short = self._budget.brief or self._budget.total_s < SHORT_S
        if short:
            turns = replace(turns, warmup_s=0.5)
        left_s = self._budget.left_until(DUEL_END) - 2 * turns.warmup_s - 1.0
        affordable = int(left_s / self._pair_s(finalist, turns))
        fewest = FEWEST_PAIRS if short else FIRST_PAIRS
        first = fewest if self._budget.brief else max(fewest, min(FIRST_PAIRS, affordable))
        most = max(first, min(MOST_PAIRS, affordable))
        return DuelOptions(heat=turns, pairs=first, most_pairs=most, half_width=self._half_width(finalist))

    def _half_width(self, finalist: Settings) -> float:
        """Return how well the ratio is to be known; what the heats saw may say so, what the duel sees may not."""
        before, after = (self._session.find(Kind.FULL, side) for side in (self._default, finalist))
        if not self._budget.brief or before is None or after is None:
            return HALF_WIDTH
        gain = after.rate.value / before.rate.value - 1.0
        return max(HALF_WIDTH, min(BRIEF_HALF_WIDTH, gain / PARTS_OF_GAIN))

    def _pair_s(self, finalist: Settings, options: HeatOptions) -> float:
        turns = [turn_cost_s(self._session, side, options) for side in (self._default, finalist)]
        return OVERHEAD * options.turns * sum(turns)
