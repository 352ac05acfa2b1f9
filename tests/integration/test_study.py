"""Studies of several processes: one killed in the middle is gone on with, two at a time share one."""

import json
import multiprocessing
from pathlib import Path

import pytest

from autotrain.knobs.base import Choices
from autotrain.knobs.registry import Space
from autotrain.search.study import Study
from autotrain.settings import Settings

MEMBERS = tuple(
    Settings(workers=workers, prefetch=prefetch, threads=threads)
    for workers in (0, 1, 2, 4)
    for prefetch in ((2, 4) if workers else (2,))
    for threads in (0, 1)
)
FILES = ("study.db", "study.journal")


def make(path, sampler="exhaustive"):
    rows = [entry.as_dict() for entry in MEMBERS]
    choices = {name: Choices(allowed=tuple(dict.fromkeys(row[name] for row in rows))) for name in rows[0]}
    space = Space(default=MEMBERS[0], choices=choices, members=MEMBERS)
    return Study(space, seed=0, path=Path(path), name="job", sampler=sampler)


def work(path, orders):
    study = make(path)
    while True:
        what = orders.recv()
        batch = study.ask_batch(2)
        if what == "tell":
            for trial, settings in batch:
                study.tell(trial, 100.0 / (1 + settings.workers))
        orders.send(len(batch))


class Run:
    """A process that works on a study; forked, for importing takes long."""

    def __init__(self, path):
        context = multiprocessing.get_context("fork")
        self.orders, other = context.Pipe()
        self.process = context.Process(target=work, args=(path, other), daemon=True)
        self.process.start()
        other.close()

    def order(self, what):
        self.orders.send(what)

    def answer(self):
        assert self.orders.poll(60)
        return self.orders.recv()

    def kill(self):
        self.process.kill()
        self.process.join()
        self.orders.close()


@pytest.fixture
def start(tmp_path):
    """A function that starts a run; all are killed at the end."""
    runs = []

    def begin(path):
        runs.append(Run(path))
        return runs[-1]

    yield begin
    for run in runs:
        run.kill()


def states(path):
    return [trial.state.name for trial in make(path)._study.trials]


@pytest.mark.parametrize("name", FILES)
def test_a_killed_run_is_gone_on_with(tmp_path, start, name):
    path = tmp_path / name
    run = start(path)
    for what in ("tell", "hang"):
        run.order(what)
        assert run.answer() == 2
    run.kill()
    study = make(path)
    batch = study.ask_batch(2)
    assert [settings for _, settings in batch] == list(MEMBERS[2:4]), "what was not measured is suggested again"
    for trial, _ in batch:
        study.tell(trial, 1.0)
    assert states(path) == ["COMPLETE", "COMPLETE", "FAIL", "FAIL", "COMPLETE", "COMPLETE"]
    reasons = [trial.user_attrs.get("reason") for trial in make(path)._study.trials]
    assert reasons[2:4] == ["its run ended before it was measured"] * 2


@pytest.mark.parametrize("name", FILES)
def test_two_runs_share_a_study(tmp_path, start, name):
    path = tmp_path / name
    one, other = start(path), start(path)
    one.order("hang")
    assert one.answer() == 2
    assert states(path) == ["RUNNING", "RUNNING"], "the other's trials go on"
    other.order("tell")
    assert other.answer() == 2
    trials = make(path)._study.trials
    assert [trial.state.name for trial in trials] == ["RUNNING", "RUNNING", "COMPLETE", "COMPLETE"]
    assert len({json.dumps(trial.params, sort_keys=True) for trial in trials}) == 4


@pytest.mark.parametrize("name", FILES)
def test_runs_that_begin_at_once_make_one_study(tmp_path, start, name):
    path = tmp_path / name
    runs = [start(path) for _ in range(3)]
    for run in runs:
        run.order("tell")
    assert [run.answer() for run in runs] == [2, 2, 2]
    # Of two that picked the same at once one may have stepped back, and picked again.
    ended = [trial.state.name for trial in make(path)._study.trials]
    assert ended.count("COMPLETE") == 6
    assert set(ended) <= {"COMPLETE", "FAIL"}
