"""Evaluation: loss and accuracy over a whole dataset, with the settings of training and no augmentation."""

from __future__ import annotations

import copy
import functools
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from time import perf_counter
from types import MappingProxyType
from typing import Any, overload

import torch
from torch import nn
from torch.nn import functional

from autotrain.data.batch import HostBatch
from autotrain.data.stream import seeded
from autotrain.engine.held_out import HeldOut
from autotrain.engine.rig import Rig
from autotrain.errors import CandidateError, TaskError, first_line, unknown
from autotrain.team import Team
from autotrain.training import BETTER, RECORDED, Training
from autotrain.workload import Workload

CLASSES = (nn.CrossEntropyLoss, nn.NLLLoss, nn.MultiMarginLoss)
CLASSES_FUNCTIONS = (functional.cross_entropy, functional.nll_loss, functional.multi_margin_loss)
"""Losses by which a sample's largest output is its class."""

CLASSES_HOME = "timm.loss"
"""Package whose losses all are likewise, of outputs and class numbers."""

LOOKED_AT = 8
"""Images that metrics are tried on before training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What an evaluation came to."""

    loss: float
    """Mean over all samples."""

    accuracy: float | None
    """Share of samples whose largest output is their label, or of one output, whose sign is. None for tasks without
    classes, and for a loss of the user's own, of which nobody knows what it takes an output for."""

    samples: int
    metrics: Mapping[str, float]
    """The user's own, by name; where one computes several numbers, each by the metric's name, ``_`` and its own."""


@overload
def evaluate(
    rig: Rig,
    *,
    held_out: HeldOut | None = None,
    model: nn.Module | None = None,
    metrics: Mapping[str, Any] = MappingProxyType({}),
    told: None = None,
) -> Score: ...


@overload
def evaluate(
    rig: Rig,
    *,
    held_out: HeldOut | None = None,
    model: nn.Module | None = None,
    metrics: Mapping[str, Any] = MappingProxyType({}),
    told: Callable[[], bool] | None,
) -> Score | None: ...


def evaluate(
    rig: Rig,
    *,
    held_out: HeldOut | None = None,
    model: nn.Module | None = None,
    metrics: Mapping[str, Any] = MappingProxyType({}),
    told: Callable[[], bool] | None = None,
) -> Score | None:
    """Evaluate the rig's model, or another like it, on the workload's validation set; the rig must be active.

    The model is in evaluation mode meanwhile, and in the modes it had before afterwards; metrics hold on to nothing.

    Args:
        rig: brings model, loss and device.
        held_out: brings the images; one that is used again is faster the next time.
        model: evaluated in place of the rig's.
        metrics: as ``Training`` has them.
        told: is asked between batches whether to stop, and then None is returned. Several ranks would have to agree on
            that, so there it is not asked.

    Raises:
        TaskError: a metric gives no number, or covers one rank's share alone.
    """
    team = rig.workload.team
    held_out = held_out or HeldOut(rig)
    _check_ranks(team, metrics, batches=held_out.counted)
    told = told if team.alone else None
    model = rig.step.model if model is None else model
    started = perf_counter()
    try:
        with _evaluating(model):
            score = _scored(rig, held_out, model, metrics, told=told)
    finally:
        for metric in metrics.values():
            metric.reset()  # some keep all outputs on the device
    if score is not None:
        held_out.took(perf_counter() - started)
    return score


def check_metrics(rig: Rig, held_out: HeldOut, training: Training) -> None:
    """Try a training's metrics, and what its best checkpoint goes by, on a few validation images before it begins.

    The rig must be active; of several ranks all do it together. Metrics, model and random states are left as they are:
    copies of the metrics are tried. One that cannot be copied, or computes nothing of so few images, is left to the
    first evaluation.

    Raises:
        TaskError: a metric fails, gives no number, or covers one rank's share alone; names do not fit.
    """
    workload, metrics, best_by = rig.workload, training.metrics, training.best_by
    _check_ranks(workload.team, metrics, batches=held_out.counted)
    if not (metrics or best_by) or workload.task.step is not None:
        return
    with workload.team.region(), seeded():
        images, labels = rig.transfer.finish(rig.move(held_out.first(LOOKED_AT)))
        with torch.no_grad(), _evaluating(rig.step.model), rig.step.context():
            outputs = rig.step.model(images)
        if best_by == "accuracy" and _hits(workload.loss, _classes(workload), outputs, labels) is None:
            raise TaskError(
                f"best_by: there is no accuracy, since the loss {workload.loss_name} does not say which output stands "
                "for which class. Take validation_loss, or give a metric and its name"
            )
        known = list(BETTER)
        found = {name: _tried(rig.device, name, metric, outputs, labels) for name, metric in metrics.items()}
        for name, numbers in found.items():
            for own in numbers:
                if own in RECORDED or own in known:
                    raise TaskError(f"metrics: '{name}' computes '{own}', which is taken. Give '{name}' another name")
                known.append(own)
        if best_by is not None and best_by not in known and all(found.values()):
            raise TaskError(f"best_by: {unknown('metric', best_by, known)}")


def _tried(device: torch.device, name: str, metric: Any, outputs: Any, labels: Any) -> dict[str, float]:
    """Return what a copy of a metric computes of a few outputs; nothing where that cannot be known."""
    try:
        own = copy.deepcopy(metric)  # some decide for good on their first batch what to compute together
    except Exception:  # whatever somebody's class raises
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that so few images have not all classes
        _begin(own, device)
        try:
            own.update(_plain(outputs), labels)
        except Exception as problem:
            raise TaskError(
                f"metrics: '{name}' raised {type(problem).__name__} on outputs {_shape(outputs)} and labels "
                f"{_shape(labels)}: {first_line(problem)}. Give one that takes such"
            ) from problem
        try:
            value = own.compute()
        except Exception:  # some need more images, or more classes
            return {}
        return _numbers(name, value)


def _begin(metric: Any, device: torch.device) -> None:
    """Have a metric begin anew, where the outputs will be."""
    metric.reset()
    if hasattr(metric, "to"):
        metric.to(device)


def _check_ranks(team: Team, metrics: Mapping[str, Any], *, batches: int) -> None:
    """Refuse metrics that know nothing of other ranks, where there are some, or would wait for one without images."""
    if team.alone or not metrics:
        return
    ranks = team.world.world_size
    for name, metric in metrics.items():
        if not _synchronises(metric):
            raise TaskError(
                f"metrics: '{name}' would cover the images of one of {ranks} processes alone. Take one of "
                "torchmetrics, which compute over all of them (sync_on_compute), or train in one process"
            )
    if batches < ranks:
        raise TaskError(
            f"metrics: the validation set has {batches} batches for {ranks} processes, and each needs one. Take a "
            "larger validation set, a smaller batch, or fewer processes"
        )


def _synchronises(metric: Any) -> bool:
    """Tell whether a metric, or each of a collection, computes over all ranks as torchmetrics' do."""
    if callable(getattr(metric, "sync", None)):
        return bool(getattr(metric, "sync_on_compute", True))
    parts = list(metric.children()) if isinstance(metric, nn.Module) else []
    return bool(parts) and all(_synchronises(part) for part in parts)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Have a model in evaluation mode, and every module in its own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _scored(
    rig: Rig, held_out: HeldOut, model: nn.Module, metrics: Mapping[str, Any], *, told: Callable[[], bool] | None
) -> Score | None:
    """Evaluate; once more from the beginning where workers failed that were only tried."""
    while True:
        try:
            with torch.no_grad(), closing(held_out.batches()) as batches:
                return _score(rig, batches, model, metrics, counted=held_out.counted, told=told)
        except CandidateError:
            if told is not None and told():  # a signal may go to the workers too, and kill them
                return None
            if not held_out.failed():
                raise


def _score(
    rig: Rig,
    batches: Iterable[HostBatch],
    model: nn.Module,
    metrics: Mapping[str, Any],
    *,
    counted: int,
    told: Callable[[], bool] | None,
) -> Score | None:
    workload, step = rig.workload, rig.step
    loss_sum = torch.zeros((), dtype=torch.float64, device=rig.device if rig.device.type != "mps" else "cpu")
    right: torch.Tensor | None = None
    samples, classes = 0, _classes(workload)
    for metric in metrics.values():
        _begin(metric, rig.device)
    for batch in batches:
        if told is not None and told():
            return None
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
            own = _hits(workload.loss, classes, outputs, labels)
            if own is not None:
                right = own if right is None else right + own
            for metric in metrics.values():
                metric.update(_plain(outputs), labels)
        loss_sum += loss.detach().to(loss_sum).reshape(()) * batch.count
        samples += batch.count
    found = workload.team.total(float(loss_sum), 0.0 if right is None else float(right), samples, right is not None)
    samples = round(found[2])
    numbers: dict[str, float] = {}
    for name, metric in metrics.items():
        numbers |= _numbers(name, metric.compute())
    return Score(
        loss=found[0] / samples,
        accuracy=found[1] / samples if found[3] else None,
        samples=samples,
        metrics=numbers,
    )


def _numbers(name: str, value: Any) -> dict[str, float]:
    """Return what a metric computed, by name: a number, or each of a dict's.

    Raises:
        TaskError: it is something else.
    """
    if isinstance(value, Mapping):
        parts = [_numbers(f"{name}_{key}", part) for key, part in value.items()]
        return {own: number for part in parts for own, number in part.items()}
    try:
        return {name: float(value)}
    except (TypeError, ValueError, RuntimeError) as problem:
        raise TaskError(
            f"metrics: '{name}' computes something {_shape(value)}, not a number. Have it averaged (average='macro'), "
            "or return a dict of numbers by name, as torchmetrics' ClasswiseWrapper does"
        ) from problem


def _shape(value: Any) -> str:
    return f"of shape {tuple(value.shape)}" if hasattr(value, "shape") else f"of type {type(value).__name__}"


def _plain(outputs: Any) -> Any:
    return outputs.float() if isinstance(outputs, torch.Tensor) else outputs


def _classes(workload: Workload) -> int | None:
    """Return how many classes the images are of, None where nothing tells."""
    labels = getattr(workload.source, "labels", None)
    if workload.source.classes is not None or labels is None or not len(labels):
        return workload.source.classes
    known = torch.as_tensor(labels)
    return None if known.is_floating_point() or known.ndim != 1 else int(known.max()) + 1


def _hits(loss: Any, classes: int | None, outputs: object, labels: object) -> torch.Tensor | None:
    """Count the outputs that are right; None where neither the loss nor their number says what they stand for."""
    if not (isinstance(outputs, torch.Tensor) and isinstance(labels, torch.Tensor)):
        return None
    while isinstance(loss, functools.partial):
        loss = loss.func
    of_classes = (
        isinstance(loss, CLASSES) or loss in CLASSES_FUNCTIONS or type(loss).__module__.startswith(CLASSES_HOME)
    )
    if not of_classes and not type(loss).__module__.startswith("torch."):  # somebody's own, as around cross-entropy
        of_classes = outputs.ndim == 2 and outputs.shape[1] == classes
    if of_classes:
        if outputs.ndim != 2 or outputs.shape[1] < 2 or labels.ndim != 1 or labels.is_floating_point():
            return None
        return (outputs.argmax(dim=1) == labels).sum()
    if isinstance(loss, nn.BCEWithLogitsLoss) or loss is functional.binary_cross_entropy_with_logits:
        if not outputs.ndim or not outputs.numel() == len(outputs) == labels.numel():
            return None
        return ((outputs.reshape(-1) > 0) == (labels.reshape(-1) > 0.5)).sum()
    return None
