"""Question: how much faster do images arrive than from torchvision's ImageFolder and torch's DataLoader?

Random resized crops of 64 px and flips, batches of 64, loading alone; the baseline with as many workers as cores and
with twice as many. Each side ends with normalised float images. Bars, against the faster of the baselines:
- the fastest settings without a cache: at least 2 times the images/s;
- the fastest settings with a filled cache in memory: at least 5 times;
- the same images: the default settings give what torchvision's functions make of the same crop windows, bit for bit,
  all exact settings give the default's bits, and no setting is further than 2 levels from them in the mean.
Takes about 5 minutes on 2 cores; --quick about 2.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from common import PlainScript, column, finish, interleaved, options, photographs, ratio, small_cnn
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from autotrain.augment.geometry import crop_window
from autotrain.data.transfer import Transfer
from autotrain.decode.decoder import decoder
from autotrain.engine.rig import InputSide
from autotrain.hardware.machine import machine_facts
from autotrain.knobs.base import Effect
from autotrain.knobs.registry import effects
from autotrain.preparation import prepare_workload
from autotrain.search.recorder import describe
from autotrain.settings import Settings
from autotrain.stats.summary import summarize
from autotrain.task import Task
from autotrain.workload import Workload

SIZE, BATCH = 64, 64
DEFAULT = Settings(augmentation="crop")
UNCACHED, CACHED, MEAN_LEVELS = 2.0, 5.0, 2.0


class PlainLoading(PlainScript):
    """ImageFolder and DataLoader, drained."""

    def step(self) -> int:
        """Take the next batch."""
        images, _ = next(self.batches)
        return len(images)


@dataclass
class Loading:
    """autotrain's input path under settings, drained and finished on the device."""

    workload: Workload
    settings: Settings

    def __post_init__(self) -> None:
        self.side = InputSide(self.workload, self.settings)
        self.transfer = transfer_of(self.workload)

    def step(self) -> int:
        """Take the next batch to where the model would get it."""
        batch = self.side.next()
        self.transfer.finish(self.transfer.move(batch))
        return batch.count

    def warm_up(self, seconds: float) -> None:
        """Run untimed: a whole epoch where a cache is filled by it."""
        cached = self.settings.cache != "none"
        least = self.workload.stream().steps_per_epoch + 1 if cached else 2 + 2 * self.side.stock
        started, steps = perf_counter(), 0
        while steps < least or perf_counter() - started < seconds:
            self.step()
            steps += 1
        self.side.loader.pause()

    def turn(self, seconds: float = 1.0) -> float:
        """Take a turn; return its images/s."""
        self.side.loader.resume()
        for _ in range(self.side.stock):
            self.step()
        images, started = 0, perf_counter()
        while perf_counter() - started < seconds:
            images += self.step()
        rate = images / (perf_counter() - started)
        self.side.loader.pause()
        return rate


def transfer_of(workload: Workload) -> Transfer:
    return Transfer(workload.device, mean=workload.mean, std=workload.std, image_size=workload.image_size)


def images_of(workload: Workload, settings: Settings, batches: int) -> np.ndarray[Any, Any]:
    """Return the first images in levels, (n, channels, height, width)."""
    side = InputSide(workload, settings, stop=batches)
    try:
        return np.concatenate([batch.content[0].numpy() for batch in side.loader]).astype(np.int16)
    finally:
        side.close()


def by_torchvision(workload: Workload, batches: int) -> np.ndarray[Any, Any]:
    """Return what torchvision's functions make of the same files, windows and flips."""
    images = []
    for step in range(batches):
        ticket = workload.stream().ticket(step)
        drawn = workload.recipe("crop").draw(ticket)
        for place, index in enumerate(ticket.indices.tolist()):
            with Image.open(workload.source.files([index])[0]) as file:
                picture = file.convert("RGB")
            top, left, height, width = crop_window(drawn.geometry[place], picture.height, picture.width)
            cut = F.resized_crop(picture, top, left, height, width, [SIZE, SIZE], InterpolationMode.BILINEAR)
            images.append(F.pil_to_tensor(F.hflip(cut) if drawn.flip[place] else cut).numpy())
    return np.stack(images).astype(np.int16)


def candidates(cores: int) -> list[Settings]:
    """Return the settings that are tried, cached ones last."""
    fast = replace(DEFAULT, decoder="simplejpeg_scaled", resize="torch", workers=cores)
    kept = replace(DEFAULT, cache="ram", resize="torch", workers=cores)
    dali = replace(DEFAULT, decoder="dali", resize="torch", workers=cores)
    return [
        *([dali] if decoder("dali").unavailable() is None else []),
        replace(DEFAULT, workers=cores),
        replace(DEFAULT, decoder="simplejpeg", workers=cores),
        fast,
        replace(fast, loader="threads"),
        kept,
        replace(kept, loader="threads"),
        replace(kept, resize="pillow"),
    ]


def check_images(workload: Workload, tried: list[Settings], batches: int) -> tuple[list[str], dict[str, float]]:
    """Compare the images of all settings; return what is wrong, and the mean differences in levels."""
    wrong, gaps = [], {}
    reference = images_of(workload, DEFAULT, batches)
    if not np.array_equal(reference, by_torchvision(workload, batches)):
        wrong.append("the default's images are not torchvision's")
    for settings in tried:
        gap = np.abs(images_of(workload, settings, batches) - reference)
        gaps[describe(settings, DEFAULT)] = float(gap.mean())
        if Effect.NUMERICS not in effects(settings, DEFAULT) and gap.any():
            wrong.append(f"{describe(settings, DEFAULT)}: other images than the default's, though said to be exact")
        if gap.mean() > MEAN_LEVELS:
            wrong.append(f"{describe(settings, DEFAULT)}: {gap.mean():.2f} levels from the default's images")
    return wrong, gaps


def baseline(folder: Path, workers: int) -> PlainLoading:
    return PlainLoading(small_cnn(2), folder, size=SIZE, batch_size=BATCH, workers=workers)


def main() -> None:
    arguments = options(__doc__ or "")
    folder = photographs(arguments.data)
    cores = machine_facts().cpu.usable
    torch.manual_seed(0)
    torch.set_num_threads(1)  # idle threads of the training process would spin on the workers' cores
    task = Task(
        model=small_cnn(2), dataset=folder, batch_size=BATCH, image_size=SIZE, augmentation="crop", device="cpu"
    )
    workload = prepare_workload(task)
    tried = candidates(cores)
    missed, gaps = check_images(workload, tried, 2 if arguments.quick else 6)
    counts = (cores, 2 * cores)
    makers: list[Any] = [lambda stack, count=count: kept_open(stack, baseline(folder, count)) for count in counts]
    makers += [partial(opened, workload=workload, settings=settings) for settings in tried]
    rows = interleaved(makers, 6 if arguments.quick else 14, warmup_s=1.0)
    names = [f"ImageFolder and DataLoader, {count} workers" for count in counts]
    names += [describe(settings, DEFAULT) for settings in tried]
    means = [summarize(column(rows, place)) for place in range(len(names))]
    best = max(range(len(counts)), key=lambda place: means[place].value)
    table = []
    for place, name in enumerate(names):
        versus = None if place == best else ratio(rows, best, place).ratio
        table.append({"name": name, "images_per_s": means[place].as_dict(), "ratio": versus and versus.as_dict()})
        shown = "" if versus is None else f"{versus:.2f}x"
        print(f"{name:64s} {means[place]:.0f} images/s  {shown}  {gaps.get(name, 0.0):.2f} levels")
    for bar, words, places in (
        (UNCACHED, "without a cache", [place for place, entry in enumerate(tried) if entry.cache == "none"]),
        (CACHED, "with a filled cache", [place for place, entry in enumerate(tried) if entry.cache != "none"]),
    ):
        first = max(places, key=lambda place: means[len(counts) + place].value) + len(counts)
        versus = ratio(rows, best, first).ratio
        print(f"{words}: {names[first]}: {versus:.2f} times the faster baseline (bar: {bar:g})")
        if versus.value < bar:
            missed.append(f"{words}: {versus:.2f} times the baseline, not {bar:g}")
    finish("input", {"rows": [list(row) for row in rows], "table": table, "mean_levels": gaps}, missed, arguments)


def kept_open(stack: Any, contender: PlainLoading) -> PlainLoading:
    stack.callback(contender.close)
    return contender


def opened(stack: Any, *, workload: Workload, settings: Settings) -> Loading:
    contender = Loading(workload, settings)
    stack.callback(contender.side.close)
    return contender


if __name__ == "__main__":
    main()
