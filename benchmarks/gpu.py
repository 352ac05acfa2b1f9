"""Question: what is worth knowing about autotrain on this CUDA machine?

Each part runs in a process of its own, so that none fails with another; one table is printed last:
- the GPU tests;
- the device's augmentation beside the workers' and Kornia's;
- decoders, per image on one core and whole batches, nvJPEG among them, 224 px;
- the input path, loading alone and training (resnet50, bf16, channels-last): ImageFolder and DataLoader with the usual
  worker counts beside autotrain's settings, rand in workers beside rand on the device, 224 px, batches of 128;
- three probes;
- training alone under every precision and memory format.
Bars:
- the GPU tests pass, and no part fails as a whole;
- no probe chooses settings whose duel's interval does not lie above 1;
- batched trivial and rand at 64x3x224x224 are at least 10 times as fast on the device as Kornia's batch policies: the
  lower end of the ratio's 95% interval is not below that.
Takes about 15 minutes; --quick at most 8, without slow tests: what does not fit is cut off, and said to be. Both are
meant for one GPU, 16 cores and some hundred photographs of 400 by 500 pixels (--data), which are linked to as often as
it takes to make 4096, and read once before. --smoke runs everything at tiny sizes on any device, in 3 minutes, without
bars and without keeping the result.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any

import numpy as np
import torch
import torchvision
from common import ROOT, finish, options, photographs, ratio, small_cnn
from gpu_input import Say, Scale, decoders, device, first_line, input_path, synchronize

import autotrain
from autotrain.augment.batch import apply_batch
from autotrain.augment.policy import policy
from autotrain.augment.sample import apply_sample
from autotrain.errors import AutotrainError
from autotrain.hardware.machine import machine_facts
from autotrain.knobs.registry import legal_space
from autotrain.measure.clock import Clock
from autotrain.preparation import prepare_workload
from autotrain.search.events import silent
from autotrain.search.probe import ProbeOptions, Prober
from autotrain.stats.summary import summarize
from autotrain.task import Task

KORNIA_BAR = 10.0
DRAWS = 16
"""Batches' worth of parameters that the augmentation goes through in turn."""

FULL = Scale(minutes=20)
QUICK = Scale(
    minutes=7.6, workers=(8,), rounds=3, warmup_s=1.5, budget="25s", tests=("tests/gpu", "-m", "gpu and not slow")
)
SMOKE = Scale(
    minutes=5,
    size=32,
    batch=8,
    images=64,
    rounds=3,
    warmup_s=0.1,
    budget="6s",
    model="small",
    tests=("tests/gpu", "--collect-only"),
)

# Tests


def gpu_tests(scale: Scale, folder: Path, say: Say) -> tuple[Any, list[str]]:
    del folder
    command = [sys.executable, "-m", "pytest", *scale.tests, "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    print(done.stdout[-6000:])
    last = (done.stdout.strip().splitlines() or ["no output"])[-1]
    say(last)
    return last, [f"tests/gpu: {last}"] if done.returncode else []


# Augmentation, training alone, probes


def augmentation(scale: Scale, folder: Path, say: Say) -> tuple[Any, list[str]]:
    """Measure policies at 64 images: on the device, in one worker, and Kornia's batch policies."""
    del folder
    missed: list[str] = []
    images = torch.randint(0, 256, (64, 3, scale.size, scale.size), dtype=torch.uint8)
    resident = images.to(device())
    rivals, results = kornia_policies(say), {}
    for name in ("trivial", "rand", "autoaugment", "augmix"):
        drawn = [policy(name).draw(0, epoch, np.arange(64)) for epoch in range(DRAWS)]
        rival = rivals.get(name)
        floats = resident.float() / 255 if rival is not None else None
        rows = []
        for _ in range(4 * scale.rounds + 1):  # Kornia's rate depends on the one operator that it draws for a batch
            ours = batches_per_s(lambda number, drawn=drawn: apply_batch(resident, drawn[number % DRAWS]))
            theirs = (
                batches_per_s(lambda _, rival=rival, floats=floats: rival(floats)) if rival is not None else math.nan
            )
            rows.append((64 * theirs, 64 * ours))
        rows = rows[1:]
        started = perf_counter()
        for place in range(64):
            apply_sample(images[place], drawn[0], place)
        worker = 64 / (perf_counter() - started)
        device_rate = summarize([row[1] for row in rows])
        results[name] = {"device": device_rate.as_dict(), "worker": worker, "rows": rows}
        line = f"{name}, {scale.size} px: device {device_rate:.0f} images/s, one worker {worker:,.0f}"
        if rival is not None:
            versus = ratio(rows, 0, 1).ratio
            results[name]["ratio"] = versus.as_dict()
            line += f", Kornia {summarize([row[0] for row in rows]):.0f}: {versus:.1f} times that (bar: {KORNIA_BAR:g})"
            if versus.low < KORNIA_BAR:
                missed.append(f"augmentation {name}: {versus:.1f} times Kornia's rate")
        say(line)
    return results, missed


def kornia_policies(say: Say) -> dict[str, Any]:
    try:
        from kornia.augmentation import auto
    except ImportError as problem:
        say(f"Kornia: left out, {first_line(problem)}")
        return {}
    return {"trivial": auto.TrivialAugment(), "rand": auto.RandAugment(n=2, m=9)}


def batches_per_s(call: Callable[[int], object], *, repeats: int = DRAWS) -> float:
    synchronize()
    started = perf_counter()
    for number in range(repeats):
        call(number)
    synchronize()
    return repeats / (perf_counter() - started)


def ceilings(scale: Scale, folder: Path, say: Say) -> tuple[Any, list[str]]:
    """Measure training alone under every precision and memory format."""
    del folder
    images = torch.randint(0, 256, (4 * scale.batch, 3, scale.size, scale.size), dtype=torch.uint8)
    labels = torch.randint(0, 10, (len(images),))
    workload = prepare_workload(Task(model=scale.make(10), dataset=(images, labels), batch_size=scale.batch))
    machine = machine_facts()
    space = legal_space(workload, machine)
    recorder = Prober(workload, machine, ProbeOptions(), silent, Clock()).recorder
    rates = {}
    for precision in space.choices["precision"].allowed:
        for memory_format in space.choices["memory_format"].allowed:
            settings = replace(space.default, precision=str(precision), memory_format=str(memory_format))
            measured = recorder.compute(settings)
            if measured is None:
                say(f"{precision} {memory_format}: FAILED, {recorder.session.failures[-1].reason}")
                continue
            rates[f"{precision} {memory_format}"] = measured.rate.as_dict()
            say(f"{precision} {memory_format}: {measured.rate:.0f} images/s")
    return rates, []


def probe_tasks(scale: Scale, folder: Path) -> dict[str, Task]:
    classes = len([entry for entry in folder.iterdir() if entry.is_dir()])
    small = Task(model=small_cnn(classes), dataset=folder, image_size=64, batch_size=256, augmentation="trivial")
    if scale.model == "small":
        return {"small CNN, photographs, trivial": replace(small, image_size=scale.size, batch_size=scale.batch)}
    images, labels = torch.randint(0, 256, (4096, 3, 96, 96), dtype=torch.uint8), torch.randint(0, 10, (4096,))
    resnet18 = torchvision.models.resnet18(num_classes=10)
    return {
        "small CNN, 64 px photographs, trivial": small,
        "resnet50, 224 px photographs, crop": Task(
            model=scale.make(classes), dataset=folder, image_size=scale.size, batch_size=scale.batch
        ),
        "resnet18, 96 px tensors": Task(model=resnet18, dataset=(images, labels), batch_size=256, augmentation="crop"),
    }


def probes(scale: Scale, folder: Path, say: Say) -> tuple[Any, list[str]]:
    results, missed = {}, []
    for name, task in probe_tasks(scale, folder).items():
        started = perf_counter()
        try:
            probed = autotrain.probe(task, budget=scale.budget, progress=False)
        except AutotrainError as problem:
            say(f"{name}: FAILED, {first_line(problem)}")
            missed.append(f"{name}: {problem}")
            continue
        evidence = probed.plan.evidence
        changes = probed.plan.settings.changes(probed.session.default)
        say(f"{name}: {evidence.bottleneck}; default {evidence.default_rate}, choice {evidence.chosen_rate}")
        proven = "" if evidence.ratio is None else f" {evidence.ratio:.2f} times"
        say(f"  {evidence.verdict}{proven} by {changes or 'nothing'}")
        for entry in probed.session.failures:
            if not entry.pruned:
                say(f"  failed: {entry.reason}")
        if changes and (evidence.ratio is None or evidence.ratio.low <= 1.0):
            missed.append(f"{name}: chose {changes} without proof")
        results[name] = {"seconds": perf_counter() - started, "plan": probed.plan.as_dict()}
    return results, missed


# Parts

PARTS: dict[str, tuple[Callable[..., tuple[Any, list[str]]], float]] = {
    "tests": (gpu_tests, 4.0),
    "augmentation": (augmentation, 1.5),
    "decoders": (decoders, 1.5),
    "loading": (partial(input_path, trains=False), 3.0),
    "training": (partial(input_path, trains=True), 3.0),
    "probes": (probes, 7.0),
    "training alone": (ceilings, 1.5),
}
"""What is measured, in this order, with the minutes after which it is given up."""


def run_part(name: str, scale: Scale, folder: Path, answers: Any) -> None:
    """Run in a process of its own: send each row as it comes, then the result."""
    os.setpgrp()  # what it starts can be ended with it
    try:
        result, missed = PARTS[name][0](scale, folder, lambda row: answers.send(("row", row)))
        answers.send(("result", (result, missed)))
    except BaseException as problem:
        traceback.print_exc()
        answers.send(("failed", f"{type(problem).__name__}: {first_line(problem)}"))


def part(name: str, scale: Scale, folder: Path, seconds: float, rows: list[str]) -> tuple[Any, list[str]]:
    """Start a part, keep and show what it says, and end it when its time is up."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=run_part, args=(name, scale, folder, there))
    process.start()
    there.close()
    until, failure = monotonic() + seconds, f"no end after {seconds:.0f} s"
    try:
        while here.poll(max(0.0, until - monotonic())):
            kind, content = here.recv()
            if kind == "result":
                return content
            if kind == "failed":
                failure = content
                break
            rows.append(content)
            print(f"  {content}", flush=True)
    except EOFError:
        process.join(10)
        failure = f"its process ended with {process.exitcode}"
    finally:
        end(process)
    rows.append(f"FAILED: {failure}")
    print(f"  {rows[-1]}", flush=True)
    return {"failed": failure}, [f"{name}: {failure}"]


def end(process: Any) -> None:
    """Let a process that is through end by itself, and kill what is left of it and of those it started."""
    process.join(5)
    try:
        os.killpg(process.pid, 9)
    except (ProcessLookupError, PermissionError):
        process.kill()
    process.join()


def repeated(folder: Path, target: Path, images: int) -> Path:
    """Return a folder with links to the files of another, over and over, and have them in the page cache."""
    paths = [path for path in sorted(folder.glob("*/*")) if path.is_file()]
    for path in paths:
        path.read_bytes()
        (target / path.parent.name).mkdir(exist_ok=True)
        for number in range(max(1, math.ceil(images / len(paths)))):
            (target / path.parent.name / f"{number:04d}-{path.name}").symlink_to(path.resolve())
    return target


def main() -> None:
    smoke = "--smoke" in sys.argv
    sys.argv = [entry for entry in sys.argv if entry != "--smoke"]
    arguments = options(__doc__ or "")
    if not (smoke or torch.cuda.is_available()):
        sys.exit("gpu: torch sees no CUDA device here; --smoke tries the code without one")
    scale = SMOKE if smoke else QUICK if arguments.quick else FULL
    until, missed, table, result = monotonic() + 60 * scale.minutes, [], [], {}
    with tempfile.TemporaryDirectory() as directory:
        folder = repeated(photographs(arguments.data), Path(directory), scale.images)
        for name, (_, minutes) in PARTS.items():
            print(f"{name}:", flush=True)
            rows: list[str] = []
            started, left = monotonic(), max(1.0, until - monotonic())
            result[name], lacking = part(name, scale, folder, min(60 * minutes, left), rows)
            if lacking and monotonic() >= until:
                rows[-1] = f"cut off: the {scale.minutes:g} minutes are over"
            else:
                missed += lacking
            table += [f"{name} ({monotonic() - started:.0f} s)", *(f"  {row}" for row in rows)]
    print("\n" + "\n".join(table))
    if smoke:
        failed = [row for row in table if "FAILED" in row]
        sys.exit(1 if failed else 0)
    finish("gpu", {"device": torch.cuda.get_device_name(), **result}, missed, arguments)


if __name__ == "__main__":
    main()
