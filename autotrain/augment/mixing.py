"""Mixed batches: mixup and cutmix between neighbours, one draw per global step.

Image ``i`` is mixed with image ``i XOR 1``: pairs (0, 1), (2, 3), ...; an odd last one takes its predecessor, which is
not changed by that. A rank's share of a batch begins at an even place, so that every pair lies on one rank; with the
draw keyed by the global step, the union over the ranks is the batch that a single process mixes (but for an odd batch
whose last image is a rank's only one: it stays as it is). Neighbours are as random as any others, because the order is.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import torch
from scipy.special import betaincinv
from torch import Tensor

from autotrain.augment.draws import Purpose, uniforms
from autotrain.augment.extras import Extras
from autotrain.augment.geometry import Window
from autotrain.augment.policy import WEIGHT_STEPS

_BATCH_UNIFORMS = 5
"""Which of the two, mixup's share, cutmix's share, then the middle of cutmix's box from top and from left."""


class Kind(StrEnum):
    """How two images become one."""

    MIXUP = "mixup"
    CUTMIX = "cutmix"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixing:
    """What is done to one batch; small and picklable."""

    kind: Kind
    """Blend whole images, or paste a box of the partner."""

    drawn: float
    """Share of an image's own that was drawn, 0 to 1; see ``share`` for what the loss needs."""

    middle: tuple[float, float] = (0.5, 0.5)
    """Middle of the box, from top and from left, in [0, 1) of the sides."""

    def share(self, height: int, width: int) -> float:
        """Return lambda: how much of a mixed image of this size is its own; the rest is its partner's.

        ``loss = share * loss(outputs, labels) + (1 - share) * loss(outputs, labels[partners])``.
        """
        if self.kind is Kind.MIXUP:
            return self.drawn
        _, _, tall, wide = self.box(height, width)
        return 1 - tall * wide / (height * width)

    def box(self, height: int, width: int) -> Window:
        """Return top, left, height and width of what cutmix pastes, cut off at the border: torchvision's box."""
        reach = 0.5 * math.sqrt(1 - self.drawn)
        top, bottom = _span(int(self.middle[0] * height), int(reach * height), height)
        left, right = _span(int(self.middle[1] * width), int(reach * width), width)
        return top, left, bottom - top, right - left


def draw_mixing(extras: Extras, *, seed: int, epoch: int, step: int) -> Mixing | None:
    """Return what is done to the batch of a global step, the same on every rank; None where nothing is.

    The shares come from Beta(alpha, alpha) by its inverse distribution function. With mixup and cutmix both on, either
    has an even chance, as in torchvision's references.
    """
    if not extras.mixes:
        return None
    row = uniforms(seed, epoch, np.array([step]), count=_BATCH_UNIFORMS, purpose=Purpose.BATCH)[0].tolist()
    if extras.cutmix == 0 or (extras.mixup > 0 and row[0] < 0.5):
        # In these steps every product with a level is exact in float32: the bits do not depend on the device.
        share = round(float(betaincinv(extras.mixup, extras.mixup, row[1])) * WEIGHT_STEPS) / WEIGHT_STEPS
        return Mixing(kind=Kind.MIXUP, drawn=share)
    share = float(betaincinv(extras.cutmix, extras.cutmix, row[2]))
    return Mixing(kind=Kind.CUTMIX, drawn=share, middle=(row[3], row[4]))


def partners(number: int, *, device: torch.device | str = "cpu") -> Tensor:
    """Return the place of each image's partner in a batch of ``number``, int64, made on the device itself."""
    places = torch.arange(number, device=device).bitwise_xor_(1)
    if number % 2:
        places[-1] = max(number - 2, 0)
    return places


def mix(images: Tensor, mixing: Mixing) -> Tensor:
    """Mix each image with its partner.

    Args:
        images: uint8 ``(n, c, h, w)`` on any device, contiguous or channels-last; never written to.
        mixing: from ``draw_mixing``.

    Returns:
        uint8 of the same shape, device and memory format, rounded to the nearest level; the same bits on any device.
    """
    number = len(images)
    if number < 2:
        return images
    mixed = images.clone()
    even, odd = slice(0, number - 1, 2), slice(1, number, 2)
    last, previous = slice(number - 1, number), slice(number - 2, number - 1)
    if mixing.kind is Kind.CUTMIX:
        top, left, tall, wide = mixing.box(images.shape[2], images.shape[3])
        down, across = slice(top, top + tall), slice(left, left + wide)
        for here, there in ((even, odd), (odd, even), *([(last, previous)] * (number % 2))):
            mixed[here, :, down, across] = images[there, :, down, across]
        return mixed
    mixed[even] = _blend(images[even], images[odd], mixing.drawn)
    # What one image of a pair gives away the other one gets; bytes wrap around and back.
    mixed[odd] = (images[even] + images[odd]).sub_(mixed[even])
    if number % 2:
        mixed[last] = _blend(images[last], images[previous], mixing.drawn)
    return mixed


def _blend(images: Tensor, others: Tensor, share: float) -> Tensor:
    mixed = images.to(torch.float32).mul_(share)
    return mixed.add_(others.to(torch.float32).mul_(1 - share)).round_()


def _span(middle: int, reach: int, side: int) -> tuple[int, int]:
    return max(middle - reach, 0), min(middle + reach, side)
