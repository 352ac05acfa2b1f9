"""What a random step would do on the device, and how it draws that."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch

from autotrain.augment.geometry import Window
from autotrain.augment.space import Op

OPERATORS = {
    "Identity": Op.IDENTITY,
    "ShearX": Op.SHEAR_X,
    "ShearY": Op.SHEAR_Y,
    "TranslateX": Op.TRANSLATE_X,
    "TranslateY": Op.TRANSLATE_Y,
    "Rotate": Op.ROTATE,
    "Brightness": Op.BRIGHTNESS,
    "Color": Op.COLOR,
    "Contrast": Op.CONTRAST,
    "Sharpness": Op.SHARPNESS,
    "Posterize": Op.POSTERIZE,
    "Solarize": Op.SOLARIZE,
    "AutoContrast": Op.AUTO_CONTRAST,
    "Equalize": Op.EQUALIZE,
    "Invert": Op.INVERT,
    "Hue": Op.HUE,
}
"""By torchvision's names, in torchvision's order."""


@dataclass(slots=True, kw_only=True)
class Row:
    """What is to be done to one image on the device."""

    window: Window | None = None
    """What is cut out of the image, before all else; it may reach beyond the borders."""

    flip: bool = False
    """Mirror left to right, first on the device."""

    operations: list[tuple[int, float]] = field(default_factory=list)
    """Operators (``Op``) with their signed magnitudes, in order."""

    erased: Window | None = None
    """What is erased of the float32 image, last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A step that can move; the base draws nothing and does nothing.

    Subclasses draw from torch's default generator by the same calls in the same order as the step's ``forward``, so
    that under the same seed the device does what the worker would have done.
    """

    transform: Any
    """The user's object."""

    modern: bool
    """Whether it is a class of ``transforms.v2``."""

    picture: bool
    """Whether it is given PIL images."""

    depth: int = 0
    """The most operators that it adds to a row."""

    def draw(self, row: Row, height: int, width: int) -> None:
        """Draw for one image of this size and add to its row what is to be done."""

    def add(self, row: Row, name: str, magnitude: float) -> None:
        """Add an operator by torchvision's name; solarising in levels, translations in pixels."""
        if name == "Solarize":
            magnitude = _between_levels(magnitude, self.picture)
        elif name.startswith("Translate"):
            magnitude = float(int(magnitude))
        row.operations.append((int(OPERATORS[name]), magnitude))


def _between_levels(threshold: float, picture: bool) -> float:
    """Return the share of 255 that parts the same levels as ``threshold`` does, clear of any level.

    Pillow compares in double precision, tensors in single: version 2's threshold of 204.000003 spares level 204 of a
    PIL image alone.
    """
    first = math.ceil(threshold if picture else float(torch.tensor(threshold, dtype=torch.float32)))
    return (first - 0.5) / 255.0
