"""The input path and the decoders, as gpu.py measures them; not to be run by itself."""

from __future__ import annotations

import random
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
import torchvision
from common import PlainScript, ratio, rig_contender, small_cnn
from decode import Bench
from input import Loading
from torch import nn
from torch.utils.data import DataLoader

from autotrain.augment.geometry import crop_window
from autotrain.augment.policy import policy
from autotrain.decode.decoder import DECODERS
from autotrain.decode.nvjpeg import decode_on_device, pack
from autotrain.hardware.machine import machine_facts
from autotrain.knobs.registry import illegal
from autotrain.preparation import prepare_workload
from autotrain.settings import Settings
from autotrain.stats.summary import summarize
from autotrain.task import Task
from autotrain.workload import Workload

Say = Callable[[str], None]
Synchronize = Callable[[], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much is measured."""

    minutes: float
    """What all parts may take together."""

    size: int = 224
    batch: int = 128
    images: int = 4096
    workers: tuple[int, ...] = (4, 8)
    """Of the plain loaders, beside as many as cores."""

    rounds: int = 6
    warmup_s: float = 3.0
    budget: str = "80s"
    tests: tuple[str, ...] = ("tests/gpu",)
    model: str = "resnet50"

    def make(self, classes: int) -> nn.Module:
        """Return a model to train."""
        torch.manual_seed(0)
        return (
            small_cnn(classes)
            if self.model == "small"
            else torchvision.models.get_model(self.model, num_classes=classes)
        )


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def settled(step: Callable[[], int], seconds: float) -> float:
    """Return the images/s of steps that the device has come to the end of."""
    synchronize()
    images, steps, started = 0, 0, perf_counter()
    while steps < 2 or perf_counter() - started < seconds:
        images += step()
        steps += 1
    synchronize()
    return images / (perf_counter() - started)


def first_line(problem: BaseException) -> str:
    return (str(problem).strip().splitlines() or [type(problem).__name__])[0]


# Input path


class PlainLoading(PlainScript):
    """ImageFolder and DataLoader with pinned memory, as torch's documentation has them; batches end on the device."""

    def __init__(self, scale: Scale, folder: Path, classes: int, *, workers: int, trains: bool = False) -> None:
        model = (scale.make(classes) if trains else small_cnn(classes)).to(device())
        super().__init__(
            model, folder, size=scale.size, batch_size=scale.batch, workers=workers, bf16=True, channels_last=True
        )
        self.loader = DataLoader(
            self.loader.dataset,
            batch_size=scale.batch,
            shuffle=True,
            drop_last=True,
            num_workers=workers,
            persistent_workers=True,
            pin_memory=torch.cuda.is_available(),
        )

    def step(self) -> int:
        """Take the next batch to the device."""
        images, labels = next(self.batches)
        for entry in (images, labels):
            entry.to(device(), non_blocking=True)
        return len(images)

    def turn(self, seconds: float = 1.0) -> float:
        """Take a turn; return its images/s."""
        self._signal("SIGCONT")
        self.step()
        rate = settled(self.step, seconds)
        self._signal("SIGSTOP")
        return rate


class PlainTraining(PlainLoading):
    """The same with a training loop: bf16 autocast, channels-last, fused AdamW."""

    def __init__(self, scale: Scale, folder: Path, classes: int, *, workers: int) -> None:
        super().__init__(scale, folder, classes, workers=workers, trains=True)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, fused=torch.cuda.is_available())

    def step(self) -> int:
        """Train on the next batch."""
        images, labels = next(self.batches)
        images = images.to(device(), non_blocking=True).contiguous(memory_format=torch.channels_last)
        labels = labels.to(device(), non_blocking=True)
        with torch.autocast(device().type, torch.bfloat16):
            loss = nn.functional.cross_entropy(self.model(images), labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return len(images)


class DeviceLoading(Loading):
    """autotrain's input path, drained; batches end on the device, decoded, augmented and normalised."""

    def turn(self, seconds: float = 1.0) -> float:
        """Take a turn; return its images/s."""
        self.side.loader.resume()
        self.step()
        rate = settled(self.step, seconds)
        self.side.loader.pause()
        return rate


def drained(stack: ExitStack, *, workload: Workload, settings: Settings) -> DeviceLoading:
    contender = DeviceLoading(workload, settings)
    stack.callback(contender.side.close)
    return contender


def plain(stack: ExitStack, *, kind: type[PlainLoading], **how: Any) -> PlainLoading:
    contender = kind(how.pop("scale"), how.pop("folder"), how.pop("classes"), **how)
    stack.callback(contender.close)
    return contender


def ways(cores: int) -> dict[str, Settings]:
    """Return the settings that are tried, by their names in the table."""
    base = Settings(
        augmentation="crop",
        precision="bf16",
        memory_format="channels_last",
        workers=cores,
        pinning=True,
        resize="torch",
    )
    scaled = replace(base, decoder="simplejpeg_scaled")
    rand = replace(scaled, augmentation="rand")
    return {
        "Pillow": replace(base, resize="pillow"),
        "simplejpeg scaled, torch's resize": scaled,
        "the same, threads": replace(scaled, loader="threads"),
        "cached in RAM, torch's resize": replace(base, cache="ram"),
        "nvJPEG": replace(base, decoder="nvjpeg", workers=max(1, cores // 4)),
        "rand in workers": rand,
        "rand on the device": replace(rand, placement="device"),
    }


def input_path(scale: Scale, folder: Path, say: Say, *, trains: bool) -> tuple[Any, list[str]]:
    """Measure plain loaders and autotrain's settings in turns of a second, in random order."""
    torch.set_num_threads(1)  # idle threads of this process would spin on the workers' cores
    machine = machine_facts()
    cores = machine.cpu.usable
    classes = len([entry for entry in folder.iterdir() if entry.is_dir()])
    counts = sorted({min(count, cores) for count in (*scale.workers, cores)})
    kind = PlainTraining if trains else PlainLoading
    makers: dict[str, Callable[[ExitStack], Any]] = {
        f"ImageFolder and DataLoader, {count} workers": partial(
            plain, kind=kind, scale=scale, folder=folder, classes=classes, workers=count
        )
        for count in counts
    }
    workloads: dict[str, Workload] = {}
    for name, settings in ways(cores).items():
        if settings.augmentation not in workloads:
            task = Task(
                model=scale.make(classes),
                dataset=folder,
                batch_size=scale.batch,
                image_size=scale.size,
                augmentation=settings.augmentation,
            )
            workloads[settings.augmentation] = prepare_workload(task)
        workload = workloads[settings.augmentation]
        reason = illegal(settings, workload, machine)
        if reason:
            say(f"{name}: left out, {reason}")
        elif trains:
            makers[name] = rig_contender(workload, settings)
        else:
            makers[name] = partial(drained, workload=workload, settings=settings)
    return compared(in_turns(makers, scale, say), len(counts), say), []


def in_turns(makers: dict[str, Callable[[ExitStack], Any]], scale: Scale, say: Say) -> dict[str, list[float]]:
    """Let contenders take turns in random order; return their images/s. One that fails is out, and is said to be."""
    order, rates = random.Random(0), {name: [] for name in makers}
    with ExitStack() as stack:
        live: dict[str, Any] = {}

        def guarded(name: str, call: Callable[[], Any]) -> None:
            try:
                call()
            except Exception as problem:
                traceback.print_exc()
                say(f"{name}: FAILED, {first_line(problem)}")
                live.pop(name, None)
                rates.pop(name, None)

        def begin(name: str) -> None:
            live[name] = makers[name](stack)
            live[name].warm_up(scale.warmup_s)

        for name in makers:
            guarded(name, partial(begin, name))
        for _ in range(scale.rounds):
            for name in order.sample(list(live), len(live)):
                guarded(name, lambda name=name: rates[name].append(live[name].turn()))
    return rates


def compared(rates: dict[str, list[float]], baselines: int, say: Say) -> dict[str, Any]:
    """Say every contender's rate and how many times the fastest of the first few's it is."""
    means = {name: summarize(values) for name, values in rates.items()}
    plains = [name for name in list(rates)[:baselines] if name.startswith("ImageFolder")]
    best = max(plains, key=lambda name: means[name].value, default=None)
    entries = {}
    for name, mean in means.items():
        versus = None if best in (None, name) else ratio(list(zip(rates[best], rates[name], strict=True)), 0, 1).ratio
        say(f"{name}: {mean:.0f} images/s" + ("" if versus is None else f", {versus:.2f} times the best DataLoader's"))
        entries[name] = {"images_per_s": mean.as_dict(), "rates": rates[name], "ratio": versus and versus.as_dict()}
    return entries


# Decoders


def decoders(scale: Scale, folder: Path, say: Say) -> tuple[Any, list[str]]:
    """Measure every decoder, with crop and torch's resize, per CPU second of one core; then nvJPEG's two halves."""
    paths = sorted(folder.glob("*/*.jp*g"))
    files = [path.read_bytes() for path in random.Random(0).sample(paths, min(scale.batch, len(paths)))]
    bench, rates = Bench(files), {}
    reference = bench.turn("pillow", "torch", scale.size)[1].astype(np.int16)
    for entry in DECODERS:
        reason = entry.unavailable() or entry.misplaced()
        if reason or entry.name == "nvjpeg":
            say(f"{entry.name}: left out, {reason or 'decodes batches'}")
            continue
        try:
            bench.turn(entry.name, "torch", scale.size)
            turns = [bench.turn(entry.name, "torch", scale.size) for _ in range(scale.rounds)]
        except Exception as problem:
            say(f"{entry.name}: FAILED, {first_line(problem)}")
            continue
        gap = float(np.abs(turns[0][1] - reference).mean())
        rates[entry.name] = [rate for rate, _ in turns]
        say(f"{entry.name}: {summarize(rates[entry.name]):.0f} images/s per core, {gap:.2f} levels from Pillow's")
    bench.close()
    rates |= nvjpeg(scale, files, reference, say)
    return rates, []


def nvjpeg(scale: Scale, files: list[bytes], reference: Any, say: Say) -> dict[str, Any]:
    """Measure packing on one core, and decoding, cropping and resizing on the device; on a CPU by its stand-in."""
    geometry = policy("crop").draw(0, 0, np.arange(len(files))).geometry
    choices = [lambda height, width, row=row: crop_window(row, height, width) for row in geometry]
    where, rates = device(), {"packing": [], "nvjpeg": []}
    packed = pack(files, choices, scale.size, channels=3)
    images = decode_on_device(packed, where)
    gap = float(np.abs(images.permute(0, 2, 3, 1).cpu().numpy() - reference).mean())
    for _ in range(scale.rounds):
        started = perf_counter()
        for _ in range(3):
            packed = pack(files, choices, scale.size, channels=3)
        rates["packing"].append(3 * len(files) / (perf_counter() - started))
        rates["nvjpeg"].append(settled(lambda packed=packed: len(decode_on_device(packed, where)), 0.5))
    here = len(packed.pixels_places)
    what = "nvJPEG" if where.type == "cuda" else "nvJPEG's stand-in on the CPU"
    say(
        f"{what}, batches of {len(files)} ({here} not for the device): {summarize(rates['nvjpeg']):.0f} images/s, "
        f"{gap:.2f} levels from Pillow's; packing {summarize(rates['packing']):.0f} images/s per core"
    )
    return rates
