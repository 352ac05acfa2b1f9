"""A study's file is made, gone on with, shared and mended; a file of somebody else's is never written into."""

import json
import os
import sqlite3
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import optuna
import pytest
from optuna.samplers import RandomSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState, create_trial

from autotrain.errors import StudyError
from autotrain.search.storage import RUN, is_abandoned, open_study, this_run

ENDINGS = ("study.db", "study.sqlite3", "study", "study.journal", "study.log")


def reopen(path):
    return open_study(path, "job", RandomSampler(seed=0))


def _text(path):
    path.write_text("precision: fp32\n" * 100)


def _json(path):
    path.write_text('{"precision": "fp32"}\n')


def _database(path):
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE studies (colour TEXT)")
    connection.close()


def _folder(path):
    path.mkdir()


def _cut_database(path):
    made = path.with_name("whole.db")
    study = reopen(made)
    for _ in range(5):
        study.tell(study.ask(), 1.0)
    content = made.read_bytes()
    path.write_bytes(content[: len(content) // 2] + b"\xff" * 4096)


def _journal_broken_inside(path):
    path.write_text('{"op_code":0,"worker_id":"a","study_name":"x","directions":[1]}\n{"op_co\n{"op_code":9}\n')


SPOILED = [
    ("study.db", _text),
    ("study.db", _database),
    ("study.db", _folder),
    ("study.db", _cut_database),
    ("study.journal", _text),
    ("study.journal", _json),
    ("study.journal", _database),
    ("study.journal", _folder),
    ("study.journal", _journal_broken_inside),
]


@pytest.mark.parametrize(("ending", "spoil"), SPOILED)
def test_what_is_no_study_is_refused_in_one_line_and_kept(tmp_path, ending, spoil):
    path = tmp_path / ending
    spoil(path)
    before = None if path.is_dir() else path.read_bytes()
    with pytest.raises(StudyError) as caught:
        reopen(path)
    assert str(caught.value).startswith(str(path))
    assert "Give " in str(caught.value)
    assert "\n" not in str(caught.value)
    assert before is None or path.read_bytes() == before


@pytest.mark.parametrize("ending", ["study.db", "study.journal"])
def test_a_place_in_no_folder_is_refused(tmp_path, ending):
    with pytest.raises(StudyError, match="existing folder"):
        reopen(tmp_path / "nowhere" / ending)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", [*ENDINGS, "a b#c.db"])
def test_a_study_is_gone_on_with(tmp_path, ending):
    path = tmp_path / ending
    study = reopen(path)
    study.tell(study.ask(), 3.0)
    assert [trial.value for trial in reopen(path).trials] == [3.0]
    assert [entry.name for entry in tmp_path.iterdir()] == [ending]


@pytest.mark.parametrize("ending", ["study.db", "study.journal"])
def test_plain_optuna_loads_it(tmp_path, ending):
    path = tmp_path / ending
    study = reopen(path)
    study.tell(study.ask(), 3.0)
    journal = path.suffix == ".journal"
    storage = JournalStorage(JournalFileBackend(str(path))) if journal else f"sqlite:///{path}"
    assert optuna.load_study(study_name="job", storage=storage).best_value == 3.0


def test_a_journal_cut_off_in_a_line_goes_on(tmp_path):
    path = tmp_path / "study.journal"
    study = reopen(path)
    study.tell(study.ask(), 3.0)
    with path.open("ab") as file:
        file.write(b'{"op_code":8,"worker_id":"gone","trial_id":0,"user_att')
    study = reopen(path)
    study.tell(study.ask(), 4.0)
    assert [trial.value for trial in reopen(path).trials] == [3.0, 4.0]
    for line in path.read_text().splitlines():
        json.loads(line)


def test_a_lock_left_behind_holds_nobody_up_for_good(tmp_path, monkeypatch):
    monkeypatch.setattr("autotrain.search.storage.LOCK_S", 3)
    path = tmp_path / "study.journal"
    reopen(path)
    os.symlink(path, f"{path}.lock")
    assert reopen(path).trials == []


def trial_of(run, *, started=None):
    trial = create_trial(state=TrialState.RUNNING, user_attrs={RUN: run} if run else {})
    trial.datetime_start = started or datetime.now()
    return trial


def test_trials_of_the_living_go_on_and_those_of_the_dead_do_not():
    own = this_run()
    place, _, began = own.rpartition(" ")
    assert not is_abandoned(trial_of(own))
    assert is_abandoned(trial_of(f"{place} {int(began) - 1}")), "another process had the number before"
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    assert is_abandoned(trial_of(f"{place.rpartition(' ')[0]} {child.pid} {began}"))


def test_trials_of_other_machines_and_of_nobody_are_given_hours():
    for run in ("elsewhere pid:[1] 1 1", ""):
        assert not is_abandoned(trial_of(run))
        assert is_abandoned(trial_of(run, started=datetime.now() - timedelta(days=1)))


def test_the_killed_are_told_from_the_unreaped():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    began = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[19]
    run = f"{this_run().rpartition(' ')[0].rpartition(' ')[0]} {child.pid} {began}"
    assert not is_abandoned(trial_of(run))
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert is_abandoned(trial_of(run))
    child.stdin.close()
    child.wait()
