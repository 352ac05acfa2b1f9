"""Summaries of raw samples that carry their doubt with them."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, stdtrit

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

FEWEST = 3
"""Samples from which on a bootstrap says anything."""

CHUNK = 1 << 20
"""Indices drawn at a time, which bounds the memory of long series."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number with its 95% interval and the count of samples behind it."""

    value: float
    """The estimate itself, in the unit of the samples."""

    low: float
    """Lower end of the 95% interval."""

    high: float
    """Upper end of the 95% interval."""

    n: int
    """Samples behind the estimate."""

    def __format__(self, spec: str) -> str:
        """Format like ``412 (400 to 421, n=24)``; ``spec`` is applied to each number, ``.0f`` where empty."""
        spec = spec or ".0f"
        return f"{self.value:{spec}} ({self.low:{spec}} to {self.high:{spec}}, n={self.n})"

    def __str__(self) -> str:
        return f"{self:.3g}"

    def as_dict(self) -> dict[str, float | int]:
        """Return value, low, high and n, for JSON and YAML."""
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n}


def summarize(samples: Sequence[float], *, seed: int = 0, resamples: int = 1000, block: int | None = None) -> Estimate:
    """Return the median of samples taken in order, with a 95% interval that allows for their correlation.

    The interval comes from a circular moving-block bootstrap (see ``_ends``). With fewer than three samples it is the
    least and the greatest of them, and ``n`` says how little that means.

    Raises:
        ValueError: there is no sample, or one is not finite.
    """
    values = _finite(samples, "samples")
    if len(values) < FEWEST:
        return _narrow(float(np.median(values)), values)
    block = block or block_length(values)
    draws = _draws(len(values), block, resamples, seed)
    medians = np.concatenate([np.median(values[rows], axis=1) for rows in draws])
    low, high = _ends(medians, len(values), block)
    return Estimate(value=float(np.median(values)), low=low, high=high, n=len(values))


def summarize_rate(
    images: Sequence[float],
    seconds: Sequence[float],
    *,
    seed: int = 0,
    resamples: int = 1000,
    block: int | None = None,
) -> Estimate:
    """Return the pooled rate ``sum(images) / sum(seconds)`` of windows in order, with a 95% interval over windows.

    Long windows weigh more than short ones, as they do in the training's wall-clock. With fewer than three windows the
    interval is the slowest and the fastest of them.

    Raises:
        ValueError: the lengths differ, there is no window, a number is not finite, or a window took no time.
    """
    counts, times = _finite(images, "images"), _finite(seconds, "seconds")
    if len(counts) != len(times):
        raise ValueError(f"summarize_rate: {len(counts)} image counts but {len(times)} durations; give one per window")
    if times.min() <= 0:
        raise ValueError(f"summarize_rate: a window of {times.min()} s; every window must have taken time")
    rates = counts / times
    pooled = float(counts.sum() / times.sum())
    if len(rates) < FEWEST:
        return _narrow(pooled, rates)
    block = block or block_length(rates)
    draws = _draws(len(rates), block, resamples, seed)
    pools = np.concatenate([counts[rows].sum(axis=1) / times[rows].sum(axis=1) for rows in draws])
    low, high = _ends(pools, len(rates), block)
    return Estimate(value=pooled, low=low, high=high, n=len(rates))


def ratio_of_rates(candidate: Estimate, baseline: Estimate) -> Estimate:
    """Return ``candidate / baseline`` for two positive estimates measured independently of each other.

    The interval joins the two on the log scale, each end with the doubt on its own side (Zou and Donner, Construction
    of confidence limits about effect measures: a general approach, Statistics in Medicine 27, 2008). For interleaved
    turns ``compare`` is sharper, because what both share cancels.

    Raises:
        ValueError: an estimate or its lower end is not positive.
    """
    if min(candidate.value, candidate.low, baseline.value, baseline.low) <= 0:
        raise ValueError(f"ratio_of_rates: {candidate} / {baseline}; rates must be positive")
    ratio = candidate.value / baseline.value
    down = math.hypot(math.log(candidate.value / candidate.low), math.log(baseline.high / baseline.value))
    up = math.hypot(math.log(candidate.high / candidate.value), math.log(baseline.value / baseline.low))
    return Estimate(value=ratio, low=ratio * math.exp(-down), high=ratio * math.exp(up), n=min(candidate.n, baseline.n))


def block_length(samples: Sequence[float] | Array) -> int:
    """Return the block length for a bootstrap of correlated samples: ``n ** (1/3)``, or more where they need it.

    More is ``(2 r / (1 - r**2)) ** (2/3) * (1.5 n) ** (1/3)`` for the correlation r at lag 1: the rule of Politis and
    White (Automatic block-length selection for the dependent bootstrap, Econometric Reviews 23, 2004), for a
    first-order autoregressive series. Never more than a third of the samples.
    """
    values = np.asarray(samples, dtype=np.float64)
    n = len(values)
    deviations = values - values.mean()
    power = float(deviations @ deviations)
    correlation = float(deviations[1:] @ deviations[:-1]) / power if power > 0 else 0.0
    r = min(max(correlation, 0.0), 0.95)
    needed = math.cbrt((2 * r / (1 - r * r)) ** 2 * 1.5 * n)
    return max(1, min(round(max(math.cbrt(n), needed)), n // 3))


def _draws(n: int, block: int, resamples: int, seed: int) -> Iterator[Indices]:
    """Yield index arrays, ``(rows, n)`` each and ``resamples`` rows in all, made of blocks that wrap around the end.

    Sources: Künsch, The jackknife and the bootstrap for general stationary observations, Annals of Statistics 17, 1989;
    Politis and Romano, A circular block-resampling procedure for stationary data, 1992.
    """
    rng = np.random.default_rng(seed)
    blocks = -(-n // block)
    rows = max(1, CHUNK // n)
    for first in range(0, resamples, rows):
        starts = rng.integers(0, n, size=(min(rows, resamples - first), blocks, 1))
        yield ((starts + np.arange(block)) % n).reshape(len(starts), -1)[:, :n]


def _ends(statistics: Array, n: int, block: int) -> tuple[float, float]:
    """Return the ends of the 95% percentile interval, expanded for the small number of blocks.

    Percentile intervals of few samples are too short. Hesterberg (What teachers should know about the bootstrap, The
    American Statistician 69, 2015) takes outer percentiles instead, ``Phi(-sqrt(k / (k - 1)) t(k - 1))``; here k is the
    number of blocks. Simulated for 24 windows of 12% spread, it holds the truth in 95% of cases, in 91% at a lag-1
    correlation of 0.4 and in 79% at 0.75 (8 windows: 93, 83 and 61%); plain percentiles with blocks of ``n ** (1/3)``
    in 92, 86 and 65%.
    """
    blocks = max(2.0, n / block)
    tail = float(ndtr(-math.sqrt(blocks / (blocks - 1)) * stdtrit(blocks - 1, 0.975)))
    low, high = np.quantile(statistics, (tail, 1 - tail))
    return float(low), float(high)


def _narrow(value: float, samples: Array) -> Estimate:
    return Estimate(value=value, low=float(samples.min()), high=float(samples.max()), n=len(samples))


def _finite(samples: Sequence[float], name: str) -> Array:
    values = np.asarray(samples, dtype=np.float64)
    if values.ndim != 1 or len(values) == 0 or not np.isfinite(values).all():
        raise ValueError(f"{name}: at least one number is needed, and all must be finite")
    return values
