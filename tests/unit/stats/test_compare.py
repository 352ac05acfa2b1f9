"""Verdicts over paired rates."""

import math

import pytest
from scipy import stats

from autotrain.stats.compare import Verdict, compare

BASELINE = [100.0, 103.0, 97.0, 101.0, 99.0, 100.0]


def scaled(factors):
    return [rate * factor for rate, factor in zip(BASELINE, factors, strict=True)]


@pytest.mark.parametrize(
    ("factors", "verdict"),
    [
        ([1.20, 1.22, 1.18, 1.21, 1.19, 1.20], Verdict.FASTER),
        ([0.80, 0.82, 0.78, 0.81, 0.79, 0.80], Verdict.SLOWER),
        ([1.20, 0.90, 1.10, 0.95, 1.00, 1.05], Verdict.INCONCLUSIVE),
        ([1.005, 1.005, 1.006, 1.004, 1.005, 1.005], Verdict.INCONCLUSIVE),
        ([1.0] * 6, Verdict.INCONCLUSIVE),
    ],
)
def test_verdicts(factors, verdict):
    assert compare(BASELINE, scaled(factors)).verdict is verdict


def test_a_gain_below_the_least_worthwhile_is_not_faster():
    candidate = scaled([1.03, 1.031, 1.029, 1.03, 1.03, 1.03])
    assert compare(BASELINE, candidate).verdict is Verdict.FASTER
    assert compare(BASELINE, candidate, least_gain=0.05).verdict is Verdict.INCONCLUSIVE


def test_the_interval_is_students_of_the_mean_log_ratio():
    factors = [1.1, 1.2, 1.0, 1.3, 1.15, 1.05]
    logs = [math.log(factor) for factor in factors]
    mean = sum(logs) / 6
    low, high = stats.t.interval(0.9, 5, loc=mean, scale=stats.sem(logs))
    ratio = compare(BASELINE, scaled(factors), confidence=0.9).ratio
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((math.exp(mean), math.exp(low), math.exp(high)))
    assert ratio.n == 6


def test_a_slow_minute_of_the_machine_cancels():
    slow = [100.0, 101.0, 50.0, 51.0, 25.0, 26.0]
    assert compare(slow, [rate * 1.1 for rate in slow]).verdict is Verdict.FASTER


@pytest.mark.parametrize(
    ("baseline", "candidate", "options", "message"),
    [
        ([1, 2, 3], [1, 2], {}, "3 baseline rates but 2"),
        ([1, 2], [1, 2], {}, "2 pairs"),
        ([1, 2, 0], [1, 2, 3], {}, "positive"),
        ([1, 2, math.nan], [1, 2, 3], {}, "positive"),
        ([1, 2, 3], [1, 2, 3], {"confidence": 1.0}, "between 0 and 1"),
    ],
)
def test_bad_input_is_refused(baseline, candidate, options, message):
    with pytest.raises(ValueError, match=message):
        compare(baseline, candidate, **options)
