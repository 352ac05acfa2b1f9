"""The study: Optuna suggests settings; what was measured is stored with its trials, so that a study can go on."""

from __future__ import annotations

import json
import logging
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.trial import Trial, TrialState

from autotrain.errors import SettingsError, StudyError
from autotrain.knobs.registry import Space
from autotrain.measure.measurement import Measurement
from autotrain.settings import Settings

MEASUREMENT = "measurement"
REASON = "reason"
log = logging.getLogger(__name__)


class Study:
    """An Optuna study over a legal space; what is minimised is the predicted seconds of the planned training.

    Args:
        space: the knobs and their choices.
        seed: of the sampler.
        path: file of an SQLite storage that is made or gone on with; in memory where None.
        name: tells studies of different tasks and machines apart within one file.

    Raises:
        StudyError: the file is no study's storage.
    """

    def __init__(self, space: Space, *, seed: int, path: Path | None, name: str) -> None:
        self._distributions = {
            knob: CategoricalDistribution(choices.allowed)
            for knob, choices in space.choices.items()
            if len(choices.allowed) > 1
        }
        self._default = space.default
        sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, n_startup_trials=8)
        with _quiet():
            self._study = _open(path, name, sampler)

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

    def enqueue(self, settings: Settings) -> None:
        """Have these settings suggested next, after those enqueued before."""
        values = settings.as_dict()
        with _quiet():
            self._study.enqueue_trial({name: values[name] for name in self._distributions}, skip_if_exists=False)

    def ask(self) -> tuple[Trial, Settings]:
        """Return a trial and the settings that Optuna suggests."""
        with _quiet():
            trial = self._study.ask(dict(self._distributions))
        return trial, Settings.from_dict(self._default.as_dict() | trial.params)

    def tell(self, trial: Trial, training_s: float, measurement: Measurement | None = None) -> None:
        """Report the predicted seconds of the planned training under a trial's settings."""
        if measurement is not None:
            trial.set_user_attr(MEASUREMENT, json.dumps(measurement.as_dict()))
            trial.set_user_attr("images_per_s", measurement.rate.value)
        with _quiet():
            self._study.tell(trial, training_s)

    def prune(self, trial: Trial, reason: str) -> None:
        """Report that a trial was not worth measuring."""
        trial.set_user_attr(REASON, reason)
        with _quiet():
            self._study.tell(trial, state=TrialState.PRUNED)

    def fail(self, trial: Trial, reason: str) -> None:
        """Report that a trial failed."""
        trial.set_user_attr(REASON, reason)
        with _quiet():
            self._study.tell(trial, state=TrialState.FAIL)


def _open(path: Path | None, name: str, sampler: optuna.samplers.BaseSampler) -> optuna.Study:
    if path is None:
        return optuna.create_study(study_name=name, sampler=sampler, direction="minimize")
    if path.is_dir() or not path.resolve().parent.is_dir():
        raise StudyError(f"{path}: not a place for a study's file. Give a file in an existing folder, such as study.db")
    if _is_foreign(path):
        raise StudyError(f"{path}: a database, but not a study's. Give the file of an earlier study, or a new one")
    try:
        return optuna.create_study(
            study_name=name,
            storage=f"sqlite:///{path.resolve()}",
            sampler=sampler,
            direction="minimize",
            load_if_exists=True,
        )
    except Exception as problem:
        line = str(problem).strip().splitlines()
        raise StudyError(
            f"{path}: cannot be used as a study ({line[0] if line else type(problem).__name__}). "
            "Give the file of an earlier study, or a new one"
        ) from problem


def _is_foreign(path: Path) -> bool:
    """Tell whether the file is somebody else's database, into which Optuna would write its tables."""
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.Error:
        return False
    return bool(tables) and "version_info" not in tables


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
