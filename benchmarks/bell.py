"""Question: does a training by wall-clock end on the bell, its learning rate at the end of its schedule?

Three durations with an evaluation and a checkpoint after every epoch, the last one with the machine disturbed for a
third of the time by processes that take all cores. Bars: each ends within 2% of its duration (evaluation, checkpoints
and the writing of the last one counted), and the factor of the last step is at most 1% from the schedule's end.
Takes about 5 minutes; --quick (a third of the durations) about 2.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import threading
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import torch
from common import finish, options, small_cnn

import autotrain
from autotrain.plan.plan import Plan
from autotrain.settings import Settings

DURATIONS = ((30.0, False), (90.0, False), (150.0, True))
"""Seconds, and whether the machine is disturbed."""

MOST_OFF, MOST_FACTOR = 0.02, 0.01
LR = 0.1


class Watching(torch.optim.SGD):
    """Keeps the learning rate of the last step."""

    last = LR

    def step(self, closure: Any = None) -> Any:
        """Note the rate, and step."""
        self.last = float(self.param_groups[0]["lr"])
        return super().step(closure)


def main() -> None:
    arguments = options(__doc__ or "")
    missed, result = [], {}
    for planned, disturbed in DURATIONS:
        seconds = planned / 3 if arguments.quick else planned
        name = f"{seconds:.0f} s{', disturbed' if disturbed else ''}"
        took_s, factor, steps = trained(seconds, disturbed=disturbed)
        off = took_s / seconds - 1
        print(f"{name}: took {took_s:.2f} s ({off:+.2%}), {steps} steps, last factor {factor:.4f}", flush=True)
        result[name] = {"seconds": took_s, "off": off, "last_factor": factor, "steps": steps}
        if abs(off) > MOST_OFF:
            missed.append(f"{name}: {off:+.2%} from the bell")
        if factor > MOST_FACTOR:
            missed.append(f"{name}: the last factor is {factor:.4f}")
    finish("bell", {"trainings": result}, missed, arguments)


def trained(seconds: float, *, disturbed: bool) -> tuple[float, float, int]:
    """Train for a while; return what it took in all, the last factor, and the steps."""
    torch.manual_seed(0)
    images, labels = torch.randint(0, 256, (2048, 3, 32, 32), dtype=torch.uint8), torch.randint(0, 10, (2048,))
    model = small_cnn(10)
    optimizer = Watching(model.parameters(), lr=LR)
    plan = Plan(settings=Settings(augmentation="crop"))
    with tempfile.TemporaryDirectory() as folder:
        if disturbed:
            threading.Thread(target=disturb, args=(seconds / 3, seconds / 3), daemon=True).start()
        started = perf_counter()
        result = autotrain.fit(
            model,
            (images, labels),
            validation=(images[:512], labels[:512]),
            batch_size=32,
            optimizer=optimizer,
            augmentation="crop",
            duration=f"{seconds:g}s",
            plan=plan,
            checkpoints=Path(folder) / "run",
            progress=False,
        )
        took_s = perf_counter() - started
    return took_s, optimizer.last / LR, result.steps


def disturb(begin_s: float, length_s: float) -> None:
    """Keep every core busy for a while, after a while."""
    sleep(begin_s)
    workers = [
        multiprocessing.Process(target=busy, args=(length_s,), daemon=True) for _ in range(torch.get_num_threads())
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def busy(length_s: float) -> None:
    """Compute for a while."""
    end = perf_counter() + length_s
    while perf_counter() < end:
        sum(range(10_000))


if __name__ == "__main__":
    main()
