"""Where warm-up ends, on synthetic step times."""

import numpy as np
import pytest

from autotrain.stats.warmup import WINDOW, is_stationary


def noise(cv, n, seed):
    return np.random.default_rng(seed).lognormal(0.0, cv, n)


def test_too_few_steps_are_never_stationary():
    assert not is_stationary([1.0] * (WINDOW - 1))
    assert is_stationary([1.0] * WINDOW)


@pytest.mark.parametrize("window", [12, 20, 40])
@pytest.mark.parametrize("cv", [0.01, 0.05, 0.15])
def test_stationary_noise_is_seldom_refused(cv, window):
    refused = sum(not is_stationary(noise(cv, window, seed), window=window) for seed in range(600))
    assert refused <= 0.06 * 600


@pytest.mark.parametrize("direction", [1.0, -1.0])
def test_a_trend_well_above_the_noise_is_seen(direction):
    trend = np.exp(direction * np.linspace(0, 0.8, WINDOW))
    accepted = sum(is_stationary(trend * noise(0.15, WINDOW, seed)) for seed in range(200))
    assert accepted <= 4


@pytest.mark.parametrize(("cv", "tau", "excess"), [(0.02, 3, 0.02), (0.02, 10, 0.05), (0.15, 3, 0.05), (0.15, 10, 0.3)])
def test_a_decay_is_over_when_it_is_called_stationary(cv, tau, excess):
    decay = 1 + 2 * np.exp(-np.arange(300) / tau)
    left = []
    for seed in range(60):
        times = decay * noise(cv, 300, seed)
        end = next(end for end in range(WINDOW, 300) if is_stationary(times[:end]))
        left.append(decay[end] - 1)
    assert np.quantile(left, 0.9) < excess


def test_a_drift_too_small_to_matter_passes():
    assert is_stationary(np.linspace(1.0, 1.02, WINDOW))


def test_outliers_and_alternating_steps_are_no_trend():
    times = np.ones(WINDOW) * noise(0.05, WINDOW, 0)
    times[13] = 50.0
    assert is_stationary(times)
    assert is_stationary(np.tile([1.0, 3.0], WINDOW // 2) * noise(0.02, WINDOW, 1))


def test_only_the_last_window_counts():
    assert is_stationary([9.0] * 50 + [1.0] * WINDOW)


def test_a_window_too_short_for_ranks_is_refused():
    with pytest.raises(ValueError, match="window=7"):
        is_stationary([1.0] * 30, window=7)
