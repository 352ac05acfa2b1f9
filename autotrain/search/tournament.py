"""The tournament: the search's candidates run in heats against the best so far, Optuna suggesting who."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from autotrain.diagnose.compose import estimate_compute
from autotrain.diagnose.demand import bound
from autotrain.knobs.base import Side
from autotrain.knobs.registry import Space, canonical, illegal, key
from autotrain.measure.contender import LONG_STEP_S, HeatOptions
from autotrain.measure.measurement import Kind, Measurement
from autotrain.measure.session import Failed
from autotrain.search.budget import PLAY_OFF_END, SEARCH_END, Budget
from autotrain.search.events import Event, Stage
from autotrain.search.objective import (
    best,
    candidates,
    cost,
    least_needed,
    predicted_s,
    step_s,
    training_s,
    turn_cost_s,
)
from autotrain.search.recorder import Recorder
from autotrain.search.study import Study
from autotrain.settings import Settings, Value

log = logging.getLogger(__name__)

HEAT_SIZE = 5
"""Contenders of a heat, the incumbent among them: each holds a copy of the model, and workers of its own."""

MOST_ALONE = 9
"""Contenders of a heat that trains on resident batches."""

FEWEST_ROUNDS = 2
"""Rounds after which a heat tells who is far behind."""

BUILD_S = 0.5
"""Seconds that making a contender takes, about."""

LEAST_HEAT_S = 4.0
"""Seconds after warming up that a heat may take, however late it is."""

ENQUEUED = 8
"""Settings that are tried first, by the contention model's ranking; the sampler goes on from there."""

LATEST_START = 0.75
"""Part of a given budget after which not even the first heat begins."""

POSSIBLE = 2.0
"""Members whose predicted training takes more than this factor of the best one's are not suggested."""

UNKNOWN_S = 1e9
"""Seconds of a training of which nothing is known: more than any."""

MOST_MEMBERS = 4000
"""Members that are handed to the sampler at most."""

ALONE = HeatOptions(rounds=4, turns=1, warmup_s=0.25, behind=0.05, hopeless=0.2)
SCREENING = HeatOptions(rounds=5, warmup_s=0.4, hopeless=0.2)
PLAY_OFF = HeatOptions(rounds=8, warmup_s=0.4, least_rounds=4, behind=0.02)

CLOSE = 1.06
"""Candidates whose predicted training takes at most this factor of the best one's meet again in the play-off."""

FINALISTS = 4
TIE = 1.01
"""Contenders within this factor of the play-off's best are equals, of which the one with the fewest changes wins."""

SHARED_TIE = 1.03
"""Within this factor of the best, what has won on another machine of the kind is taken, so that all have one plan."""

UNMET_TIE = 1.02
"""The same where there was no time for a play-off, and only heats have told."""


class Tournament:
    """Finds the best settings of a space within a budget.

    Args:
        recorder: holds the session and grows it.
        space: the legal space.
        budget: ends the search.
        tell: is told of stages.
    """

    def __init__(self, recorder: Recorder, space: Space, budget: Budget, tell: Callable[[Event], None]) -> None:
        self._recorder = recorder
        self._space = space
        self._budget = budget
        self._tell = tell
        self._preferred: Settings | None = None

    # -- training alone -------------------------------------------------------------------------------------------

    def ceilings(self, *, until_s: float) -> None:
        """Measure what training alone reaches: every single change, then the most promising combinations.

        Args:
            until_s: seconds of the budget by which they end; after that nothing new begins, but for the first heat of
                an automatic budget.
        """
        singles, others = self._compute_settings()
        if not (singles or others) or (self._budget.spent_s > until_s and not self._due(Kind.COMPUTE)):
            return
        self._tell(Stage(title="ceilings", steps=len(singles) or min(len(others), HEAT_SIZE - 1)))
        while singles:
            size = self._alone(singles[: MOST_ALONE - 1], until_s)
            singles = singles[size:]
            if self._budget.spent_s > until_s - LEAST_HEAT_S:
                return
        session = self._recorder.session
        ranked = sorted(others, key=lambda entry: -(estimate_compute(session, entry) or 0.0))[: HEAT_SIZE - 1]
        if ranked:
            self._alone(ranked, until_s)

    def _alone(self, wanted: Sequence[Settings], until_s: float) -> int:
        """Run a heat of the default and as many of the wanted as there is time for; return how many those are."""
        session = self._recorder.session
        known = session.find(Kind.COMPUTE, self._space.default) or session.of(Kind.FULL)[0]
        turn = max(ALONE.turn_s, session.job.batch_size / known.rate.value)
        left_s = until_s - self._budget.spent_s
        size = min(len(wanted), _affordable_size(turn, ALONE, left_s) - 1)
        contenders = [self._space.default, *wanted[:size]]
        limit_s = max(LEAST_HEAT_S, left_s - len(contenders) * _start_s(turn, ALONE))
        self._recorder.heat(contenders, options=replace(ALONE, limit_s=limit_s), alone=True)
        return size

    def _compute_settings(self) -> tuple[list[Settings], list[Settings]]:
        """Return what differs from the default's compute side in one knob (or precision and layout), and in more.

        Of the former precision with layout, what pays most by far where it pays at all, comes first, then precision.
        """
        default = self._space.default
        own = dict(key(default, Side.COMPUTE))
        found: dict[tuple[tuple[str, Value], ...], Settings] = {}
        for settings in reversed(self._space.members):
            found[key(settings, Side.COMPUTE)] = settings
        singles: list[tuple[int, Settings]] = []
        others: list[Settings] = []
        for parts, settings in found.items():
            changed = {name for name, value in parts if own.get(name, value) != value}
            resident = replace(settings, workers=0)
            known = self._recorder.session.find(Kind.COMPUTE, settings) is not None or self._failure(resident)
            if not changed or known:
                continue
            if changed == {"precision", "memory_format"}:
                singles.append((0, resident))
            elif len(changed) == 1:
                singles.append((1 if "precision" in changed else 2, resident))
            else:
                others.append(resident)
        return [entry for _, entry in sorted(singles, key=lambda pair: pair[0])], others

    # -- whole steps ----------------------------------------------------------------------------------------------

    def search(self, study: Study, first: Sequence[Settings] = ()) -> None:
        """Run heats until time is up or nothing that is left can win.

        Args:
            study: suggests who runs.
            first: settings that run in the first heat whatever is suggested, where it has time for more than two.
        """
        self._tell(Stage(title="search"))
        self._resume(study)
        session = self._recorder.session
        for entry in candidates(session):
            study.add_known(entry.settings, training_s(session, entry), entry)
        ranked = self._ranked()
        expected = {settings: seconds for settings, seconds in ranked.items() if seconds < UNKNOWN_S}
        study.restrict(list(ranked), affordable=self._affordable(), expected=expected)
        for settings in self._promising(list(ranked)):
            study.enqueue(settings)
        fixed = [entry for entry in first if entry in self._space.members and not self._settled(entry)]
        end, usual_s = LATEST_START, 0.0  # one heat is run even where all before took longer than it should
        while self._budget.left_until(end) > usual_s / 2 or self._due(Kind.FULL):
            end, begun_s = SEARCH_END, self._budget.spent_s
            leader = best(self._recorder.session)
            if leader is None or self._none_can_win():
                return
            size = self._size(leader.settings)
            fixed = fixed[: size - 2]
            asked = study.ask_batch(size - 1 - len(fixed), accept=self._refusal)
            wanted = [settings for _, settings in asked]
            if not wanted and not fixed:
                return
            contenders = list(dict.fromkeys((leader.settings, *fixed, *wanted)))
            self._heat(contenders, SCREENING, until_s=SEARCH_END * self._budget.total_s)
            usual_s = self._budget.spent_s - begun_s
            for settings in fixed:
                measured = self._recorder.session.find(Kind.FULL, settings)
                if measured is not None and settings not in wanted:
                    study.add_known(settings, training_s(self._recorder.session, measured), measured)
            fixed = []
            for trial, settings in asked:
                measured = self._recorder.session.find(Kind.FULL, settings)
                if measured is None:
                    failure = self._failure(settings)
                    reason = failure.reason if failure else "its heat ended before it was measured"
                    study.fail(trial, reason, retry=failure is None)
                else:
                    study.tell(trial, training_s(self._recorder.session, measured), measured)

    def play_off(self, *, until_s: float) -> Settings | None:
        """Let those that are close to the best meet once more; return the winner, None where there is no candidate."""
        leader = best(self._recorder.session)
        if leader is None:
            return None
        close = self._close(leader)
        met = [entry for entry in candidates(self._recorder.session) if entry.settings in close]
        if len(close) < 2 or self._budget.spent_s > until_s:
            return self._simplest(met or [leader], UNMET_TIE)
        self._tell(Stage(title="play-off", steps=PLAY_OFF.rounds))
        measured = self._heat(close, PLAY_OFF, until_s=until_s)
        stayed = [entry for entry in measured if not entry.stopped_early]
        if not stayed:
            leader = best(self._recorder.session) or leader
            return leader.settings
        return self._simplest(stayed, TIE)

    def _simplest(self, measured: Sequence[Measurement], tie: float) -> Settings:
        """Return the settings with the fewest changes of those that are within a factor of the best."""
        session = self._recorder.session
        least = min(training_s(session, entry) for entry in measured)
        tied = [entry for entry in measured if training_s(session, entry) <= tie * least]
        default = session.default
        for entry in measured:
            if entry.settings == self._preferred and training_s(session, entry) <= SHARED_TIE * least:
                return entry.settings
        return min(tied, key=lambda entry: (len(entry.settings.changes(default)), training_s(session, entry))).settings

    def compiled(self) -> None:
        """Try the compiler on the best so far, in a child process."""
        leader = best(self._recorder.session)
        if leader is None:
            return
        modes = [str(mode) for mode in self._space.choices["compile"].allowed if mode != leader.settings.compile]
        wanted = [canonical(replace(leader.settings, compile=mode), self._recorder.workload) for mode in modes]
        legal = [entry for entry in wanted if self._illegal(entry) is None]
        if legal:
            self._tell(Stage(title="compiler", steps=len(legal)))
            self._heat([leader.settings, *legal], PLAY_OFF, until_s=PLAY_OFF_END * self._budget.total_s)

    def _heat(self, contenders: Sequence[Settings], options: HeatOptions, *, until_s: float) -> list[Measurement]:
        session = self._recorder.session
        costs = [cost(session, entry) for entry in contenders]
        options = replace(options, turn_s=self.turn_s, turns=self.turns)
        turn = turn_cost_s(session, contenders[0], options)
        left_s = until_s - self._budget.spent_s - len(contenders) * _start_s(turn, options)
        options = replace(options, limit_s=max(LEAST_HEAT_S, left_s))
        return self._recorder.heat(contenders, options=options, costs=costs)

    @property
    def turn_s(self) -> float:
        """Shortest turn, in seconds."""
        return turn_s(self._recorder.session.of(Kind.INPUT))

    @property
    def turns(self) -> int:
        """Turns of a round: where one step is long, a second one costs more than it tells."""
        return 1 if step_s(self._recorder.session, self._space.default) > LONG_STEP_S else SCREENING.turns

    def _affordable(self) -> int:
        """Return how many members there is time for, about."""
        session = self._recorder.session
        leader = best(session)
        assert leader is not None
        turn = turn_cost_s(session, leader.settings, replace(SCREENING, turn_s=self.turn_s))
        each_s = _start_s(turn, SCREENING) + SCREENING.rounds * self.turns * turn
        return int(self._budget.search_left_s / each_s)

    def _due(self, kind: Kind) -> bool:
        """Tell whether the first heat of a kind runs however late it is.

        It does in an automatic budget, of which the default's few long steps may take more than was thought: a probe
        that ends with the default alone measured would have been in vain.
        """
        session = self._recorder.session
        sides = (Side.COMPUTE,) if kind is Kind.COMPUTE else (Side.COMPUTE, Side.INPUT)
        own = [key(session.default, side) for side in sides]
        tried = any([key(entry.settings, side) for side in sides] != own for entry in session.of(kind))
        failed = any(not entry.pruned for entry in session.failures)
        return self._budget.automatic and not tried and not failed

    def _size(self, leader: Settings) -> int:
        """Return how many contenders the next heat has time for, the leader among them."""
        options = replace(SCREENING, turn_s=self.turn_s, turns=self.turns)
        turn = turn_cost_s(self._recorder.session, leader, options)
        return min(HEAT_SIZE, _affordable_size(turn, options, self._budget.search_left_s))

    def _close(self, leader: Measurement) -> list[Settings]:
        session = self._recorder.session
        least = training_s(session, leader)
        ranked = sorted(candidates(session), key=lambda entry: training_s(session, entry))
        close = [entry.settings for entry in ranked if training_s(session, entry) <= CLOSE * least]
        shared = [entry.settings for entry in ranked if entry.settings == self._preferred]
        return list(dict.fromkeys((leader.settings, *shared, *close)))[:FINALISTS]

    def _ranked(self) -> dict[Settings, float]:
        """Return the members that may win with their predicted seconds, best first; of equals, what asks for least."""
        session = self._recorder.session
        expected = [(predicted_s(session, entry) or UNKNOWN_S, entry) for entry in self._space.members]

        def rank(pair: tuple[float, Settings]) -> tuple[float, int, int, int]:
            seconds, settings = pair
            few = len(settings.changes(session.default))
            return round(math.log(seconds) / math.log(1.02)), few, settings.workers, settings.prefetch

        least = min(seconds for seconds, _ in expected)
        possible = [pair for pair in expected if pair[0] <= POSSIBLE * least or pair[0] >= UNKNOWN_S]
        return {settings: seconds for seconds, settings in sorted(possible, key=rank)[:MOST_MEMBERS]}

    def _promising(self, ranked: Sequence[Settings]) -> list[Settings]:
        """Return what is tried first.

        The model knows least about threads and workers that share cores, so the best with each thread count, with and
        without workers, comes before the runners-up.
        """
        fresh = [entry for entry in ranked if not self._settled(entry)]
        ways = {(entry.threads, entry.workers > 0): entry for entry in reversed(fresh)}
        first = sorted(ways.values(), key=fresh.index)
        return list(dict.fromkeys((*first[:2], *fresh[:2], *first, *fresh[:ENQUEUED])))[:ENQUEUED]

    def _refusal(self, settings: Settings) -> str | None:
        """Return why settings are not worth a heat, or None; what is refused is kept as not measured."""
        if settings not in self._space.members:
            return self._illegal(settings) or "ruled out by what was measured alone"
        session = self._recorder.session
        known = session.find(Kind.FULL, settings)
        if known is not None:
            return "measured already"
        failure = self._failure(settings)
        if failure is not None:
            return failure.reason
        reason = self._hopeless(settings)
        if reason is not None:
            self._recorder.failed(settings, reason, pruned=True)
        return reason

    def _hopeless(self, settings: Settings) -> str | None:
        session = self._recorder.session
        limit, leader = bound(session, settings), best(session)
        if limit is None or leader is None or limit >= least_needed(session, leader):
            return None
        return f"cannot exceed {limit:,.0f} images/s; the best so far has {leader.rate.value:,.0f}"

    def _none_can_win(self) -> bool:
        session = self._recorder.session
        leader = best(session)
        assert leader is not None
        least = least_needed(session, leader)
        for settings in self._space.members:
            limit = bound(session, settings)
            if (limit is None or limit >= least) and not self._settled(settings):
                return False
        return True

    def _settled(self, settings: Settings) -> bool:
        session = self._recorder.session
        return session.find(Kind.FULL, settings) is not None or self._failure(settings) is not None

    def _failure(self, settings: Settings) -> Failed | None:
        side = key(settings, Side.COMPUTE)
        for entry in self._recorder.session.failures:
            if entry.settings == settings or (entry.alone and key(entry.settings, Side.COMPUTE) == side):
                return entry
        return None

    def _illegal(self, settings: Settings) -> str | None:
        return illegal(settings, self._recorder.workload, self._recorder.session.machine)

    def share(self, study: Study) -> None:
        """Take over what other machines have measured meanwhile; of near equals, prefer what has won on one of them."""
        self._resume(study)
        self._preferred = study.concluded()

    def equal_elsewhere(self, chosen: Settings) -> Settings | None:
        """Return what has won on another machine, where it is something else and a near equal here; else None."""
        session = self._recorder.session
        seconds = {entry.settings: training_s(session, entry) for entry in candidates(session)}
        other = self._preferred
        if other is None or other == chosen or not {other, chosen} <= seconds.keys():
            return None
        return other if seconds[other] <= SHARED_TIE * seconds[chosen] else None

    def _resume(self, study: Study) -> None:
        """Take over what an earlier run of the study measured, so far as this run has not measured it itself."""
        session = self._recorder.session
        known = {entry.settings for entry in session.of(Kind.FULL)}
        earlier = [entry for entry in study.earlier() if entry.settings not in known and self._has_room(entry.settings)]
        if earlier:
            log.info("the study brings %d measurements of an earlier run", len(earlier))
            self._recorder.note(measurements=(*earlier, *session.measurements))

    def _has_room(self, settings: Settings) -> bool:
        """Tell whether a cache that another run could have can be had here and now."""
        offered = self._space.choices.get("cache")
        return offered is None or settings.cache in (self._space.default.cache, *offered.allowed)


def _start_s(turn: float, options: HeatOptions) -> float:
    """Return the seconds until a contender is ready whose turns take so long."""
    return BUILD_S + max(options.warmup_s, 2 * turn)


def _affordable_size(turn: float, options: HeatOptions, left_s: float) -> int:
    """Return how many contenders can run the fewest rounds that tell in the time that is left; two at least."""
    return max(2, int(left_s / (_start_s(turn, options) + FEWEST_ROUNDS * options.turns * turn)))


WAITS = 40
"""A turn lasts at least so many times the wait for one sample, so that one that ends while frozen is 1/40 of it."""


def turn_s(loading: Sequence[Measurement]) -> float:
    """Return the shortest turn that is fair to settings which wait for samples to different degrees."""
    waits = [1.0 / entry.rate.value - entry.cpu_main_per_image_s for entry in loading if not entry.settings.workers]
    return min(1.0, max(0.1, WAITS * max(waits, default=0.0)))
