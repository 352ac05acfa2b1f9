"""What every tool is given: model, photographs and recipe in plain PyTorch, for the rivals' environments too."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn
from torchvision import transforms
from torchvision.datasets import ImageFolder

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet, per channel, as in torchvision's reference training scripts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A training job as a person who knows PyTorch's tutorials has it."""

    name: str
    network: str
    """small_cnn, or the name of a network of torchvision's."""

    size: int
    """Side of the images that the network sees, in pixels."""

    batch_size: int
    trivial: bool = False
    """Whether TrivialAugmentWide comes after crop and flip."""


JOBS = (
    Job(name="small CNN, 64 px", network="small_cnn", size=64, batch_size=64),
    Job(name="resnet18, 96 px", network="resnet18", size=96, batch_size=32),
    Job(name="small CNN, 64 px, TrivialAugment", network="small_cnn", size=64, batch_size=64, trivial=True),
)


def given() -> tuple[Job, Path]:
    """Return job and folder of photographs that the benchmark wrote into the environment."""
    wanted = os.environ["RIVALS_JOB"]
    return next(job for job in JOBS if job.name == wanted), Path(os.environ["RIVALS_DATA"])


def answer(found: dict[str, Any]) -> None:
    """Write what a search found where the benchmark reads it."""
    Path(sys.argv[1]).write_text(json.dumps(found))


def make_dataset(job: Job, folder: Path) -> ImageFolder:
    """Return the photographs with the recipe's transforms."""
    steps: list[Any] = [transforms.RandomResizedCrop(job.size), transforms.RandomHorizontalFlip()]
    if job.trivial:
        steps.append(transforms.TrivialAugmentWide())
    return ImageFolder(
        str(folder), transforms.Compose([*steps, transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    )


def make_network(job: Job, folder: Path) -> nn.Module:
    """Return the job's network, with an output per class of the folder."""
    classes = sum(entry.is_dir() for entry in folder.iterdir())
    if job.network != "small_cnn":
        return torchvision.models.get_model(job.network, num_classes=classes)
    return small_cnn(classes)


def small_cnn(classes: int) -> nn.Module:
    """Return a small convolutional network with batch normalisation, 0.24 million parameters."""
    widths = (32, 64, 128, 128)
    blocks: list[nn.Module] = []
    for place, (before, after) in enumerate(zip((3, *widths), widths, strict=False)):
        blocks += [nn.Conv2d(before, after, 3, 2 if place else 1, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], classes))


def make_optimizer(parameters: Iterable[nn.Parameter], **options: bool) -> torch.optim.Optimizer:
    """Return the recipe's optimizer."""
    return torch.optim.AdamW(parameters, lr=1e-3, **options)
