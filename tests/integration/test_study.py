"""Studies of several processes: one killed in the middle is gone on with, two at a time share one."""

import json
import os
import signal
import subprocess
import sys

import pytest

from autotrain.knobs.base import Choices
from autotrain.knobs.registry import Space
from autotrain.search.study import Study
from autotrain.settings import Settings

WORKER = """
import sys
sys.path.insert(0, {folder!r})
from test_study import make

study = make(sys.argv[1])
for line in sys.stdin:
    batch = study.ask_batch(2)
    print(len(batch), flush=True)
    if line.strip() == "tell":
        for trial, settings in batch:
            study.tell(trial, 100.0 / (1 + settings.workers))
        print("told", flush=True)
"""
MEMBERS = tuple(
    Settings(workers=workers, prefetch=prefetch, threads=threads)
    for workers in (0, 1, 2, 4)
    for prefetch in ((2, 4) if workers else (2,))
    for threads in (0, 1)
)
FILES = ("study.db", "study.journal")


def make(path, sampler="exhaustive"):
    from pathlib import Path

    rows = [entry.as_dict() for entry in MEMBERS]
    choices = {name: Choices(allowed=tuple(dict.fromkeys(row[name] for row in rows))) for name in rows[0]}
    space = Space(default=MEMBERS[0], choices=choices, members=MEMBERS)
    return Study(space, seed=0, path=Path(path), name="job", sampler=sampler)


@pytest.fixture
def start(tmp_path):
    """A function that starts a process which works on a study; all are killed at the end."""
    script, children = tmp_path / "worker.py", []
    script.write_text(WORKER.format(folder=os.path.dirname(__file__)))

    def begin(path):
        child = subprocess.Popen(
            [sys.executable, str(script), str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        children.append(child)
        return child

    yield begin
    for child in children:
        child.kill()
        child.communicate()


def order(child, what, answers):
    child.stdin.write(what + "\n")
    child.stdin.flush()
    return [child.stdout.readline().strip() for _ in range(answers)]


def states(path):
    return [trial.state.name for trial in make(path)._study.trials]


@pytest.mark.parametrize("name", FILES)
def test_a_killed_run_is_gone_on_with(tmp_path, start, name):
    path = tmp_path / name
    child = start(path)
    assert order(child, "tell", 2) == ["2", "told"]
    assert order(child, "hang", 1) == ["2"]
    child.send_signal(signal.SIGKILL)
    child.wait()
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
    assert order(one, "hang", 1) == ["2"]
    assert states(path) == ["RUNNING", "RUNNING"], "the other's trials go on"
    assert order(other, "tell", 2) == ["2", "told"]
    trials = make(path)._study.trials
    assert [trial.state.name for trial in trials] == ["RUNNING", "RUNNING", "COMPLETE", "COMPLETE"]
    assert len({json.dumps(trial.params, sort_keys=True) for trial in trials}) == 4


@pytest.mark.parametrize("name", FILES)
def test_runs_that_begin_at_once_make_one_study(tmp_path, start, name):
    path = tmp_path / name
    children = [start(path) for _ in range(3)]
    assert [order(child, "tell", 2) for child in children] == [["2", "told"]] * 3
    assert states(path) == ["COMPLETE"] * 6
