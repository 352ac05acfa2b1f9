"""Reduced decoding: by how much, and where a window then lies."""

from __future__ import annotations

from typing import TypeAlias

from autotrain.augment.geometry import Window

Box: TypeAlias = tuple[float, float, float, float]
"""Top, left, height, width, in pixels; a ``Window`` whose edges may lie within pixels."""

REDUCTIONS = (8, 4, 2)
"""What libjpeg decodes at reduced size by smaller inverse cosine transforms that have SIMD code, strongest first."""

MARGIN = 1.25
"""Pixels of the reduced window per pixel of the result, at least.

On photographs of 400 by 533 and at 64 px, the mean absolute difference of the result to that of the full decode is 0.65
levels for 1.25 (95th percentile 1.3), 1.0 (2.1) for 1 and 0.5 (1.1) for 1.5; with a window rounded to whole pixels it
is 2.0 (4.3) for 1.25: where the window lies matters more than how sharp the picture is.
"""


def reduction(window: Window, size: int) -> int:
    """Return by how much an image may be reduced per axis while ``window`` keeps pixels to spare: 1, 2, 4 or 8."""
    shorter = min(window[2], window[3])
    for factor in REDUCTIONS:
        if shorter >= MARGIN * factor * size:
            return factor
    return 1


def reduced_window(window: Window, factor: int) -> Box:
    """Return where a window lies in the image reduced by ``factor``: pixel i covers source pixels from i * factor."""
    if factor == 1:
        return window
    top, left, height, width = window
    return top / factor, left / factor, height / factor, width / factor


def reduced_side(side: int, factor: int) -> int:
    """Return the pixels that libjpeg makes of ``side`` pixels: the last one may lie partly outside."""
    return -(-side // factor)
