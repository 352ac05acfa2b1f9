"""What the benchmarks share: options, photographs, plain PyTorch contenders, interleaved turns, kept results."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from rivals.training import small_cnn
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from autotrain.hardware.machine import machine_facts
from autotrain.measure.contender import Contender, HeatOptions
from autotrain.preparation import IMAGENET_MEAN, IMAGENET_STD
from autotrain.settings import Settings
from autotrain.stats.compare import Comparison, compare
from autotrain.workload import Workload

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).parent.parent

TURN_S = 0.25
"""Shortest turn; one step where a step takes longer. Short turns let what disturbs the machine disturb all alike."""


def options(question: str) -> argparse.Namespace:
    """Read the options that every benchmark has."""
    parser = argparse.ArgumentParser(description=question)
    parser.add_argument("--quick", action="store_true", help="same bars, fewer repeats")
    parser.add_argument("--json", type=Path, help="write the result here too")
    parser.add_argument("--data", type=Path, help="folder of images, one folder per class; generated where not given")
    return parser.parse_args()


def photographs(chosen: Path | None) -> Path:
    """Return the folder of images to measure on: the given one, or generated JPEG files."""
    if chosen is not None:
        return chosen
    sys.path.insert(0, str(ROOT / "examples"))
    from make_images import make_images

    return Path(make_images(ROOT / ".demo")) / "train"


class PlainScript:
    """A training loop as PyTorch's documentation has it, with the usual remedies on request."""

    def __init__(
        self,
        model: nn.Module,
        folder: Path,
        *,
        size: int,
        batch_size: int,
        workers: int = 0,
        bf16: bool = False,
        channels_last: bool = False,
    ) -> None:
        transform = transforms.Compose(
            [
                transforms.RandomResizedCrop(size),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
            ]
        )
        dataset = ImageFolder(str(folder), transform)
        self.loader = DataLoader(
            dataset,
            batch_size=batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=workers,
            persistent_workers=workers > 0,
        )
        self.stock = workers * 2
        self.model = model.train()
        self.bf16, self.channels_last = bf16, channels_last
        if channels_last:
            model.to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        self.iterator: Any = None
        self.batches = self._batches()

    def _batches(self) -> Iterator[Any]:
        while True:
            self.iterator = iter(self.loader)
            yield from self.iterator

    def step(self) -> int:
        """Train on the next batch; return its images."""
        images, labels = next(self.batches)
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            loss = nn.functional.cross_entropy(self.model(images), labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return len(images)

    def warm_up(self, seconds: float) -> None:
        """Run untimed until the loader's stock is used twice over and the time is up; then freeze the workers."""
        started, steps = perf_counter(), 0
        while steps < 2 + 2 * self.stock or perf_counter() - started < seconds:
            self.step()
            steps += 1
            if perf_counter() - started > 4 * seconds:
                break
        self._signal("SIGSTOP")

    def turn(self, seconds: float = TURN_S) -> float:
        """Take a turn; return its images/s."""
        self._signal("SIGCONT")
        images, started = 0, perf_counter()
        while not images or perf_counter() - started < seconds:
            images += self.step()
        rate = images / (perf_counter() - started)
        self._signal("SIGSTOP")
        return rate

    def _signal(self, name: str) -> None:
        for worker in getattr(self.iterator, "_workers", ()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.pid, getattr(signal, name))

    def close(self) -> None:
        """End the workers."""
        self._signal("SIGCONT")
        self.batches.close()
        if hasattr(self.iterator, "_shutdown_workers"):
            self.iterator._shutdown_workers()


def interleaved(
    makers: Sequence[Callable[[ExitStack], Any]], rounds: int, *, warmup_s: float = 3.0, seed: int = 0
) -> list[tuple[float, ...]]:
    """Let contenders take turns in random order; return their images/s, one tuple per round."""
    order, rows = random.Random(seed), []
    with ExitStack() as stack:
        contenders = []
        for make in makers:
            contenders.append(make(stack))
            contenders[-1].warm_up(warmup_s)
        for contender in contenders:  # where workers are forked, the first step after that copies what it writes to
            contender.turn()
        for _ in range(rounds):
            rates = [0.0] * len(contenders)
            for place in order.sample(range(len(contenders)), len(contenders)):
                rates[place] = contenders[place].turn()
            rows.append(tuple(rates))
    return rows


class RigContender:
    """autotrain's own loop under settings in its steady state: an epoch is behind it where it fills a cache."""

    def __init__(self, workload: Workload, settings: Settings, stack: ExitStack, *, turn_s: float) -> None:
        self._filling = 0 if settings.cache == Settings().cache else len(workload.source)
        self._contender = Contender(workload, settings, stack, HeatOptions(turn_s=turn_s, warmup_s=1.5))

    def warm_up(self, seconds: float) -> None:
        """Run untimed until the loader's stock is used up, the cache is filled and the time is over."""
        self._contender.warm_up()
        started, images = perf_counter(), 0
        while images < self._filling or perf_counter() - started < seconds:
            images += self._contender.turn().images

    def turn(self) -> float:
        """Take a turn; return its images/s."""
        window = self._contender.turn()
        return window.images / window.wall_s


def rig_contender(
    workload: Workload, settings: Settings, *, turn_s: float = TURN_S
) -> Callable[[ExitStack], RigContender]:
    """Return a maker of autotrain's own loop under settings."""
    return lambda stack: RigContender(workload, settings, stack, turn_s=turn_s)


def column(rows: Sequence[tuple[float, ...]], place: int) -> list[float]:
    return [row[place] for row in rows]


def ratio(rows: Sequence[tuple[float, ...]], baseline: int, candidate: int) -> Comparison:
    """Compare two columns of interleaved rates."""
    return compare(column(rows, baseline), column(rows, candidate))


def provenance() -> dict[str, Any]:
    """Return machine, versions, commit and time."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    dirty = subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True, check=False)
    machine = machine_facts()
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit.stdout.strip() + ("+changes" if dirty.stdout.strip() else ""),
        "machine": machine.describe(),
        "features": list(machine.cpu.features),
        "versions": dict(machine.versions),
        "python": machine.python,
    }


def finish(name: str, result: dict[str, Any], missed: Sequence[str], arguments: argparse.Namespace) -> None:
    """Keep the result, say which bars were missed, and exit with 1 if any was."""
    result = {"benchmark": name, "quick": arguments.quick, **provenance(), "missed": list(missed), **result}
    text = json.dumps(result, indent=1)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}-{datetime.now(UTC):%Y-%m-%d}.json").write_text(text + "\n")
    if arguments.json:
        arguments.json.write_text(text + "\n")
    for entry in missed:
        print(f"MISSED: {entry}")
    print("all bars met" if not missed else f"{len(missed)} missed")
    sys.exit(1 if missed else 0)


__all__ = [
    "PlainScript",
    "column",
    "finish",
    "interleaved",
    "options",
    "photographs",
    "ratio",
    "rig_contender",
    "small_cnn",
]
