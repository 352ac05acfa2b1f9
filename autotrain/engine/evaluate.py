"""Evaluation: loss and accuracy over a whole dataset, with the settings of training and no augmentation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from time import perf_counter
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from autotrain.data.batch import HostBatch
from autotrain.engine.held_out import HeldOut
from autotrain.engine.rig import Rig
from autotrain.errors import CandidateError


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
    held_out: HeldOut | None = None,
    model: nn.Module | None = None,
    metrics: Mapping[str, Any] = MappingProxyType({}),
) -> Score:
    """Evaluate the rig's model, or another like it, on the workload's validation set; the rig must be active.

    The model is in evaluation mode meanwhile, and in the modes it had before afterwards. ``held_out`` brings the
    images; one that is used again is faster the next time.
    """
    held_out = held_out or HeldOut(rig)
    model = rig.step.model if model is None else model
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    started = perf_counter()
    try:
        score = _scored(rig, held_out, model, metrics)
    finally:
        for module, mode in modes:
            module.training = mode
    held_out.took(perf_counter() - started)
    return score


def _scored(rig: Rig, held_out: HeldOut, model: nn.Module, metrics: Mapping[str, Any]) -> Score:
    """Evaluate; once more from the beginning where workers failed that were only tried."""
    while True:
        try:
            with torch.no_grad(), closing(held_out.batches()) as batches:
                return _score(rig, batches, model, metrics, counted=held_out.counted)
        except CandidateError:
            if not held_out.failed():
                raise


def _score(
    rig: Rig, batches: Iterable[HostBatch], model: nn.Module, metrics: Mapping[str, Any], *, counted: int
) -> Score:
    workload, step = rig.workload, rig.step
    loss_sum = torch.zeros((), dtype=torch.float64, device=rig.device if rig.device.type != "mps" else "cpu")
    right: torch.Tensor | None = None
    samples = 0
    for metric in metrics.values():
        metric.reset()
        if hasattr(metric, "to"):
            metric.to(rig.device)
    for batch in batches:
        content = rig.transfer.finish(rig.move(batch))
        if workload.task.step is not None:
            with step.context():
                loss = workload.task.step(model, content)
            if batch.step >= counted:
                continue
        else:
            images, labels = content
            with step.context():
                outputs = model(images)
                loss = workload.loss(outputs, labels)
            if batch.step >= counted:  # the pass was for the others' sake
                continue
            own = _hits(outputs, labels)
            if own is not None:
                right = own if right is None else right + own
            for metric in metrics.values():
                metric.update(outputs.float() if isinstance(outputs, torch.Tensor) else outputs, labels)
        loss_sum += loss.detach().to(loss_sum).reshape(()) * batch.count
        samples += batch.count
    found = workload.team.total(float(loss_sum), 0.0 if right is None else float(right), samples, right is not None)
    samples = round(found[2])
    return Score(
        loss=found[0] / samples,
        accuracy=found[1] / samples if found[3] else None,
        samples=samples,
        metrics={name: float(metric.compute()) for name, metric in metrics.items()},
    )


def _hits(outputs: object, labels: object) -> torch.Tensor | None:
    if not (isinstance(outputs, torch.Tensor) and isinstance(labels, torch.Tensor)):
        return None
    if outputs.ndim != 2 or labels.ndim != 1 or labels.is_floating_point():
        return None
    return (outputs.argmax(dim=1) == labels).sum()
