"""Question: what is worth knowing about autotrain on this CUDA machine?

Runs the GPU tests, probes three workloads, measures training alone under every precision and memory format, and the
device's augmentation beside the workers' and Kornia's; prints one table last. Bars:
- the GPU tests pass;
- no probe chooses settings whose duel's interval does not lie above 1;
- batched trivial and rand at 64x3x224x224 are at least 10 times as fast on the device as Kornia's batch policies.
Takes about 8 minutes; --quick about 5. Needs a CUDA device.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np
import torch
import torchvision
from common import ROOT, finish, options, photographs, small_cnn

import autotrain
from autotrain.augment.batch import apply_batch
from autotrain.augment.policy import policy
from autotrain.augment.sample import apply_sample
from autotrain.errors import AutotrainError
from autotrain.hardware.machine import machine_facts
from autotrain.knobs.registry import legal_space
from autotrain.measure.clock import Clock
from autotrain.search.events import silent
from autotrain.search.probe import ProbeOptions, Prober
from autotrain.task import Task
from autotrain.workload import prepare_workload

KORNIA_BAR = 10.0


def main() -> None:
    arguments = options(__doc__ or "")
    if not torch.cuda.is_available():
        sys.exit("gpu: torch sees no CUDA device here")
    table: list[str] = []
    missed: list[str] = []
    folder = photographs(arguments.data)
    result = {
        "tests": gpu_tests(table, missed),
        "probes": probes(folder, arguments.quick, table, missed),
        "ceilings": ceilings(table),
        "augmentation": augmentation(table, missed),
    }
    print("\n" + "\n".join(table))
    finish("gpu", {"device": torch.cuda.get_device_name(), **result}, missed, arguments)


def gpu_tests(table: list[str], missed: list[str]) -> str:
    command = [sys.executable, "-m", "pytest", "tests/gpu", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    print(done.stdout[-6000:])
    last = (done.stdout.strip().splitlines() or ["no output"])[-1]
    table.append(f"tests/gpu: {last}")
    if done.returncode:
        missed.append(f"tests/gpu: {last}")
    return last


def probes(folder: Any, quick: bool, table: list[str], missed: list[str]) -> dict[str, Any]:
    classes = len([entry for entry in folder.iterdir() if entry.is_dir()])
    models = torchvision.models
    images = torch.randint(0, 256, (4096, 3, 96, 96), dtype=torch.uint8)
    labels = torch.randint(0, 10, (4096,))
    tasks = {
        "small CNN, 64 px photographs, trivial": Task(
            model=small_cnn(classes), dataset=folder, image_size=64, batch_size=256, augmentation="trivial"
        ),
        "resnet50, 224 px photographs, crop": Task(
            model=models.resnet50(num_classes=classes), dataset=folder, image_size=224, batch_size=128
        ),
        "resnet18, 96 px tensors": Task(
            model=models.resnet18(num_classes=10), dataset=(images, labels), batch_size=256, augmentation="crop"
        ),
    }
    results = {}
    for name, task in tasks.items():
        started = perf_counter()
        try:
            probed = autotrain.probe(task, budget="50s" if quick else "80s", progress=False)
        except AutotrainError as problem:
            missed.append(f"{name}: {problem}")
            continue
        evidence = probed.plan.evidence
        changes = probed.plan.settings.changes(probed.session.default)
        table.append(f"{name}: {evidence.bottleneck}; default {evidence.default_rate}, choice {evidence.chosen_rate}")
        table.append(f"  {evidence.verdict} {evidence.ratio or ''} by {changes or 'nothing'}")
        table.extend(f"  failed: {entry.reason}" for entry in probed.session.failures if not entry.pruned)
        if changes and (evidence.ratio is None or evidence.ratio.low <= 1.0):
            missed.append(f"{name}: chose {changes} without proof")
        results[name] = {"seconds": perf_counter() - started, "plan": probed.plan.as_dict()}
    return results


def ceilings(table: list[str]) -> dict[str, Any]:
    """Measure training alone of resnet50 at 224 px under every precision and memory format."""
    images = torch.randint(0, 256, (512, 3, 224, 224), dtype=torch.uint8)
    labels = torch.randint(0, 10, (512,))
    model = torchvision.models.resnet50(num_classes=10)
    workload = prepare_workload(Task(model=model, dataset=(images, labels), batch_size=128))
    machine = machine_facts()
    space = legal_space(workload, machine)
    recorder = Prober(workload, machine, ProbeOptions(), silent, Clock()).recorder
    rates = {}
    for precision in space.choices["precision"].allowed:
        for memory_format in space.choices["memory_format"].allowed:
            settings = replace(space.default, precision=str(precision), memory_format=str(memory_format))
            measured = recorder.compute(settings)
            if measured is not None:
                rates[f"{precision} {memory_format}"] = measured.rate.as_dict()
                table.append(f"resnet50 alone, {precision} {memory_format}: {measured.rate:.0f} images/s")
    return rates


def augmentation(table: list[str], missed: list[str]) -> dict[str, Any]:
    """Measure policies at 64x3x224x224: on the device, in one worker, and Kornia's batch policies."""
    from kornia.augmentation import auto

    images = torch.randint(0, 256, (64, 3, 224, 224), dtype=torch.uint8)
    on_device = images.cuda()
    floats = on_device.float() / 255
    rates: dict[str, Any] = {}
    rivals = {"trivial": auto.TrivialAugment(), "rand": auto.RandAugment(n=2, m=9)}
    for name, rival in rivals.items():
        drawn = [policy(name).draw(0, epoch, np.arange(64)) for epoch in range(16)]
        ours = rate(lambda number, drawn=drawn: apply_batch(on_device, drawn[number % 16]))
        theirs = rate(lambda _, rival=rival: rival(floats))
        started = perf_counter()
        for place in range(64):
            apply_sample(images[place], drawn[0], place)
        worker = 64 / (perf_counter() - started)
        rates[name] = {"device": ours, "kornia": theirs, "worker": worker}
        table.append(
            f"{name}, 224 px: device {ours:,.0f} images/s, Kornia {theirs:,.0f} ({ours / theirs:.1f} times), "
            f"one worker {worker:,.0f}"
        )
        if ours < KORNIA_BAR * theirs:
            missed.append(f"augmentation {name}: {ours / theirs:.1f} times Kornia's rate")
    return rates


def rate(call: Callable[[int], object], *, repeats: int = 50) -> float:
    for number in range(5):
        call(number)
    torch.cuda.synchronize()
    started = perf_counter()
    for number in range(repeats):
        call(number)
    torch.cuda.synchronize()
    return 64 * repeats / (perf_counter() - started)


if __name__ == "__main__":
    main()
