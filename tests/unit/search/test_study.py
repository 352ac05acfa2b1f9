"""The study is a plain Optuna study in a file, which a later probe goes on with."""

import json
import sqlite3
import warnings

import optuna
import pytest
from optuna.trial import TrialState

from autotrain.errors import StudyError
from autotrain.knobs.registry import canonical, legal_space
from autotrain.search.study import Study


@pytest.fixture
def space(workload, machine):
    return legal_space(workload, machine)


def make(space, path=None, *, seed=0, name="job"):
    return Study(space, seed=seed, path=path, name=name)


def test_what_is_suggested_lies_in_the_space(space, workload):
    study = make(space)
    for _ in range(20):
        trial, settings = study.ask()
        assert canonical(settings, workload) in space.members
        study.tell(trial, 100.0)


def test_what_is_enqueued_comes_first_and_in_order(space):
    study = make(space)
    wanted = [space.members[5], space.default, space.members[2]]
    for settings in wanted:
        study.enqueue(settings)
    for settings in wanted:
        trial, suggested = study.ask()
        assert suggested == settings
        study.tell(trial, 1.0)


def suggestions(study, count=15):
    found = []
    for number in range(count):
        trial, settings = study.ask()
        study.tell(trial, float((number * 7) % 5))
        found.append(settings)
    return found


def test_the_same_seed_gives_the_same_suggestions(space):
    first = suggestions(make(space, seed=3))
    assert suggestions(make(space, seed=3)) == first
    assert suggestions(make(space, seed=4)) != first


def test_a_study_reopened_gives_the_measurements_back(space, tmp_path, measure):
    path, kept = tmp_path / "study.db", []
    study = make(space, path)
    for number, settings in enumerate(space.members[:3]):
        study.enqueue(settings)
        trial, suggested = study.ask()
        kept.append(measure(suggested, 100.0 + number, losses=(2.0, 1.5)))
        study.tell(trial, 50.0, kept[-1])
    again = make(space, path)
    assert again.earlier() == kept
    assert make(space, path, name="another job").earlier() == []


def test_a_study_in_memory_leaves_no_file(space, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = make(space)
    trial, _ = study.ask()
    study.tell(trial, 1.0)
    assert list(tmp_path.iterdir()) == []


def test_plain_optuna_reads_it_reasons_included(space, tmp_path, measure):
    path = tmp_path / "study.db"
    study = make(space, path)
    measured, pruned, failed = (study.ask() for _ in range(3))
    study.tell(measured[0], 42.0, measure(measured[1], 321.0))
    study.prune(pruned[0], "cannot exceed 10 images/s")
    study.fail(failed[0], "out of memory")
    trials = optuna.load_study(study_name="job", storage=f"sqlite:///{path}").trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL]
    assert trials[0].value == 42.0
    assert trials[0].user_attrs["images_per_s"] == pytest.approx(321.0, rel=0.01)
    assert json.loads(trials[0].user_attrs["measurement"])["settings"] == measured[1].as_dict()
    assert trials[1].user_attrs == {"reason": "cannot exceed 10 images/s"}
    assert trials[2].user_attrs == {"reason": "out of memory"}


def _text(path):
    path.write_text("precision: fp32\n" * 100)


def _database(path):
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE studies (colour TEXT)")
    connection.close()


@pytest.mark.parametrize("spoil", [_text, _database, lambda path: path.mkdir()], ids=["text", "database", "folder"])
def test_what_is_no_study_is_refused_in_one_line_and_kept(space, tmp_path, spoil):
    path = tmp_path / "study.db"
    spoil(path)
    before = None if path.is_dir() else path.read_bytes()
    with pytest.raises(StudyError) as caught:
        make(space, path)
    assert str(caught.value).startswith(str(path))
    assert "Give " in str(caught.value)
    assert "\n" not in str(caught.value)
    assert before is None or path.read_bytes() == before


def test_a_place_in_no_folder_is_refused(space, tmp_path):
    with pytest.raises(StudyError, match="existing folder"):
        make(space, tmp_path / "nowhere" / "study.db")
    assert list(tmp_path.iterdir()) == []


def test_measurements_that_cannot_be_read_are_refused_in_one_line(space, tmp_path, measure):
    path = tmp_path / "study.db"
    trial, _ = make(space, path).ask()
    trial.set_user_attr("measurement", json.dumps({"kind": "full", "colour": "blue"}))
    with pytest.raises(StudyError):
        make(space, path).earlier()


@pytest.mark.parametrize("level", [optuna.logging.INFO, optuna.logging.ERROR])
def test_optunas_log_level_and_the_warning_filters_stay(space, tmp_path, level, capfd):
    own, filters = optuna.logging.get_verbosity(), list(warnings.filters)
    optuna.logging.set_verbosity(level)
    try:
        study = make(space, tmp_path / "study.db")
        study.enqueue(space.default)
        trial, _ = study.ask()
        study.tell(trial, 1.0)
        study.prune(study.ask()[0], "hopeless")
        _text(tmp_path / "text.db")
        with pytest.raises(StudyError):
            make(space, tmp_path / "text.db")
        assert optuna.logging.get_verbosity() == level
        assert warnings.filters == filters
    finally:
        optuna.logging.set_verbosity(own)
    assert "".join(capfd.readouterr()) == ""
