"""Which of torchvision's random steps can move to the device (torchvision 0.26 to 0.29, versions 1 and 2)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torchvision import transforms as v1
from torchvision.transforms import v2

from autotrain.transforms.crop import CROPS, Crop, fill_of, padding_of
from autotrain.transforms.move import OPERATORS, Move, Row
from autotrain.transforms.policies import (
    STANDARD,
    WIDE,
    AutoAugment,
    PolicyMove,
    RandAugment,
    TrivialAugment,
    pairs_of,
)
from autotrain.transforms.steps import Form, Step


class Flip(Move):
    """RandomHorizontalFlip."""

    def draw(self, row: Row, height: int, width: int) -> None:  # noqa: ARG002
        """Draw whether to mirror."""
        row.flip = _happens(self.transform.p)


def _happens(chance: float, *, double: bool = False) -> bool:
    """Draw like ``torch.rand(1) < chance``, which compares in single precision, or its ``item()``, in double."""
    return bool(torch.rand(1).item() < (chance if double else np.float32(chance)))


class ColorJitter(Move):
    """ColorJitter."""

    def draw(self, row: Row, height: int, width: int) -> None:  # noqa: ARG002
        """Draw the order of the adjustments, then their factors."""
        ranges = self.transform.brightness, self.transform.contrast, self.transform.saturation, self.transform.hue
        order, *factors = v1.ColorJitter.get_params(*ranges)
        for number in order.tolist():
            name, factor = _ADJUSTMENTS[number], factors[number]
            if factor is not None:
                self.add(row, name, factor if name == "Hue" else factor - 1.0)


_ADJUSTMENTS = ("Brightness", "Contrast", "Color", "Hue")


class Sometimes(Move):
    """One operator with the chance ``p``: RandomSolarize, RandomEqualize and their like."""

    def draw(self, row: Row, height: int, width: int) -> None:  # noqa: ARG002
        """Draw whether it happens."""
        if _happens(self.transform.p, double=not (self.modern or type(self.transform) is v1.RandomGrayscale)):
            name, attribute, offset = _SOMETIMES[type(self.transform)]
            self.add(row, name, offset + (getattr(self.transform, attribute) if attribute else 0.0))


_SOMETIMES: dict[type, tuple[str, str, float]] = {
    # class: operator, attribute that holds its strength, what is added to that to make a magnitude
    **dict.fromkeys((v1.RandomAdjustSharpness, v2.RandomAdjustSharpness), ("Sharpness", "sharpness_factor", -1.0)),
    **dict.fromkeys((v1.RandomAutocontrast, v2.RandomAutocontrast), ("AutoContrast", "", 0.0)),
    **dict.fromkeys((v1.RandomEqualize, v2.RandomEqualize), ("Equalize", "", 0.0)),
    **dict.fromkeys((v1.RandomGrayscale, v2.RandomGrayscale), ("Color", "", -1.0)),
    **dict.fromkeys((v1.RandomInvert, v2.RandomInvert), ("Invert", "", 0.0)),
    **dict.fromkeys((v1.RandomPosterize, v2.RandomPosterize), ("Posterize", "bits", 0.0)),
    **dict.fromkeys((v1.RandomSolarize, v2.RandomSolarize), ("Solarize", "threshold", 0.0)),
}


class Erase(Move):
    """RandomErasing of float32 images, with fixed values."""

    def draw(self, row: Row, height: int, width: int) -> None:
        """Draw whether, then the rectangle."""
        if _happens(self.transform.p):
            image = torch.empty((1, height, width), device="meta")
            scale, ratio = list(self.transform.scale), list(self.transform.ratio)
            *window, value = v1.RandomErasing.get_params(image, scale, ratio, [0.0])
            if value is not image:  # of ten tries one fitted
                top, left, tall, wide = window
                row.erased = int(top), int(left), int(tall), int(wide)

    @property
    def values(self) -> tuple[float, ...]:
        """What is put into the rectangle, per channel or one for all."""
        return _values(self.transform)


def _values(transform: Any) -> tuple[float, ...]:
    """Return the values of a RandomErasing; none where they are random."""
    value = transform.value
    if value is None or isinstance(value, str):
        return ()
    return tuple(float(entry) for entry in (value if isinstance(value, list | tuple) else [value]))


_MOVES: dict[type, type[Move]] = {
    **dict.fromkeys((v1.RandomHorizontalFlip, v2.RandomHorizontalFlip), Flip),
    **dict.fromkeys(CROPS, Crop),
    **dict.fromkeys((v1.TrivialAugmentWide, v2.TrivialAugmentWide), TrivialAugment),
    **dict.fromkeys((v1.RandAugment, v2.RandAugment), RandAugment),
    **dict.fromkeys((v1.AutoAugment, v2.AutoAugment), AutoAugment),
    **dict.fromkeys((v1.ColorJitter, v2.ColorJitter), ColorJitter),
    **dict.fromkeys((v1.RandomErasing, v2.RandomErasing), Erase),
    **dict.fromkeys(_SOMETIMES, Sometimes),
}

_DEPTHS = {TrivialAugment: 1, AutoAugment: 2, ColorJitter: len(_ADJUSTMENTS), Sometimes: 1}


def move(step: Step) -> Move | None:
    """Return how a step moves to the device, or None if it does not."""
    kind = _MOVES.get(step.kind)
    if kind is None or not _fits(kind, step):
        return None
    transform = step.transform
    options: dict[str, Any] = {
        "transform": transform,
        "modern": step.kind.__module__.startswith(v2.__name__),
        "picture": step.before is Form.PICTURE,
        "depth": int(transform.num_ops) if kind is RandAugment else _DEPTHS.get(kind, 0),
    }
    if kind is Crop:
        options["padding"] = padding_of(transform, modern=options["modern"])
        options["fill"] = fill_of(transform)
    if issubclass(kind, PolicyMove):
        options["ranges"] = WIDE if kind is TrivialAugment else STANDARD
    return kind(**options)


def _fits(kind: type[Move], step: Step) -> bool:
    """Tell whether the device has what a step does with its parameters to such images."""
    transform = step.transform
    if kind is Flip:
        return step.before is not Form.OTHER
    if kind is Erase:
        return step.before is Form.FLOAT and bool(_values(transform))
    if not step.before.raw:
        return False
    if kind is Crop:
        modern = step.kind is v2.RandomCrop
        return padding_of(transform, modern=modern) is not None and fill_of(transform) is not None
    if kind is AutoAugment and not {name for pair in pairs_of(transform) for name, *_ in pair} <= OPERATORS.keys():
        return False
    return not issubclass(kind, PolicyMove) or (_is_nearest(transform.interpolation) and _is_black(transform.fill))


def _is_nearest(interpolation: Any) -> bool:
    """Tell whether this means nearest neighbour, in any of torchvision's three spellings."""
    return interpolation in (v1.InterpolationMode.NEAREST, "nearest") or interpolation == 0


def _is_black(fill: Any) -> bool:
    if isinstance(fill, list | tuple):
        return all(entry == 0 for entry in fill)
    return fill is None or (isinstance(fill, int | float) and fill == 0)
