"""The workload: a task with every default filled in and every mistake found, ready to be made live."""

from __future__ import annotations

import copy
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
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from autotrain.augment.extras import Extras
from autotrain.augment.policy import POLICIES, policy
from autotrain.data.batch import MixedLabels
from autotrain.data.caching import Content, WarmSets, cache_problem, checked_directory
from autotrain.data.reader import Recipe
from autotrain.data.source import (
    FolderSource,
    Source,
    TensorSource,
    open_source,
    read_sample,
    square_side,
)
from autotrain.data.stream import Stream, seeded
from autotrain.data.transformed import TransformedSource
from autotrain.decode.decoder import decoder, full_name
from autotrain.errors import DataError, ScheduleError, TaskError, UnsupportedError
from autotrain.schedules.schedule import Schedule, parse_schedule
from autotrain.schedules.time import Time, Unit, parse_time, to_steps
from autotrain.settings import Settings
from autotrain.task import Task
from autotrain.transforms.pipeline import Pipeline

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Per channel, as in torchvision's reference training scripts."""

DEFAULT_BATCH_SIZE = 64
DEFAULT_IMAGE_SIZE = 224
AUTO = "auto"


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

    warm: WarmSets | None = None
    """Filled caches of a part of the samples, while a probe measures; None in a training."""

    @property
    def model(self) -> nn.Module:
        """The user's model."""
        return self.task.model

    @property
    def seed(self) -> int:
        """Seed of the stream and of everything random."""
        return self.task.seed

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
        if not isinstance(labels, MixedLabels):
            return self.loss(outputs, labels)
        own, other = self.loss(outputs, labels.labels), self.loss(outputs, labels.others)
        return labels.share * own + (1.0 - labels.share) * other

    def stream(self, *, subset: NDArray[np.int64] | None = None) -> Stream:
        """Return the stream of training batches; ``subset`` stands in for the whole dataset."""
        return Stream(len(self.source), self.batch_size, seed=self.seed, sampler=self.task.sampler, subset=subset)

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
        if wanted is None:
            return torch.optim.AdamW(parameters, lr=1e-3)
        if isinstance(wanted, Optimizer):
            return wanted
        try:
            made = wanted(parameters)
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


def prepare_workload(task: Task) -> Workload:
    """Fill in a task's defaults and find its mistakes, leaving model and random states as they were.

    Raises:
        TaskError: model, optimizer, labels, sizes or recipe do not fit each other.
        DataError: the dataset cannot be read.
        ScheduleError: duration or schedule cannot be understood, or do not fit each other.
        UnsupportedError: the device is not there.
    """
    if not isinstance(task.model, nn.Module):
        raise TaskError(f"model: expected a torch.nn.Module, got {type(task.model).__name__}")
    _check_model(task.model)
    source = open_source(task.dataset)
    validation = None if task.validation is None else open_source(task.validation)
    if validation is not None:
        _check_validation(task, source, validation)
    with seeded(0):
        first = read_sample(source, 0)
    labelled = isinstance(first, tuple | list) and len(first) == 2
    if not labelled and task.step is None:
        raise TaskError(
            f"{source.where(0)} is not an (image, label) pair: give step=, a function step(model, batch) -> loss"
        )
    loss, loss_name = _loss(task, first[1] if labelled else None)
    images = source.images and task.collate is None
    channels = _channels(first[0]) if images else 0
    size = _image_size(task, source) if images else None
    mean, std = _statistics(task, channels)
    suffix = source.pipeline.suffix if isinstance(source, TransformedSource) and task.collate is None else None
    if suffix is not None:
        mean, std = suffix.mean, suffix.std
    workload = Workload(
        task=task,
        source=source,
        validation=validation,
        loss=loss,
        loss_name=loss_name,
        batch_size=_batch_size(task, source),
        image_size=size,
        channels=channels,
        mean=mean,
        std=std,
        augmentation=_augmentation(task, source, images),
        extras=_extras(task, source, images),
        encoded=task.collate is None and _is_encoded(source),
        cache_dir=checked_directory(task.cache_dir),
        device=_device(task.device),
        duration=parse_time(task.duration),
        schedule=task.schedule if isinstance(task.schedule, Schedule) else parse_schedule(str(task.schedule)),
    )
    _check_schedule(workload)
    _check_labels(workload)
    _check_classes(source, validation)
    return workload


def _check_model(model: nn.Module) -> None:
    if any(is_lazy(entry) for entry in (*model.parameters(), *model.buffers())):
        raise TaskError("model: it has lazy layers without a shape yet. Run it once on a batch of images before")
    if not any(entry.requires_grad for entry in model.parameters()):
        raise TaskError("model: no parameter requires a gradient, so nothing can be trained. Unfreeze some of them")


def _check_validation(task: Task, source: Source, validation: Source) -> None:
    if validation.images and not source.images and task.collate is None:
        raise TaskError(
            f"validation: {validation.name} gives images, but {source.name} gives samples that were transformed "
            "already. Give the validation set the transforms that the training set has, without the random ones"
        )


def _loss(task: Task, label: Any) -> tuple[Callable[[Any, Any], torch.Tensor], str]:
    if isinstance(task.loss, nn.Module):
        if any(True for _ in task.loss.parameters()):
            raise TaskError("loss: it has parameters of its own to train: make it part of the model, and give step=")
        own = copy.deepcopy(task.loss).to(_device(task.device))  # its buffers belong on the device, the user's stay
        return own, type(own).__name__
    if task.loss is not None:
        return task.loss, getattr(task.loss, "__name__", type(task.loss).__name__)
    if label is None or task.step is not None:
        return _no_loss, "the step's own"
    try:
        values = torch.as_tensor(label)
    except (TypeError, ValueError, RuntimeError) as problem:
        raise TaskError(
            f"labels of type {type(label).__name__} are no numbers: let the dataset give class numbers from 0, or "
            "give loss= for such a task"
        ) from problem
    if not values.is_floating_point():
        if values.ndim:
            raise TaskError(
                f"labels of shape {tuple(values.shape)} and type {values.dtype}: give loss= for such a task"
            )
        return functional.cross_entropy, "cross-entropy"
    if values.ndim == 1 and len(values) > 1 and bool(((values == 0) | (values == 1)).all()):
        return functional.binary_cross_entropy_with_logits, "binary cross-entropy"
    return _mean_squared_error, "mean squared error"


def _mean_squared_error(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return functional.mse_loss(outputs, labels.to(outputs.dtype).view_as(outputs))


def _no_loss(outputs: Any, labels: Any) -> torch.Tensor:
    del outputs, labels
    raise TaskError("this task has a step of its own and no loss=: give loss= to evaluate it")


def _batch_size(task: Task, source: Source) -> int:
    if task.batch_size is None:
        return min(DEFAULT_BATCH_SIZE, max(1, len(source) // 8))
    if isinstance(task.batch_size, bool) or not isinstance(task.batch_size, int) or task.batch_size < 1:
        raise TaskError(f"batch_size: {task.batch_size!r} is not a whole number of at least 1")
    return task.batch_size


def _image_size(task: Task, source: Source) -> int:
    if task.image_size is not None:
        if isinstance(task.image_size, bool) or not isinstance(task.image_size, int) or task.image_size < 1:
            raise TaskError(f"image_size: {task.image_size!r} is not a whole number of pixels")
        return task.image_size
    return square_side(source) or DEFAULT_IMAGE_SIZE


def _channels(image: Any) -> int:
    if isinstance(image, torch.Tensor):
        return int(image.shape[0])
    if hasattr(image, "mode"):
        return 1 if image.mode in ("1", "L", "I;16") else 3
    return 3 if image.ndim == 3 and image.shape[2] >= 3 else 1


def _statistics(task: Task, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    usual = (IMAGENET_MEAN, IMAGENET_STD) if channels == 3 else ((0.5,) * channels, (0.5,) * channels)
    chosen = []
    for name, given, default in (("mean", task.mean, usual[0]), ("std", task.std, usual[1])):
        values = default if given is None else _numbers(name, given)
        if channels and len(values) != channels:
            raise TaskError(f"{name}: {len(values)} values for images of {channels} channels")
        if name == "std" and not all(entry > 0 for entry in values):
            raise TaskError("std: must be above 0 in every channel")
        chosen.append(values)
    return chosen[0], chosen[1]


def _numbers(name: str, given: Any) -> tuple[float, ...]:
    try:
        return tuple(float(entry) for entry in given)
    except (TypeError, ValueError) as problem:
        raise TaskError(f"{name}: {given!r} is not a sequence of numbers, one per channel") from problem


def _augmentation(task: Task, source: Source, images: bool) -> str:
    name = task.augmentation
    if name is None:
        return "crop" if isinstance(source, FolderSource) and images else "none"
    if name == AUTO:
        return "crop" if images else "none"
    if policy(name) is not POLICIES[0] and not images:
        raise TaskError(
            f"augmentation: '{name}' needs images as PIL, uint8 arrays or uint8 tensors; {source.name} gives samples "
            "that were transformed already. Take the augmentation out of the dataset's transforms, or use 'none'"
        )
    return name


def _extras(task: Task, source: Source, images: bool) -> Extras:
    jitter = None if task.color_jitter is None else tuple(task.color_jitter)
    extras = Extras(color_jitter=jitter, erasing=task.erasing, mixup=task.mixup, cutmix=task.cutmix)  # type: ignore[arg-type]
    if not (extras.per_sample or extras.mixes):
        return extras
    names = ("color_jitter", "erasing", "mixup", "cutmix")
    wanted = ", ".join(name for name in names if getattr(extras, name))
    if not images:
        raise TaskError(
            f"{wanted}: needs images as PIL, uint8 arrays or uint8 tensors; {source.name} gives samples that were "
            "transformed already. Do it in the dataset's transforms, or take those out of the dataset"
        )
    if extras.mixes and task.step is not None:
        raise TaskError(
            f"{wanted}: mixes the losses of two labels, which a step of your own does not do. "
            "Mix in your step, or give loss= in its place"
        )
    return extras


def _is_encoded(source: Source) -> bool:
    try:
        return source.encoded(0) is not None
    except OSError:
        return False


def _device(name: str | None) -> torch.device:
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as problem:
        raise UnsupportedError(f"device '{name}': not a device. Known: cpu, cuda, cuda:N, mps") from problem
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise UnsupportedError(f"device '{name}': torch sees no CUDA device here. Use device='cpu'")
        if device.index is not None and device.index >= torch.cuda.device_count():
            raise UnsupportedError(
                f"device '{name}': there are {torch.cuda.device_count()} CUDA devices, counted from 0"
            )
    elif device.type == "mps":
        if not torch.backends.mps.is_available():
            raise UnsupportedError("device 'mps': not available here (macOS on Apple silicon only). Use device='cpu'")
    elif device.type != "cpu":
        raise UnsupportedError(f"device '{name}': not supported. Known: cpu, cuda, cuda:N, mps")
    return device


def _check_schedule(workload: Workload) -> None:
    """Find a schedule that does not fit the duration now, and not after the probe."""
    duration, schedule = workload.duration, workload.schedule
    steps_per_epoch = workload.stream().steps_per_epoch
    if duration.unit is not Unit.SECOND:
        total = to_steps(duration, steps_per_epoch=steps_per_epoch, batch_size=workload.batch_size)
        schedule.factor(0, total, steps_per_epoch)
    elif schedule.warmup is not None and parse_time(schedule.warmup).unit is not Unit.FRACTION:
        raise ScheduleError(
            f"schedule: a warm-up of {schedule.warmup} in a training of {duration}: "
            "give the warm-up as a share, such as 0.05dur"
        )


def _check_labels(workload: Workload) -> None:
    """Find class numbers that no model could have meant; the model's own outputs are checked when it is live."""
    source = workload.source
    known = getattr(source, "labels", None)
    if workload.loss is not functional.cross_entropy or known is None:
        return
    labels = torch.as_tensor(known)
    if labels.numel() and int(labels.min()) < 0:
        place = int(labels.argmin())
        raise DataError(f"{source.where(place)}: label {int(labels.min())} is negative; classes count from 0")


def _check_classes(source: Source, validation: Source | None) -> None:
    """Find validation classes that are numbered differently: nobody would notice but by a bad accuracy."""
    if validation is None:
        return
    names, others = source.class_names, validation.class_names
    if names is None or others is None or names == others:
        return
    odd = sorted(set(names) ^ set(others))
    where = f"'{odd[0]}' is in one of them only" if odd else "they are in another order"
    raise DataError(f"{validation.name}: its classes are not those of {source.name}: {where}. Make them agree")


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


def describe_images(workload: Workload) -> str:
    """Return what the model is fed, for people: ``1,002 image files at 96 px``."""
    size = f" at {workload.image_size} px" if workload.image_size else ""
    return f"{len(workload.source):,} {workload.source.kind}{size}"
