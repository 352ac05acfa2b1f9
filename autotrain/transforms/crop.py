"""RandomCrop as a move: drawn like torchvision's, cut out of the bytes in the worker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision import transforms as v1
from torchvision.transforms import v2

from autotrain.augment.geometry import Window
from autotrain.transforms.move import Move, Row

CROPS = (v1.RandomCrop, v2.RandomCrop)


@dataclass(frozen=True, slots=True, kw_only=True)
class Crop(Move):
    """RandomCrop, its borders padded with a constant or not at all (torchvision 0.26 to 0.29, versions 1 and 2)."""

    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Pixels left of an image, above, right and below."""

    fill: tuple[int, ...] = (0,)
    """Levels of the padding, per channel or one for all."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of what is cut out."""
        height, width = self.transform.size
        return int(height), int(width)

    def draw(self, row: Row, height: int, width: int) -> None:
        """Draw the window; of an image that is mirrored before, where it lies in the image as it was.

        Raises:
            ValueError: the image is too small.
        """
        left, above, right, below = self.padding
        tall, wide = self.size
        spare, sideways = height + above + below - tall, width + left + right - wide
        if spare < 0 or sideways < 0:
            raise ValueError(f"RandomCrop: {tall} x {wide} pixels cannot be cut out of an image of {height} x {width}")
        # Version 1 draws both places unless the image fits exactly, version 2 each only where there is a choice.
        shape = () if self.modern else (1,)
        both = not self.modern and bool(spare or sideways)
        top = int(torch.randint(0, spare + 1, size=shape)) if spare or both else 0
        start = int(torch.randint(0, sideways + 1, size=shape)) if sideways or both else 0
        start -= left
        row.window = top - above, width - start - wide if row.flip else start, tall, wide


def cut(levels: Tensor, window: Window, fill: tuple[int, ...]) -> Tensor:
    """Return a copy of a window of an image ``(c, h, w)`` in bytes, what of it lies outside filled."""
    top, left, tall, wide = window
    height, width = levels.shape[1:]
    bottom, right = top + tall, left + wide
    pixels: NDArray[np.uint8] = levels.numpy()
    if top >= 0 and left >= 0 and bottom <= height and right <= width:
        return torch.from_numpy(pixels[:, top:bottom, left:right].transpose(1, 2, 0).copy()).permute(2, 0, 1)
    made = np.empty((tall, wide, len(pixels)), dtype=np.uint8)
    made[:] = fill
    rows, columns = slice(max(0, top), min(height, bottom)), slice(max(0, left), min(width, right))
    if rows.start < rows.stop and columns.start < columns.stop:
        inside = pixels[:, rows, columns].transpose(1, 2, 0)
        made[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = inside
    return torch.from_numpy(made).permute(2, 0, 1)


def padding_of(transform: Any, *, modern: bool) -> tuple[int, int, int, int] | None:
    """Return the pixels left of an image, above, right and below; None where they depend on the image."""
    if transform.pad_if_needed:
        return None
    given = transform.padding
    if given is None:
        return 0, 0, 0, 0
    if transform.padding_mode != "constant":
        return None
    entries = [int(entry) for entry in (given if isinstance(given, list | tuple) else [given])]
    if modern:  # which keeps all four, the sides first
        left, right, above, below = entries
        return left, above, right, below
    left, above, right, below = (entries * 4)[:4]
    return left, above, right, below


def fill_of(transform: Any) -> tuple[int, ...] | None:
    """Return the levels of the padding, per channel or one for all; None where bytes do not say them."""
    given = transform.fill
    levels = given if isinstance(given, list | tuple) else [0 if given is None else given]
    whole = all(isinstance(level, int | float) and level == int(level) and 0 <= level <= 255 for level in levels)
    return tuple(int(level) for level in levels) if whole and levels else None
