"""What the tools chose, live: plain scripts and autotrain's own loop, which take turns and train whole runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from common import PlainScript
from torch import nn
from torch.utils.data import DataLoader

from rivals.training import Job, make_dataset, make_network, make_optimizer

TURN_S = 0.5
"""Shortest turn; one step where a step takes longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What a rival can set; the defaults are PyTorch's."""

    workers: int = 0
    prefetch: int | None = None
    persistent: bool = False
    pin: bool = False
    non_blocking: bool = False
    threads: int | None = None
    amp: str = ""
    """Type of autocast's arithmetic: bfloat16, float16, or none."""

    scaler: bool = False
    channels_last: bool = False
    compile: str = ""
    """Mode of torch.compile, or none."""

    fused: bool = False
    tf32: bool = False
    cudnn_benchmark: bool = False

    def changes(self) -> dict[str, Any]:
        """Return what differs from PyTorch's defaults."""
        return {entry.name: value for entry in fields(self) if (value := getattr(self, entry.name)) != entry.default}


class ChosenScript(PlainScript):
    """A plain script with the job's recipe and a tool's choice."""

    def __init__(self, job: Job, folder: Path, choice: Choice) -> None:
        self.choice = choice
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.loader = DataLoader(
            make_dataset(job, folder),
            batch_size=job.batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=choice.workers,
            prefetch_factor=choice.prefetch if choice.workers else None,
            persistent_workers=choice.persistent and choice.workers > 0,
            pin_memory=choice.pin and self.device.type == "cuda",
        )
        self.stock = choice.workers * (choice.prefetch or 2)
        torch.manual_seed(0)
        model = make_network(job, folder).to(self.device).train()
        self.channels_last = choice.channels_last
        if self.channels_last:
            model.to(memory_format=torch.channels_last)
        self.optimizer = make_optimizer(model.parameters(), **({"fused": True} if choice.fused else {}))
        mode = None if choice.compile == "default" else choice.compile
        self.model = torch.compile(model, mode=mode) if choice.compile else model
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=choice.scaler)
        self.iterator: Any = None
        self.batches = self._batches()

    def step(self) -> int:
        """Train on the next batch; return its images."""
        images, labels = next(self.batches)
        self._train(images, labels)
        return len(images)

    def _train(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        options: dict[str, Any] = {"non_blocking": self.choice.non_blocking}
        if self.channels_last:
            options["memory_format"] = torch.channels_last
        images = images.to(self.device, **options)
        labels = labels.to(self.device, non_blocking=self.choice.non_blocking)
        dtype = getattr(torch, self.choice.amp) if self.choice.amp else None
        with torch.autocast(self.device.type, dtype, enabled=dtype is not None):
            loss = nn.functional.cross_entropy(self.model(images), labels)
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def warm_up(self, seconds: float) -> None:
        """Run untimed until the loader's stock is used up twice and the time is over."""
        with flags(self.choice):
            super().warm_up(seconds)

    def turn(self, seconds: float = TURN_S) -> float:
        """Take a turn; return its images/s."""
        with flags(self.choice):
            self._signal("SIGCONT")
            images, started = 0, perf_counter()
            while not images or perf_counter() - started < seconds:
                images += self.step()
            self._synchronise()
            rate = images / (perf_counter() - started)
            self._signal("SIGSTOP")
        return rate

    def epochs(self, count: int) -> tuple[float, ...]:
        """Train from scratch; return the seconds of each epoch, the start of workers included."""
        seconds = []
        with flags(self.choice):
            for _ in range(count):
                started = perf_counter()
                for images, labels in self.loader:
                    self._train(images, labels)
                self._synchronise()
                seconds.append(perf_counter() - started)
        return tuple(seconds)

    def _synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


@contextmanager
def flags(choice: Choice) -> Iterator[None]:
    """Set the process-wide flags of a choice, and set them back."""
    threads, tf32 = torch.get_num_threads(), torch.backends.cuda.matmul.allow_tf32
    benchmark = torch.backends.cudnn.benchmark
    if choice.threads:
        torch.set_num_threads(choice.threads)
    torch.backends.cuda.matmul.allow_tf32 = choice.tf32 or tf32
    torch.backends.cudnn.benchmark = choice.cudnn_benchmark or benchmark
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.backends.cuda.matmul.allow_tf32 = tf32
        torch.backends.cudnn.benchmark = benchmark
