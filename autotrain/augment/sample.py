"""The per-sample applier: one image at a time, in a loader worker."""

from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autotrain.augment.geometry import erased_window
from autotrain.augment.operators import OPERATORS
from autotrain.augment.policy import Chains, Parameters

Fill: TypeAlias = tuple[int, ...]
"""What an erased rectangle shows: a level per channel."""


def apply_sample(image: Tensor, parameters: Parameters, place: int, *, fill: Fill | None = None) -> Tensor:
    """Do to an image what its parameters say: mirror, chains, operators from left to right, erase.

    Args:
        image: uint8, ``(3, h, w)`` or ``(1, h, w)``, in main memory, of any strides; never written to.
        parameters: of a batch of samples; their ``geometry`` is not looked at.
        place: which of the samples the image is.
        fill: shown by an erased rectangle; black where not given.

    Returns:
        uint8 of the same shape; ``image`` itself where there is nothing to do.
    """
    if parameters.flip[place]:
        image = image.flip(-1)
    if parameters.chains is not None:
        image = _through_chains(image.contiguous(), parameters.chains, place)
    image = _operate(image, parameters.operators[place], parameters.magnitudes[place])
    if parameters.erasing is not None and parameters.erasing.applied[place]:
        image = _erase(image, parameters.erasing.rectangles[place], fill)
    return image


def blend(images: Tensor, results: Iterable[Tensor], weights: Iterable[Any]) -> Tensor:
    """Return the weighted sum of uint8 images and what chains made of them, as float32; to be cut to whole levels.

    Args:
        images: ``(c, h, w)`` or a batch.
        results: of each chain, of the shape of ``images``.
        weights: of the images, then of each result: floats, or float32 tensors that broadcast to ``images``; multiples
            of ``1 / WEIGHT_STEPS``, so that all sums are exact.
    """
    first, *others = weights
    total = images.to(torch.float32).mul_(first)
    for result, weight in zip(results, others, strict=True):
        total.add_(result.to(torch.float32).mul_(weight))
    return total


def _operate(image: Tensor, operators: NDArray[np.int8], magnitudes: NDArray[np.float32]) -> Tensor:
    for index, magnitude in zip(operators.tolist(), magnitudes.tolist(), strict=True):
        if index:
            image = OPERATORS[index].sample(image.contiguous(), magnitude)
    return image


def _through_chains(image: Tensor, chains: Chains, place: int) -> Tensor:
    rows = zip(chains.operators[place], chains.magnitudes[place], strict=True)
    results = (_operate(image, operators, magnitudes) for operators, magnitudes in rows)
    return blend(image, results, chains.weights[place].tolist()).to(torch.uint8)


def _erase(image: Tensor, row: NDArray[np.float64], fill: Fill | None) -> Tensor:
    window = erased_window(row, image.shape[1], image.shape[2])
    if window is None:
        return image
    top, left, height, width = window
    erased = image.clone()
    levels = torch.tensor(fill or (0,) * len(image), dtype=torch.uint8)
    erased[:, top : top + height, left : left + width] = levels[:, None, None]
    return erased
