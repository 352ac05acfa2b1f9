"""Numbers as people read them, each with its doubt."""

from __future__ import annotations

from autotrain.stats.summary import Estimate

BAR = 30
"""Columns of a bar."""


def rate_words(rate: Estimate) -> str:
    """Return ``412 images/s (400 to 421, n=24)``."""
    spec = digits(rate.value)
    return f"{rate.value:{spec}} images/s ({rate.low:{spec}} to {rate.high:{spec}}, n={rate.n})"


def ratio_words(ratio: Estimate) -> str:
    """Return ``1.92x (1.85 to 1.99, n=12)``."""
    return f"{ratio.value:.2f}x ({ratio.low:.2f} to {ratio.high:.2f}, n={ratio.n})"


def short_ratio(ratio: Estimate) -> str:
    """Return ``1.92x (1.85-1.99)``, for a table that says how many samples stand behind it."""
    return f"{ratio.value:.2f}x ({ratio.low:.2f}-{ratio.high:.2f})"


def digits(value: float) -> str:
    """Return the format that shows about three digits of a number."""
    if abs(value) >= 100:
        return ",.0f"
    return ".1f" if abs(value) >= 10 else ".2f"


def plain(value: float) -> str:
    """Return a number with about three digits."""
    return f"{value:{digits(value)}}"


def time_words(seconds: float) -> str:
    """Return ``0.42 s``, ``42 s``, ``5.3 min`` or ``1.2 h``."""
    if seconds < 9.95:
        return f"{seconds:.2g} s"
    if seconds < 119.5:
        return f"{seconds:.0f} s"
    if seconds < 119.5 * 60:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"


def span_words(seconds: Estimate) -> str:
    """Return a duration with its interval: ``42 s (40 s to 44 s)``."""
    return f"{time_words(seconds.value)} ({time_words(seconds.low)} to {time_words(seconds.high)})"


def many(count: int, noun: str) -> str:
    """Return ``1 candidate`` or ``1,002 candidates``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def bar(share: float, *, width: int = BAR) -> str:
    """Return a share from 0 to 1 as ``[######....]``, in characters that every terminal has."""
    filled = round(max(0.0, min(1.0, share)) * width)
    return f"[{'#' * filled}{'.' * (width - filled)}]"
