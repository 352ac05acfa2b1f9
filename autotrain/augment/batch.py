"""The batched applier: each sample of a batch gets its own operators and magnitudes, on the device.

Only the parameters are looked at on the host, so a CUDA batch needs no synchronisation: samples are gathered by kind of
operator, and each kind is one batched call.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autotrain.augment.geometry import erased_window
from autotrain.augment.operators import COEFFICIENTS, OPERATORS
from autotrain.augment.policy import Chains, Erasing, Parameters
from autotrain.augment.sample import Fill, apply_sample, blend

_KINDS = {kind: number for number, kind in enumerate(dict.fromkeys(operator.kind for operator in OPERATORS))}
_KIND_OF = np.array([_KINDS[operator.kind] for operator in OPERATORS])
_REPRESENTATIVES = {_KINDS[operator.kind]: operator for operator in OPERATORS}

_SMALL_PIXELS = 64 * 64
"""Up to this size an operator's fixed cost outweighs its pixels (seen: 32 by 32 images go through groups 2.6 times as
fast as one by one, 96 by 96 images half as fast)."""

_CHUNK_LEVELS = 1 << 25
"""Levels (pixels times channels) that go through an operator at once, which takes up to 32 bytes for each."""


def apply_batch(images: Tensor, parameters: Parameters, *, fill: Fill | None = None) -> Tensor:
    """Do to each image what its own parameters say: mirror, chains, operators from left to right, erase.

    Args:
        images: uint8, ``(n, 3, h, w)`` or ``(n, 1, h, w)``, on any device, contiguous or channels-last; never written
            to.
        parameters: of the ``n`` samples; their ``geometry`` is not looked at.
        fill: shown by an erased rectangle; black where not given.

    Returns:
        uint8 of the same shape, device and memory format; ``images`` itself where there is nothing to do.
        The bits are those that ``apply_sample`` gives.

    Raises:
        ValueError: there are more or fewer parameters than images.
    """
    if len(parameters) != len(images):
        raise ValueError(f"augment: {len(images)} images but the parameters of {len(parameters)}")
    if parameters.idle:
        return images
    if images.device.type == "cpu" and images.shape[2] * images.shape[3] > _SMALL_PIXELS:
        return apply_each(images, parameters, fill=fill)
    return apply_grouped(images, parameters, fill=fill)


def apply_each(images: Tensor, parameters: Parameters, *, fill: Fill | None = None) -> Tensor:
    """Apply image by image with the per-sample applier: in main memory the faster way, but for small images."""
    changed = torch.empty_like(images)
    with _one_thread():
        for place in range(len(images)):
            changed[place] = apply_sample(images[place], parameters, place, fill=fill)
    return changed


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep torch's operations in the calling thread.

    Those on one image are too small to gain from more threads, and where loader workers share the cores each of them
    would wait for a thread that is not running (seen: 10 times as slow). A thread pool loses to Python's lock.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def apply_grouped(images: Tensor, parameters: Parameters, *, fill: Fill | None = None) -> Tensor:
    """Apply with one batched call per step and kind of operator, on any device, without a synchronisation."""
    changed = images.clone()
    flipped = np.flatnonzero(parameters.flip)
    if len(flipped):
        chosen = _to_device(flipped, images)
        changed.index_copy_(0, chosen, changed.index_select(0, chosen).flip(-1))
    if parameters.chains is not None:
        _go_through_chains(changed, parameters.chains)
    _operate(changed, parameters.operators, parameters.magnitudes)
    if parameters.erasing is not None:
        _erase(changed, parameters.erasing, fill)
    return changed


def _go_through_chains(images: Tensor, chains: Chains) -> None:
    """Blend every image with its chains' results, in place; all chains of all images are one larger batch."""
    number, width, depth = chains.operators.shape
    copies = images.repeat(width, 1, 1, 1)
    shape = (width * number, depth)
    operators, magnitudes = chains.operators.swapaxes(0, 1), chains.magnitudes.swapaxes(0, 1)
    _operate(copies, operators.reshape(shape), magnitudes.reshape(shape))
    weights = _to_device(np.ascontiguousarray(chains.weights.T), images)[:, :, None, None, None]
    images.copy_(blend(images, copies.view(width, *images.shape), weights))


def _operate(images: Tensor, operators: NDArray[np.int8], magnitudes: NDArray[np.float32]) -> None:
    """Apply operators ``(n, depth)`` from left to right, in place."""
    groups = [group for step in range(operators.shape[1]) for group in _groups(operators[:, step], step)]
    if not groups:
        return
    indices = _to_device(np.concatenate([group.indices for group in groups]), images)
    height, width = images.shape[2:]
    rows = _coefficients(operators, magnitudes, groups, height=height, width=width)
    coefficients = _to_device(rows, images)
    most = max(1, _CHUNK_LEVELS // images[0].numel())
    start = 0
    for group in groups:
        end = start + len(group.indices)
        operator = _REPRESENTATIVES[group.kind]
        for first in range(start, end, most):
            part = slice(first, min(first + most, end))
            chosen = indices[part]
            images.index_copy_(0, chosen, operator.batch(images.index_select(0, chosen), coefficients[part]))
        start = end


def _erase(images: Tensor, erasing: Erasing, fill: Fill | None) -> None:
    """Erase a rectangle of each image that loses one, in place."""
    channels, height, width = images.shape[1:]
    windows = {
        place: window
        for place in np.flatnonzero(erasing.applied).tolist()
        if (window := erased_window(erasing.rectangles[place], height, width)) is not None
    }
    if not windows:
        return
    levels = fill or (0,) * channels
    rows = [(place, top, left, top + tall, left + wide, *levels) for place, (top, left, tall, wide) in windows.items()]
    numbers = _to_device(np.array(rows, dtype=np.int64), images)
    chosen = numbers[:, 0].contiguous()
    top, left, bottom, right = numbers[:, 1:5, None, None, None].unbind(1)
    down = torch.arange(height, device=images.device)[:, None]
    across = torch.arange(width, device=images.device)
    inside = (down >= top) & (down < bottom) & (across >= left) & (across < right)
    colours = numbers[:, 5:, None, None].to(torch.uint8)
    images.index_copy_(0, chosen, torch.where(inside, colours, images.index_select(0, chosen)))


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Group:
    """Samples that go through one call."""

    kind: int
    """Index into ``_REPRESENTATIVES``."""

    step: int
    """Which of a sample's operators it is, counted from 0."""

    indices: NDArray[np.int64]
    """Places in the batch."""


def _groups(operators: NDArray[np.int8], step: int) -> list[_Group]:
    """Sort the samples by the kind of their operator; those with nothing to do are left out."""
    kinds = _KIND_OF[operators]
    order = np.argsort(kinds, kind="stable")
    present, starts = np.unique(kinds[order], return_index=True)
    parts = np.split(order, starts[1:])
    idle = _KINDS["identity"]
    return [
        _Group(kind=int(kind), step=step, indices=part)
        for kind, part in zip(present, parts, strict=True)
        if kind != idle
    ]


def _coefficients(
    operators: NDArray[np.int8], magnitudes: NDArray[np.float32], groups: list[_Group], *, height: int, width: int
) -> NDArray[np.float32]:
    """Return the coefficients of every sample of every group, float32 ``(total, 6)``, in the order of the groups."""
    rows = [
        OPERATORS[operator].coefficients(magnitude, height, width)
        for group in groups
        for operator, magnitude in zip(
            operators[group.indices, group.step].tolist(), magnitudes[group.indices, group.step].tolist(), strict=True
        )
    ]
    return np.array(rows, dtype=np.float32).reshape(-1, COEFFICIENTS)


def _to_device(values: NDArray[np.int64] | NDArray[np.float32], images: Tensor) -> Tensor:
    """Copy a small array to where the images are, from page-locked memory, so that nothing waits for CUDA."""
    tensor = torch.from_numpy(values)
    if images.device.type == "cuda":
        return tensor.pin_memory().to(images.device, non_blocking=True)
    return tensor.to(images.device)
