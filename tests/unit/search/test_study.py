"""The study is a plain Optuna study in a file, which a later probe goes on with."""

import json
import warnings
from dataclasses import replace

import optuna
import pytest
from optuna.trial import TrialState

from autotrain.errors import StudyError
from autotrain.knobs.base import Choices
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
    assert trials[1].user_attrs["reason"] == "cannot exceed 10 images/s"
    assert trials[2].user_attrs["reason"] == "out of memory"


def test_what_people_read_in_the_dashboard_is_stored(space, tmp_path, measure):
    path = tmp_path / "study.db"
    study = Study(space, seed=0, path=path, name="job", facts={"model": "ResNet", "machine": "two cores"})
    study.add_known(space.default, 60.0, measure(space.default, 100.0))
    ((trial, settings),) = study.ask_batch(1)
    study.tell(trial, 42.0, measure(settings, 321.0, heat=3, bound=400.0, predicted=330.0))
    stored = optuna.load_study(study_name="job", storage=f"sqlite:///{path}")
    assert stored.user_attrs["model"] == "ResNet"
    assert stored.user_attrs["machine"] == "two cores"
    assert "precision=fp32" in stored.user_attrs["default settings"]
    assert stored.metric_names == ["predicted seconds of the planned training"]
    known, measured = stored.trials
    assert known.user_attrs["changes"] == "the default"
    assert known.value == 60.0
    facts = measured.user_attrs
    assert all(f"{name}={value}" in facts["changes"] for name, value in settings.changes(space.default).items())
    assert (facts["heat"], facts["bound images_per_s"], facts["predicted images_per_s"]) == (3, 400.0, 330.0)
    assert facts["images_per_s 95%"].startswith("321 (")


def test_what_a_sampler_would_have_picked_is_kept_as_pruned_with_the_reason(space, tmp_path):
    path = tmp_path / "study.db"
    study = Study(space, seed=0, path=path, name="job", sampler="exhaustive")
    wanted = space.members[4]
    ((trial, settings),) = study.ask_batch(1, accept=lambda entry: None if entry == wanted else "cannot win")
    assert settings == wanted
    study.tell(trial, 1.0)
    trials = optuna.load_study(study_name="job", storage=f"sqlite:///{path}").trials
    pruned = [entry for entry in trials if entry.state is TrialState.PRUNED]
    assert [entry.user_attrs["reason"] for entry in pruned] == ["cannot win"] * 4
    assert study.ask_batch(1)[0][1] == space.members[5]


def test_enqueued_settings_that_are_known_or_refused_cost_nothing(space):
    study = make(space)
    known, refused, wanted = space.members[1:4]
    study.add_known(known, 5.0)
    for settings in (known, refused, wanted, wanted):
        study.enqueue(settings)
    batch = study.ask_batch(2, accept=lambda entry: "cannot win" if entry == refused else None)
    assert batch[0][1] == wanted
    assert batch[1][1] not in (known, refused, wanted)


def test_what_failed_by_no_fault_of_its_own_may_be_suggested_again(space):
    study = make(space)
    study.restrict(space.members[:2])
    for trial, settings in study.ask_batch(2):
        study.fail(trial, "time ran out", retry=settings == space.members[1])
    assert [settings for _, settings in study.ask_batch(2)] == [space.members[1]]


def test_what_is_known_is_added_once_and_again_when_measured_again(space, tmp_path, measure):
    path = tmp_path / "study.journal"
    first, second = measure(space.default, 100.0), measure(space.default, 101.0)
    for _ in range(2):
        study = make(space, path)
        study.add_known(space.default, 10.0, first)
        study.add_known(space.members[1], 9.0)
    study.add_known(space.default, 9.9, second)
    assert make(space, path).earlier() == [first, second]


def test_other_choices_under_the_same_name_are_refused(space, tmp_path):
    path = tmp_path / "study.db"
    study = make(space, path)
    study.tell(study.ask()[0], 1.0)
    fewer = replace(space, choices=space.choices | {"workers": Choices(allowed=(0, 7))}, members=(space.default,))
    with pytest.raises(StudyError, match="other choices for 'workers'"):
        make(fewer, path)


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
        (tmp_path / "text.db").write_text("precision: fp32\n" * 100)
        with pytest.raises(StudyError):
            make(space, tmp_path / "text.db")
        assert optuna.logging.get_verbosity() == level
        assert warnings.filters == filters
    finally:
        optuna.logging.set_verbosity(own)
    assert "".join(capfd.readouterr()) == ""


def test_the_choice_of_another_machine_is_known_to_all_and_the_first_one_stays(space, tmp_path, monkeypatch):
    path = tmp_path / "shared.journal"
    first = make(space, path)
    first.conclude(space.members[3])
    assert first.concluded() is None  # one's own is no news: a longer probe may find something better
    monkeypatch.setattr("autotrain.search.storage.place", lambda: "another-machine pid:[1]")
    other = make(space, path)
    assert other.concluded() == space.members[3]
    other.conclude(space.members[4])
    assert make(space, path).concluded() == space.members[3]
    monkeypatch.undo()
    assert first.concluded() is None
    first.conclude(space.members[5])  # it has probed again, and found something better
    monkeypatch.setattr("autotrain.search.storage.place", lambda: "another-machine pid:[1]")
    assert other.concluded() == space.members[5]


@pytest.mark.parametrize("name", ["shared.journal", "shared.db"])
def test_of_two_machines_that_conclude_at_once_both_know_which_was_first(space, tmp_path, monkeypatch, name):
    """Neither had read the other's before it wrote its own."""
    one = make(space, tmp_path / name)
    monkeypatch.setattr("autotrain.search.storage.place", lambda: "another-machine pid:[1]")
    other = make(space, tmp_path / name)
    assert one.concluded() is other.concluded() is None
    one.conclude(space.members[3])
    other.conclude(space.members[4])
    assert other.concluded() == space.members[3]
    monkeypatch.undo()
    assert one.concluded() is None


def test_what_was_concluded_with_is_no_trial_for_anybody(space, tmp_path, measure):
    study = make(space, tmp_path / "study.journal")
    assert "new" in study.words()
    trial, settings = study.ask()
    study.tell(trial, 1.0, measure(settings, 100.0))
    study.conclude(settings)
    again = make(space, tmp_path / "study.journal")
    assert again.words() == "goes on, with 1 measurement of other probes"
    assert len(again.earlier()) == 1
    again.enqueue(space.members[7])
    assert [suggested for _, suggested in again.ask_batch(1)] == [space.members[7]]


def test_two_machines_measure_nothing_twice(space, tmp_path, measure):
    path = tmp_path / "shared.journal"
    one, other = make(space, path), make(space, path)
    asked = one.ask_batch(5)
    beside = other.ask_batch(5)
    assert len({settings for _, settings in (*asked, *beside)}) == 10
    for study, batch in ((one, asked), (other, beside)):
        for trial, settings in batch:
            study.tell(trial, 100.0, measure(settings, 100.0))
    everything = {settings for _, settings in (*asked, *beside)}
    assert {entry.settings for entry in one.earlier()} == everything == {entry.settings for entry in other.earlier()}


def test_a_database_serves_as_well_and_its_password_is_kept_to_itself(space, tmp_path):
    url = f"sqlite:///{tmp_path}/study.db"
    trial, settings = make(space, url).ask()
    assert trial.number == 0
    assert make(space, url).ask()[1] != settings
    with pytest.raises(StudyError, match=r"^postgresql\+nothing://host/base: cannot be used for a study") as caught:
        make(space, "postgresql+nothing://me:secret@host/base")
    assert "secret" not in str(caught.value)
