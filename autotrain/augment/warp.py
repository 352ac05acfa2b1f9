"""Affine operators: nearest neighbour, black outside, with torchvision's signs and centres.

A transform is the six numbers ``(a, b, c, d, e, f)`` that take a pixel of the result to its source,
``x' = a x + b y + c`` and ``y' = d x + e y + f``, in pixel indices. They are worked out in double precision on the
host; the coordinates are float32, computed by the same operations in the same order for one image and for a batch.
"""

import math
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

Matrix: TypeAlias = tuple[float, float, float, float, float, float]

_TRUNCATION_SLACK = 1e-3
"""Pixels; keeps the float32 fraction of a side that is meant to be 45 pixels from becoming 44."""


def shear_x(magnitude: float, height: int, width: int) -> Matrix:  # noqa: ARG001
    """Move each row by ``magnitude`` pixels per row, from the top left corner."""
    return 1.0, magnitude, 0.5 * magnitude, 0.0, 1.0, 0.0


def shear_y(magnitude: float, height: int, width: int) -> Matrix:  # noqa: ARG001
    """Move each column by ``magnitude`` pixels per column, from the top left corner."""
    return 1.0, 0.0, 0.0, magnitude, 1.0, 0.5 * magnitude


def translate_x(magnitude: float, height: int, width: int) -> Matrix:  # noqa: ARG001
    """Move to the right by ``magnitude`` pixels, cut to a whole number."""
    return 1.0, 0.0, -float(math.trunc(magnitude)), 0.0, 1.0, 0.0


def translate_y(magnitude: float, height: int, width: int) -> Matrix:  # noqa: ARG001
    """Move down by ``magnitude`` pixels, cut to a whole number."""
    return 1.0, 0.0, 0.0, 0.0, 1.0, -float(math.trunc(magnitude))


def translate_x_relative(magnitude: float, height: int, width: int) -> Matrix:
    """Move to the right by ``magnitude`` widths."""
    return translate_x(_pixels(magnitude, width), height, width)


def translate_y_relative(magnitude: float, height: int, width: int) -> Matrix:
    """Move down by ``magnitude`` heights."""
    return translate_y(_pixels(magnitude, height), height, width)


def rotate(magnitude: float, height: int, width: int) -> Matrix:
    """Turn counter-clockwise about the centre by ``magnitude`` degrees."""
    sine, cosine = math.sin(math.radians(magnitude)), math.cos(math.radians(magnitude))
    middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
    return (
        *(cosine, -sine, middle_x - cosine * middle_x + sine * middle_y),
        *(sine, cosine, middle_y - sine * middle_x - cosine * middle_y),
    )


def _pixels(fraction: float, side: int) -> float:
    return math.copysign(abs(fraction) * side + _TRUNCATION_SLACK, fraction)


def warp(image: Tensor, matrix: Matrix) -> Tensor:
    """Transform one contiguous uint8 image ``(c, h, w)`` by ``matrix``."""
    if matrix[0] == matrix[4] == 1 and matrix[1] == matrix[3] == 0:
        return _shift(image, int(matrix[2]), int(matrix[5]))
    channels, height, width = image.shape
    a, b, c, d, e, f = np.array(matrix, dtype=np.float32)
    columns, rows = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
    x = np.rint(np.add.outer(rows * b + c, columns * a)).astype(np.int32)
    y = np.rint(np.add.outer(rows * e + f, columns * d)).astype(np.int32)
    # As unsigned numbers the negative ones are large, so one comparison checks both ends.
    inside = (x.view(np.uint32) < width) & (y.view(np.uint32) < height)
    places = np.where(inside, y * np.int32(width) + x, height * width)
    padded = np.zeros((channels, height * width + 1), dtype=np.uint8)
    padded[:, :-1] = image.numpy().reshape(channels, -1)
    return torch.from_numpy(padded.take(places.reshape(-1), axis=1)).view(image.shape)


def _shift(image: Tensor, x: int, y: int) -> Tensor:
    """Take pixel ``(row + y, column + x)`` for every pixel: a copy of a part of the image into a black one."""
    height, width = image.shape[-2:]
    shifted = torch.zeros_like(image)
    if abs(x) < width and abs(y) < height:
        target = (slice(max(-y, 0), height - max(y, 0)), slice(max(-x, 0), width - max(x, 0)))
        source = (slice(max(y, 0), height + min(y, 0)), slice(max(x, 0), width + min(x, 0)))
        shifted[:, target[0], target[1]] = image[:, source[0], source[1]]
    return shifted


def warp_batch(images: Tensor, matrices: Tensor) -> Tensor:
    """Transform uint8 images ``(n, c, h, w)`` by float32 matrices ``(n, 6)``, one per image, on any device."""
    number, channels, height, width = images.shape
    a, b, c, d, e, f = matrices[:, :, None, None].unbind(1)
    columns = torch.arange(width, dtype=torch.float32, device=images.device)[None, None, :]
    rows = torch.arange(height, dtype=torch.float32, device=images.device)[None, :, None]
    x = ((rows * b + c) + columns * a).round_().to(torch.int64)
    y = ((rows * e + f) + columns * d).round_().to(torch.int64)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    places = (y * width + x).mul_(inside).view(number, 1, height * width).expand(-1, channels, -1)
    return images.flatten(2).gather(2, places).view(images.shape).mul_(inside[:, None])
