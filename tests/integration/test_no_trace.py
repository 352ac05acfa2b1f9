"""A probe leaves everything as it was, bit for bit: when it ends, when it fails, and when it is interrupted."""

import logging
import multiprocessing.queues
import os
import random
import signal
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import autotrain
from autotrain.api import ProbeResult
from autotrain.engine.restore import read_flags, untouched, write_flags
from autotrain.engine.rig import Rig
from autotrain.errors import DataError
from autotrain.preparation import prepare_workload
from autotrain.settings import Settings
from autotrain.task import Task

pytestmark = pytest.mark.usefixtures("one_thread", "own_draws", "empty_home")


class Images:
    """Photographs of random noise; those after the first ``good`` readings raise."""

    def __init__(self, good: float = float("inf")) -> None:
        self.left = good

    def __len__(self) -> int:
        return 96

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        self.left -= 1
        if self.left < 0:
            raise ValueError("the disk is gone")
        time.sleep(0.001)
        noise = np.random.randint(0, 256, (16, 16, 3), dtype=np.uint8)  # the process's own generator, on purpose
        return noise, index % 3 + int(random.random() + torch.rand(()).item() > 9)


class Odd(nn.Module):
    """A model of everything that training moves: statistics, dropout, a frozen layer, shared weights, plain state."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.1))
        self.frozen = nn.Conv2d(8, 8, 1)
        self.frozen.requires_grad_(False)
        self.head, self.tied = nn.Linear(8, 8), nn.Linear(8, 8)
        self.tied.weight = self.head.weight
        self.out = nn.Linear(8, 3)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.calls, self.shapes = 0, []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.shapes.append(tuple(images.shape))
        if self.training:
            self.steps += 1
        pooled = self.frozen(self.features(images)).mean((2, 3))
        return self.out(self.tied(torch.relu(self.head(pooled))))


@pytest.fixture
def job() -> tuple[nn.Module, torch.optim.Optimizer]:
    """A model in the middle of training, in mixed modes and layouts, and its optimizer."""
    model = Odd()
    model.frozen.weight.data = model.frozen.weight.data.to(memory_format=torch.channels_last)
    model.features[0].weight.data = model.features[0].weight.data.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        [{"params": model.features.parameters(), "lr": 0.01}, {"params": [*model.head.parameters()], "lr": 0.02}],
        momentum=0.9,
    )
    for _ in range(2):
        model(torch.rand(4, 3, 16, 16)).sum().backward()
        optimizer.step()
    model.features[1].eval()
    return model, optimizer


def probe(job: tuple[Odd, torch.optim.Optimizer], dataset: Any, **options: Any) -> ProbeResult:
    model, optimizer = job
    given = {"batch_size": 8, "augmentation": "crop", "image_size": 16, "budget": "5s", "fix": FIXED, **options}
    return autotrain.probe(model, dataset, optimizer=optimizer, progress=False, device="cpu", **given)


FIXED = {"compile": "none"}
"""Compiling takes longer than all of these tests; what it leaves is looked at in the conformance suite."""


class Presses:
    """An observer that presses Ctrl-C at the events of given numbers."""

    def __init__(self, *numbers: int) -> None:
        self.left, self.seen = list(numbers), 0

    def __call__(self, event: Any) -> None:
        self.seen += 1
        if self.left and self.seen >= self.left[0]:
            self.left.pop(0)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1.0)  # it arrives within
            raise AssertionError("no KeyboardInterrupt came")


# A whole probe


def test_a_whole_probe_leaves_no_trace_and_training_goes_on(job: Any, traces: ModuleType, empty_home: Path) -> None:
    model, optimizer = job
    images = torch.rand(4, 3, 16, 16)

    def next_loss() -> tuple[float, bytes]:
        torch.manual_seed(11)
        saved = {name: value.clone() for name, value in model.state_dict().items()}
        loss = model(images).square().mean()
        gradient = torch.autograd.grad(loss, model.out.weight)[0]
        model.load_state_dict(saved)
        return loss.item(), gradient.numpy().tobytes()

    before = next_loss()
    with traces.unchanged(model, optimizer, folders=[empty_home]):
        result = probe(job, Images(), settings=Settings(workers=1))
    workers = {entry.settings.workers for entry in result.session.measurements}
    assert max(workers) > 0, "no loader process was ever started"
    assert next_loss() == before


def test_an_error_in_the_middle_leaves_no_trace(job: Any, traces: ModuleType, empty_home: Path) -> None:
    """The dataset breaks in the training process, in the default's burst."""
    with traces.unchanged(*job, folders=[empty_home]), pytest.raises(DataError, match="the disk is gone"):
        probe(job, Images(good=60))


@pytest.mark.parametrize("numbers", [(1,), (4,), (4, 5)], ids=["at once", "in a burst", "twice"])
def test_ctrl_c_leaves_no_trace(job: Any, traces: ModuleType, empty_home: Path, numbers: tuple[int, ...]) -> None:
    with traces.unchanged(*job, folders=[empty_home]):
        result = probe(job, Images(), observer=Presses(*numbers))
    assert result.session.interrupted


@pytest.mark.parametrize("after_s", random.Random(0).sample([0.2, 0.5, 0.9, 1.4, 2.0, 2.7], 2))
def test_ctrl_c_at_any_moment_leaves_no_trace(job: Any, traces: ModuleType, empty_home: Path, after_s: float) -> None:
    """The signal comes from outside, wherever the probe happens to be; once more where it is in its proof by then."""
    started, timers = threading.Event(), []

    def observer(event: Any) -> None:
        if not started.is_set():
            started.set()
            for seconds in (after_s, after_s + 1.0):
                timers.append(threading.Timer(seconds, lambda: os.kill(os.getpid(), signal.SIGINT)))
                timers[-1].start()

    def act() -> Any:
        result = None
        try:
            result = probe(job, Images(), observer=observer)
            for timer in timers:
                timer.cancel()
                timer.join()
        except KeyboardInterrupt:
            time.sleep(1.0)  # the probe was over already
        return result

    with traces.unchanged(*job, folders=[empty_home]):
        act()
    assert started.is_set()


def test_ctrl_c_while_workers_start_leaves_no_trace(
    job: Any, traces: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = job
    data = torch.zeros(64, 3, 16, 16, dtype=torch.uint8), torch.arange(64) % 3
    workload = prepare_workload(Task(model=model, dataset=data, batch_size=4, device="cpu"))
    go, done = threading.Event(), threading.Event()

    def press() -> None:
        go.wait(10)
        os.kill(os.getpid(), signal.SIGINT)
        done.set()

    finalize, threads = multiprocessing.queues.Finalize, set(threading.enumerate())
    half_made: list[threading.Thread] = []

    def pressed(*arguments: Any, **options: Any) -> Any:
        if not go.is_set():  # in the middle of the start of a queue's thread
            half_made.append(arguments[0]._thread)
            go.set()
            done.wait(10)
            time.sleep(0.05)
        return finalize(*arguments, **options)

    presser = threading.Thread(target=press)
    presser.start()
    monkeypatch.setattr(multiprocessing.queues, "Finalize", pressed)
    with pytest.raises(KeyboardInterrupt), Rig(workload, Settings(workers=1)) as rig:
        rig.input.next()
    presser.join(15)
    monkeypatch.undo()
    for entry in set(threading.enumerate()) - threads:
        entry.join(5)  # one that was told to end need not have done so yet
    left = [entry.name for entry in threading.enumerate() if entry not in threads and entry.is_alive()]
    for entry in half_made:
        if entry.is_alive():
            _end_feeder(entry)
    assert left == []


def _end_feeder(thread: Any) -> None:
    """End the thread of a queue that nobody can close any more, so that the next test does not find it."""
    buffer, not_empty = thread._args[:2]
    with not_empty:
        buffer.append(multiprocessing.queues._sentinel)
        not_empty.notify()
    thread.join(10)


# Flags


def test_flags_that_inherit_go_on_inheriting(traces: ModuleType) -> None:
    torch.backends.fp32_precision = "ieee"
    try:
        with traces.unchanged(), untouched(torch.device("cpu")):
            torch.backends.cudnn.benchmark = True
            torch.backends.cuda.matmul.fp32_precision = "tf32"
            torch.backends.mkldnn.conv.fp32_precision = "tf32"
            torch.backends.fp32_precision = "tf32"
    finally:
        torch.backends.fp32_precision = "none"


def test_flags_of_their_own_are_kept(traces: ModuleType) -> None:
    before = read_flags()
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    try:
        with traces.unchanged(), untouched(torch.device("cpu")):
            torch.backends.cuda.matmul.fp32_precision = "tf32"
            torch.backends.cudnn.deterministic = True
    finally:
        write_flags(before)
    assert read_flags() == before


# That the comparison can fail


def set_environment() -> Callable[[], object]:
    os.environ["LEFT"] = "1"
    return lambda: os.environ.pop("LEFT")


def set_precision() -> Callable[[], object]:
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    return lambda: setattr(torch.backends.cuda.matmul, "fp32_precision", "none")


def set_inherited_precision() -> Callable[[], object]:
    torch.backends.mkldnn.matmul.fp32_precision = "ieee"
    return lambda: setattr(torch.backends.mkldnn.matmul, "fp32_precision", "none")


def start_thread() -> Callable[[], object]:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, name="left")
    thread.start()
    return lambda: (stop.set(), thread.join())


def start_process() -> Callable[[], object]:
    import subprocess

    process = subprocess.Popen(["sleep", "60"])
    return lambda: (process.kill(), process.wait())


def open_file() -> Callable[[], object]:
    number = os.memfd_create("left")
    return lambda: os.close(number)


def make_file() -> Callable[[], object]:
    place = Path.home() / ".cache"
    place.mkdir()
    return place.rmdir


def add_filter() -> Callable[[], object]:
    before = list(warnings.filters)
    warnings.simplefilter("ignore")
    return lambda: warnings.filters.__setitem__(slice(None), before)


def add_handler() -> Callable[[], object]:
    handler = logging.NullHandler()
    logging.getLogger("autotrain.left").addHandler(handler)
    return lambda: logging.getLogger("autotrain.left").removeHandler(handler)


def set_signal() -> Callable[[], object]:
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    return lambda: signal.signal(signal.SIGUSR1, before)


def share_memory() -> Callable[[], object]:
    place = Path("/dev/shm") / f"torch_{os.getpid()}_1_1"
    place.touch()
    return place.unlink


PLANTED: dict[str, Callable[[], Callable[[], object]]] = {
    "python > environment > LEFT: new": set_environment,
    "flags > fp32_precision > cuda matmul: 'none' -> 'tf32'": set_precision,
    "flags > inherited fp32_precision > under tf32 > mkldnn matmul: 'tf32' -> 'ieee'": set_inherited_precision,
    "process > threads > left: new": start_thread,
    "process > child processes": start_process,
    "process > open files > /memfd:left": open_file,
    "process > shared memory > torch_": share_memory,
    ".cache: new": make_file,
    "python > warnings filters": add_filter,
    "python > logging handlers > autotrain.left": add_handler,
    "python > signal handlers > SIGUSR1": set_signal,
    "random states > random": lambda: (random.random(), lambda: None)[1],
    "random states > numpy": lambda: (np.random.rand(), lambda: None)[1],
    "random states > torch": lambda: (torch.rand(()), lambda: None)[1],
}


@pytest.mark.parametrize("named", PLANTED)
def test_a_planted_trace_is_named(traces: ModuleType, monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    traces_of = traces.unchanged
    monkeypatch.setattr(traces, "GRACE_S", 0.0)
    undo: Callable[[], object] = lambda: None  # noqa: E731
    try:
        with pytest.raises(AssertionError) as raised, traces_of():
            undo = PLANTED[named]()
    finally:
        undo()
    assert named in str(raised.value)


TOUCHED: dict[str, Callable[[Odd, torch.optim.Optimizer], object]] = {
    "parameters > out.weight > bits": lambda model, _: model.out.weight.data.add_(1.0),
    "parameters > features.0.weight > strides": lambda model, _: setattr(
        model.features[0].weight, "data", model.features[0].weight.data.contiguous()
    ),
    "parameters > tied.weight > object": lambda model, _: setattr(
        model.tied, "weight", nn.Parameter(model.tied.weight.detach().clone())
    ),
    "buffers > steps > bits": lambda model, _: model.steps.add_(1),
    "gradients > out.weight": lambda model, _: setattr(model.out.weight, "grad", None),
    "attributes > features.1 > training: False -> True": lambda model, _: model.features[1].train(),
    "attributes > model > calls": lambda model, _: setattr(model, "calls", 7),
    "attributes > model > shapes": lambda model, _: model.shapes.append(1),
    "parameters > frozen.weight > requires_grad": lambda model, _: model.frozen.requires_grad_(True),
    "hooks > head > _forward_hooks": lambda model, _: model.head.register_forward_hook(print),
    "optimizer > state": lambda model, optimizer: optimizer.state.clear(),
    "optimizer > groups": lambda model, optimizer: optimizer.param_groups[0].update(foreach=True),
    "optimizer > defaults > lr": lambda model, optimizer: optimizer.defaults.update(lr=7.0),
}


@pytest.mark.parametrize("named", TOUCHED)
def test_a_touched_model_is_named(job: Any, traces: ModuleType, monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    monkeypatch.setattr(traces, "GRACE_S", 0.0)
    with pytest.raises(AssertionError) as raised, traces.unchanged(*job):
        TOUCHED[named](*job)
    assert named in str(raised.value)
