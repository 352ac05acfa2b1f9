"""Summaries of samples and their intervals."""

import math

import numpy as np
import pytest

from autotrain.stats.summary import Estimate, block_length, ratio_of_rates, summarize, summarize_rate


def estimate(value, low, high, n=10):
    return Estimate(value=value, low=low, high=high, n=n)


def test_an_estimate_shows_its_doubt():
    assert f"{estimate(412.3, 400.1, 421.0, 24)} images/s" == "412 (400 to 421, n=24) images/s"
    assert f"{estimate(1.5, 1.25, 1.75):.2f}" == "1.50 (1.25 to 1.75, n=10)"


def test_the_median_is_not_moved_by_an_outlier():
    found = summarize([10, 11, 9, 10, 10, 500, 10, 11, 9])
    assert found.value == 10
    assert found.low <= 10 <= found.high
    assert found.n == 9


@pytest.mark.parametrize("samples", [[7.0], [7.0, 9.0]])
def test_below_three_samples_the_interval_is_their_range(samples):
    found = summarize(samples)
    assert (found.low, found.high, found.n) == (min(samples), max(samples), len(samples))


def test_three_samples_reach_from_the_least_to_the_greatest():
    assert summarize([1.0, 2.0, 4.0]) == estimate(2.0, 1.0, 4.0, 3)


def test_equal_samples_have_no_doubt():
    assert summarize([5.0] * 12) == estimate(5.0, 5.0, 5.0, 12)


def test_the_same_samples_give_the_same_interval_and_leave_numpys_state_alone():
    samples = np.random.default_rng(0).normal(100, 10, 30)
    state = np.random.get_state()[1].copy()
    assert summarize(samples) == summarize(list(samples))
    assert summarize(samples) != summarize(samples, seed=1)
    assert (np.random.get_state()[1] == state).all()


def test_a_long_series_is_drawn_in_pieces():
    found = summarize(np.random.default_rng(0).normal(100, 10, 4000), resamples=600)
    assert 99 < found.low < 100 < found.high < 101


@pytest.mark.parametrize("samples", [[], [1.0, math.nan], [math.inf, 1.0]])
def test_what_cannot_be_summarized_is_refused(samples):
    with pytest.raises(ValueError, match="samples"):
        summarize(samples)


def test_a_rate_is_pooled_so_long_windows_weigh_more():
    found = summarize_rate([100, 300], [1.0, 1.5])
    assert (found.value, found.low, found.high) == (160.0, 100.0, 200.0)


def test_a_rate_of_steady_windows():
    found = summarize_rate([64] * 20, [0.25] * 20)
    assert found == estimate(256.0, 256.0, 256.0, 20)


@pytest.mark.parametrize(
    ("images", "seconds", "message"),
    [([1, 2], [1.0], "2 image counts"), ([], [], "images"), ([1], [0.0], "taken time"), ([1], [math.nan], "seconds")],
)
def test_windows_that_make_no_rate_are_refused(images, seconds, message):
    with pytest.raises(ValueError, match=message):
        summarize_rate(images, seconds)


def test_blocks_grow_with_correlation_up_to_a_third():
    rng = np.random.default_rng(0)
    noise, walk = rng.normal(size=60), np.cumsum(rng.normal(size=60))
    assert block_length(noise) == 4
    assert block_length(noise) < block_length(walk) <= 20
    assert block_length([1.0, 1.0, 1.0]) == 1


def test_a_correlated_series_gets_a_wider_interval_than_its_shuffle():
    rng = np.random.default_rng(3)
    walk = 100 + np.convolve(rng.normal(size=90), np.ones(10), "valid")
    correlated, shuffled = summarize(walk), summarize(rng.permutation(walk))
    assert correlated.high - correlated.low > 1.5 * (shuffled.high - shuffled.low)


def test_a_ratio_joins_the_doubt_of_both():
    ratio = ratio_of_rates(estimate(300, 280, 320, 20), estimate(200, 190, 210, 8))
    assert ratio.value == 1.5
    assert ratio.n == 8
    assert ratio.low == pytest.approx(1.5 * math.exp(-math.hypot(math.log(300 / 280), math.log(210 / 200))))
    assert ratio.high == pytest.approx(1.5 * math.exp(math.hypot(math.log(320 / 300), math.log(200 / 190))))


def test_a_ratio_needs_positive_rates():
    with pytest.raises(ValueError, match="positive"):
        ratio_of_rates(estimate(1, 0, 2), estimate(1, 1, 1))
