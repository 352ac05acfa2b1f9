"""Shapes of a schedule: pure functions from progress, 0 to 1, to a factor.

Progress outside 0 to 1 counts as the nearer end. Both ends are met exactly, without rounding.
"""

import math


def constant(progress: float) -> float:  # noqa: ARG001 (all shapes are called alike)
    """Return 1 whatever the progress."""
    return 1.0


def linear(progress: float, *, start: float = 1.0, end: float = 0.0) -> float:
    """Return the factor on a straight line from ``start`` to ``end``."""
    return _between(min(1.0, max(0.0, progress)), start, end)


def cosine(progress: float, *, start: float = 1.0, end: float = 0.0) -> float:
    """Return the factor on half a cosine wave from ``start`` to ``end``, level at both.

    Source: Loshchilov and Hutter, SGDR: Stochastic gradient descent with warm restarts, ICLR 2017, equation 5.
    """
    progress = min(1.0, max(0.0, progress))
    return _between((1 - math.cos(math.pi * progress)) / 2, start, end)


def polynomial(progress: float, *, start: float = 1.0, end: float = 0.0, power: float = 2.0) -> float:
    """Return the factor on ``(1 - progress) ** power``, from ``start`` to ``end``.

    Source: Chen et al., DeepLab, TPAMI 2018, section 4.1 ("poly" policy).
    """
    progress = min(1.0, max(0.0, progress))
    return _between(1 - (1 - progress) ** power, start, end)


def _between(share: float, start: float, end: float) -> float:
    """Return ``start`` at 0, ``end`` at 1, and nothing outside the two."""
    if share == 1.0:
        return end
    value = start + share * (end - start)  # never back and forth by rounding, as a weighted sum would go
    return min(max(start, end), max(min(start, end), value))
