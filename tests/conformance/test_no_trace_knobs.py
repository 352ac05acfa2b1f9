"""Every knob at every value that is to be had here: a burst under it leaves no trace, nor one that fails or is cut."""

from __future__ import annotations

import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from torch import nn

from autotrain.data.caching import WarmSets
from autotrain.engine.rig import Rig
from autotrain.errors import AutotrainError
from autotrain.hardware.machine import Machine, machine_facts
from autotrain.knobs.registry import KNOBS, canonical, illegal, knob
from autotrain.measure.burst import BurstOptions, burst
from autotrain.measure.failure import candidate
from autotrain.preparation import prepare_workload
from autotrain.settings import Settings
from autotrain.task import Task
from autotrain.workload import Workload

pytestmark = pytest.mark.usefixtures("one_thread", "own_draws")

BRIEF = BurstOptions(window_s=0.01, windows=2, least_windows=1, limit_s=0.05, warmup_s=0.02)
SIDE, BATCH = 16, 4

NUMBERS = {"prefetch": (1, 4), "micro_batches": (1, 2)}
"""Values of knobs without a closed set, where 0 and 1 are not the ones."""

CASES = [
    (entry.name, value)
    for entry in KNOBS
    for value in (entry.known if entry.known is not None else NUMBERS.get(entry.name, (0, 1, 2)))
    if value != getattr(Settings(), entry.name) and not entry.risky(value)
]
"""Risky values run in a child process, whose end leaves nothing whatever they do; see the integration tests."""


@cache
def machine() -> Machine:
    return machine_facts()


class Partly(nn.Module):
    """A model of which training moves all there is: statistics, dropout, frozen and tied weights, plain state."""

    def __init__(self, norm: bool = True) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8) if norm else nn.GroupNorm(2, 8), nn.ReLU(), nn.Dropout(0.1)
        )
        self.frozen = nn.Conv2d(8, 8, 1).requires_grad_(False)
        self.head, self.tied = nn.Linear(8, 8), nn.Linear(8, 8)
        self.tied.weight = self.head.weight
        self.out = nn.Linear(8, 3)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.steps += 1
        pooled = self.frozen(self.features(images)).mean((2, 3))
        return self.out(self.tied(torch.relu(self.head(pooled))))


def in_training(model: nn.Module, make: Callable[..., torch.optim.Optimizer]) -> torch.optim.Optimizer:
    """Return the model's optimizer after two steps; gradients, mixed modes and mixed layouts are left as they are."""
    optimizer = make([entry for entry in model.parameters() if entry.requires_grad])
    for _ in range(2):
        model(torch.rand(4, 3, SIDE, SIDE)).square().sum().backward()
        optimizer.step()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
        if isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.data.to(memory_format=torch.channels_last)
    return optimizer


OPTIMIZERS: tuple[Callable[..., torch.optim.Optimizer], ...] = (
    lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9),
    lambda parameters: torch.optim.AdamW(parameters, lr=1e-3),
)


def helped(name: str) -> Settings:
    """Return settings under which a knob has an effect."""
    crop = {"augmentation": "crop"}
    changes: dict[str, Any] = {
        "placement": {"augmentation": "rand"},
        "prefetch": {"workers": 1},
        "loader": {"workers": 2},
        **dict.fromkeys(("decoder", "resize", "cache"), crop),
    }.get(name, {})
    return replace(Settings(), **changes)


def task_for(name: str, model: nn.Module, optimizer: Any, folder: Path, kept: Path) -> Workload:
    dataset: Any = folder
    if name not in ("decoder", "resize", "cache", "loader", "workers"):
        dataset = torch.randint(0, 256, (32, 3, 20, 20), dtype=torch.uint8), torch.arange(32) % 3
    task = Task(
        model=model,
        dataset=dataset,
        optimizer=optimizer,
        batch_size=BATCH,
        image_size=SIDE,
        augmentation="auto",
        cache_dir=kept,
        device="cpu",
    )
    return prepare_workload(task)


def run(workload: Workload, settings: Settings) -> None:
    """Measure as a probe does, with filled caches of its own."""
    warm = WarmSets(16, workload.cache_dir)
    try:
        with Rig(replace(workload, warm=warm), settings) as rig:
            burst(rig, options=BRIEF)
    finally:
        warm.close()


@pytest.mark.parametrize(("name", "value"), CASES)
def test_a_burst_leaves_no_trace(
    traces: ModuleType, empty_home: Path, jpeg_folder: Path, name: str, value: Any
) -> None:
    model = Partly(norm=name != "micro_batches")
    optimizer = in_training(model, OPTIMIZERS[len(str(value)) % 2])
    workload = task_for(name, model, optimizer, jpeg_folder, empty_home / "kept")
    offered = knob(name).choices(workload, machine())
    if knob(name).known is not None and value not in offered.allowed:
        pytest.skip(f"not offered here: {dict(offered.left_out).get(value, 'no reason given')}")
    settings = canonical(replace(helped(name), **{name: value}), workload)
    reason = illegal(settings, workload, machine())
    if reason is not None:
        pytest.skip(f"not possible here: {reason}")
    with traces.unchanged(model, optimizer, folders=[empty_home]):
        run(workload, settings)


# Failures


class Breaks:
    """Images of noise that break after a while, in the way asked for."""

    def __init__(self, how: str) -> None:
        self.how, self.left = how, 64

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        self.left -= 1
        inside = torch.utils.data.get_worker_info() is not None
        if self.left < 0 and self.how == "dataset":
            raise ValueError("the disk is gone")
        if self.left < 0 and self.how == "worker" and inside:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.0005)
        return np.random.randint(0, 256, (SIDE, SIDE, 3), dtype=np.uint8), index % 3


class Bursts(nn.Module):
    """A model that raises in its second pass, forwards or backwards."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.body, self.how, self.passes = Partly(), how, 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.passes += 1
        outputs: torch.Tensor = self.body(images)
        if self.how == "flags":
            torch.backends.cudnn.benchmark = not torch.backends.cudnn.benchmark
            torch.backends.cuda.matmul.fp32_precision = "tf32"
            torch.set_num_threads(2)
        if self.passes == 2 and self.how in ("forward", "flags"):
            raise ZeroDivisionError("in the model")
        if self.passes == 2 and self.how == "backward":
            outputs.register_hook(self._explode)
        return outputs

    def _explode(self, gradient: torch.Tensor) -> None:
        raise ZeroDivisionError("in the model")


FAILURES = [
    ("dataset", {}),
    ("dataset", {"workers": 1}),
    ("worker", {"workers": 2}),
    ("forward", {"memory_format": "channels_last"}),
    ("backward", {"workers": 1}),
    ("flags", {}),
]


@pytest.mark.parametrize(("how", "changes"), FAILURES)
def test_a_candidate_that_fails_in_the_middle_leaves_no_trace(
    traces: ModuleType, empty_home: Path, how: str, changes: dict[str, Any]
) -> None:
    model = Bursts("" if how in ("dataset", "worker") else how)
    optimizer = in_training(model.body, OPTIMIZERS[0])
    model.passes = 0
    workload = prepare_workload(
        Task(model=model, dataset=Breaks(how), optimizer=optimizer, batch_size=BATCH, image_size=SIDE, device="cpu")
    )

    def fail() -> None:
        with pytest.raises(AutotrainError), candidate():
            run(workload, replace(Settings(), **changes))
        for folder in (empty_home / "tmp").glob("pymp-*"):
            assert how == "worker"  # multiprocessing's, which the killed process would have removed itself
            shutil.rmtree(folder)

    workload.source.dataset.left = 6
    torch.backends.fp32_precision = "ieee"  # what reads it may not keep it as its own
    try:
        with traces.unchanged(model, optimizer, folders=[empty_home]):
            fail()
    finally:
        torch.backends.fp32_precision = "none"
    assert model.passes == 0


@pytest.mark.parametrize("changes", [{}, {"workers": 2}, {"workers": 2, "loader": "threads", "precision": "bf16"}])
def test_ctrl_c_at_any_moment_of_a_burst_leaves_no_trace(
    traces: ModuleType, empty_home: Path, jpeg_folder: Path, changes: dict[str, Any]
) -> None:
    model = Partly()
    optimizer = in_training(model, OPTIMIZERS[0])
    workload = prepare_workload(
        Task(model=model, dataset=jpeg_folder, optimizer=optimizer, batch_size=BATCH, image_size=SIDE, device="cpu")
    )
    long, draws, cut = replace(BRIEF, windows=10_000, limit_s=20.0), random.Random(0), 0

    def press(after_s: float) -> None:
        nonlocal cut
        timer = threading.Timer(after_s, lambda: os.kill(os.getpid(), signal.SIGINT))
        try:
            with Rig(workload, replace(Settings(), **changes)) as rig:
                assert rig.input is not None  # the start of workers has a test of its own
                timer.start()
                burst(rig, options=long)
        except KeyboardInterrupt:
            cut += 1
        timer.join()

    press(0.5)  # imports and first touches
    for _ in range(3):
        with traces.unchanged(model, optimizer, folders=[empty_home]):
            press(draws.uniform(0.0, 0.25))
    assert cut == 4
    assert psutil.Process().children() == []
