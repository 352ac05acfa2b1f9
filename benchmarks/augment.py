"""Question: how fast is the augmentation, against Kornia and torchvision?

The batched applier beside Kornia's batch transforms (fed floats) and torchvision's transforms of one uint8 tensor at a
time, on 64 photographs of 224 px in memory, with the same number of threads; contenders take turns, a batch each.
Crops are left out everywhere, flips are ours alone. Kornia draws one operator per batch, the others one per image.
Bars, met where the lower end of the ratio's 95% interval is not below them:
- on the CPU with 2 threads, trivial and rand are at least 3 times as fast as Kornia's, and 1.5 times torchvision's;
- on CUDA, where there is a device, they are at least 10 times as fast as Kornia's.
Takes about 3 minutes on 2 cores; --quick about 1.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import kornia.augmentation as kornia
import numpy as np
import torch
import torchvision.transforms as v1
from common import column, finish, options, photographs, ratio
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from autotrain.augment.batch import apply_batch
from autotrain.augment.extras import Extras
from autotrain.augment.geometry import center_window
from autotrain.augment.mixing import draw_mixing, mix
from autotrain.augment.policy import policy
from autotrain.stats.summary import summarize

BATCH, SIDE, THREADS = 64, 224, 2
DRAWS = 16
"""Batches' worth of parameters that ours goes through in turn, as an epoch would."""

JITTER = (0.4, 0.4, 0.4, 0.1)
EXTRAS = {
    "jitter": Extras(color_jitter=JITTER),
    "erasing": Extras(erasing=0.25),
    "mixup": Extras(mixup=0.2),
    "cutmix": Extras(cutmix=1.0),
}
BARS = {"cpu": {"Kornia": 3.0, "torchvision": 1.5}, "cuda": {"Kornia": 10.0}}
BARRED = ("trivial", "rand")

Call = Callable[[int], object]


def main() -> None:
    arguments = options(__doc__ or "")
    torch.manual_seed(0)
    torch.set_num_threads(THREADS)
    images = load(photographs(arguments.data))
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    result: dict[str, Any] = {}
    missed: list[str] = []
    for device in devices:
        few = 16 if arguments.quick else 48
        where = f"on the CPU, {THREADS} threads" if device == "cpu" else f"on {torch.cuda.get_device_name()}"
        print(f"\n{where}, {BATCH}x3x{SIDE}x{SIDE}: images/s")
        result[device] = {}
        for name, contenders in cases(images.to(device)):
            rounds = 2 * few if name in BARRED else few  # Kornia's rate depends on the one operator it draws
            rows = turns(list(contenders.values()), rounds, device)
            result[device][name] = report(name, list(contenders), rows, device, missed)
    finish("augment", {"rows": result}, missed, arguments)


def load(folder: Path) -> Tensor:
    """Return a batch of photographs, uint8."""
    paths = sorted(folder.glob("*/*.jp*g"))
    chosen = random.Random(0).sample(paths, min(BATCH, len(paths)))
    batch = []
    for path in (chosen * BATCH)[:BATCH]:
        with Image.open(path) as picture:
            top, left, height, width = center_window(picture.height, picture.width, SIDE)
            box = (left, top, left + width, top + height)
            batch.append(v1.functional.pil_to_tensor(picture.convert("RGB").resize((SIDE, SIDE), box=box)))
    return torch.stack(batch)


def cases(images: Tensor) -> Iterator[tuple[str, dict[str, Call]]]:
    """Give what is compared: a name, and who does it in which way."""
    floats, labels = images.float() / 255, torch.arange(BATCH, device=images.device) % 10
    one_by_one = {
        "trivial": v1.TrivialAugmentWide(),
        "rand": v1.RandAugment(num_ops=2, magnitude=9),
        "autoaugment": v1.AutoAugment(),
        "augmix": v1.AugMix(),
        "jitter": v1.ColorJitter(*JITTER),
        "erasing": v1.RandomErasing(0.25, value=0),
    }
    batched = {
        "trivial": kornia.auto.TrivialAugment(),
        "rand": kornia.auto.RandAugment(n=2, m=9),
        "autoaugment": kornia.auto.AutoAugment(),
        "jitter": kornia.ColorJitter(*JITTER, p=1.0),
        "erasing": kornia.RandomErasing(p=0.25),
    }
    mixers = {"mixup": v2.MixUp(alpha=0.2, num_classes=10), "cutmix": v2.CutMix(alpha=1.0, num_classes=10)}
    for name in ("trivial", "rand", "autoaugment", "augmix", *EXTRAS):
        contenders: dict[str, Call] = {"autotrain": ours(name, images)}
        if name in batched:
            contenders["Kornia"] = lambda _, transform=batched[name]: transform(floats)
        if name in one_by_one and images.device.type == "cpu":
            contenders["torchvision"] = lambda _, transform=one_by_one[name]: [transform(image) for image in images]
        if name in mixers:
            contenders["torchvision"] = lambda _, transform=mixers[name]: transform(floats, labels)
        yield name, contenders


def ours(name: str, images: Tensor) -> Call:
    """Return a call that does a policy or an extra to the batch, with the parameters of another batch each time."""
    places = np.arange(BATCH)
    if name in ("mixup", "cutmix"):
        mixings = [draw_mixing(EXTRAS[name], seed=0, epoch=0, step=step) for step in range(DRAWS)]
        return lambda number: mix(images, mixings[number % DRAWS])  # type: ignore[arg-type]
    drawn = [policy("flip" if name in EXTRAS else name).draw(0, epoch, places) for epoch in range(DRAWS)]
    if name in EXTRAS:
        drawn = [EXTRAS[name].extend(entry, seed=0, epoch=epoch, positions=places) for epoch, entry in enumerate(drawn)]
    return lambda number: apply_batch(images, drawn[number % DRAWS])


def turns(calls: list[Call], rounds: int, device: str) -> list[tuple[float, ...]]:
    """Let them take turns in random order; return their images/s, one tuple per round."""
    order, rows = random.Random(0), []
    batches = 1 if device == "cpu" else 20
    for number in range(-2, rounds):
        rates = [0.0] * len(calls)
        for place in order.sample(range(len(calls)), len(calls)):
            started = perf_counter()
            for repeat in range(batches):
                calls[place](number * batches + repeat)
            if device == "cuda":
                torch.cuda.synchronize()
            rates[place] = BATCH * batches / (perf_counter() - started)
        if number >= 0:  # the first two warm up
            rows.append(tuple(rates))
    return rows


def report(
    name: str, who: list[str], rows: list[tuple[float, ...]], device: str, missed: list[str]
) -> dict[str, dict[str, Any]]:
    """Print a line per contender and note the bars that are missed."""
    entries = {}
    for place, contender in enumerate(who):
        versus = ratio(rows, place, 0).ratio
        bar = BARS[device].get(contender) if name in BARRED else None
        against = f"autotrain is {versus:.2f} times that" if place else ""
        rate = summarize(column(rows, place))
        print(f"  {name:11s} {contender:12s} {rate:.0f}  {against}{f', bar {bar}' if bar else ''}")
        if bar is not None and versus.low < bar:
            missed.append(f"{name} on {device}: {versus:.2f} times as fast as {contender}, not {bar}")
        entries[contender] = {"rates": column(rows, place), "autotrain_over": versus.as_dict()}
    return entries


if __name__ == "__main__":
    main()
