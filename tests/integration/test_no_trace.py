"""A probe leaves everything as it was, bit for bit: when it ends, when it fails, and when it is interrupted."""

import gc
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from torch import nn

import autotrain
from autotrain.api import ProbeResult
from autotrain.errors import DataError
from autotrain.measure.burst import BurstOptions, burst
from autotrain.search.duel import DuelOptions, duel, interleave
from autotrain.search.events import Measured, Stage, Turn

SHORT = BurstOptions(window_s=0.04, windows=3, limit_s=0.2, warmup_s=0.05)
SHORT_DUEL = DuelOptions(pairs=5, turn_s=0.05, warmup_s=0.05)


@pytest.fixture(autouse=True)
def quick(monkeypatch, nothing_leaks, own_draws, tmp_path):
    """Real bursts and duels, as short as can be, in an empty folder; a duel that is always won, so that all runs."""

    def short_rounds(*sides, options=None, rounds=0, **rest):
        return interleave(*sides, options=SHORT_DUEL, rounds=2, **rest)

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("autotrain.search.recorder.burst", lambda rig, **rest: burst(rig, **rest | {"options": SHORT}))
    monkeypatch.setattr(
        "autotrain.search.proof.duel", lambda *sides, **rest: duel(*sides, **rest | {"options": SHORT_DUEL})
    )
    monkeypatch.setattr("autotrain.search.proof.interleave", short_rounds)
    yield
    torch.set_num_threads(before)


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


def tensors_of(value: Any) -> Any:
    """Return a value with every tensor in it as bytes, layout and place in memory."""
    if isinstance(value, torch.Tensor):
        plain = value.detach()
        return plain.numpy().tobytes(), plain.stride(), plain.dtype, plain.data_ptr(), value.requires_grad
    if isinstance(value, dict):
        return {id(key) if isinstance(key, torch.Tensor) else key: tensors_of(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [tensors_of(entry) for entry in value]
    return value


def of_the_job(model: Odd, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    return {
        "parameters": {name: (id(entry), tensors_of(entry)) for name, entry in model.named_parameters()},
        "tied weights": model.tied.weight is model.head.weight,
        "buffers": {name: (id(entry), tensors_of(entry)) for name, entry in model.named_buffers()},
        "gradients": {
            name: None if entry.grad is None else (id(entry.grad), tensors_of(entry.grad))
            for name, entry in model.named_parameters()
        },
        "modes": {name: module.training for name, module in model.named_modules()},
        "hooks": {
            name: (len(module._forward_hooks), len(module._forward_pre_hooks), len(module._backward_hooks))
            for name, module in model.named_modules()
        },
        "attributes": {name: sorted(vars(module)) for name, module in model.named_modules()},
        "plain state": (model.calls, list(model.shapes)),
        "optimizer's state": (id(optimizer.state), tensors_of(dict(optimizer.state))),
        "optimizer's options": tensors_of(
            [{**group, "params": [id(entry) for entry in group["params"]]} for group in optimizer.param_groups]
        ),
    }


def of_the_process(folder: Path) -> dict[str, Any]:
    gc.collect()
    return {
        "random": random.getstate(),
        "numpy": np.random.get_state()[1].tobytes() + bytes(np.random.get_state()[2]),
        "torch": torch.get_rng_state().numpy().tobytes(),
        "threads of torch": torch.get_num_threads(),
        "modes": (torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"), torch.get_default_dtype()),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "cudnn": (torch.backends.cudnn.enabled, torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic),
        "precisions": (torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision),
        "environment": {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"},
        "Ctrl-C handler": signal.getsignal(signal.SIGINT),
        "children": sorted(child.pid for child in psutil.Process().children(recursive=True)),
        "Python threads": sorted(thread.name for thread in threading.enumerate()),
        "shared memory": sorted(os.listdir("/dev/shm")) if os.path.isdir("/dev/shm") else [],
        "files": sorted(str(path) for path in folder.rglob("*")),
        "working directory": os.getcwd(),
    }


def wait_until_ended(seconds: float = 5.0) -> None:
    until = time.monotonic() + seconds
    while psutil.Process().children() and time.monotonic() < until:
        time.sleep(0.02)


def descriptors() -> int:
    return psutil.Process().num_fds()


def probe(job: tuple[Odd, torch.optim.Optimizer], dataset: Any, **options: Any) -> ProbeResult:
    model, optimizer = job
    return autotrain.probe(
        model,
        dataset,
        optimizer=optimizer,
        batch_size=8,
        augmentation="crop",
        image_size=16,
        budget="6s",
        progress=False,
        device="cpu",
        **options,
    )


def presses_ctrl_c(*moments: Callable[[Any, str], bool]) -> Callable[[Any], None]:
    left, title = list(moments), [""]

    def observer(event: Any) -> None:
        if isinstance(event, Stage):
            title[0] = event.title
        if left and left[0](event, title[0]):
            left.pop(0)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1.0)  # it arrives within
            raise AssertionError("no KeyboardInterrupt came")

    return observer


def assert_as_before(job: tuple[Odd, torch.optim.Optimizer], folder: Path, act: Callable[[], Any]) -> Any:
    mine, process = of_the_job(*job), of_the_process(folder)
    result = act()
    wait_until_ended()
    for before, after in ((mine, of_the_job(*job)), (process, of_the_process(folder))):
        for name, value in before.items():
            assert after[name] == value, f"{name} changed"
    return result


def test_a_whole_probe_leaves_no_trace(job, tmp_path):
    random.seed(7), np.random.seed(7), torch.manual_seed(7)
    result = assert_as_before(job, tmp_path, lambda: probe(job, Images()))
    workers = {entry.settings.workers for entry in result.session.measurements}
    assert len(workers) > 1, "no loader process was ever started"


def test_an_error_in_the_middle_leaves_no_trace(job, tmp_path):
    """The dataset breaks in the training process, in the default's burst."""

    def act() -> None:
        with pytest.raises(DataError, match="the disk is gone"):
            probe(job, Images(good=120))

    assert_as_before(job, tmp_path, act)


class BreaksInWorkers(Images):
    """Images that break in loader processes only, after a while."""

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        if torch.utils.data.get_worker_info() is not None:
            self.left = min(self.left, 100)
        return super().__getitem__(index)


def test_an_error_in_a_worker_leaves_no_trace(job, tmp_path):
    def act() -> None:
        with pytest.raises(DataError, match="the disk is gone"):
            probe(job, BreaksInWorkers())

    assert_as_before(job, tmp_path, act)


@pytest.mark.parametrize(
    "moments",
    [
        (lambda event, title: isinstance(event, Measured),),
        (lambda event, title: isinstance(event, Measured) and title in ("ceilings", "search"),),
        (lambda event, title: isinstance(event, Measured), lambda event, title: True),
        (
            lambda event, title: isinstance(event, Measured) and title in ("ceilings", "search"),
            lambda event, title: isinstance(event, Stage | Turn) and title == "duel",
        ),
    ],
    ids=["at once", "in the search", "twice", "in search and duel"],
)
def test_ctrl_c_leaves_no_trace(job, tmp_path, moments):
    result = assert_as_before(job, tmp_path, lambda: probe(job, Images(), observer=presses_ctrl_c(*moments)))
    assert result.session.interrupted


def test_ctrl_c_at_any_moment_leaves_no_trace(job, tmp_path):
    """The signal comes from outside, wherever the probe happens to be."""

    def act() -> Any:
        timer = threading.Timer(0.9, lambda: os.kill(os.getpid(), signal.SIGINT))
        timer.start()
        try:
            return probe(job, Images())
        finally:
            timer.join()

    assert assert_as_before(job, tmp_path, act).session.interrupted


def test_a_second_probe_keeps_no_more_files_open_than_the_first(job):
    probe(job, Images())
    gc.collect()
    before = descriptors()
    probe(job, Images())
    gc.collect()
    assert descriptors() <= before + 2


def test_training_goes_on_as_if_nothing_had_been(job):
    """The next step of the user's own loop gives the same numbers as without the probe."""
    model, _ = job
    images = torch.rand(4, 3, 16, 16)

    def next_loss() -> tuple[float, bytes]:
        torch.manual_seed(11)
        saved = {name: value.clone() for name, value in model.state_dict().items()}
        loss = model(images).square().mean()
        gradient = torch.autograd.grad(loss, model.out.weight)[0]
        model.load_state_dict(saved)
        return loss.item(), gradient.numpy().tobytes()

    before = next_loss()
    probe(job, Images())
    assert next_loss() == before
