"""Samplers: which of the legal settings is tried next. One class per strategy; one conformance suite for all.

The legal space is a list of members, not a product: combinations are illegal or mean the same as another. So every
sampler picks from the members that no trial has had yet; what Optuna's own samplers suggest is moved to the nearest.
A sampler keeps no state between trials: the seed, the number of the trial and the stored trials decide, so that a
study gone on with suggests what it would have suggested.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from optuna import Study
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from autotrain.errors import SettingsError, unknown
from autotrain.search.additive import Points, expected_improvement
from autotrain.search.storage import RETRY
from autotrain.settings import Value

Member = tuple[Value, ...]
"""The values of one member of the legal space, in the order of the distributions."""

STARTUP = 6
"""Trials, the default among them, that TPE and the Gaussian process wait for before they model anything."""

DRAWS = 4
"""Suggestions that are drawn from an Optuna sampler before the last one is moved to the nearest member."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What a sampler picks from, and what it may look at."""

    study: Study
    """All trials so far."""

    trial: FrozenTrial
    """The trial that the pick is for; it is running."""

    free: Sequence[Member]
    """Members that no trial has had, at least one."""

    draws: np.random.Generator
    """Random numbers of this trial."""

    def any(self, among: Sequence[int] | npt.NDArray[np.int64] | None = None) -> Member:
        """Return one of the free members at random, or one of those at some places."""
        places = range(len(self.free)) if among is None else among
        return self.free[int(places[int(self.draws.integers(len(places)))])]


class MemberSampler(BaseSampler):
    """Base of all samplers: keeps to the members that are free, and says of what it would have picked why not.

    Args:
        distributions: the choices of the knobs that move.
        members: what may be suggested, in order.
        seed: decides all draws.
        expected: seconds that somebody predicted for some of them; few samplers use them.
    """

    name: ClassVar[str]

    def __init__(
        self,
        distributions: Mapping[str, CategoricalDistribution],
        members: Sequence[Member],
        *,
        seed: int,
        expected: Mapping[Member, float] | None = None,
    ) -> None:
        self.distributions = dict(distributions)
        self.members = tuple(members)
        self.seed = seed
        self.expected = dict(expected or {})
        self.refuse: Callable[[Member], str | None] | None = None
        self.refused: dict[Member, str] = {}

    def pick(self, now: Moment) -> Member:
        """Return one of the free members."""
        raise NotImplementedError

    def free(self, study: Study) -> list[Member]:
        """Return the members that no trial has had: neither measured nor refused, failed or being measured."""
        trials = study.get_trials(deepcopy=False)
        had = {self.member(trial.params) for trial in trials if RETRY not in trial.user_attrs}
        return [entry for entry in self.members if entry not in had and entry not in self.refused]

    def member(self, params: Mapping[str, Any]) -> Member:
        """Return a trial's values in the order of the distributions."""
        return tuple(params[name] for name in self.distributions if name in params)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:  # noqa: ARG002
        """Return all that moves: every member is suggested as a whole."""
        return dict(self.distributions)

    def sample_relative(
        self,
        study: Study,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],  # noqa: ARG002
    ) -> dict[str, Any]:
        """Return the next member; when none is free, any."""
        draws = np.random.default_rng((self.seed, trial.number))
        free = self.free(study)
        while free:
            picked = self.pick(Moment(study=study, trial=trial, free=free, draws=draws))
            reason = self.refuse(picked) if self.refuse else None
            if reason is None:
                break
            self.refused[picked] = reason
            free.remove(picked)
        else:
            picked = self.members[int(draws.integers(len(self.members)))]
        return dict(zip(self.distributions, picked, strict=True))

    def sample_independent(
        self,
        study: Study,  # noqa: ARG002
        trial: FrozenTrial,
        param_name: str,  # noqa: ARG002
        param_distribution: BaseDistribution,
    ) -> Any:
        """Return any value of a knob; only for trials that somebody enqueued in part."""
        assert isinstance(param_distribution, CategoricalDistribution)
        draws = np.random.default_rng((self.seed, trial.number))
        return param_distribution.choices[draws.integers(len(param_distribution.choices))]


class Random(MemberSampler):
    """Any free member, all alike."""

    name = "random"

    def pick(self, now: Moment) -> Member:
        """Draw one."""
        return now.any()


class Exhaustive(MemberSampler):
    """Every member once, in the order in which they are given."""

    name = "exhaustive"

    def pick(self, now: Moment) -> Member:
        """Take the next."""
        return now.free[0]


class _OptunaSampler(MemberSampler):
    """A sampler of Optuna's over the product of the choices, its suggestions moved to the nearest free member."""

    tries: ClassVar[int] = 1

    def inner(self, seed: int) -> BaseSampler:
        """Return Optuna's sampler, new for every trial."""
        raise NotImplementedError

    def pick(self, now: Moment) -> Member:
        """Ask the inner sampler; before it models anything, draw."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            inner = self.inner(int(now.draws.integers(1 << 31)))
            space = inner.infer_relative_search_space(now.study, now.trial)
            for _ in range(self.tries):
                values = inner.sample_relative(now.study, now.trial, space)
                if values.keys() != self.distributions.keys():
                    return now.any()
                suggested = self.member(values)
                if suggested in now.free:
                    return suggested
        distances = np.array([sum(map(_differ, entry, suggested)) for entry in now.free])
        return now.any(np.flatnonzero(distances == distances.min()))


class Tpe(_OptunaSampler):
    """Optuna's tree-structured Parzen estimator over all knobs together; running trials count as bad ones."""

    name = "tpe"
    tries = DRAWS

    def inner(self, seed: int) -> BaseSampler:
        """Return the sampler; with the constant liar the candidates of one heat differ."""
        return TPESampler(seed=seed, multivariate=True, constant_liar=True, n_startup_trials=STARTUP)


class Gp(_OptunaSampler):
    """Optuna's Gaussian process; running trials enter its acquisition function."""

    name = "gp"

    def inner(self, seed: int) -> BaseSampler:
        """Return the sampler. Its suggestion is a maximum, so that drawing again would not change it."""
        return GPSampler(seed=seed, n_startup_trials=STARTUP)


class Linear(MemberSampler):
    """A linear model of the logarithm of the seconds, with interactions; the member that it expects to gain most."""

    name = "linear"

    def pick(self, now: Moment) -> Member:
        """Fit what is completed; what is running counts as measured to be what the model expects."""
        states = (TrialState.COMPLETE, TrialState.RUNNING)
        trials = [
            entry
            for entry in now.study.get_trials(deepcopy=False, states=states)
            if entry.params.keys() == self.distributions.keys() and (entry.value is None or entry.value > 0)
        ]
        done = [entry for entry in trials if entry.value is not None]
        if not done:
            return now.any()
        logs = np.log(np.array([entry.value for entry in done], dtype=np.float64))
        running = [self.member(entry.params) for entry in trials if entry.value is None]
        measured = [self.member(entry.params) for entry in done]
        gains = expected_improvement(
            self._points(measured), logs, self._points(running), self._points(now.free), seed=self.seed
        )
        return now.any(np.flatnonzero(gains >= gains.max()))

    def _points(self, members: Sequence[Member]) -> Points:
        places = [{value: place for place, value in enumerate(entry.choices)} for entry in self.distributions.values()]
        rows = [[known[value] for known, value in zip(places, entry, strict=True)] for entry in members]
        usual = float(np.mean([math.log(value) for value in self.expected.values()])) if self.expected else 0.0
        logs = [math.log(self.expected[entry]) if entry in self.expected else usual for entry in members]
        return Points(codes=np.array(rows, dtype=np.int64).reshape(len(members), len(places)), predicted=np.array(logs))


STRATEGIES: tuple[type[MemberSampler], ...] = (Tpe, Gp, Linear, Random, Exhaustive)

AUTO = "auto"
"""Exhaustive where all members can be measured, the default sampler otherwise."""

DEFAULT = Linear.name

SAMPLERS: tuple[str, ...] = (AUTO, *(entry.name for entry in STRATEGIES))
"""The names that people may give."""


def strategy(name: str) -> type[MemberSampler]:
    """Return a sampler by its name; the default for ``auto``.

    Raises:
        SettingsError: there is none of that name.
    """
    for entry in STRATEGIES:
        if entry.name == (DEFAULT if name == AUTO else name):
            return entry
    raise SettingsError(unknown("sampler", name, SAMPLERS))


def _differ(one: Value, other: Value) -> bool:
    return one != other
