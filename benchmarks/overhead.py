"""Question: what does fit's loop cost beside the leanest loop that one would write by hand?

Both have the same live parts: model, optimizer, loader, transfer. The loop by hand does nothing but load, move, set the
learning rate of a cosine, train; fit's also counts, tells its progress, closes epochs. They take turns of one short
epoch, in random order. Two equal rigs may differ by a percent for as long as they live, by where in memory they lie, so
each eighth of the turns has rigs of its own, made in either order. Told: microseconds added per step, with a model of
one parameter on resident tensors. Bars, on the small CNN and resnet18:
- the lower end of the 95% interval of the rates' ratio, fit over by hand, is at least 0.98.
Takes about 6 minutes; --quick about 2.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable
from contextlib import ExitStack
from time import perf_counter

import torch
import torchvision
from common import finish, options, small_cnn
from torch import nn

from autotrain.engine.course import Course
from autotrain.engine.events import silent
from autotrain.engine.loop import _Run
from autotrain.engine.rig import Rig
from autotrain.engine.signals import Signals
from autotrain.preparation import prepare_workload
from autotrain.settings import Settings
from autotrain.stats.compare import compare
from autotrain.task import Task

LEAST = 0.98
TURNS, QUICK_TURNS = 240, 60
EPOCH = 8
"""Steps of a turn."""

PARTS = 8
"""How many times rigs are made."""

UNTIMED = 5
"""Turns that rigs begin with."""


class Cheap(nn.Module):
    """Costs nothing to train."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(10))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the same for every image."""
        return self.bias.expand(len(images), 10)


def main() -> None:
    arguments = options(__doc__ or "")
    turns = QUICK_TURNS if arguments.quick else TURNS
    missed, result = [], {}
    by_hand, fitted = seconds_of_turns(Cheap(), 4, 8, 20 * turns)
    added = (statistics.median(fitted) - statistics.median(by_hand)) / EPOCH * 1e6
    step = statistics.median(by_hand) / EPOCH * 1e6
    print(f"a model that costs nothing: {added:.0f} microseconds added to a step of {step:.0f}", flush=True)
    result["added_us"], result["step_us"] = added, step
    resnet = torchvision.models.resnet18(num_classes=10)
    for name, model, batch_size in (("small CNN, 64 px", small_cnn(10), 16), ("resnet18, 64 px", resnet, 4)):
        by_hand, fitted = seconds_of_turns(model, batch_size, 64, turns)
        images = EPOCH * batch_size
        rates = [images / seconds for seconds in by_hand], [images / seconds for seconds in fitted]
        ratio = compare(*rates, seconds=(by_hand, fitted)).ratio
        print(f"{name}: fit's loop runs at {ratio:.3f} times the rate of the loop by hand", flush=True)
        result[name] = ratio.as_dict()
        if ratio.low < LEAST:
            missed.append(f"{name}: the ratio's interval begins at {ratio.low:.3f}")
    finish("overhead", result, missed, arguments)


def seconds_of_turns(model: nn.Module, batch_size: int, size: int, turns: int) -> tuple[list[float], list[float]]:
    """Let both loops train in turns; return the seconds of theirs: by hand, fit's."""
    torch.manual_seed(0)
    length = EPOCH * batch_size
    images = torch.randint(0, 256, (length, 3, size, size), dtype=torch.uint8)
    task = Task(
        model=model,
        dataset=(images, torch.arange(length) % 10),
        batch_size=batch_size,
        augmentation="none",
        duration=f"{10 * turns}ep",
    )
    workload = prepare_workload(task)
    settings = Settings(augmentation="none")
    draws = random.Random(0)
    spent: tuple[list[float], list[float]] = ([], [])
    for part in range(PARTS):
        with ExitStack() as stack:
            rigs = [stack.enter_context(Rig(workload, settings)) for _ in range(2)]
            by_hand, fitted = rigs if part % 2 else reversed(rigs)
            pairs = ((by_hand, hand(by_hand, 10 * turns * EPOCH)), (fitted, fits(fitted)))
            for turn in range(turns // PARTS + UNTIMED):
                for place in draws.sample((0, 1), 2):
                    rig, loop = pairs[place]
                    with rig.active():
                        started = perf_counter()
                        loop()
                        if turn >= UNTIMED:
                            spent[place].append(perf_counter() - started)
    return spent


def hand(rig: Rig, total: int) -> Callable[[], None]:
    """Return an epoch of the loop by hand."""
    with rig.active():
        optimizer, step, loader, transfer = rig.optimizer, rig.step, rig.input.loader, rig.transfer
    done = 0

    def epoch() -> None:
        nonlocal done
        for _ in range(EPOCH):
            batch = next(loader)
            for group in optimizer.param_groups:
                group["lr"] = 1e-3 * (1 + math.cos(math.pi * done / total)) / 2
            step(transfer.finish(transfer.move(batch)))
            done += 1

    return epoch


def fits(rig: Rig) -> Callable[[], None]:
    """Return an epoch of fit's loop."""
    with rig.active():
        run = _Run(rig, Course(rig.workload), silent, None, Signals(terminate=False))
    return run._epoch


if __name__ == "__main__":
    main()
