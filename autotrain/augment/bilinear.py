"""Affine operators that interpolate between pixels, as AugMix has them; the transforms are those of ``warp``.

What lies outside is black and blends into the border. Coordinates and blends are float32, computed by the same
operations in the same order for one image and for a batch, so that both give the same bits.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autotrain.augment.warp import Matrix

_MARGIN = 3
"""Black pixels along an axis: one before the image and two behind it, the second for neighbours of weight 0."""


def warp_smoothly(image: Tensor, matrix: Matrix) -> Tensor:
    """Transform one contiguous uint8 image ``(c, h, w)`` by ``matrix``."""
    channels, height, width = image.shape
    a, b, c, d, e, f = np.array(matrix, dtype=np.float32)
    columns, rows = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
    pitch = width + _MARGIN
    # Where an axis keeps its coordinates there is nothing to interpolate along it.
    if a == 1 and b == 0 and c == 0:
        places, right = columns.astype(np.int32), None
    else:
        places, right = _split(np.add.outer(rows * b + c, columns * a), width)
    if d == 0 and e == 1 and f == 0:
        top, below = rows.astype(np.int32)[:, None], None
    else:
        top, below = _split(np.add.outer(rows * e + f, columns * d), height)
    places = (places + top * np.int32(pitch) + np.int32(pitch + 1)).reshape(-1)
    under = places if below is None else places + np.int32(pitch)
    padded = np.zeros((height + _MARGIN, pitch), dtype=np.float32)
    changed = np.empty((channels, height * width), dtype=np.uint8)
    # One channel at a time: its numbers stay in the cache, and numpy is slow where a fraction serves three of them.
    for channel, result in zip(image.numpy(), changed, strict=True):
        padded[1:-2, 1:-2] = channel
        levels = padded.reshape(-1)
        blended = _along(levels, places, right)
        if below is not None:
            blended = _blend(blended, _along(levels, under, right), below)
        result[:] = np.rint(blended, out=blended)
    return torch.from_numpy(changed).view(image.shape)


def _split(coordinates: NDArray[np.float32], side: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return whole part and (flat) fraction of coordinates, those far outside moved to the black next to the image."""
    np.clip(coordinates, -1, side, out=coordinates)
    whole = np.floor(coordinates)
    np.subtract(coordinates, whole, out=coordinates)
    return whole.astype(np.int32), coordinates.reshape(-1)


def _along(
    levels: NDArray[np.float32], places: NDArray[np.int32], fraction: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    """Return the levels at flat places, blended with those to the right where there is a fraction."""
    near = levels.take(places)
    return near if fraction is None else _blend(near, levels[1:].take(places), fraction)


def _blend(near: NDArray[np.float32], far: NDArray[np.float32], fraction: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return ``near + (far - near) * fraction``; both are overwritten."""
    far -= near
    far *= fraction
    near += far
    return near


def warp_smoothly_batch(images: Tensor, matrices: Tensor) -> Tensor:
    """Transform uint8 images ``(n, c, h, w)`` by float32 matrices ``(n, 6)``, one per image, on any device."""
    number, channels, height, width = images.shape
    a, b, c, d, e, f = matrices[:, :, None, None].unbind(1)
    columns = torch.arange(width, dtype=torch.float32, device=images.device)[None, None, :]
    rows = torch.arange(height, dtype=torch.float32, device=images.device)[None, :, None]
    x = ((rows * b + c) + columns * a).clamp_(-1, width)
    y = ((rows * e + f) + columns * d).clamp_(-1, height)
    left, top = x.floor(), y.floor()
    right, below = x.sub_(left).view(number, 1, -1), y.sub_(top).view(number, 1, -1)
    pitch = width + _MARGIN
    places = (top.to(torch.int64) + 1).mul_(pitch).add_(left.to(torch.int64)).add_(1)
    places = places.view(number, 1, height * width).expand(-1, channels, -1)
    padded = torch.nn.functional.pad(images, (1, 2, 1, 2)).flatten(2)
    corners = [
        padded.gather(2, places + offset if offset else places).to(torch.float32) for offset in (0, 1, pitch, pitch + 1)
    ]
    upper = corners[1].sub_(corners[0]).mul_(right).add_(corners[0])
    lower = corners[3].sub_(corners[2]).mul_(right).add_(corners[2])
    return lower.sub_(upper).mul_(below).add_(upper).round_().to(torch.uint8).view(images.shape)
