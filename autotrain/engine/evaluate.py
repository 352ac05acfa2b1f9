"""Evaluation: loss and accuracy over a whole dataset, with the settings of training and no augmentation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from autotrain.augment.extras import Extras
from autotrain.data.feed import PROCESSES, THREADS
from autotrain.data.loader import Loader, LoaderOptions
from autotrain.data.reader import Reader
from autotrain.data.stream import InOrder
from autotrain.data.threads import thread_problem
from autotrain.engine.rig import Rig


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What an evaluation came to."""

    loss: float
    """Mean over all samples."""

    accuracy: float | None
    """Share of samples whose largest output is their label; None for tasks without classes."""

    samples: int
    metrics: Mapping[str, float]
    """The user's own, by name."""


def evaluate(
    rig: Rig,
    *,
    model: nn.Module | None = None,
    metrics: Mapping[str, Any] = MappingProxyType({}),
    workers: int | None = None,
) -> Score:
    """Evaluate the rig's model, or another like it, on the workload's validation set; the rig must be active.

    The model is in evaluation mode meanwhile, and in the modes it had before afterwards. ``workers`` load the images,
    as many as training has where None.
    """
    workload = rig.workload
    assert workload.validation is not None
    reader = Reader(workload.validation, replace(workload.recipe("none"), extras=Extras()))
    order = InOrder(len(workload.validation), workload.batch_size)
    options = _options(rig.input.options, reader, workers)
    model = rig.step.model if model is None else model
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad(), Loader(reader, order, options) as loader:
            return _score(rig, loader, model, metrics)
    finally:
        for module, mode in modes:
            module.training = mode


def _options(training: LoaderOptions, reader: Reader, workers: int | None) -> LoaderOptions:
    """Return how a validation set is loaded: as the training set is, but by this process's Pillow, for every file."""
    kind = PROCESSES if training.kind == THREADS and thread_problem(reader) else training.kind
    count = training.workers if workers is None else workers
    return replace(training, workers=count, prefetch=2, pillow=None, kind=kind)


def _score(rig: Rig, loader: Loader, model: nn.Module, metrics: Mapping[str, Any]) -> Score:
    workload, step = rig.workload, rig.step
    loss_sum = torch.zeros((), dtype=torch.float64, device=rig.device if rig.device.type != "mps" else "cpu")
    right: torch.Tensor | None = None
    samples = 0
    for metric in metrics.values():
        metric.reset()
        if hasattr(metric, "to"):
            metric.to(rig.device)
    for batch in loader:
        content = rig.transfer.finish(rig.move(batch))
        if workload.task.step is not None:
            with step.context():
                loss = workload.task.step(model, content)
        else:
            images, labels = content
            with step.context():
                outputs = model(images)
                loss = workload.loss(outputs, labels)
            hits = _hits(outputs, labels)
            if hits is not None:
                right = hits if right is None else right + hits
            for metric in metrics.values():
                metric.update(outputs.float() if isinstance(outputs, torch.Tensor) else outputs, labels)
        loss_sum += loss.detach().to(loss_sum).reshape(()) * batch.count
        samples += batch.count
    accuracy = None if right is None else float(right) / samples
    return Score(
        loss=float(loss_sum) / samples,
        accuracy=accuracy,
        samples=samples,
        metrics={name: float(metric.compute()) for name, metric in metrics.items()},
    )


def _hits(outputs: object, labels: object) -> torch.Tensor | None:
    if not (isinstance(outputs, torch.Tensor) and isinstance(labels, torch.Tensor)):
        return None
    if outputs.ndim != 2 or labels.ndim != 1 or labels.is_floating_point():
        return None
    return (outputs.argmax(dim=1) == labels).sum()
