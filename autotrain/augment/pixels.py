"""Operators that map each level of a channel to another, whatever the pixel's place: 256-entry look-up tables.

Each table is written once, with arithmetic that numpy arrays and tensors share, so that a loader worker and a device
compute the same bits. Shapes: ``levels`` is float32 ``(256,)``; a magnitude or a measured value is a scalar for one
image, and for a batch a tensor that broadcasts to ``(n, c, 256)``. Results lie in [0, 255]; their fraction is cut off,
as torchvision does.
"""

from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array: TypeAlias = Any
"""A numpy array or a tensor: the operators that both have are enough."""


def brightness(levels: Array, magnitude: Any, measured: Any) -> Array:  # noqa: ARG001
    """Scale by ``1 + magnitude``."""
    return (levels * (1.0 + magnitude)).clip(0, 255)


def contrast(levels: Array, magnitude: Any, measured: Any) -> Array:
    """Move away from the image's mean grey (``measured``) by the factor ``1 + magnitude``."""
    return (levels * (1.0 + magnitude) - measured * magnitude).clip(0, 255)


def posterize(levels: Array, magnitude: Any, measured: Any) -> Array:  # noqa: ARG001
    """Keep the highest ``magnitude`` bits."""
    step = 2.0 ** (8.0 - magnitude) + 0.5
    # A device's power function may miss a whole number by its last bit; this rounds.
    return levels - levels % (step - step % 1.0)


def solarize(levels: Array, magnitude: Any, measured: Any) -> Array:  # noqa: ARG001
    """Invert every level from ``255 * magnitude`` upwards."""
    return levels + (255.0 - 2.0 * levels) * (levels >= 255.0 * magnitude)


def invert(levels: Array, magnitude: Any, measured: Any) -> Array:  # noqa: ARG001
    """Turn the scale around; the term of 0 gives the table a row per image."""
    return 255.0 - levels + 0.0 * magnitude


def auto_contrast(levels: Array, magnitude: Any, measured: Any) -> Array:  # noqa: ARG001
    """Stretch each channel from its lowest and highest level (``measured``) to 0 and 255; a flat channel stays."""
    low, high = measured
    varied = high != low
    scale = (high - low) * (1.0 / 255.0) + (high == low)
    return ((levels - low * varied) / scale).clip(0, 255)


def equalize(levels: Array, magnitude: Any, measured: Any) -> Array:  # noqa: ARG001
    """Flatten each channel's histogram (``measured``, integers), the way Pillow does."""
    running = measured.cumsum(-1)
    below = running - measured
    total = running[..., -1:]
    highest = (measured * ((running == total) & (below < total))).sum(-1)[..., None]
    step = (total - highest) // 255
    table = ((below + step // 2) // step.clip(min=1)).clip(0, 255)
    return table * (step > 0) + levels * (step == 0)


def grey(images: Tensor) -> Tensor:
    """Return the luma of float32 RGB ``(n, 3, h, w)``, ``(n, 1, h, w)``: 0.2989 R + 0.587 G + 0.114 B, cut to a level.

    Weighted by integers, every sum is exact in float32, and half a unit keeps the division clear of whole numbers: the
    result does not depend on the device.
    """
    red, green, blue = images[:, 0:1], images[:, 1:2], images[:, 2:3]
    luma = red.mul(2989.0).add_(green, alpha=5870.0).add_(blue, alpha=1140.0)
    return luma.add_(0.5).mul_(1e-4).floor_()


def mean_grey(images: Tensor) -> Tensor:
    """Return the mean luma of uint8 ``(n, c, h, w)``, float32 ``(n, 1, 1)``."""
    levels = images.to(torch.float32)
    luma = grey(levels) if images.shape[1] == 3 else levels
    # Sums of a row are whole numbers that float32 holds exactly; those of an image may not be.
    total = luma.sum(dim=3).sum(dim=(1, 2), dtype=torch.float64)
    return (total / (images.shape[2] * images.shape[3])).to(torch.float32)[:, None, None]


def extremes(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the lowest and the highest level of each channel of uint8 ``(n, c, h, w)``, float32 ``(n, c, 1)`` each."""
    low, high = images.amin(dim=(2, 3)), images.amax(dim=(2, 3))
    return low.to(torch.float32)[..., None], high.to(torch.float32)[..., None]


def histograms(images: Tensor) -> Tensor:
    """Return how often each level occurs in each channel of uint8 ``(n, c, h, w)``, int64 ``(n, c, 256)``."""
    number, channels = images.shape[:2]
    first = torch.arange(0, number * channels * 256, 256, device=images.device)
    places = (images.reshape(number * channels, -1) + first[:, None]).reshape(-1)
    counts = torch.zeros(number * channels * 256, dtype=torch.int64, device=images.device)
    return counts.scatter_add_(0, places, torch.ones_like(places)).view(number, channels, 256)


def mean_grey_of(image: Tensor) -> np.float32:
    """Return the mean luma of one uint8 image ``(c, h, w)``: ``mean_grey`` without the batch."""
    return np.float32(mean_grey(image[None]).item())


def extremes_of(image: Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the lowest and the highest level of each channel of one image, float32 ``(c, 1)`` each."""
    flat = image.numpy().reshape(image.shape[0], -1)
    return flat.min(axis=1, keepdims=True).astype(np.float32), flat.max(axis=1, keepdims=True).astype(np.float32)


def histograms_of(image: Tensor) -> NDArray[np.int64]:
    """Return how often each level occurs in each channel of one image, int64 ``(c, 256)``."""
    counts = [torch.bincount(channel, minlength=256).numpy() for channel in image.flatten(1)]
    return np.stack(counts)


LEVELS = np.arange(256, dtype=np.float32)
"""Every level, for the tables of one image."""


def levels_of(images: Tensor) -> Tensor:
    """Return 0, 1, ... 255 as float32 on the device of ``images``."""
    return torch.arange(256, dtype=torch.float32, device=images.device)


def look_up(image: Tensor, table: NDArray[Any]) -> Tensor:
    """Map one contiguous uint8 image ``(c, h, w)`` through a table ``(256,)``, or ``(c, 256)`` for one per channel.

    ``bytearray.translate`` is the fastest look-up there is for bytes: twice as fast as numpy's ``take``.
    """
    entries = table.astype(np.uint8)
    pixels = image.numpy()
    if entries.ndim == 1:
        mapped = bytearray(pixels).translate(entries.tobytes())
    else:
        parts = [bytearray(channel).translate(row.tobytes()) for channel, row in zip(pixels, entries, strict=True)]
        mapped = bytearray().join(parts)
    return torch.frombuffer(mapped, dtype=torch.uint8).view(image.shape)


def look_up_batch(images: Tensor, tables: Tensor) -> Tensor:
    """Map uint8 images ``(n, c, h, w)`` through tables ``(n, c, 256)`` or ``(n, 1, 256)``, one set per image."""
    number, channels = images.shape[:2]
    entries = tables.to(torch.uint8).expand(number, channels, 256)
    return entries.gather(2, images.flatten(2).to(torch.int64)).view(images.shape)
