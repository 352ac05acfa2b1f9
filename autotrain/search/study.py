"""The study: Optuna suggests settings; what was measured is stored with its trials, so that a study can go on."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.trial import Trial, TrialState, create_trial

from autotrain.errors import SettingsError, StudyError
from autotrain.knobs.registry import Space
from autotrain.measure.measurement import Measurement
from autotrain.search.samplers import AUTO, DEFAULT, Exhaustive, Member, strategy
from autotrain.search.storage import (
    REASON,
    RETRY,
    RUN,
    is_elsewhere,
    machine_of,
    open_study,
    shown_to_people,
    this_run,
)
from autotrain.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

MEASUREMENT = "measurement"
CHOICE = "choice"
"""User attribute of a trial that is none: settings that have won. Trials have an order that all machines agree on."""

OBJECTIVE = "predicted seconds of the planned training"
MOST_WAITING = 64
"""Enqueued settings that are looked at for one batch; beyond them the sampler's come."""

Accept = Callable[[Settings], str | None]
"""Returns why settings are not worth measuring, or None."""


class Study:
    """An Optuna study over a legal space; what is minimised is the predicted seconds of the planned training.

    Args:
        space: the knobs and their choices; its members are what may be suggested, see ``restrict``.
        seed: of the sampler.
        path: file that is made or gone on with, a journal where it ends in .journal or .log and SQLite otherwise; a
            URL of a database; in memory where None. Machines of one kind may work on one at the same time.
        name: tells studies of different tasks and machines apart within one file.
        sampler: one of ``samplers.SAMPLERS``.
        facts: what people who open the study in optuna-dashboard want to know, such as the model and the machine.

    Raises:
        StudyError: the file is no study's storage, or the study in it has other choices.
        SettingsError: there is no such sampler.
    """

    def __init__(
        self,
        space: Space,
        *,
        seed: int,
        path: Path | str | None,
        name: str,
        sampler: str = DEFAULT,
        facts: Mapping[str, str | float] | None = None,
    ) -> None:
        self._distributions = _distributions(space)
        self._default = space.default
        self._seed, self._sampler_name = seed, sampler
        self._run = this_run()
        self._sampler = strategy(sampler)(
            self._distributions, [self._member(entry) for entry in space.members], seed=seed
        )
        with _quiet():
            self._study = open_study(path, name, self._sampler)
            self._check(path)
            self._describe(facts or {})

    def restrict(
        self, members: Sequence[Settings], *, affordable: int = 0, expected: Mapping[Settings, float] | None = None
    ) -> None:
        """Have only these settings suggested from now on, exhaustively in this order where ``auto`` finds them few.

        Args:
            members: canonical and legal.
            affordable: how many of them the budget can measure.
            expected: seconds of the planned training that are predicted for some of them.
        """
        few = self._sampler_name == AUTO and len(members) <= affordable
        kind = Exhaustive if few else strategy(self._sampler_name)
        self._sampler = kind(
            self._distributions,
            [self._member(entry) for entry in members],
            seed=self._seed,
            expected={self._member(entry): seconds for entry, seconds in (expected or {}).items()},
        )
        self._study.sampler = self._sampler

    def earlier(self) -> list[Measurement]:
        """Return the measurements of trials from an earlier run of this study.

        Raises:
            StudyError: another version of autotrain wrote them.
        """
        stored = [trial.user_attrs.get(MEASUREMENT) for trial in self._study.get_trials(deepcopy=False)]
        try:
            return [Measurement.from_dict(json.loads(entry)) for entry in stored if entry is not None]
        except (ValueError, KeyError, TypeError, SettingsError) as problem:
            raise StudyError(
                f"study '{self._study.study_name}': a measurement in it cannot be read ({problem}). Give a new file"
            ) from problem

    def words(self) -> str:
        """Return what is in it, for people who want to know whether they share it."""
        trials = self._study.get_trials(deepcopy=False)
        measured = sum(MEASUREMENT in trial.user_attrs for trial in trials)
        if not trials:
            return "new: no other probe has begun to measure this job on machines of this kind"
        return f"goes on, with {measured} measurement{'s' * (measured != 1)} of other probes"

    def conclude(self, settings: Settings) -> None:
        """Append the settings that have won here; whose record is the first one is known to all, see ``concluded``."""
        record = create_trial(
            state=TrialState.FAIL,
            user_attrs={
                CHOICE: settings.as_dict(),
                RUN: self._run,
                REASON: "no trial, but what has won on this machine",
                RETRY: True,
            },
        )
        with _quiet():
            self._study.add_trial(record)

    def concluded(self) -> Settings | None:
        """Return the settings that have won on the machine that was first to conclude; None where that is this one.

        A machine that probes again concludes again: its last word counts.

        Raises:
            StudyError: another version of autotrain wrote them.
        """
        trials = [trial for trial in self._study.get_trials(deepcopy=False) if CHOICE in trial.user_attrs]
        runs = [str(trial.user_attrs.get(RUN, "")) for trial in trials]
        if not runs or not is_elsewhere(runs[0]):
            return None
        theirs = [trial for trial, run in zip(trials, runs, strict=True) if machine_of(run) == machine_of(runs[0])]
        try:
            return Settings.from_dict(theirs[-1].user_attrs[CHOICE])
        except (KeyError, TypeError, SettingsError) as problem:
            raise StudyError(
                f"study '{self._study.study_name}': the choice in it cannot be read ({problem}). Give a new file"
            ) from problem

    def add_known(self, settings: Settings, training_s: float, measurement: Measurement | None = None) -> None:
        """Add settings whose seconds are known without a trial, such as the default's; the sampler learns from them."""
        attributes = self._attributes(settings) | _attributes(measurement)
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            same = trial.user_attrs.get(MEASUREMENT) == attributes.get(MEASUREMENT)
            if trial.params == self._params(settings) and same and (measurement or trial.value == training_s):
                return
        self._add(settings, TrialState.COMPLETE, attributes, value=training_s)

    def enqueue(self, settings: Settings) -> None:
        """Have these settings suggested next, after those enqueued before; what waits already is not enqueued twice."""
        params = self._params(settings)
        waiting = self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        if any(trial.system_attrs.get("fixed_params") == params for trial in waiting):
            return
        with _quiet():
            self._study.enqueue_trial(params, user_attrs=self._attributes(settings), skip_if_exists=False)

    def ask(self) -> tuple[Trial, Settings]:
        """Return a trial and the settings that are suggested; new ones, as long as there are any."""
        with _quiet():
            trial = self._study.ask(dict(self._distributions))
        settings = Settings.from_dict(self._default.as_dict() | trial.params)
        for name, value in self._attributes(settings).items():
            if trial.user_attrs.get(name) != value:
                trial.set_user_attr(name, value)
        return trial, settings

    def ask_batch(self, count: int, *, accept: Accept = lambda _: None) -> list[tuple[Trial, Settings]]:
        """Return up to ``count`` trials with different new settings; fewer when no more are left that are accepted.

        What would have been suggested but is not accepted is stored as pruned, with the reason. Samplers see the
        trials of a batch as running, so that the later ones differ from the earlier.
        """
        batch: list[tuple[Trial, Settings]] = []
        for _ in range(MOST_WAITING + count):
            if len(batch) == count or not (self._waiting() or self._any_free(accept)):
                break
            with self._refusing(accept):
                trial, settings = self.ask()
            known = self._known(trial)
            reason = known or accept(settings)
            if reason is None:
                batch.append((trial, settings))
            elif known or self._member(settings) not in self._sampler.members:
                # Samplers learn from pruned trials, that they were bad, and not from failed ones; what another machine
                # has enqueued and this one has no room for is left to others.
                self.fail(trial, known or reason, retry=True)
            else:
                self.prune(trial, reason)
        return batch

    def tell(self, trial: Trial, training_s: float, measurement: Measurement | None = None) -> None:
        """Report the predicted seconds of the planned training under a trial's settings."""
        for name, value in _attributes(measurement).items():
            trial.set_user_attr(name, value)
        with _quiet():
            self._study.tell(trial, training_s)

    def prune(self, trial: Trial, reason: str) -> None:
        """Report that a trial was not worth measuring."""
        trial.set_user_attr(REASON, reason)
        with _quiet():
            self._study.tell(trial, state=TrialState.PRUNED)

    def fail(self, trial: Trial, reason: str, *, retry: bool = False) -> None:
        """Report that a trial failed; its settings are not suggested again, but for ``retry``."""
        trial.set_user_attr(REASON, reason)
        if retry:
            trial.set_user_attr(RETRY, True)
        with _quiet():
            self._study.tell(trial, state=TrialState.FAIL)

    def _waiting(self) -> bool:
        return bool(self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))

    def _any_free(self, accept: Accept) -> bool:
        return any(accept(self._settings(member)) is None for member in self._sampler.free(self._study))

    @contextmanager
    def _refusing(self, accept: Accept) -> Iterator[None]:
        """Have the sampler pass over what is not accepted, and store what it passed over: one write each."""
        sampler = self._sampler
        sampler.refuse = lambda member: accept(self._settings(member))
        try:
            yield
        finally:
            sampler.refuse = None
            for member, reason in sampler.refused.items():
                settings = self._settings(member)
                self._add(settings, TrialState.PRUNED, self._attributes(settings) | {REASON: reason})
            sampler.refused.clear()

    def _known(self, trial: Trial) -> str | None:
        """Return which other trial has the same settings, or None; of two that run at once the earlier one has them."""
        for other in self._study.get_trials(deepcopy=False):
            same = other.number != trial.number and other.params == trial.params and RETRY not in other.user_attrs
            if same and (other.number < trial.number or other.state.is_finished()):
                return f"the same settings as trial {other.number}"
        return None

    def _add(
        self, settings: Settings, state: TrialState, attributes: Mapping[str, Any], *, value: float | None = None
    ) -> None:
        trial = create_trial(
            state=state,
            value=value,
            params=self._params(settings),
            distributions=dict(self._distributions),
            user_attrs=dict(attributes),
        )
        with _quiet():
            self._study.add_trial(trial)

    def _member(self, settings: Settings) -> Member:
        return tuple(getattr(settings, name) for name in self._distributions)

    def _params(self, settings: Settings) -> dict[str, Any]:
        return dict(zip(self._distributions, self._member(settings), strict=True))

    def _settings(self, member: Member) -> Settings:
        return Settings.from_dict(self._default.as_dict() | dict(zip(self._distributions, member, strict=True)))

    def _attributes(self, settings: Settings) -> dict[str, Any]:
        """Return what every trial of settings says about itself."""
        return {"changes": _words(settings.changes(self._default)) or "the default", RUN: self._run}

    def _check(self, path: Path | str | None) -> None:
        """Refuse a stored study whose knobs have other choices: Optuna would, at the first trial."""
        for trial in self._study.get_trials(deepcopy=False):
            for name, stored in trial.distributions.items():
                if self._distributions.get(name, stored) != stored:
                    where = f"{shown_to_people(path)}: study '{self._study.study_name}'"
                    raise StudyError(f"{where} has other choices for '{name}'. Give a new file")

    def _describe(self, facts: Mapping[str, str | float]) -> None:
        """Store what people read in optuna-dashboard; only what is new, for writing takes time."""
        described = {
            **facts,
            "objective": OBJECTIVE,
            "default settings": _words(self._default.as_dict()),
            "sampler": self._sampler_name,
        }
        stored = self._study.user_attrs
        for name, value in described.items():
            if stored.get(name) != value:
                self._study.set_user_attr(name, value)
        if self._study.metric_names != [OBJECTIVE]:
            self._study.set_metric_names([OBJECTIVE])


def _distributions(space: Space) -> dict[str, CategoricalDistribution]:
    """Return the choices of the knobs that move; what members are folded to is among them."""
    found = {}
    for knob, choices in space.choices.items():
        folded = (getattr(entry, knob) for entry in space.members)
        values = tuple(dict.fromkeys((*choices.allowed, *folded)))
        if len(values) > 1:
            found[knob] = CategoricalDistribution(values)
    return found


def _attributes(measurement: Measurement | None) -> dict[str, Any]:
    """Return what a trial stores of its measurement, raw and for people."""
    if measurement is None:
        return {}
    facts = {
        "images_per_s": measurement.rate.value,
        "images_per_s 95%": f"{measurement.rate:.4g}",
        "predicted images_per_s": measurement.predicted,
        "bound images_per_s": measurement.bound,
        "heat": measurement.heat,
        MEASUREMENT: json.dumps(measurement.as_dict()),
    }
    return {name: value for name, value in facts.items() if value is not None}


def _words(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna's own log lines off the terminal, for the moment of a call."""
    before: Any = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)
