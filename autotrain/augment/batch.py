"""The batched applier: each sample of a batch gets its own operators and magnitudes, on the device.

Only the parameters are looked at on the host, so a CUDA batch needs no synchronisation: samples are gathered by kind of
operator, and each kind is one batched call.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autotrain.augment.operators import COEFFICIENTS, OPERATORS
from autotrain.augment.policy import Parameters
from autotrain.augment.sample import apply_sample

_KINDS = {kind: number for number, kind in enumerate(dict.fromkeys(operator.kind for operator in OPERATORS))}
_KIND_OF = np.array([_KINDS[operator.kind] for operator in OPERATORS])
_REPRESENTATIVES = {_KINDS[operator.kind]: operator for operator in OPERATORS}

_SMALL_PIXELS = 64 * 64
"""Up to this size an operator's fixed cost outweighs its pixels (seen: 32 by 32 images go through groups 2.6 times as
fast as one by one, 96 by 96 images half as fast)."""


def apply_batch(images: Tensor, parameters: Parameters) -> Tensor:
    """Mirror each image where its parameters say so, then apply its own operators from left to right.

    Args:
        images: uint8, ``(n, 3, h, w)`` or ``(n, 1, h, w)``, on any device, contiguous or channels-last; never written
        to.
        parameters: of the ``n`` samples; their ``geometry`` is not looked at.

    Returns:
        uint8 of the same shape, device and memory format; ``images`` itself where there is nothing to do.
        The bits are those that ``apply_sample`` gives.

    Raises:
        ValueError: there are more or fewer parameters than images.
    """
    if len(parameters) != len(images):
        raise ValueError(f"augment: {len(images)} images but the parameters of {len(parameters)}")
    if not parameters.flip.any() and not parameters.operators.any():
        return images
    if images.device.type == "cpu" and images.shape[2] * images.shape[3] > _SMALL_PIXELS:
        return apply_each(images, parameters)
    return apply_grouped(images, parameters)


def apply_each(images: Tensor, parameters: Parameters) -> Tensor:
    """Apply image by image with the per-sample applier: in main memory the faster way, but for small images."""
    changed = torch.empty_like(images)
    rows = zip(parameters.flip.tolist(), parameters.operators, parameters.magnitudes, strict=True)
    for index, (flip, operators, magnitudes) in enumerate(rows):
        changed[index] = apply_sample(images[index], flip, operators, magnitudes)
    return changed


def apply_grouped(images: Tensor, parameters: Parameters) -> Tensor:
    """Apply with one batched call per step and kind of operator, on any device, without a synchronisation."""
    height, width = images.shape[2:]
    flipped = np.flatnonzero(parameters.flip)
    groups = [group for step in range(parameters.operators.shape[1]) for group in _groups(parameters, step)]
    indices = _to_device(np.concatenate([flipped, *(group.indices for group in groups)]), images)
    coefficients = _to_device(_coefficients(parameters, groups, height=height, width=width), images)

    changed = images.clone()
    start = len(flipped)
    if start:
        mirrored = images.index_select(0, indices[:start]).flip(-1)
        changed.index_copy_(0, indices[:start], mirrored)
    offset = start
    for group in groups:
        stop = start + len(group.indices)
        chosen = indices[start:stop]
        operator = _REPRESENTATIVES[group.kind]
        result = operator.batch(changed.index_select(0, chosen), coefficients[start - offset : stop - offset])
        changed.index_copy_(0, chosen, result)
        start = stop
    return changed


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Group:
    """Samples that go through one call."""

    kind: int
    """Index into ``_REPRESENTATIVES``."""

    step: int
    """Which of a sample's operators it is, counted from 0."""

    indices: NDArray[np.int64]
    """Places in the batch."""


def _groups(parameters: Parameters, step: int) -> list[_Group]:
    """Sort the samples by the kind of their operator; those with nothing to do are left out."""
    kinds = _KIND_OF[parameters.operators[:, step]]
    order = np.argsort(kinds, kind="stable")
    present, starts = np.unique(kinds[order], return_index=True)
    parts = np.split(order, starts[1:])
    idle = _KINDS["identity"]
    return [
        _Group(kind=int(kind), step=step, indices=part)
        for kind, part in zip(present, parts, strict=True)
        if kind != idle
    ]


def _coefficients(parameters: Parameters, groups: list[_Group], *, height: int, width: int) -> NDArray[np.float32]:
    """Return the coefficients of every sample of every group, float32 ``(total, 6)``, in the order of the groups."""
    rows = [
        OPERATORS[operator].coefficients(magnitude, height, width)
        for group in groups
        for operator, magnitude in zip(
            parameters.operators[group.indices, group.step].tolist(),
            parameters.magnitudes[group.indices, group.step].tolist(),
            strict=True,
        )
    ]
    return np.array(rows, dtype=np.float32).reshape(-1, COEFFICIENTS)


def _to_device(values: NDArray[np.int64] | NDArray[np.float32], images: Tensor) -> Tensor:
    """Copy a small array to where the images are, from page-locked memory, so that nothing waits for CUDA."""
    tensor = torch.from_numpy(values)
    if images.device.type == "cuda":
        return tensor.pin_memory().to(images.device, non_blocking=True)
    return tensor.to(images.device)
