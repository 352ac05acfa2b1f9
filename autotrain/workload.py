"""The workload: a task made concrete, ready to be made live."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional
from torch.optim import Optimizer

from autotrain.augment.draws import sample_seeds
from autotrain.augment.extras import Extras
from autotrain.augment.policy import policy
from autotrain.data.batch import MixedLabels
from autotrain.data.caching import Content, WarmSets, cache_problem
from autotrain.data.reader import Recipe
from autotrain.data.source import (
    Source,
    TensorSource,
)
from autotrain.data.stream import Stream
from autotrain.data.transformed import TransformedSource
from autotrain.decode.decoder import decoder, full_name
from autotrain.errors import TaskError
from autotrain.schedules.schedule import Schedule
from autotrain.schedules.span import Span, checked_stretch
from autotrain.schedules.time import Time, Unit, to_steps
from autotrain.settings import Settings
from autotrain.task import Task
from autotrain.team import ALONE, Team
from autotrain.transforms.pipeline import Pipeline

AUTO = "auto"

FINE = 1_000_000
"""Parts that a training by wall-clock is cut into for its schedule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A task made concrete: opened source, chosen loss, optimizer, sizes and device."""

    task: Task
    """What the user gave."""

    source: Source
    """Training samples."""

    validation: Source | None
    """Validation samples, where there are any."""

    loss: Callable[[Any, Any], torch.Tensor]
    """``loss(outputs, labels)``."""

    loss_name: str
    """What people read."""

    batch_size: int
    image_size: int | None
    """Side of the images in pixels; None where samples stay as the dataset gives them."""

    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augmentation: str
    """Policy of the default settings."""

    extras: Extras
    """Jitter, erasing and mixing beside the policy."""

    encoded: bool
    """Whether the source gives image files as bytes, so that any decoder can be used on them."""

    cache_dir: Path | None
    """Where caches on disk may lie."""

    device: torch.device
    duration: Time
    schedule: Schedule
    """What moves the learning rate."""

    stretch: float = 1.0
    """Factor on duration and milestones."""

    warm: WarmSets | None = None
    """Filled caches of a part of the samples, while a probe measures; None in a training."""

    team: Team = ALONE
    """All ranks that train together; ``batch_size`` is that of all."""

    @property
    def model(self) -> nn.Module:
        """The user's model."""
        return self.task.model

    @property
    def seed(self) -> int:
        """Seed of the stream and of everything random."""
        return self.task.seed

    @property
    def rank_seed(self) -> int:
        """Seed of what a model draws in training; another one on every rank, so that dropout differs."""
        rank = self.team.world.rank
        return self.seed if not rank else int(sample_seeds(self.seed, rank, np.zeros(1, dtype=np.int64))[0])

    @property
    def span(self) -> Span:
        """The training's length; one that goes by wall-clock is cut into fine parts instead of steps."""
        stretch = checked_stretch(self.stretch)
        if self.duration.unit is Unit.SECOND:
            return Span(total=FINE, steps_per_epoch=FINE, seconds=self.duration.value * stretch, stretch=stretch)
        steps_per_epoch, batch_size = self.stream().steps_per_epoch, self.batch_size
        total = to_steps(self.duration, steps_per_epoch=steps_per_epoch, batch_size=batch_size, stretch=stretch)
        return Span(total=total, steps_per_epoch=steps_per_epoch, batch_size=batch_size, stretch=stretch)

    @property
    def augmentable(self) -> bool:
        """Whether samples are images that a policy can be applied to."""
        return self.source.images and self.task.collate is None

    @property
    def uniform(self) -> bool:
        """Whether all images have one size by construction, so that crops can be cut on the device."""
        return isinstance(self.source, TensorSource) and self.augmentable

    @property
    def fill(self) -> tuple[int, ...]:
        """Levels per channel that erased parts get: the mean that is subtracted."""
        return tuple(round(255 * min(max(entry, 0.0), 1.0)) for entry in self.mean)

    @property
    def movable(self) -> bool:
        """Whether the dataset has transforms of its own whose tail can move to the device."""
        return self.pipeline is not None and self.pipeline.suffix is not None

    @property
    def pipeline(self) -> Pipeline | None:
        """The dataset's own transforms, where they are understood."""
        if isinstance(self.source, TransformedSource) and self.task.collate is None:
            return self.source.pipeline
        return None

    @property
    def cache_problem(self) -> str | None:
        """Why nothing can be cached, None where something can."""
        if self.task.collate is not None:
            return "with a collation of your own, samples stay as the dataset gives them"
        return cache_problem(self.source)

    def takes_windows(self, settings: Settings) -> bool:
        """Tell whether crops are cut and resized by autotrain, so that decoder and kernel may be others for them."""
        if self.pipeline is None:
            return self.augmentable and not self.uniform
        within = self.movable and self.pipeline.geometry is not None
        return within and settings.placement == "device" and settings.cache == Settings().cache

    def content(self, settings: Settings) -> Content:
        """Return what a cache keeps under settings; decoders that agree to the last bit are one."""
        name = full_name(settings.decoder)
        whole = self.pipeline is not None or policy(settings.augmentation).crops
        return Content(
            source=self.source,
            channels=self.channels or 3,
            size=None if whole else self.image_size,
            decoder="pillow" if decoder(name).exact else name,
            kernel="pillow" if whole else settings.resize,
        )

    def loss_of(self, outputs: Any, labels: Any) -> torch.Tensor:
        """Return the loss of outputs; of images that were mixed, the losses mixed by the same shares."""
        smoothing = self.task.label_smoothing
        loss: Callable[[Any, Any], torch.Tensor] = self.loss
        if smoothing:
            loss = functools.partial(functional.cross_entropy, label_smoothing=smoothing)
        if not isinstance(labels, MixedLabels):
            return loss(outputs, labels)
        own, other = loss(outputs, labels.labels), loss(outputs, labels.others)
        return labels.share * own + (1.0 - labels.share) * other

    def stream(self, *, subset: NDArray[np.int64] | None = None) -> Stream:
        """Return the stream of training batches; ``subset`` stands in for the whole dataset."""
        return Stream(
            len(self.source),
            self.batch_size,
            seed=self.seed,
            sampler=self.task.sampler,
            rank=self.team.world.rank,
            world_size=self.team.world.world_size,
            subset=subset,
        )

    def recipe(self, augmentation: str) -> Recipe:
        """Return what is done to the images under a policy."""
        return Recipe(
            seed=self.seed,
            policy=policy(augmentation),
            extras=self.extras,
            image_size=self.image_size,
            channels=self.channels,
            fill=self.fill,
            collate=self.task.collate,
        )

    def make_optimizer(self, parameters: Iterable[nn.Parameter]) -> Optimizer:
        """Return the user's optimizer, or one made by the user's function, or AdamW(lr=1e-3).

        Raises:
            TaskError: the user's function raised or gave no optimizer.
        """
        wanted = self.task.optimizer
        if isinstance(wanted, Optimizer):
            return wanted
        given = _without_decay(parameters) if self.task.no_decay else parameters
        if wanted is None:
            return torch.optim.AdamW(given, lr=1e-3)
        try:
            made = wanted(given)
        except Exception as problem:
            raise TaskError(f"optimizer: the function raised {type(problem).__name__}: {problem}") from problem
        if not isinstance(made, Optimizer):
            raise TaskError(f"optimizer: the function gave {type(made).__name__}, not a torch optimizer")
        return made

    @property
    def fingerprint(self) -> str:
        """A short digest of what determines how fast the task runs: model, dataset, sizes, recipe, device kind."""
        shapes = [(name, tuple(entry.shape), str(entry.dtype)) for name, entry in self.model.named_parameters()]
        facts = (
            type(self.model).__qualname__,
            shapes,
            self.source.kind,
            len(self.source),
            self.batch_size,
            self.image_size,
            self.channels,
            self.loss_name,
            self.extras,
            type(self.task.optimizer).__name__,
            self.device.type,
        )
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def _without_decay(parameters: Iterable[nn.Parameter]) -> list[dict[str, Any]]:
    """Return two groups of parameters, those of one dimension without weight decay; empty ones are left out."""
    decayed: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for entry in parameters:
        (decayed if entry.ndim > 1 else others).append(entry)
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def check_fit(workload: Workload, outputs: Any, labels: Any) -> None:
    """Check that a model's outputs fit a batch's labels.

    Raises:
        TaskError: they do not; the message names shapes and classes.
    """
    labels = labels.labels if isinstance(labels, MixedLabels) else labels
    if not (isinstance(outputs, torch.Tensor) and isinstance(labels, torch.Tensor)):
        return
    if workload.loss is not functional.cross_entropy or labels.is_floating_point():
        return
    if outputs.ndim != 2 or len(outputs) != len(labels):
        raise TaskError(
            f"the model gives outputs of shape {tuple(outputs.shape)} for {len(labels)} labels; "
            f"cross-entropy wants ({len(labels)}, classes). Change the model's last layer, or give loss="
        )
    _check_range("dataset", workload.source, labels, outputs.shape[1])
    if workload.validation is not None:
        _check_range("validation set", workload.validation, None, outputs.shape[1])


def _check_range(what: str, source: Source, seen: torch.Tensor | None, outputs: int) -> None:
    """Compare a model's outputs with all labels of a source where it knows them, else with those seen."""
    known = getattr(source, "labels", None)
    remedy = "Give the model as many outputs as there are classes, or mend the labels"
    if known is None and (source.classes or 0) > outputs:
        raise TaskError(f"the model gives {outputs} outputs, but the {what} has {source.classes} classes. {remedy}")
    labels = seen if known is None else torch.as_tensor(known)
    if labels is None or not labels.numel():
        return
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or highest >= outputs:
        wrong = lowest if lowest < 0 else highest
        raise TaskError(
            f"the model gives {outputs} outputs, but the {what} has label {wrong}: labels must be 0 to {outputs - 1}. "
            f"{remedy}"
        )
