"""Question: what does it give on the CPU that freed memory stays with the process while autotrain trains?

glibc's malloc returns large blocks to the kernel, which clears their pages anew for the next step. Pairs of processes
in random order, one that keeps them and one that does not, each train the same model with the same settings on tensors
in memory. Told: images/s of those that keep over those that do not, and the most memory that each took. Bar: the lower
end of the 95% interval of each ratio is at least 0.98. Takes about 18 minutes; --quick about 8.
"""

from __future__ import annotations

import json
import random
import resource
import statistics
import subprocess
import sys
from time import perf_counter

import torch
import torchvision
from common import finish, options, small_cnn

from autotrain.engine import heap
from autotrain.engine.rig import Rig
from autotrain.preparation import prepare_workload
from autotrain.settings import Settings
from autotrain.stats.compare import compare
from autotrain.task import Task

LEAST = 0.98
PAIRS, QUICK_PAIRS = 12, 5
WARMUP_S, TIMED_S = 3.0, 6.0
FAST = Settings(precision="bf16", memory_format="channels_last", augmentation="none")
CASES = {
    "small CNN, 64 px, batch 64, fp32": ("small", 64, 64, Settings(augmentation="none")),
    "resnet18, 96 px, batch 32, bf16, channels-last": ("resnet18", 96, 32, FAST),
    "resnet18, 224 px, batch 16, bf16, channels-last": ("resnet18", 224, 16, FAST),
}


def main() -> None:
    arguments = options(__doc__ or "")
    missed, result, order = [], {}, random.Random(0)
    for name in CASES:
        kept: list[tuple[float, float]] = []
        freed: list[tuple[float, float]] = []
        for _ in range(QUICK_PAIRS if arguments.quick else PAIRS):
            for rows, way in order.sample([(kept, "kept"), (freed, "freed")], 2):
                rows.append(in_a_process(name, way))
        ratio = compare([rate for rate, _ in freed], [rate for rate, _ in kept]).ratio
        memory = [statistics.median(mib for _, mib in rows) for rows in (kept, freed)]
        print(
            f"{name}: {ratio.value:.2f}x ({ratio.low:.2f} to {ratio.high:.2f}) the images/s where memory is kept; ",
            end="",
        )
        print(f"{memory[0]:.0f} MiB at most instead of {memory[1]:.0f}", flush=True)
        result[name] = {"ratio": ratio.as_dict(), "kept_mib": memory[0], "freed_mib": memory[1]}
        if ratio.low < LEAST:
            missed.append(f"{name}: the ratio's interval begins at {ratio.low:.3f}")
    finish("heap", result, missed, arguments)


def in_a_process(name: str, way: str) -> tuple[float, float]:
    """Return images/s and the most memory in MiB of a process that trains in one of the ways."""
    done = subprocess.run([sys.executable, __file__, name, way], capture_output=True, text=True, check=True)
    rate, mib = json.loads(done.stdout.splitlines()[-1])
    return rate, mib


def train(name: str, way: str) -> None:
    """Train for some seconds; print images/s and the most memory in MiB."""
    if way == "freed":
        heap.HEAP = None
    elif heap.HEAP is None:
        sys.exit("malloc is not glibc's here, or tuned by the environment: there is nothing to measure")
    kind, size, batch_size, settings = CASES[name]
    torch.manual_seed(0)
    model = small_cnn(10) if kind == "small" else torchvision.models.resnet18(num_classes=10)
    images = torch.randint(0, 256, (4 * batch_size, 3, size, size), dtype=torch.uint8)
    labels = torch.arange(len(images)) % 10
    task = Task(
        model=model,
        dataset=(images, labels),
        batch_size=batch_size,
        device="cpu",
        augmentation="none",
        duration="100000ep",
    )
    with Rig(prepare_workload(task), settings) as rig, rig.active():
        batches = [rig.move(batch) for batch, _ in zip(rig.input.loader, range(4), strict=False)]
        steps, begun = 0, perf_counter()
        timed = begun + WARMUP_S
        while (now := perf_counter()) < begun + WARMUP_S + TIMED_S:
            if now < timed:
                steps, started = 0, now
            rig.train(batches[steps % len(batches)])
            steps += 1
        rate = steps * batch_size / (perf_counter() - started)
    print(json.dumps([rate, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] in CASES:
        train(sys.argv[1], sys.argv[2])
    else:
        main()
