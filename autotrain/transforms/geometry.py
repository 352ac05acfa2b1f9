"""A chain's own crop as a window to be resized, so that another decoder or another resize may do it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torchvision import transforms as v1
from torchvision.transforms import v2

from autotrain.augment.geometry import Window
from autotrain.transforms.steps import Form, Step

_CROPS = frozenset({v1.RandomResizedCrop, v2.RandomResizedCrop})
_RESIZES = frozenset({v1.Resize, v2.Resize})
_NOTHING = frozenset({v1.PILToTensor, v2.PILToTensor, v2.RGB, v2.ToImage, v2.ToPureTensor})
"""Classes that leave the levels of an RGB image as they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """Which window of an image is taken, to be resized to ``size`` by ``size``, bilinear and antialiased."""

    size: int
    """Side of the result in pixels."""

    scale: tuple[float, float] | None = None
    """Range of the window's share of the image; None takes the whole image."""

    ratio: tuple[float, float] | None = None
    """Range of its width over its height."""

    def choose(self, height: int, width: int) -> Window:
        """Draw the window of an image of this size from torch's default generator, as RandomResizedCrop would."""
        if self.scale is None or self.ratio is None:
            return 0, 0, height, width
        image = torch.empty((1, height, width), device="meta")
        top, left, tall, wide = v1.RandomResizedCrop.get_params(image, list(self.scale), list(self.ratio))
        return int(top), int(left), int(tall), int(wide)


def find_geometry(head: tuple[Step, ...]) -> Geometry | None:
    """Return the geometry of a chain's first steps where one window says all that they do to an RGB image.

    Resize to a shorter side and CenterCrop are not that: their window has fractional edges.
    """
    steps = [step for step in head if not (step.kind in _NOTHING and step.after.raw)]
    if len(steps) != 1 or steps[0].kind not in _CROPS | _RESIZES:
        return None
    transform = steps[0].transform
    size = tuple(transform.size) if isinstance(transform.size, list | tuple) else ()
    if len(size) != 2 or size[0] != size[1] or not _is_bilinear(transform.interpolation):
        return None
    if steps[0].before is not Form.PICTURE and transform.antialias is not True:
        return None
    if steps[0].kind in _RESIZES:
        return Geometry(size=int(size[0])) if transform.max_size is None else None
    return Geometry(size=int(size[0]), scale=_pair(transform.scale), ratio=_pair(transform.ratio))


def _is_bilinear(interpolation: Any) -> bool:
    """Tell whether this means bilinear, in any of torchvision's three spellings (2 is Pillow's number)."""
    return interpolation in (v1.InterpolationMode.BILINEAR, "bilinear") or interpolation == 2


def _pair(values: Any) -> tuple[float, float]:
    low, high = values
    return float(low), float(high)
