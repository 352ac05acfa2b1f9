"""The target: from what stands on the command line to a Task."""

from __future__ import annotations

import functools
import math
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from autotrain.cli.options import Options, flag
from autotrain.errors import AutotrainError, TaskError
from autotrain.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable

HOW = "Give a TARGET (a Python file, or package.module:name) or --model NAME with --data DIR"


def load_task(options: Options) -> Task:
    """Return the task that the options name.

    Raises:
        AutotrainError: the options contradict each other, or what they name is not there.
    """
    changes = _changes(options)
    named = [flag(name) for name in ("model", "data") if getattr(options, name) is not None]
    if options.target is not None and named:
        raise AutotrainError(f"TARGET {options.target} and {' and '.join(named)}: both say what to train. {HOW}")
    if options.target is not None:
        from autotrain.cli.script import task_of

        task = task_of(options.target)
        if options.lr is not None and task.optimizer is not None:
            raise TaskError(f"--lr {options.lr:g}: {options.target} brings an optimizer. Set the learning rate there")
        return replace(task, **changes)
    if not named:
        raise AutotrainError(f"nothing to train. {HOW}")
    if len(named) == 1:
        other = "--data" if named == ["--model"] else "--model"
        raise AutotrainError(f"{named[0]} alone does not say what to train: {other} is missing. {HOW}")
    return _named_task(options, changes)


def _changes(options: Options) -> dict[str, Any]:
    """Return the fields of the task that options set."""
    changes = {
        "image_size": options.image_size,
        "batch_size": options.batch_size,
        "duration": options.duration,
        "schedule": options.schedule,
        "stretch": options.stretch,
        "seed": options.seed,
        "device": options.device,
        "augmentation": options.augment,
        "color_jitter": None if options.color_jitter is None else jitter(options.color_jitter),
        "erasing": options.erasing,
        "mixup": options.mixup,
        "cutmix": options.cutmix,
        "cache_dir": options.cache_dir,
        "validation": options.validation,
        "optimizer": None if options.lr is None else adamw(options.lr),
    }
    known = {entry.name for entry in fields(Task)}
    return {name: value for name, value in changes.items() if value is not None and name in known}


def jitter(text: str) -> tuple[float, ...]:
    """Read the four numbers of ``--color-jitter``.

    Raises:
        TaskError: they are not four numbers; the task checks their ranges.
    """
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError as problem:
        raise TaskError(f"--color-jitter {text}: not numbers. Give four, such as 0.4,0.4,0.4,0.1") from problem
    if len(numbers) != 4:
        raise TaskError(f"--color-jitter {text}: {len(numbers)} numbers. Give four, such as 0.4,0.4,0.4,0.1")
    return numbers


def adamw(lr: float) -> Callable[..., Any]:
    """Return a function that makes an AdamW of this learning rate.

    Raises:
        TaskError: the rate is not positive and finite.
    """
    if not (math.isfinite(lr) and lr > 0):
        raise TaskError(f"--lr {lr:g}: a learning rate must be above 0, such as 0.001")
    from torch.optim import AdamW

    return functools.partial(AdamW, lr=lr)


def _named_task(options: Options, changes: dict[str, Any]) -> Task:
    from autotrain.cli.datasets import open_data
    from autotrain.cli.models import build_model

    data = open_data(str(options.data), root=options.root, download=options.download, validation=options.validation)
    made = build_model(
        str(options.model),
        classes=data.classes,
        channels=data.channels,
        image_size=options.image_size,
        seed=options.seed or 0,
    )
    if data.channels == 1 and made.channels == 3:
        data = data.in_colour()
    if data.validation is not None:
        changes = {"validation": data.validation} | changes
    return Task(model=made.model, dataset=data.training, **changes)
