"""The numerics guard: a candidate must learn as well as fp32 does, from the same start on the same batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from autotrain.data.batch import HostBatch
from autotrain.engine.rig import Rig
from autotrain.knobs.base import Effect, Side
from autotrain.knobs.registry import canonical, effects, knob
from autotrain.measure.session import Guard
from autotrain.search.gradients import Check, Noise, first_checks
from autotrain.search.learning import Losses, judge, outcome_checks
from autotrain.search.rounding import rounding, shared_bits
from autotrain.search.trial import FirstStep, Outcome, Trial
from autotrain.settings import Settings, Value
from autotrain.workload import Workload

__all__ = ["Guardian", "guard", "judge", "needs_guard"]

OTHER_ORDERS = 2
"""Reference runs with other seeds and orders, beside the one with the candidate's own."""

Key = tuple[tuple[str, Value], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reference:
    """A run of the default."""

    outcome: Outcome
    held: HostBatch | None
    """What it was evaluated on; None where its loss was no number."""


def needs_guard(settings: Settings, default: Settings) -> bool:
    """Tell whether settings change the rounding."""
    return Effect.NUMERICS in effects(settings, default)


def guard(workload: Workload, candidate: Settings, default: Settings, *, steps: int, parts: int = 1) -> Guard:
    """Train the same first ``steps`` batches with the candidate and with the default, and compare.

    Several ranks of a model that lies in parts do it together; what rank 0 returns counts.

    Raises:
        CandidateError: a run failed.
    """
    return Guardian(workload, default, steps=steps, parts=parts).judge(candidate)


class Guardian:
    """Judges candidates against runs of the default, which it keeps.

    Args:
        workload: what is trained.
        default: whose learning is right.
        steps: length of a run; the default is run three times for the first candidate.
        parts: of the batches after the first, all runs train on the first of so many parts: of a slow model more is
            learnt from several short steps than from few long ones.
    """

    def __init__(self, workload: Workload, default: Settings, *, steps: int, parts: int = 1) -> None:
        self.workload = workload
        self.default = default
        self.steps = steps
        self.parts = parts
        self._runs: dict[tuple[Key, int], _Reference] = {}
        self._firsts: dict[Key, tuple[FirstStep, HostBatch]] = {}
        self._noises: dict[tuple[Key, int], Noise] = {}

    def judge(self, candidate: Settings) -> Guard:
        """Train with a candidate and compare, the cheapest comparison first, up to the first problem.

        Raises:
            CandidateError: a run failed.
        """
        settings = replace(candidate, cache=Settings().cache)  # a probe's caches hold some of the images only
        twin, reference = self._as_default(settings, only=Side.COMPUTE), self._as_default(settings)
        if _key(twin) == _key(reference):
            self._run(reference, 0)  # whose first step is the twin's
        first, _ = self._first(twin)
        noise = self._noise(twin, shared_bits(settings, twin, self.workload.device))
        shares: list[tuple[str, float]] = []
        with _trial(self.workload, settings, self.steps) as trial:
            own = trial.first_step()
            problem = self._agreed(_first_problem(first_checks(own, first, noise), shares))
            if problem is not None:
                return _verdict(candidate, (own.loss,), (), problem, shares)
            outcome = trial.others(self.steps, parts=self.parts)
        runs = [self._run(reference, number).outcome for number in range(1 + OTHER_ORDERS)]
        problem = self._agreed(_first_problem(outcome_checks(outcome, runs, noise), shares))
        return _verdict(candidate, outcome.losses, tuple(run.losses for run in runs), problem, shares)

    def _agreed(self, problem: str | None) -> str | None:
        """Return what rank 0 finds, as far as that decides whether all ranks go on."""
        found = bool(self.workload.team.first(float(problem is not None)))
        return (problem or "as rank 0 has found") if found else None

    def _as_default(self, candidate: Settings, *, only: Side | None = None) -> Settings:
        """Return the candidate with what changes the rounding as in the default, on one side or on both."""
        own = self.default.as_dict()
        changed = {}
        for name, value in candidate.changes(self.default).items():
            single = replace(self.default, **{name: value})  # type: ignore[arg-type]
            sides = {knob(name).side_of(value), knob(name).side_of(own[name])}
            if Effect.NUMERICS in effects(single, self.default) and (only is None or sides == {only}):
                changed[name] = own[name]
        return canonical(replace(candidate, **changed), self.workload)  # type: ignore[arg-type]

    def _run(self, settings: Settings, number: int) -> _Reference:
        """Return a whole run of the default; those but the first have another seed and order."""
        place = _key(settings), number
        if place not in self._runs:
            workload, held = self.workload, None
            if number:
                workload = replace(workload, task=replace(workload.task, seed=workload.seed + 7919 * number))
                held = self._run(settings, 0).held
            with _trial(workload, settings, self.steps) as trial:
                first = trial.first_step()
                outcome = trial.others(self.steps, parts=self.parts, held=held)
            self._runs[place] = _Reference(outcome=outcome, held=trial.held_batch)
            if not number:
                assert trial.first_batch is not None
                self._firsts[place[0]] = first, trial.first_batch
        return self._runs[place]

    def _first(self, settings: Settings) -> tuple[FirstStep, HostBatch]:
        """Return the first step alone, and its batch."""
        place = _key(settings)
        if place not in self._firsts:
            with _trial(self.workload, settings, 1) as trial:
                first = trial.first_step()
            assert trial.first_batch is not None
            self._firsts[place] = first, trial.first_batch
        return self._firsts[place]

    def _noise(self, settings: Settings, bits: int) -> Noise:
        """Return what rounding to some bits makes of the first step: to the nearest, and by chance."""
        place = _key(settings), bits
        if place not in self._noises:
            first, batch = self._first(settings)
            draws = []
            for chance in (False, True):
                with _trial(self.workload, settings, 1) as trial, rounding(trial.model, bits, chance=chance):
                    draws.append(trial.first_step(batch))
            self._noises[place] = Noise(first, draws)
        return self._noises[place]


@contextmanager
def _trial(workload: Workload, settings: Settings, steps: int) -> Iterator[Trial]:
    with Rig(workload, settings, stop=steps + 1) as rig, rig.active():
        yield Trial(rig)


def _key(settings: Settings) -> Key:
    """Return the settings that a run's numbers depend on."""
    values = settings.as_dict()
    return tuple((name, value) for name, value in values.items() if knob(name).effect_of(value) is not Effect.EXACT)


def _first_problem(checks: Iterable[Check], shares: list[tuple[str, float]]) -> str | None:
    """Make the checks one by one up to the first that finds a problem; ``shares`` grows."""
    for check in checks:
        shares.append((check.name, check.share))
        if check.problem is not None:
            return check.problem
    return None


def _verdict(
    candidate: Settings,
    losses: Losses,
    references: tuple[Losses, ...],
    problem: str | None,
    shares: list[tuple[str, float]],
) -> Guard:
    return Guard(settings=candidate, candidate=losses, references=references, problem=problem, shares=tuple(shares))
