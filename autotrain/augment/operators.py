"""The operators that policies draw: each one's meaning in one place, for one image and for a batch.

The definitions (units, signs, centres, rounding) are those of torchvision's policies and of its ``ColorJitter`` on
uint8 tensors.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from autotrain.augment import pixels, warp
from autotrain.augment.bilinear import warp_smoothly, warp_smoothly_batch
from autotrain.augment.hue import hue

COEFFICIENTS = 6
"""Numbers per image that ``Operator.coefficients`` gives to ``Operator.batch``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """An operator on uint8 images with 1 or 3 channels; the base leaves them alone. None writes to its input."""

    name: str
    """torchvision's name for it."""

    kind: str = "identity"
    """Operators of one kind go through one call of ``batch``, whatever their names."""

    def sample(self, image: Tensor, magnitude: float) -> Tensor:  # noqa: ARG002
        """Apply to one contiguous uint8 image ``(c, h, w)`` in main memory."""
        return image

    def coefficients(self, magnitude: float, height: int, width: int) -> warp.Matrix:  # noqa: ARG002
        """Return what ``batch`` needs to know for one image of this size."""
        return magnitude, 0.0, 0.0, 0.0, 0.0, 0.0

    def batch(self, images: Tensor, coefficients: Tensor) -> Tensor:  # noqa: ARG002
        """Apply to uint8 ``(n, c, h, w)`` on any device, with float32 coefficients ``(n, 6)``, without a wait."""
        return images


@dataclass(frozen=True, slots=True, kw_only=True)
class Affine(Operator):
    """Moves pixels; ``matrix(magnitude, height, width)`` says where each one comes from."""

    matrix: Callable[[float, int, int], warp.Matrix]
    """See ``warp``."""

    def sample(self, image: Tensor, magnitude: float) -> Tensor:
        """Warp one image."""
        return warp.warp(image, self.matrix(magnitude, image.shape[1], image.shape[2]))

    def coefficients(self, magnitude: float, height: int, width: int) -> warp.Matrix:
        """Return the matrix."""
        return self.matrix(magnitude, height, width)

    def batch(self, images: Tensor, coefficients: Tensor) -> Tensor:
        """Warp each image by its own matrix."""
        return warp.warp_batch(images, coefficients)


@dataclass(frozen=True, slots=True, kw_only=True)
class SmoothAffine(Affine):
    """Moves pixels and interpolates between them; see ``bilinear``."""

    def sample(self, image: Tensor, magnitude: float) -> Tensor:
        """Warp one image."""
        return warp_smoothly(image, self.matrix(magnitude, image.shape[1], image.shape[2]))

    def batch(self, images: Tensor, coefficients: Tensor) -> Tensor:
        """Warp each image by its own matrix."""
        return warp_smoothly_batch(images, coefficients)


def _nothing(images: Tensor) -> None:
    """Measure nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointwise(Operator):
    """Maps levels through a table that may depend on what is measured on the image; see ``pixels``."""

    table: Callable[[Any, Any, Any], Any]
    """``table(levels, magnitude, measured)``."""

    measure: Callable[[Tensor], Any] = _nothing
    """What the table needs to know of one image ``(c, h, w)``."""

    measure_batch: Callable[[Tensor], Any] = _nothing
    """The same for images ``(n, c, h, w)``."""

    def sample(self, image: Tensor, magnitude: float) -> Tensor:
        """Map one image."""
        return pixels.look_up(image, self.table(pixels.LEVELS, magnitude, self.measure(image)))

    def batch(self, images: Tensor, coefficients: Tensor) -> Tensor:
        """Map each image through its own table."""
        tables = self.table(pixels.levels_of(images), coefficients[:, :1, None], self.measure_batch(images))
        return pixels.look_up_batch(images, tables)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter(Operator):
    """Blends an image with a degraded one of itself."""

    blend: Callable[[Tensor, Any], Tensor]
    """``blend(images, magnitude)``, the magnitude a float or a tensor ``(n, 1, 1, 1)``."""

    def sample(self, image: Tensor, magnitude: float) -> Tensor:
        """Blend one image."""
        return self.blend(image[None], magnitude)[0]

    def batch(self, images: Tensor, coefficients: Tensor) -> Tensor:
        """Blend each image by its own magnitude."""
        return self.blend(images, coefficients[:, :1, None, None])


def color(images: Tensor, magnitude: Any) -> Tensor:
    """Move uint8 ``(n, c, h, w)`` away from their grey versions by ``1 + magnitude``; greyscale images stay."""
    if images.shape[1] == 1:
        return images
    levels = images.to(torch.float32)
    grey = pixels.grey(levels).mul_(-magnitude)
    return levels.mul_(1.0 + magnitude).add_(grey).clamp_(0, 255).to(torch.uint8)


def sharpness(images: Tensor, magnitude: Any) -> Tensor:
    """Move uint8 ``(n, c, h, w)`` away from their smoothed versions by the factor ``1 + magnitude``, but for the
    border.

    The smoothing kernel is 3x3 ones with a 5 in the middle, over 13. Its sums are integers and no quotient ends in one
    half, so the rounded result does not depend on the device.
    """
    if min(images.shape[2:]) <= 2:
        return images
    whole = images.to(torch.int16)
    rows = whole[..., :-2, :] + whole[..., 1:-1, :] + whole[..., 2:, :]
    sums = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + whole[..., 1:-1, 1:-1] * 4
    levels = images.to(torch.float32)
    inner = levels[..., 1:-1, 1:-1]
    smooth = sums.to(torch.float32).mul_(1.0 / 13.0).round_()
    inner.add_(smooth.sub_(inner).mul_(-magnitude))
    return levels.clamp_(0, 255).to(torch.uint8)


def _pointwise(name: str, table: Callable[[Any, Any, Any], Any], **measures: Callable[[Tensor], Any]) -> Operator:
    return Pointwise(name=name, kind=name, table=table, **measures)


def _affine(name: str, matrix: Callable[[float, int, int], warp.Matrix]) -> Operator:
    return Affine(name=name, kind="affine", matrix=matrix)


def _smooth(name: str, matrix: Callable[[float, int, int], warp.Matrix]) -> Operator:
    return SmoothAffine(name=name, kind="bilinear", matrix=matrix)


OPERATORS: tuple[Operator, ...] = (
    Operator(name="Identity"),
    _affine("ShearX", warp.shear_x),
    _affine("ShearY", warp.shear_y),
    _affine("TranslateX", warp.translate_x),
    _affine("TranslateY", warp.translate_y),
    _affine("Rotate", warp.rotate),
    _pointwise("Brightness", pixels.brightness),
    Filter(name="Color", kind="Color", blend=color),
    _pointwise("Contrast", pixels.contrast, measure=pixels.mean_grey_of, measure_batch=pixels.mean_grey),
    Filter(name="Sharpness", kind="Sharpness", blend=sharpness),
    _pointwise("Posterize", pixels.posterize),
    _pointwise("Solarize", pixels.solarize),
    _pointwise("AutoContrast", pixels.auto_contrast, measure=pixels.extremes_of, measure_batch=pixels.extremes),
    _pointwise("Equalize", pixels.equalize, measure=pixels.histograms_of, measure_batch=pixels.histograms),
    _affine("TranslateXRelative", warp.translate_x_relative),
    _affine("TranslateYRelative", warp.translate_y_relative),
    _pointwise("Invert", pixels.invert),
    Filter(name="Hue", kind="Hue", blend=hue),
    _smooth("ShearXBilinear", warp.shear_x),
    _smooth("ShearYBilinear", warp.shear_y),
    _smooth("RotateBilinear", warp.rotate),
)
"""Every operator, at the index that ``space.Op`` gives it."""
