"""The hue operator: turns colours around the grey axis and keeps each pixel's highest and lowest level.

That is what converting to HSV, adding to the hue and converting back does. Here the hue of a pixel is never divided
by its spread (highest less lowest level): all angles are multiples of the spread, whole numbers until the turn is
added. Every operation rounds the same way everywhere, so the result does not depend on the device.
"""

from typing import Any

import torch
from torch import Tensor

_TO_LEVELS = 255.999 / 255
"""torchvision's way from 0..1 to levels: times 255.999, the fraction cut off."""


def hue(images: Tensor, magnitude: Any) -> Tensor:
    """Add ``magnitude`` turns (-0.5 to 0.5) to the hue of uint8 ``(n, c, h, w)``; greyscale images stay."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images.unbind(1)
    high = torch.maximum(torch.maximum(red, green), blue)
    low = torch.minimum(torch.minimum(red, green), blue)
    is_red, is_green = (high == red).to(torch.float32), (high == green).to(torch.float32)
    spread, base = (high - low).to(torch.float32), low.to(torch.float32)
    red, green, blue = red.to(torch.float32), green.to(torch.float32), blue.to(torch.float32)
    thrice = spread * 3.0
    # The angle from cyan, in sixths of a turn times the spread: red at -3, green at -1, blue at 1. Sums of products
    # with 0 or 1 are several times as fast as torch.where.
    angle = red.sub(green).add_(spread)
    angle.add_(blue.sub(red).sub_(spread).sub_(angle).mul_(is_green))
    angle.add_(green.sub_(blue).sub_(thrice).sub_(angle).mul_(is_red))
    angle.add_(spread * (magnitude[:, 0] * 6.0 if isinstance(magnitude, Tensor) else magnitude * 6.0))
    ramps = (
        _distance(angle.clone(), thrice).sub_(spread),
        spread.mul(2.0).sub_(_distance(angle + spread, thrice)),
        spread.mul(2.0).sub_(_distance(angle - spread, thrice)),
    )
    changed = torch.empty_like(images)
    for channel, ramp in enumerate(ramps):
        changed[:, channel] = torch.minimum(ramp.clamp_(min=0), spread).add_(base).mul_(_TO_LEVELS)
    return changed


def _distance(angle: Tensor, half: Tensor) -> Tensor:
    """Return how far from cyan an angle within one and a half turns is, 0 to ``half`` a turn; it is overwritten."""
    return angle.abs_().sub_(half).abs_().sub_(half).abs_()
