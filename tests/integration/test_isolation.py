"""Measuring in a child process: real children, real bursts; what a candidate does to itself is a result."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest
import torch

from autotrain.data.caching import WarmSets
from autotrain.errors import CandidateError, TaskError
from autotrain.measure.isolate import Child
from autotrain.measure.measurement import Measurement
from autotrain.preparation import prepare_workload
from autotrain.settings import Settings
from autotrain.task import Task
from autotrain.workload import Workload

ACTS = """
import ctypes, os, tempfile, threading, time
import torch
from autotrain.engine.rig import Rig
from autotrain.errors import TaskError
from autotrain.measure.burst import BurstOptions, burst

SHORT = BurstOptions(window_s=0.03, windows=3, limit_s=0.2, warmup_s=0.05)

def bits(workload):
    return {name: (entry.numpy().tobytes(), entry.stride()) for name, entry in workload.model.state_dict().items()}

def measured(workload, settings, *, report):
    with Rig(workload, settings) as rig:
        report(os.getpid())
        rig.input.next()
        report(tuple(rig.input.loader.pids))
        return burst(rig, options=SHORT)

def place(workload):
    _, kept = tempfile.mkstemp()
    os.makedirs(os.environ["TORCHINDUCTOR_CACHE_DIR"], exist_ok=True)
    return kept, os.environ["TORCHINDUCTOR_CACHE_DIR"], os.getcwd(), torch.get_num_threads(), torch.get_default_dtype()

def refuses(workload):
    raise TaskError("this task cannot be")

def breaks(workload):
    raise RuntimeError("a kernel is missing\\nand more")

def crashes_with_workers(workload, settings, *, report):
    rig = Rig(workload, settings).__enter__()
    rig.input.next()
    report(tuple(rig.input.loader.pids))
    for pid in rig.input.loader.pids:  # as if each were killed between naming a batch's memory and taking the name away
        open(f"/dev/shm/torch_{pid}_1_1", "x").close()
    ctypes.string_at(0)
"""


@pytest.fixture
def acts(monkeypatch: pytest.MonkeyPatch, empty_home: Path) -> Iterator[ModuleType]:
    """Functions that a child can import too."""
    (empty_home / "isolated_acts.py").write_text(ACTS)
    monkeypatch.syspath_prepend(str(empty_home))
    monkeypatch.delitem(sys.modules, "isolated_acts", raising=False)
    import isolated_acts

    yield isolated_acts
    del sys.modules["isolated_acts"]


@pytest.fixture
def workload(tiny_model: Any, jpeg_folder: Path, empty_home: Path) -> Workload:
    model = tiny_model().to(memory_format=torch.channels_last)
    task = Task(model=model, dataset=jpeg_folder, batch_size=4, image_size=16, device="cpu")
    return prepare_workload(task)


@pytest.mark.usefixtures("one_thread")
def test_a_child_measures_as_this_process_would_and_leaves_nothing(
    traces: ModuleType, acts: ModuleType, workload: Workload, empty_home: Path
) -> None:
    model = workload.model
    kept = empty_home / "kept"
    warm = WarmSets(8, kept)
    workload = replace(workload, warm=warm, cache_dir=kept)
    reports: list[Any] = []
    with traces.unchanged(model, folders=[empty_home]), Child(environ={"MINE": "1"}) as child:
        found = child.run(acts.bits, workload, limit_s=60)
        assert found == {name: (entry.numpy().tobytes(), entry.stride()) for name, entry in model.state_dict().items()}
        pid = child.pid
        settings = Settings(augmentation="crop", workers=1, cache="disk", memory_format="channels_last")
        measurement = child.run(acts.measured, workload, settings, limit_s=60, on_report=reports.append)
        assert isinstance(measurement, Measurement)
        assert measurement.settings == settings
        assert measurement.rate.value > 0
        with pytest.raises(TaskError, match="this task cannot be"):
            child.run(acts.refuses, workload, limit_s=60)
        kept_file, inductor, here, threads, dtype = child.run(acts.place, workload, limit_s=60)
        assert (here, threads, dtype) == (os.getcwd(), 1, torch.float32)
        assert Path(kept_file).is_relative_to(empty_home / "tmp")
        assert os.path.isdir(inductor)
        assert child.pid == pid == reports[0] != os.getpid()
        with pytest.raises(CandidateError, match=r"^RuntimeError: a kernel is missing$"):
            child.run(acts.breaks, workload, limit_s=60)
        assert child.pid is None
    assert not any(psutil.pid_exists(number) for number in (pid, *reports[1]))


def test_a_crash_ends_the_workers_too_and_the_next_call_has_a_new_child(
    traces: ModuleType, acts: ModuleType, workload: Workload, empty_home: Path
) -> None:
    workers: list[tuple[int, ...]] = []
    settings = Settings(augmentation="crop", workers=2)
    with traces.unchanged(workload.model), Child() as child:
        with pytest.raises(CandidateError, match=r"segmentation fault \(signal 11\)"):
            child.run(acts.crashes_with_workers, workload, settings, limit_s=60, on_report=workers.append)
        assert len(workers[0]) == 2
        until = time.monotonic() + 5
        while any(psutil.pid_exists(number) for number in workers[0]) and time.monotonic() < until:
            time.sleep(0.02)
        assert not any(psutil.pid_exists(number) for number in workers[0])
        assert child.run(acts.bits, workload, limit_s=60)


SCRIPT = """
import os, time
import torch
from torch import nn
from autotrain.measure.isolate import Child
from autotrain.preparation import prepare_workload
from autotrain.task import Task

class Net(nn.Sequential):
    pass

def stays(workload, *, report):
    report((type(workload.model).__name__, os.getpid()))
    time.sleep(600)

if __name__ == "__main__":
    data = torch.zeros(16, 3, 8, 8, dtype=torch.uint8), torch.arange(16) % 3
    model = Net(nn.Flatten(), nn.Linear(192, 3))
    workload = prepare_workload(Task(model=model, dataset=data, batch_size=4, device="cpu"))
    with Child() as child:
        child.run(stays, workload, limit_s=60, on_report=lambda said: print(*said, flush=True))
"""


def test_a_child_of_a_script_ends_with_it_even_if_that_is_killed(empty_home: Path) -> None:
    script = empty_home / "train.py"
    script.write_text(SCRIPT)
    root = str(Path(__file__).parents[2])
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
    ) as process:
        assert process.stdout is not None
        name, number = process.stdout.readline().split()
        assert name == "Net"
        assert psutil.pid_exists(int(number))
        process.send_signal(signal.SIGKILL)
        until = time.monotonic() + 10
        while psutil.pid_exists(int(number)) and time.monotonic() < until:
            time.sleep(0.02)
    assert not psutil.pid_exists(int(number))
