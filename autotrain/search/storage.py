"""Where studies are kept: SQLite or Optuna's journal in one file, or a database; for several processes at a time."""

from __future__ import annotations

import fcntl
import json
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import FrozenTrial, TrialState

from autotrain.errors import StudyError
from autotrain.world import place

RUN = "run"
"""User attribute of a trial: the process that measures it; see ``this_run``."""

REASON = "reason"
"""User attribute: why a trial was pruned or failed."""

RETRY = "retry"
"""User attribute of a trial that ended without a verdict on its settings, which may be suggested again."""

JOURNALS = (".journal", ".log")
"""Endings of files that Optuna's journal is kept in; all others are SQLite."""

BUSY_S = 60.0
"""How long a write waits for other processes."""

LOCK_S = 10
"""Age from which the lock of a journal, held for milliseconds, is that of a killed process."""

LONGEST_TRIAL = timedelta(hours=6)
"""After this a trial of a run that cannot be looked for, having run elsewhere, is taken for abandoned."""


def open_study(path: Path | str | None, name: str, sampler: BaseSampler) -> optuna.Study:
    """Return the study of a name in a file or database, made where there is none; what dead runs left has failed.

    Raises:
        StudyError: the file is something else, or broken; it is as before. Or the database cannot be reached.
    """
    if isinstance(path, str):
        return _in_database(path, name, sampler)
    if path is None:
        return optuna.create_study(study_name=name, storage=InMemoryStorage(), sampler=sampler, direction="minimize")
    if path.is_dir() or not path.resolve().parent.is_dir():
        raise StudyError(f"{path}: not a place for a study's file. Give a file in an existing folder, such as study.db")
    try:
        with _one_at_a_time(path.resolve().parent):
            _check(path)
            storage = _storage(path.resolve())
            study = optuna.create_study(
                study_name=name, storage=storage, sampler=sampler, direction="minimize", load_if_exists=True
            )
            _end_abandoned(study, storage)
    except StudyError:
        raise
    except Exception as problem:
        line = str(problem).strip().splitlines()
        raise StudyError(
            f"{path}: cannot be used as a study ({line[0] if line else type(problem).__name__}). "
            "Give the file of an earlier study, or a new one"
        ) from problem
    return study


def shown_to_people(path: Path | str | None) -> str:
    """Return where a study is kept, without a password."""
    return re.sub(r"(?<=://)[^@/]*@", "", str(path))


def _in_database(url: str, name: str, sampler: BaseSampler) -> optuna.Study:
    """Return the study in a database that several machines reach."""
    shown = shown_to_people(url)
    try:
        storage = RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
        study = optuna.create_study(
            study_name=name, storage=storage, sampler=sampler, direction="minimize", load_if_exists=True
        )
        _end_abandoned(study, storage)
    except Exception as problem:
        line = str(problem).replace(url, shown).strip().splitlines()
        raise StudyError(
            f"{shown}: cannot be used for a study ({line[0] if line else type(problem).__name__}). "
            "Give a URL that SQLAlchemy takes, and install its driver; or a file"
        ) from problem
    return study


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Let no two processes open files of a folder at once: tables half made are nobody's, and made twice an error.

    The folder itself is locked, which leaves no file behind and does not meddle with SQLite's locks on its own.
    """
    opened = os.open(folder, os.O_RDONLY)
    try:
        # Some network file systems have no such locks.
        with suppress(OSError):
            fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)


def this_run() -> str:
    """Return what tells this process from all others: host, process namespace, number, and when it began."""
    return f"{place()} {os.getpid()} {_began(os.getpid())}"


def machine_of(run: str) -> str:
    """Return where a run is: host and process namespace."""
    return run.rpartition(" ")[0].rpartition(" ")[0]


def is_elsewhere(run: str) -> bool:
    """Tell whether a run is that of another machine."""
    return machine_of(run) != place()


def is_abandoned(trial: FrozenTrial) -> bool:
    """Tell whether the run that measured a trial is dead; one that cannot be looked for from here is, after hours."""
    where, _, process = str(trial.user_attrs.get(RUN, "")).rpartition(" ")[0].rpartition(" ")
    if process.isdigit() and where == place():
        return _began(int(process)) != str(trial.user_attrs[RUN]).rpartition(" ")[2]
    return trial.datetime_start is not None and datetime.now() - trial.datetime_start > LONGEST_TRIAL


def _end_abandoned(study: optuna.Study, storage: BaseStorage) -> None:
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if is_abandoned(trial):
            # Another process that opens the study now may have been first.
            with suppress(UpdateFinishedTrialError):
                storage.set_trial_user_attr(trial._trial_id, REASON, "its run ended before it was measured")
                storage.set_trial_user_attr(trial._trial_id, RETRY, True)
                storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)


def _began(process: int) -> str:
    """Return when a process began, in ticks since the machine did; empty where it is dead."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def _storage(path: Path) -> BaseStorage:
    if path.suffix in JOURNALS:
        lock = JournalFileSymlinkLock(str(path), grace_period=LOCK_S)
        _mend(path, lock)
        return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))
    return RDBStorage(f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": BUSY_S}})


def _mend(path: Path, lock: JournalFileSymlinkLock) -> None:
    """Cut off a last line that a killed process did not finish: nobody reads it, and the next would be glued to it."""
    if not path.exists():
        return
    lock.acquire()
    try:
        with path.open("rb+") as file:
            content = file.read()
            if content and not content.endswith(b"\n"):
                file.truncate(content.rfind(b"\n") + 1)
    finally:
        lock.release()


def _check(path: Path) -> None:
    """Refuse files of somebody else's, into which Optuna would write, and broken ones."""
    if not path.exists() or path.stat().st_size == 0:
        return
    problem = _journal_problem(path) if path.suffix in JOURNALS else _database_problem(path)
    if problem:
        raise StudyError(f"{path}: {problem}. Give the file of an earlier study, or a new one")


def _journal_problem(path: Path) -> str | None:
    with path.open("rb") as file:
        first = file.readline()
    try:
        entry = json.loads(first)
    except ValueError:
        entry = None
    return None if isinstance(entry, dict) and "op_code" in entry else "a file, but not a study's journal"


def _database_problem(path: Path) -> str | None:
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=BUSY_S)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if tables and not {"version_info", "studies"} <= tables:
                return "a database, but not a study's"
            ((state,),) = connection.execute("PRAGMA quick_check(1)")
    except sqlite3.OperationalError:
        # Not to be opened, such as one without permission: Optuna says so too, and better.
        return None
    except sqlite3.DatabaseError as problem:
        return f"no database, or a broken one ({problem})"
    return None if state == "ok" else "a broken database"
