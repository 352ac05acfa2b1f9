"""Preparation: a task becomes a workload, with every default filled in and every mistake found."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from autotrain.augment.extras import Extras
from autotrain.augment.policy import POLICIES, policy
from autotrain.data.caching import checked_directory
from autotrain.data.source import (
    FolderSource,
    Source,
    open_source,
    read_sample,
    square_side,
)
from autotrain.data.stream import seeded
from autotrain.data.transformed import TransformedSource
from autotrain.errors import DataError, TaskError, UnsupportedError
from autotrain.schedules.schedule import Schedule
from autotrain.schedules.text import parse_schedule
from autotrain.schedules.time import parse_time
from autotrain.task import Task
from autotrain.team import ALONE, Team
from autotrain.workload import AUTO, Workload
from autotrain.world import world

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Per channel, as in torchvision's reference training scripts."""

DEFAULT_BATCH_SIZE = 64
DEFAULT_IMAGE_SIZE = 224


def prepare_workload(task: Task, *, team: Team = ALONE) -> Workload:
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
    _check_sampler(task.sampler)
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
        device=device_of(task.device),
        duration=parse_time(task.duration),
        schedule=task.schedule if isinstance(task.schedule, Schedule) else parse_schedule(str(task.schedule)),
        stretch=task.stretch,
        team=team,
    )
    _check_recipe(workload)
    _check_schedule(workload)
    _check_labels(workload)
    _check_classes(source, validation)
    return workload


def _check_model(model: nn.Module) -> None:
    if any(is_lazy(entry) for entry in (*model.parameters(), *model.buffers())):
        raise TaskError("model: it has lazy layers without a shape yet. Run it once on a batch of images before")
    if not any(entry.requires_grad for entry in model.parameters()):
        raise TaskError("model: no parameter requires a gradient, so nothing can be trained. Unfreeze some of them")


def _check_sampler(sampler: Any) -> None:
    """Refuse what belongs into a script that divides the data itself: of a part each process would get a part."""
    parts = getattr(sampler, "num_replicas", 1)
    if isinstance(parts, int) and parts > 1:
        raise TaskError(
            f"sampler: {type(sampler).__name__} picks one of {parts} parts of the data, and autotrain divides every "
            "batch among the processes itself: leave sampler= out, or give one of all the data"
        )


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
        own = copy.deepcopy(task.loss).to(device_of(task.device))  # its buffers belong on the device, the user's stay
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


def device_of(name: str | None) -> torch.device:
    """Return the device that is asked for, or the best there is; of several processes each has a GPU of its own.

    Raises:
        UnsupportedError: it is not there.
    """
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and world().is_distributed:
        name = f"cuda:{world().local_rank}"
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
    workload.schedule.over(workload.span)(0)


def _check_recipe(workload: Workload) -> None:
    task = workload.task
    if not 0.0 <= task.label_smoothing < 1.0:
        raise TaskError(f"label_smoothing: {task.label_smoothing} is no share from 0 to below 1")
    if task.label_smoothing and (workload.loss is not functional.cross_entropy or task.step is not None):
        raise TaskError(
            f"label_smoothing: goes with the cross-entropy of class numbers, not with {workload.loss_name}: "
            "give a loss= that smoothes by itself"
        )
    if task.no_decay and isinstance(task.optimizer, Optimizer):
        raise TaskError(
            "no_decay: the optimizer has its parameter groups already. Give a function that makes it, such as "
            "optimizer=lambda parameters: AdamW(parameters, weight_decay=0.05)"
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
