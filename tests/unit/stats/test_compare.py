"""Verdicts over paired rates."""

import math

import numpy as np
import pytest
from scipy import stats

from autotrain.stats.compare import Verdict, compare, pairs_needed

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


def alternating(spread, pairs=8):
    """Return two sides whose pairs differ by a factor of ``exp(+-spread)`` in turn."""
    return [100.0] * pairs, [130.0 * math.exp(spread * (-1) ** place) for place in range(pairs)]


@pytest.mark.parametrize(("spread", "half_width"), [(0.05, 0.022), (0.02, 0.01), (0.1, 0.03)])
def test_so_many_pairs_are_needed_as_make_the_interval_that_narrow(spread, half_width):
    first = alternating(spread)
    needed = pairs_needed(*first, half_width=half_width)
    logs = [math.log(second / one) for one, second in zip(*first, strict=True)]
    reach = stats.t.ppf(0.975, len(logs) - 1) * stats.tstd(logs)
    assert reach / math.sqrt(needed) <= math.log1p(half_width) < reach / math.sqrt(needed - 1)


def test_it_is_never_fewer_than_the_first_stage():
    assert pairs_needed(*alternating(0.001), half_width=0.022) == 8
    assert pairs_needed(BASELINE, BASELINE, half_width=0.022) == 6


def test_twice_the_noise_or_half_the_width_wants_four_times_the_pairs():
    once = pairs_needed(*alternating(0.05), half_width=math.expm1(0.02))
    assert pairs_needed(*alternating(0.1), half_width=math.expm1(0.02)) == pytest.approx(4 * once, abs=4)
    assert pairs_needed(*alternating(0.05), half_width=math.expm1(0.01)) == pytest.approx(4 * once, abs=4)


def test_it_does_not_look_at_the_gain():
    """Or a duel could go on until it wins."""
    baseline, candidate = alternating(0.05)
    counts = {pairs_needed(baseline, [gain * rate for rate in candidate], half_width=0.022) for gain in (0.5, 1.0, 2.0)}
    assert len(counts) == 1


def test_more_confidence_wants_more_pairs():
    sides = alternating(0.05)
    assert pairs_needed(*sides, half_width=0.022, confidence=0.99) > pairs_needed(*sides, half_width=0.022)


@pytest.mark.parametrize(
    ("baseline", "candidate", "options", "message"),
    [
        ([1, 2, 3], [1, 2], {}, "3 baseline rates but 2"),
        ([1, 2], [1, 2], {}, "2 pairs"),
        ([1, 2, 0], [1, 2, 3], {}, "positive"),
        ([1, 2, 3], [1, 2, 3], {"confidence": 0.0}, "between 0 and 1"),
    ],
)
def test_what_cannot_be_compared_cannot_be_planned(baseline, candidate, options, message):
    with pytest.raises(ValueError, match=message):
        pairs_needed(baseline, candidate, half_width=0.022, **options)


def test_with_durations_the_ratio_is_that_of_the_pooled_rates() -> None:
    """A side that jumps between two rates trains a long time at the pooled one, not at their geometric mean."""
    images = 32.0
    seconds = [0.1, 0.3] * 10
    jumping = [images / each for each in seconds]
    even = [images / 0.2] * 20
    ratio = compare(even, jumping, seconds=([0.2] * 20, seconds)).ratio
    assert ratio.value == pytest.approx(1.0)
    assert ratio.low < 1 < ratio.high
    assert compare(even, jumping).ratio.value == pytest.approx((1 / 0.75) ** 0.5)
    swapped = compare(jumping, even, seconds=(seconds, [0.2] * 20)).ratio
    assert swapped.low == pytest.approx(1 / ratio.high)


@pytest.mark.parametrize("seconds", [([0.2] * 3, [0.2] * 4), ([0.2] * 4, [0.2, 0.2, 0.0, 0.2])])
def test_durations_are_checked(seconds: tuple[list[float], list[float]]) -> None:
    with pytest.raises(ValueError, match="every rate needs the seconds"):
        compare([1.0] * 4, [1.0] * 4, seconds=seconds)


def test_neighbours_that_are_alike_widen_the_interval() -> None:
    logs = np.repeat(np.random.default_rng(0).normal(0, 0.05, 10), 4)
    mixed = np.random.default_rng(1).permutation(logs)
    alike, apart = (compare([1.0] * 40, np.exp(entry).tolist()).ratio for entry in (logs, mixed))
    assert alike.value == pytest.approx(apart.value)
    assert math.log(alike.high / alike.low) > 2 * math.log(apart.high / apart.low)
