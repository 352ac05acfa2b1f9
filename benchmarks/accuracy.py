"""Question: how much sooner does a training reach its accuracy with autotrain, and at what accuracy does it end?

Two jobs: a small CNN on photographs at 64 px, a small residual network on Fashion-MNIST (Xiao et al., 2017). A default
PyTorch script (torchvision's dataset and transforms, a DataLoader without workers, fp32, a cosine that moves every
epoch) against ``autotrain.fit`` with the same model, optimizer, augmentation and number of epochs, probing included;
both evaluate after every epoch. The number of epochs is such that the default script trains for ten minutes at least.
Every seed is one run of each, in turns. The target is what the default ends at in the mean, less 5 points on
photographs and half a point on Fashion-MNIST; reached when the mean of three epochs is there. Bars:
- the target is reached at least 3 times sooner on photographs and 2 times sooner on Fashion-MNIST, in the median;
- autotrain's last accuracy is not lower on Fashion-MNIST: the 95% interval of the difference does not lie below 0.
Takes about 1.8 hours on 2 cores; --quick (one seed, two minutes of the default, no bars) about 10 minutes. --only NAME
does one job and keeps the other's result. --fashion names the folder with Fashion-MNIST's four gzipped files.
Two more go on from the kept results: --schedules trains on Fashion-MNIST with the same plans and a schedule that moves
every epoch, and tells the difference in accuracy (about half an hour); --ways tries, where a bar was missed, what other
ways reach with the first seed (4 to 10 minutes each).
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import shutil
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from common import RESULTS, finish, photographs, small_cnn
from scipy.special import stdtrit
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import FashionMNIST, ImageFolder

import autotrain
from autotrain.engine.events import EpochDone, FitEvent
from autotrain.plan.plan import Plan
from autotrain.preparation import IMAGENET_MEAN, IMAGENET_STD
from autotrain.schedules.schedule import WarmupCosine
from autotrain.settings import Settings

SEEDS = (0, 1, 2)
DEFAULT_S, QUICK_S = 600.0, 120.0
"""How long the default script trains at least."""

MARGIN = 1.1
"""How many times as many epochs it is given as the first ones say; a machine's speed drifts by that much."""

SMOOTH = 3
"""Epochs whose mean accuracy has to reach the target."""

WAYS: dict[str, dict[str, Any]] = {"averaged weights": {"ema": 0.99}, "compiled": {"compile": "on"}}
"""What a missed bar is tried with."""

FASHION = Path("/usr/share/datasets/fashion-mnist")
FASHION_MEAN, FASHION_STD = (0.2860,), (0.3530,)
"""Of the training images, per channel."""


class Residual(nn.Module):
    """Two convolutions and what goes past them."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(inplace=True),
            nn.Conv2d(out, out, 3, 1, 1, bias=False),
            nn.BatchNorm2d(out),
        )
        self.past = nn.Identity() if stride == 1 and channels == out else nn.Conv2d(channels, out, 1, stride)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return ``(n, out, h / stride, w / stride)``."""
        result: torch.Tensor = torch.relu(self.body(images) + self.past(images))
        return result


def residual_network(classes: int) -> nn.Module:
    """Return a small residual network for 28 x 28 pixels of one channel."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, 1, 1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(inplace=True),
        Residual(16, 16, 1),
        Residual(16, 32, 2),
        Residual(32, 64, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, classes),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A training job, as a script has it and as autotrain is given it."""

    name: str
    make: Callable[[], nn.Module]
    optimizer: Callable[[Any], torch.optim.Optimizer]
    batch_size: int
    training: Any
    """The script's dataset, with its transforms."""

    validation: Any
    given: dict[str, Any]
    """What ``autotrain.fit`` gets besides model, optimizer and batch size."""

    least: float
    """How many times sooner autotrain is to be."""

    margin: float
    """How far below the default's last accuracy the target lies."""

    judged: bool
    """Whether the last accuracies can be told apart: so many validation images there are."""


def on_photographs(folder: Path) -> Job:
    """Return the job on photographs."""
    size, validation = 64, folder.parent / "val"
    normalize = [transforms.ToTensor(), transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD)]
    crop = [transforms.RandomResizedCrop(size), transforms.RandomHorizontalFlip()]
    centre = [transforms.Resize(size), transforms.CenterCrop(size)]
    training = ImageFolder(str(folder), transforms.Compose([*crop, *normalize]))
    classes = len(training.classes)
    return Job(
        name="photographs",
        make=lambda: small_cnn(classes),
        optimizer=lambda given: torch.optim.AdamW(given, lr=2e-3, weight_decay=0.05),
        batch_size=64,
        training=training,
        validation=ImageFolder(str(validation), transforms.Compose([*centre, *normalize])),
        given={"dataset": folder, "validation": validation, "image_size": size, "augmentation": "crop"},
        least=3.0,
        margin=0.05,
        judged=False,
    )


def on_fashion(files: Path, scratch: Path) -> Job:
    """Return the job on Fashion-MNIST."""
    raw = scratch / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for name in files.glob("*-ubyte.gz"):
        with gzip.open(name) as packed, (raw / name.stem).open("wb") as plain:
            shutil.copyfileobj(packed, plain)
    normalize = [transforms.ToTensor(), transforms.Normalize(FASHION_MEAN, FASHION_STD)]
    crop = [transforms.RandomCrop(28, padding=2), transforms.RandomHorizontalFlip()]
    training = FashionMNIST(str(scratch), train=True, transform=transforms.Compose([*crop, *normalize]))
    validation = FashionMNIST(str(scratch), train=False, transform=transforms.Compose(normalize))
    return Job(
        name="Fashion-MNIST",
        make=lambda: residual_network(10),
        optimizer=lambda given: torch.optim.SGD(given, lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True),
        batch_size=128,
        training=training,
        validation=validation,
        given={"dataset": training, "validation": validation},
        least=2.0,
        margin=0.005,
        judged=True,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Accuracies on the validation set, and the seconds since the start at which they were known."""

    accuracies: tuple[float, ...]
    seconds: tuple[float, ...]
    search_s: float = 0.0
    """Of these, seconds before training began."""

    settings: Settings = Settings()
    """What it trained with; PyTorch's own where nothing chose."""

    def reached(self, target: float) -> float | None:
        """Return when the mean over some epochs reached a target; None where it did not."""
        for end in range(SMOOTH, len(self.accuracies) + 1):
            if statistics.fmean(self.accuracies[end - SMOOTH : end]) >= target:
                return self.seconds[end - 1]
        return None

    @property
    def last(self) -> float:
        """Mean accuracy of the last epochs."""
        return statistics.fmean(self.accuracies[-SMOOTH:])

    @classmethod
    def of(cls, kept: dict[str, Any]) -> Run:
        """Return the run behind plain values."""
        return cls(
            accuracies=tuple(kept["accuracies"]),
            seconds=tuple(kept["seconds"]),
            search_s=float(kept["search_s"]),
            settings=Settings.from_dict(kept["settings"]),
        )

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        settings = self.settings.changes(Settings())
        return {
            "accuracies": self.accuracies,
            "seconds": self.seconds,
            "search_s": self.search_s,
            "settings": settings,
        }


def by_script(job: Job, seed: int, *, epochs: int) -> Run:
    """Train as PyTorch's documentation does."""
    torch.manual_seed(seed)
    started, accuracies, seconds = perf_counter(), [], []
    model = job.make()
    optimizer = job.optimizer(model.parameters())
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
    training = DataLoader(job.training, batch_size=job.batch_size, shuffle=True, drop_last=True)
    validation = DataLoader(job.validation, batch_size=job.batch_size)
    for _ in range(epochs):
        model.train()
        for images, labels in training:
            loss = nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        scheduler.step()
        model.eval()
        right = 0
        with torch.no_grad():
            for images, labels in validation:
                right += int((model(images).argmax(dim=1) == labels).sum())
        accuracies.append(right / len(job.validation))
        seconds.append(perf_counter() - started)
    return Run(accuracies=tuple(accuracies), seconds=tuple(seconds))


def by_autotrain(
    job: Job, seed: int, *, epochs: int, plan: Plan | None = None, resolution: str = "step", **other: Any
) -> Run:
    """Train with autotrain."""
    torch.manual_seed(seed)
    started, seconds = perf_counter(), []

    def watch(event: FitEvent) -> None:
        if isinstance(event, EpochDone):
            seconds.append(perf_counter() - started)

    result = autotrain.fit(
        job.make(),
        optimizer=job.optimizer,
        batch_size=job.batch_size,
        duration=f"{epochs}ep",
        schedule=WarmupCosine(warmup=None, resolution=resolution),  # type: ignore[arg-type]
        seed=seed,
        plan=plan,
        progress=False,
        fit_observer=watch,
        **job.given,
        **other,
    )
    accuracies = tuple(float(record.accuracy or 0.0) for record in result.history)
    search_s = 0.0 if result.session is None else result.session.seconds
    return Run(accuracies=accuracies, seconds=tuple(seconds), search_s=search_s, settings=result.plan.settings)


def compared(job: Job, quick: bool) -> dict[str, Any]:
    """Run all seeds of a job and tell what they show, the bars that it misses included."""
    missed: list[str] = []
    least_s = QUICK_S if quick else DEFAULT_S
    tried = by_script(job, 0, epochs=3)
    epochs = math.ceil(MARGIN * least_s * len(tried.seconds) / tried.seconds[-1])
    print(
        f"\n{job.name}: {epochs} epochs, about {epochs * tried.seconds[-1] / 3:.0f} s of the default script", flush=True
    )
    scripts, ours = [], []
    for seed in SEEDS[:1] if quick else SEEDS:
        scripts.append(by_script(job, seed, epochs=epochs))
        ours.append(by_autotrain(job, seed, epochs=epochs))
        print(
            f"  seed {seed}: default {scripts[-1].seconds[-1]:.0f} s, {scripts[-1].last:.1%}; autotrain "
            f"{ours[-1].seconds[-1]:.0f} s ({ours[-1].search_s:.0f} s of it probing), {ours[-1].last:.1%}",
            flush=True,
        )
    target = statistics.fmean(run.last for run in scripts) - job.margin
    times = [(run.reached(target), other.reached(target)) for run, other in zip(scripts, ours, strict=True)]
    sooner = [default / own for default, own in times if default and own]
    print(f"  target {target:.1%}: default and autotrain after {', '.join(map(_times, times))}")
    if len(sooner) < len(times):
        missed.append(f"{job.name}: the target was not reached by all")
    else:
        print(f"  autotrain is there {', '.join(f'{ratio:.2f}' for ratio in sooner)} times sooner")
        if not quick and statistics.median(sooner) < job.least:
            missed.append(f"{job.name}: {statistics.median(sooner):.2f} times sooner in the median, not {job.least}")
    result: dict[str, Any] = {
        "quick": quick,
        "missed": missed,
        "epochs": epochs,
        "target": target,
        "sooner": sooner,
        "default": [run.as_dict() for run in scripts],
        "autotrain": [run.as_dict() for run in ours],
    }
    if not quick:
        against = difference([run.last for run in ours], [run.last for run in scripts])
        print(f"  last accuracy, autotrain less default: {_points(against)}")
        result["accuracy_difference"] = against
        if job.judged and against[2] < 0:
            missed.append(f"{job.name}: the last accuracy is lower, by {_points(against)}")
    return result


def every_epoch(job: Job, kept: dict[str, Any]) -> dict[str, Any]:
    """Repeat a kept result's trainings under a schedule that moves every epoch; return the result with them."""
    print(f"\n{job.name}: a schedule that moves every epoch", flush=True)
    ours = [Run.of(run) for run in kept["autotrain"]]
    coarse = []
    for seed, run in zip(SEEDS, ours, strict=False):
        plan = Plan(settings=run.settings)
        coarse.append(by_autotrain(job, seed, epochs=kept["epochs"], plan=plan, resolution="epoch"))
        print(f"  seed {seed}: every step {run.last:.2%}, every epoch {coarse[-1].last:.2%}", flush=True)
    result = {**kept, "every_epoch": [run.as_dict() for run in coarse]}
    if len(coarse) > 1:
        result["step_less_epoch"] = difference([run.last for run in ours], [run.last for run in coarse])
        print(f"  every step less every epoch: {_points(result['step_less_epoch'])}")
    return result


def other_ways(job: Job, kept: dict[str, Any]) -> dict[str, Any]:
    """Try other ways to a kept result's target with its first seed; return the result with them."""
    default, own = (Run.of(kept[side][0]).reached(kept["target"]) for side in ("default", "autotrain"))
    print(
        f"\n{job.name}: target {kept['target']:.1%}: default and autotrain after {_times((default, own))}", flush=True
    )
    ways: dict[str, Any] = {}
    for name, way in WAYS.items():
        run = by_autotrain(job, SEEDS[0], epochs=kept["epochs"], **way)
        reached = run.reached(kept["target"])
        sooner = f"{default / reached:.2f} times sooner than the default" if default and reached else "no comparison"
        print(f"  {name}: {sooner}; {run.search_s:.0f} s of probing, last {run.last:.1%}", flush=True)
        ways[name] = run.as_dict()
    return {**kept, "ways": ways}


def difference(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean difference of pairs with its 95% interval (Student's t)."""
    pairs = [one - other for one, other in zip(ours, theirs, strict=True)]
    mean = statistics.fmean(pairs)
    reach = float(stdtrit(len(pairs) - 1, 0.975)) * statistics.stdev(pairs) / math.sqrt(len(pairs))
    return mean, mean - reach, mean + reach


def _points(interval: tuple[float, float, float]) -> str:
    return f"{100 * interval[0]:+.2f} points ({100 * interval[1]:+.2f} to {100 * interval[2]:+.2f})"


def _times(times: tuple[float | None, float | None]) -> str:
    return " and ".join("never" if seconds is None else f"{seconds:.0f} s" for seconds in times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one seed, shorter, no bars")
    parser.add_argument("--json", type=Path, help="write the result here too")
    parser.add_argument("--data", type=Path, help="folder of images, beside one called val; generated where not given")
    parser.add_argument("--fashion", type=Path, default=FASHION, help="folder with Fashion-MNIST's files")
    parser.add_argument("--only", help="do the jobs whose names hold this, and keep the others' results")
    parser.add_argument("--schedules", action="store_true", help="repeat kept trainings, moving every epoch")
    parser.add_argument("--ways", action="store_true", help="try other ways where the kept results missed a bar")
    arguments = parser.parse_args()
    missed: list[str] = []
    kept = sorted(RESULTS.glob("accuracy-*.json"))
    jobs = (
        dict(json.loads(kept[-1].read_text())["jobs"])
        if kept and (arguments.only or arguments.ways or arguments.schedules)
        else {}
    )
    with tempfile.TemporaryDirectory() as scratch:
        made = [on_photographs(photographs(arguments.data))]
        if list(arguments.fashion.glob("*-ubyte.gz")):
            made.append(on_fashion(arguments.fashion, Path(scratch)))
        else:
            missed.append(f"{arguments.fashion} has no Fashion-MNIST (Debian's package dataset-fashion-mnist)")
        for job in made:
            if arguments.only is not None and arguments.only not in job.name:
                continue
            known = jobs.get(job.name, {})
            if arguments.schedules and known and job.judged:
                jobs[job.name] = every_epoch(job, known)
            elif arguments.ways and known.get("missed"):
                jobs[job.name] = other_ways(job, known)
            elif not (arguments.schedules or arguments.ways):
                jobs[job.name] = compared(job, arguments.quick)
    missed += [entry for job in jobs.values() for entry in job["missed"]]
    finish("accuracy", {"jobs": jobs}, missed, arguments)


if __name__ == "__main__":
    main()
