"""Comparison of paired rates: faster, slower, or cannot tell."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from scipy.special import stdtrit

from autotrain.stats.summary import Array, Estimate

FEWEST_PAIRS = 3
"""Pairs from which on an interval is given; with two, Student's t at 95% is 12.7 and proves nothing."""

LEAST_GAIN = 0.01
"""Share by which a candidate must be faster to be called so."""

Seconds = tuple[Sequence[float], Sequence[float]]
"""Durations of the turns of two sides."""

BATCH, FEWEST_BATCHES = 6, 6
"""Neighbouring pairs that are taken together to see how alike neighbours are, and how many such that takes."""

FEWEST_FOR_CORRELATION, MOST_CORRELATED = 10, 0.8
"""Pairs from which on their correlation is looked at, and how much of it is believed."""


class Verdict(Enum):
    """What a comparison proves about the candidate."""

    FASTER = "faster"
    SLOWER = "slower"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A verdict and the ratio that it rests on."""

    verdict: Verdict
    """Faster, slower, or cannot tell."""

    ratio: Estimate
    """Candidate's rate over the baseline's: the geometric mean over the pairs, with its interval; n counts pairs."""


def compare(
    baseline: Sequence[float],
    candidate: Sequence[float],
    *,
    seconds: Seconds | None = None,
    confidence: float = 0.95,
    least_gain: float = LEAST_GAIN,
) -> Comparison:
    """Compare rates of interleaved turns: the i-th of both were measured next to each other.

    Logarithms make rates comparable by difference, so that swapping the sides inverts the ratio and a common factor (a
    slow minute of the machine) cancels. The pairs' differences have a Student t interval, widened where neighbouring
    pairs are alike (a loader's stock fills and empties over several turns): at 95%, two-sided, equal rates are called
    faster in at most 2.5% of comparisons. FASTER needs the whole interval above ``1 + least_gain``; SLOWER needs it
    below 1. The length is to be fixed beforehand: looking after each pair and stopping at the first verdict would raise
    the false claims.

    With ``seconds`` the ratio is that of the pooled rates, all images over all seconds, as a long training has them;
    its differences are those of the linearised logarithm (the ratio estimator: Cochran, Sampling Techniques, 1977,
    chapter 6). Without, it is the geometric mean of the pairs' ratios, which is another number where a side's rate
    jumps from turn to turn.

    Args:
        baseline: images/s of one side.
        candidate: images/s of the other.
        seconds: how long each turn of the two sides took.
        confidence: of the interval.
        least_gain: share by which the candidate must be faster.

    Raises:
        ValueError: the lengths differ, there are fewer than three pairs, a rate is not positive and finite, or
            ``confidence`` is not between 0 and 1.
    """
    if len(baseline) != len(candidate):
        raise ValueError(f"compare: {len(baseline)} baseline rates but {len(candidate)} candidate rates; give pairs")
    if len(baseline) < FEWEST_PAIRS:
        raise ValueError(f"compare: {len(baseline)} pairs; at least {FEWEST_PAIRS} are needed")
    if not 0 < confidence < 1:
        raise ValueError(f"compare: confidence={confidence}; it must lie between 0 and 1")
    rates = np.asarray([baseline, candidate], dtype=np.float64)
    if not (np.isfinite(rates) & (rates > 0)).all():
        raise ValueError("compare: every rate must be positive and finite")
    ratio = _ratio(_differences(rates, seconds), confidence)
    verdict = Verdict.INCONCLUSIVE
    if ratio.low > 1 + least_gain:
        verdict = Verdict.FASTER
    elif ratio.high < 1:
        verdict = Verdict.SLOWER
    return Comparison(verdict=verdict, ratio=ratio)


def pairs_needed(
    baseline: Sequence[float],
    candidate: Sequence[float],
    *,
    half_width: float,
    seconds: Seconds | None = None,
    confidence: float = 0.95,
) -> int:
    """Return how many pairs make the ratio's interval ``half_width`` wide on each side, judged by a first sample.

    The second stage of a two-stage sample: its length follows from the spread of the first stage alone, never from
    the gain that was seen, so that going on does not raise the false claims (Stein, A two-sample test for a linear
    hypothesis whose power is independent of the variance, Annals of Mathematical Statistics 16, 1945).

    Args:
        baseline: rates of the first stage.
        candidate: rates of the same pairs.
        seconds: as for ``compare``.
        half_width: wanted, as a share of the ratio, such as 0.025.
        confidence: of the interval.

    Raises:
        ValueError: as for ``compare``.
    """
    compare(baseline, candidate, confidence=confidence)
    logs = _differences(np.asarray([baseline, candidate], dtype=np.float64), seconds)
    reach = _quantile(len(logs), confidence) * _deviation(logs, confidence)
    return max(len(logs), math.ceil((reach / math.log1p(half_width)) ** 2))


def _differences(rates: Array, seconds: Seconds | None) -> Array:
    """Return per pair by how much the candidate's logarithm is larger; their mean is the logarithm of the ratio."""
    if seconds is None:
        return np.asarray(np.log(rates[1]) - np.log(rates[0]))
    alike = all(len(entry) == rates.shape[1] for entry in seconds)
    times = np.asarray(seconds if alike else [], dtype=np.float64)
    if not alike or not (np.isfinite(times) & (times > 0)).all():
        raise ValueError("compare: every rate needs the seconds that it was measured over, positive and finite")
    images = rates * times
    pooled = np.log(images.mean(axis=1)) - np.log(times.mean(axis=1))
    parts = images / images.mean(axis=1, keepdims=True) - times / times.mean(axis=1, keepdims=True)
    return np.asarray(pooled[1] - pooled[0] + parts[1] - parts[0])


def _ratio(logs: Array, confidence: float) -> Estimate:
    n = len(logs)
    reach = _quantile(n, confidence) * _deviation(logs, confidence) / math.sqrt(n)
    mean = float(logs.mean())
    return Estimate(value=math.exp(mean), low=math.exp(mean - reach), high=math.exp(mean + reach), n=n)


def _deviation(logs: Array, confidence: float) -> float:
    """Return the standard deviation, times what the mean's error grows by where neighbours are alike.

    That is ``sqrt((1 + r) / (1 - r))`` for a first-order autoregressive series with correlation r at lag 1; a negative
    r is taken as none. What a short series shows of r is too low by about ``(1 + 3 r) / n`` (Kendall, Note on bias in
    the estimation of autocorrelation, Biometrika 41, 1954), which is put back. From 36 pairs on it is at least what the
    means of batches of six neighbours say, with their fewer degrees of freedom (batch means: Law, Simulation Modeling
    and Analysis, chapter 9): likeness that lasts longer than one step shows there.
    """
    deviation, n = float(logs.std(ddof=1)), len(logs)
    if n < FEWEST_FOR_CORRELATION or deviation == 0:
        return deviation
    centred = logs - logs.mean()
    shown = float(centred[1:] @ centred[:-1] / (centred @ centred))
    r = min(max((n * shown + 1) / (n - 3), 0.0), MOST_CORRELATED)
    grown = deviation * math.sqrt((1 + r) / (1 - r))
    batches = n // BATCH
    if batches < FEWEST_BATCHES:
        return grown
    means = logs[: batches * BATCH].reshape(batches, BATCH).mean(axis=1)
    together = float(means.std(ddof=1)) * math.sqrt(BATCH)
    return max(grown, together) * _quantile(batches, confidence) / _quantile(n, confidence)


def _quantile(n: int, confidence: float) -> float:
    return float(stdtrit(n - 1, (1 + confidence) / 2))
