"""Warm-up: whether step times have become stationary, and where the steady state of a recorded series begins."""

import math
from collections.abc import Sequence

import numpy as np

WINDOW = 20
"""Steps looked at by default, in two halves of ten."""

SAME = 0.02
"""Medians of the two halves that differ by less than this share are the same for every purpose here."""

LIMIT = 2.2
"""Standard deviations of the rank sum beyond which the halves differ; about 3% of stationary series lie beyond."""


def is_stationary(times: Sequence[float], *, window: int = WINDOW) -> bool:
    """Return whether the last ``window`` step times show no trend: their two halves come from one distribution.

    The halves are compared by the rank sum of Mann and Whitney (Annals of Mathematical Statistics 18, 1947), which
    asks nothing of the distribution: outliers, and steps that alternate between two durations, do no harm. A difference
    of the medians below 2% passes in any case. Fewer than ``window`` times are never stationary.

    About 3% of stationary windows are refused, so whoever asks again after each step loses a step or two. What it
    cannot see is a trend that stays within the noise of one window: at 15% noise, about 15% over the window.

    Raises:
        ValueError: ``window`` is below 8, where ranks cannot tell anything.
    """
    if window < 8:
        raise ValueError(f"is_stationary: window={window}; at least 8 steps are needed")
    if len(times) < window:
        return False
    recent = np.asarray(times[-window:], dtype=np.float64)
    earlier, later = recent[: window // 2], recent[window // 2 :]
    before, after = float(np.median(earlier)), float(np.median(later))
    if abs(after - before) <= SAME * before:
        return True
    above = (later[:, None] > earlier).sum() + 0.5 * (later[:, None] == earlier).sum()
    pairs = len(earlier) * len(later)
    return abs(float(above) - pairs / 2) <= LIMIT * math.sqrt(pairs * (window + 1) / 12)
