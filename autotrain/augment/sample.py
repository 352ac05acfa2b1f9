"""The per-sample applier: one image at a time, in a loader worker."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from autotrain.augment.operators import OPERATORS


def apply_sample(image: Tensor, flip: bool, operators: NDArray[np.int8], magnitudes: NDArray[np.float32]) -> Tensor:
    """Mirror an image if ``flip``, then apply its operators from left to right.

    Args:
        image: uint8, ``(3, h, w)`` or ``(1, h, w)``, in main memory, of any strides; never written to.
        flip: whether to mirror left to right.
        operators: int8 ``(depth,)``, indices into ``OPERATORS``: one row of ``Parameters.operators``.
        magnitudes: float32 ``(depth,)``: the same row of ``Parameters.magnitudes``.

    Returns:
        uint8 of the same shape; ``image`` itself where there is nothing to do.
    """
    if flip:
        image = image.flip(-1)
    for index, magnitude in zip(operators.tolist(), magnitudes.tolist(), strict=True):
        if index:
            image = OPERATORS[index].sample(image.contiguous(), magnitude)
    return image
