"""What a child process can be given, and what its death is called; the children here are stand-ins without torch."""

from __future__ import annotations

import os
import pickle
import signal
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest
import torch
from torch import nn

from autotrain.data.caching import WarmSets
from autotrain.errors import CandidateError
from autotrain.measure import isolate
from autotrain.measure.child import Done, Report, load
from autotrain.measure.folder import Folder
from autotrain.measure.isolate import Child, why_not
from autotrain.measure.parcel import ChildSets, main_problem, stripped, write
from autotrain.preparation import prepare_workload
from autotrain.task import Task
from autotrain.workload import Workload

STAND_IN = """
import os, signal, sys, time, faulthandler, ctypes, pickle
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle
from multiprocessing.spawn import prepare
connection = Connection({{descriptor}})
prepare(connection.recv())
faulthandler.enable(all_threads=False)
connection.recv_bytes()
os.close(recv_handle(connection))
connection.send_bytes({done})
connection.recv_bytes()
def act():
    {act}
act()
time.sleep(60)
"""


@pytest.fixture
def workload(tiny_model: Any) -> Workload:
    return workload_of(tiny_model())


def workload_of(model: nn.Module, **options: Any) -> Workload:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (16, 3, 8, 8), generator=generator, dtype=torch.uint8)
    given = {"dataset": (images, torch.arange(16) % 3), "batch_size": 4, "device": "cpu", **options}
    return prepare_workload(Task(model=model, **given))


@pytest.fixture
def acts(monkeypatch: pytest.MonkeyPatch, empty_home: Path) -> Any:
    """A function that has every child do something when it is called, in place of what it is asked for."""

    def set_act(act: str) -> None:
        monkeypatch.setattr(isolate, "CODE", STAND_IN.format(act=act, done=pickle.dumps(Done())))

    return set_act


def nothing(workload: Workload) -> None:
    """Never called: the stand-ins have acts of their own."""


DEATHS = {
    "ctypes.string_at(0)": r"^the process died: segmentation fault \(signal 11\), in string_at \(__init__.py:\d+\)$",
    "os.abort()": r"^the process died: aborted \(signal 6\), in act \(<string>:\d+\)$",
    "os._exit(3)": r"^the process ended with exit code 3$",
    "print('cannot find libodd.so', file=sys.stderr); os._exit(1)": r"exit code 1: cannot find libodd.so$",
    "raise MemoryError('all of it')": r"^the process ended with exit code 1: MemoryError: all of it$",
    "os.kill(os.getpid(), signal.SIGKILL)": r"^the process was killed, most likely out of memory \(signal 9\)$",
    "time.sleep(60)": r"^ran longer than 0.3 s and was ended, in act \(<string>:\d+\)$",
    "connection.close(); time.sleep(60)": r"^the process closed its connection but went on, and was ended$",
}


@pytest.mark.parametrize("act", DEATHS)
def test_a_death_is_said_in_plain_words_and_leaves_nothing(
    acts: Any, workload: Workload, empty_home: Path, act: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolate, "DYING_S", 0.5)
    acts(act)
    with Child() as child:
        with pytest.raises(CandidateError, match=DEATHS[act]):
            child.run(nothing, workload, limit_s=0.3)
        assert child.pid is None
    assert list((empty_home / "tmp").iterdir()) == []
    assert list((empty_home / "here").iterdir()) == []


def test_what_a_dead_child_started_is_ended_too(acts: Any, workload: Workload, tmp_path: Path) -> None:
    acts("import subprocess; subprocess.Popen(['sleep', '60']); os._exit(1)")
    with Child() as child, pytest.raises(CandidateError):
        child.run(nothing, workload, limit_s=10)
    sleeping = [entry for entry in psutil.process_iter(["name", "ppid", "cwd"]) if entry.info["name"] == "sleep"]
    assert [entry for entry in sleeping if entry.info["cwd"] == os.getcwd()] == []


def test_ctrl_c_ends_the_child_and_is_raised_here(acts: Any, workload: Workload) -> None:
    acts(f"connection.send_bytes({pickle.dumps(Report(content='here'))}); time.sleep(60)")

    def press(content: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    with Child() as child:
        with pytest.raises(KeyboardInterrupt):
            child.run(nothing, workload, limit_s=20, on_report=press)
        assert child.pid is None


def test_ctrl_c_of_the_terminal_is_not_for_the_child(acts: Any, workload: Workload) -> None:
    acts(f"connection.send_bytes(pickle.dumps(os.getpgid(0))); connection.send_bytes({pickle.dumps(Done(result=7))})")
    with Child() as child:
        assert child.run(nothing, workload, limit_s=20) == 7
        assert child.pid is not None
        assert os.getpgid(child.pid) != os.getpgid(0)


def test_folders_that_a_killed_process_left_are_removed_by_the_next(empty_home: Path) -> None:
    left = Folder()
    (left.path / "inductor").mkdir()
    live = Folder()
    assert left.path.exists()
    os.close(left._lock)  # as the kernel does when the process is killed
    Folder().remove()
    assert [entry.name for entry in (empty_home / "tmp").iterdir()] == [live.path.name]
    live.remove()


def test_tensors_arrive_bit_for_bit_with_strides_and_sharing(own_draws: None) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(4, 4), nn.Linear(4, 4)).to(memory_format=torch.channels_last)
    model[2].weight = model[1].weight
    model[1].bias.data[0] = float("nan")
    model.register_buffer("table", torch.arange(6.0).view(2, 3).t())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model[0](torch.ones(1, 3, 4, 4)).sum().backward()
    optimizer.step()
    source = workload_of(nn.Sequential(nn.Flatten(), nn.Linear(192, 3)))
    found = load(write(replace(source, task=replace(source.task, model=model, optimizer=optimizer))))
    for (name, one), other in zip(model.state_dict().items(), found.model.state_dict().values(), strict=True):
        assert one.numpy().tobytes() == other.numpy().tobytes(), name
        assert one.stride() == other.stride(), name
    assert found.model[2].weight is found.model[1].weight
    assert isinstance(found.task.optimizer, torch.optim.SGD)
    assert found.task.optimizer.param_groups[0]["params"][0] is found.model[0].weight
    momentum = found.task.optimizer.state[found.model[0].weight]["momentum_buffer"]
    assert torch.equal(momentum, optimizer.state[model[0].weight]["momentum_buffer"])
    found.model[0].weight.data.zero_()  # copied where written to
    assert model[0].weight.abs().sum() > 0


def test_caches_travel_empty_and_either_side_removes_both(workload: Workload, tmp_path: Path) -> None:
    warm = WarmSets(8, None)
    sent = stripped(replace(workload, warm=warm, cache_dir=tmp_path / "kept"))
    assert isinstance(sent.warm, ChildSets)
    theirs = pickle.loads(pickle.dumps(sent.warm))
    assert theirs._name == sent.warm._name
    assert theirs.samples == 8
    assert sent.validation is None


# What cannot be sent


def test_a_plain_task_can_be_isolated(workload: Workload) -> None:
    assert why_not(workload) is None


def test_a_lambda_is_named_as_what_it_is_for(tiny_model: Any) -> None:
    workload = workload_of(tiny_model(), optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1))
    reason = why_not(workload)
    assert reason is not None
    assert reason.startswith("the optimizer cannot be pickled")
    assert "top level of a module" in reason
    with Child() as child, pytest.raises(CandidateError, match="process of its own: the optimizer cannot be pickled"):
        child.run(nothing, workload, limit_s=1)


def as_main(monkeypatch: pytest.MonkeyPatch, path: Path | None, text: str = "") -> None:
    main = ModuleType("__main__")
    if path is not None:
        path.write_text(text)
        main.__file__ = str(path)
    monkeypatch.setitem(sys.modules, "__main__", main)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("class Net: ...\nif __name__ == '__main__':\n    train()\n", None),
        ("class Net: ...\nif '__main__' == __name__:\n    train()\n", None),
        ("class Net: ...\ntrain()\n", "would train once more"),
        ("class Net: ...\ndef f():\n    if __name__ == '__main__':\n        train()\n", "would train once more"),
        ("class Net ...", "cannot be read"),
    ],
)
def test_a_main_script_is_run_once_more_only_where_it_says_what_is_for_the_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, problem: str | None
) -> None:
    as_main(monkeypatch, tmp_path / "train.py", text)
    found = main_problem()
    assert found == problem if problem is None else problem in str(found)


def test_what_a_notebook_defines_is_refused(
    own_draws: None, monkeypatch: pytest.MonkeyPatch, workload: Workload
) -> None:
    main = ModuleType("__main__")
    Net = type("Net", (nn.Linear,), {"__module__": "__main__"})
    main.Net = Net
    monkeypatch.setitem(sys.modules, "__main__", main)
    model = Net(2, 2)
    reason = why_not(replace(workload, task=replace(workload.task, model=model)))
    assert reason is not None
    assert reason.startswith("the model uses Net of __main__, which is not a file")


def test_examining_a_large_dataset_copies_no_tensor(tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    workload = workload_of(tiny_model())

    def copied(storage: Any) -> Any:
        raise AssertionError("a tensor was copied")

    monkeypatch.setattr(torch.TypedStorage, "__reduce__", copied)
    with pytest.raises(AssertionError):
        pickle.dumps(workload.source)
    assert why_not(workload) is None
