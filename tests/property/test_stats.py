"""What the statistics promise, by simulation and by invariance."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from autotrain.stats.compare import Verdict, compare, pairs_needed
from autotrain.stats.summary import block_length, ratio_of_rates, summarize, summarize_rate
from autotrain.stats.warmup import is_stationary

RATES = st.floats(min_value=1e-3, max_value=1e6)
PAIRS = st.lists(st.tuples(RATES, RATES), min_size=3, max_size=12)
SCALES = st.sampled_from([2.0**-10, 0.5, 4.0, 2.0**20])  # powers of two scale floats without rounding


def paired(rng, turns, ratio, *, drift=0.2, noise=0.08):
    """Two sides of interleaved turns: a common drift of the machine, and noise of each turn's own."""
    common = rng.normal(0, drift, turns)
    baseline = np.exp(common + rng.normal(0, noise, turns))
    return 100 * baseline, 100 * ratio * np.exp(common + rng.normal(0, noise, turns))


@pytest.mark.parametrize("turns", [3, 8, 20])
def test_the_interval_of_a_comparison_covers_the_truth_in_95_percent(turns):
    rng, runs = np.random.default_rng(turns), 2000
    ratios = (compare(*paired(rng, turns, 1.1)).ratio for _ in range(runs))
    covered = sum(ratio.low <= 1.1 <= ratio.high for ratio in ratios) / runs
    assert 0.935 <= covered <= 0.965  # three standard errors of 2000 runs


def test_equal_rates_are_seldom_called_faster():
    rng, runs = np.random.default_rng(0), 2000
    verdicts = [compare(*paired(rng, 8, 1.0), least_gain=0.0).verdict for _ in range(runs)]
    assert verdicts.count(Verdict.FASTER) <= 0.036 * runs  # 2.5% and three standard errors
    assert verdicts.count(Verdict.SLOWER) <= 0.036 * runs
    rng = np.random.default_rng(0)
    fewer = [compare(*paired(rng, 8, 1.0)).verdict for _ in range(runs)]
    assert fewer.count(Verdict.FASTER) < verdicts.count(Verdict.FASTER)


def test_a_gain_of_a_third_is_found():
    rng = np.random.default_rng(0)
    verdicts = [compare(*paired(rng, 8, 1.33)).verdict for _ in range(200)]
    assert verdicts.count(Verdict.FASTER) >= 195


def two_stages(rng, ratio, *, noise, first=10, most=120):
    """A duel as it is run: a first stage, whose noise says how long the whole is."""
    baseline, candidate = paired(rng, most, ratio, noise=noise)
    wanted = pairs_needed(baseline[:first], candidate[:first], half_width=0.022)
    pairs = min(most, wanted)
    return pairs, compare(baseline[:pairs], candidate[:pairs])


@pytest.mark.parametrize("noise", [0.005, 0.03, 0.06])
def test_a_length_chosen_by_the_noise_alone_keeps_what_the_interval_promises(noise):
    rng, runs = np.random.default_rng(7), 2500
    found = [two_stages(rng, 1.02, noise=noise) for _ in range(runs)]
    covered = sum(comparison.ratio.low <= 1.02 <= comparison.ratio.high for _, comparison in found) / runs
    assert 0.93 <= covered <= 0.98
    lengths = [pairs for pairs, _ in found]
    assert min(lengths) >= 10
    if noise > 0.01:
        reach = np.median([np.sqrt(entry.ratio.high / entry.ratio.low) - 1 for pairs, entry in found if pairs < 120])
        assert reach <= 1.1 * 0.022, "it was to be about that narrow"


@pytest.mark.parametrize("noise", [0.01, 0.05])
def test_a_length_chosen_by_the_noise_alone_does_not_raise_the_false_gains(noise):
    rng, runs = np.random.default_rng(8), 2500
    found = [two_stages(rng, 1.01, noise=noise)[1].verdict for _ in range(runs)]  # not one that is worth having
    assert found.count(Verdict.FASTER) <= 0.035 * runs  # 2.5% and three standard errors


@given(PAIRS, SCALES, SCALES)
def test_a_comparison_does_not_depend_on_the_unit(pairs, scale, common):
    baseline, candidate = (np.array(side) for side in zip(*pairs, strict=True))
    plain, scaled = compare(baseline, candidate).ratio, compare(baseline * common, candidate * common * scale).ratio
    for name in ("value", "low", "high"):
        assert getattr(scaled, name) == pytest.approx(scale * getattr(plain, name), rel=1e-6)


@given(PAIRS)
def test_swapping_the_sides_inverts_the_ratio(pairs):
    baseline, candidate = zip(*pairs, strict=True)
    one, other = compare(baseline, candidate).ratio, compare(candidate, baseline).ratio
    assert one.value * other.value == pytest.approx(1)
    assert one.low * other.high == pytest.approx(1)
    assert one.high * other.low == pytest.approx(1)


@pytest.mark.parametrize(("correlation", "least"), [(0.0, 0.92), (0.4, 0.87), (0.75, 0.76)])
def test_intervals_of_correlated_windows_cover_what_the_documentation_says(correlation, least):
    rng, runs, covered = np.random.default_rng(0), 300, [0, 0]
    for _ in range(runs):
        noise = rng.normal(size=64)
        for step in range(1, 64):
            noise[step] = correlation * noise[step - 1] + np.sqrt(1 - correlation**2) * noise[step]
        rates = 100 * np.exp(0.12 * noise[40:])
        middle, pooled = summarize(rates, resamples=500), summarize_rate(rates, np.ones(24), resamples=500)
        covered[0] += middle.low <= 100 <= middle.high
        covered[1] += pooled.low <= 100 * np.exp(0.12**2 / 2) <= pooled.high
    assert min(covered) >= least * runs


@given(st.lists(RATES, min_size=1, max_size=40), SCALES)
@settings(max_examples=50)
def test_a_summary_lies_within_the_samples_and_scales_with_them(samples, scale):
    found, scaled = summarize(samples, resamples=100), summarize(np.array(samples) * scale, resamples=100)
    assert min(samples) <= found.low <= found.high <= max(samples)
    assert min(samples) <= found.value <= max(samples)
    assert (scaled.value, scaled.low) == pytest.approx((scale * found.value, scale * found.low))


@given(st.lists(st.tuples(RATES, RATES), min_size=1, max_size=30))
@settings(max_examples=50)
def test_a_pooled_rate_lies_between_the_slowest_and_the_fastest_window(windows):
    images, seconds = zip(*windows, strict=True)
    found = summarize_rate(images, seconds, resamples=100)
    rates = [count / time for count, time in windows]
    assert min(rates) * (1 - 1e-9) <= found.low <= found.high <= max(rates) * (1 + 1e-9)
    assert found.value == pytest.approx(sum(images) / sum(seconds))


@given(st.lists(RATES, min_size=3, max_size=20), st.lists(RATES, min_size=3, max_size=20))
@settings(max_examples=50)
def test_a_ratio_of_rates_is_inverted_by_swapping(candidate, baseline):
    one, other = summarize(candidate, resamples=50), summarize(baseline, resamples=50)
    # With so few resamples, an end may lie on the wrong side of a skewed sample's median.
    assume(all(e.low <= e.value <= e.high for e in (one, other)))
    forth, back = ratio_of_rates(one, other), ratio_of_rates(other, one)
    assert forth.low * back.high == pytest.approx(1)
    assert forth.low <= forth.value <= forth.high


@given(st.lists(RATES, min_size=1, max_size=60))
def test_block_lengths_are_from_one_to_a_third(samples):
    assert 1 <= block_length(samples) <= max(1, len(samples) // 3)


@given(st.lists(RATES, min_size=20, max_size=40), SCALES)
def test_warm_up_does_not_depend_on_the_unit_of_time(times, scale):
    scaled = [time * scale for time in times]
    assert is_stationary(scaled) == is_stationary(times)


@given(st.lists(RATES, min_size=20, max_size=20))
def test_a_steady_repetition_is_stationary(times):
    half = times[:10]
    assert is_stationary([*half, *half])
