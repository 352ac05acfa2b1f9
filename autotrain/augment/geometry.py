"""Windows of an image, random for training and central for evaluation, and the batched resize of such windows."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

Window: TypeAlias = tuple[int, int, int, int]
"""Top, left, height, width, in pixels."""

_SCALE = (0.08, 1.0)
_RATIO = (3 / 4, 4 / 3)
_TRIES = 10
_LOG_RATIO = (math.log(_RATIO[0]), math.log(_RATIO[1]))
_ERASED_SCALE = (0.02, 0.33)
_LOG_ERASED_RATIO = (math.log(0.3), math.log(3.3))
_EVALUATION_SHARE = 224 / 256
_CHUNK_BYTES = {"cpu": 1 << 26, "cuda": 1 << 29}
"""Memory that the float32 images of one step of ``resize_batch`` may take."""


def crop_window(uniforms_row: NDArray[np.float64], height: int, width: int) -> Window:
    """Return top, left, height and width of a random window of an image ``height`` by ``width``.

    Its area is 8 to 100% of the image, its aspect ratio 3/4 to 4/3 (log-uniform); of ten tries the first that fits,
    else the central window with the nearest ratio: ``RandomResizedCrop`` of torchvision, after Szegedy et al., "Going
    deeper with convolutions", CVPR 2015.

    Args:
        uniforms_row: a row of ``Parameters.geometry``, float64 ``(22,)`` in [0, 1): area and ratio for each try,
            then top and left.
        height: pixels, at least 1.
        width: pixels, at least 1.
    """
    drawn: list[float] = uniforms_row.tolist()
    area, low, high = height * width, _LOG_RATIO[0], _LOG_RATIO[1]
    for index in range(0, 2 * _TRIES, 2):
        target = area * (_SCALE[0] + (_SCALE[1] - _SCALE[0]) * drawn[index])
        ratio = math.exp(low + (high - low) * drawn[index + 1])
        wide, tall = round(math.sqrt(target * ratio)), round(math.sqrt(target / ratio))
        if 0 < wide <= width and 0 < tall <= height:
            top, left = int(drawn[-2] * (height - tall + 1)), int(drawn[-1] * (width - wide + 1))
            return top, left, tall, wide
    tall, wide = height, width
    if width < _RATIO[0] * height:
        tall = round(width / _RATIO[0])
    elif width > _RATIO[1] * height:
        wide = round(height * _RATIO[1])
    return (height - tall) // 2, (width - wide) // 2, tall, wide


def erased_window(uniforms_row: NDArray[np.float64], height: int, width: int) -> Window | None:
    """Return top, left, height and width of what is erased of an image ``height`` by ``width``; None where nothing is.

    Its area is 2 to 33% of the image, its aspect ratio (height over width) 0.3 to 3.3 (log-uniform); of ten tries the
    first that is smaller than the image: ``RandomErasing`` of torchvision, after Zhong et al., AAAI 2020.

    Args:
        uniforms_row: a row of ``Erasing.rectangles``, float64 ``(22,)`` in [0, 1), in the order that ``crop_window``
            has.
        height: pixels, at least 1.
        width: pixels, at least 1.
    """
    drawn: list[float] = uniforms_row.tolist()
    area, low, high = height * width, *_LOG_ERASED_RATIO
    for index in range(0, 2 * _TRIES, 2):
        target = area * (_ERASED_SCALE[0] + (_ERASED_SCALE[1] - _ERASED_SCALE[0]) * drawn[index])
        ratio = math.exp(low + (high - low) * drawn[index + 1])
        tall, wide = round(math.sqrt(target * ratio)), round(math.sqrt(target / ratio))
        if tall < height and wide < width:
            return int(drawn[-2] * (height - tall + 1)), int(drawn[-1] * (width - wide + 1)), tall, wide
    return None


def center_window(height: int, width: int, size: int) -> Window:
    """Return top, left, height and width of the square that is evaluated, to be resized to ``size`` by ``size``.

    Its side is 224/256 of the image's shorter side: torchvision's reference ``Resize(size * 256 / 224)`` and
    ``CenterCrop(size)``. An image that has barely ``size`` pixels is not cropped below them: a 32 by 32 image
    evaluated at 32 stays whole.
    """
    shorter = min(height, width)
    side = max(round(shorter * _EVALUATION_SHARE), min(shorter, size), 1)
    return round((height - side) / 2), round((width - side) / 2), side, side


def resize_batch(images: Tensor, windows: NDArray[np.int64], size: int) -> Tensor:
    """Cut a window of its own out of each image and resize it to ``size`` by ``size``, bilinear and antialiased.

    On the CPU this is torch's own uint8 kernel, window by window. Elsewhere it is two batched matrix products with one
    matrix of weights per image and axis, and no synchronisation; the two are within one level of each other.

    Args:
        images: uint8 ``(n, c, h, w)``, contiguous or channels-last.
        windows: integers ``(n, 4)``: top, left, height, width, inside the image.
        size: pixels, at least 1.

    Returns:
        uint8 ``(n, c, size, size)`` in the memory format of ``images``.
    """
    if images.device.type == "cpu" and size > 1:  # for one pixel torch's kernel fails an assertion of its own
        return _resize_each(images, windows, size)
    return resize_by_products(images, windows, size)


def _resize_each(images: Tensor, windows: NDArray[np.int64], size: int) -> Tensor:
    resized = _like(images, size)
    for index, (top, left, height, width) in enumerate(np.asarray(windows).tolist()):
        part = images[index : index + 1, :, top : top + height, left : left + width]
        resized[index] = functional.interpolate(part, size=(size, size), mode="bilinear", antialias=True)[0]
    return resized


def resize_by_products(images: Tensor, windows: NDArray[np.int64], size: int) -> Tensor:
    """Do what ``resize_batch`` does with matrix products, on any device."""
    number, channels, height, width = images.shape
    resized = _like(images, size)
    edges = torch.from_numpy(np.ascontiguousarray(windows, dtype=np.float32).reshape(-1, 4))
    if images.device.type == "cuda":
        edges = edges.pin_memory().to(images.device, non_blocking=True)
    limit = _CHUNK_BYTES.get(images.device.type, _CHUNK_BYTES["cpu"])
    chunk = max(1, limit // (4 * channels * height * width))
    # Autocast would do the products in half precision, whose 8 or 11 bits do not hold a level and a weight.
    # So would TF32.
    with torch.autocast(images.device.type, enabled=False), _full_precision(images.device):
        for start in range(0, number, chunk):
            part = slice(start, start + chunk)
            across = _weights(edges[part, 1], edges[part, 3], source=width, size=size)
            down = _weights(edges[part, 0], edges[part, 2], source=height, size=size)
            levels = images[part].to(torch.float32, memory_format=torch.contiguous_format).flatten(1, 2)
            narrow = torch.bmm(levels, across.transpose(1, 2)).view(-1, channels, height, size)
            planes = [torch.bmm(down, narrow[:, channel]) for channel in range(channels)]
            resized[part] = torch.stack(planes, dim=1).round_().clamp_(0, 255).to(torch.uint8)
    return resized


@contextmanager
def _full_precision(device: torch.device) -> Iterator[None]:
    if device.type != "cuda" or torch.backends.cuda.matmul.fp32_precision != "tf32":
        yield
        return
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    try:
        yield
    finally:
        torch.backends.cuda.matmul.fp32_precision = "tf32"


def _weights(first: Tensor, length: Tensor, *, source: int, size: int) -> Tensor:
    """Return what each source pixel adds to each result pixel along one axis, float32 ``(n, size, source)``.

    A triangle as wide as two result pixels (at least two source pixels), normalised, nothing outside the window:
    Pillow's and torch's antialiased bilinear filter.
    """
    scale = (length / size)[:, None, None]
    centres = (torch.arange(size, dtype=torch.float32, device=first.device) + 0.5)[None, :, None] * scale
    pixels = torch.arange(source, dtype=torch.float32, device=first.device)[None, None, :] + 0.5 - first[:, None, None]
    weights = (1 - (pixels - centres).abs() / scale.clamp(min=1)).clamp_(min=0)
    weights.mul_((pixels > 0) & (pixels < length[:, None, None]))
    return weights.div_(weights.sum(dim=2, keepdim=True))


def _like(images: Tensor, size: int) -> Tensor:
    """Return an empty batch of squares, channels-last where ``images`` are."""
    ambiguous = images.is_contiguous()
    layout = torch.contiguous_format if ambiguous else torch.channels_last
    if not ambiguous and not images.is_contiguous(memory_format=torch.channels_last):
        layout = torch.contiguous_format
    shape = (images.shape[0], images.shape[1], size, size)
    return torch.empty(shape, dtype=torch.uint8, device=images.device, memory_format=layout)
