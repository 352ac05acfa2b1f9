"""A measurement keeps raw windows; what is derived from them is on the scale of its session."""

from dataclasses import replace

import pytest

from autotrain.measure.measurement import Kind, Measurement, Window
from autotrain.settings import Settings


def measured(*rates: float, **changes) -> Measurement:
    windows = tuple(
        Window(
            steps=1,
            images=64,
            wall_s=64 / rate,
            wait_s=16 / rate,
            cpu_main_s=32 / rate,
            cpu_workers_s=64 / rate,
            sync_s=8 / rate,
            transfer_s=4 / rate,
        )
        for rate in rates
    )
    values = {"kind": Kind.FULL, "settings": Settings(), "startup_s": 0.0, "warmup_steps": 1, "stationary": True}
    return Measurement(windows=windows, **{**values, **changes})


def test_the_rate_is_pooled_over_the_windows_with_its_doubt():
    rate = measured(100.0, 100.0, 200.0, 200.0).rate
    assert rate.value == pytest.approx(4 / (2 / 100 + 2 / 200))
    assert 100.0 <= rate.low < rate.value < rate.high <= 200.0
    assert rate.n == 4


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.25])
def test_the_scale_of_its_heat_moves_the_rate_and_its_interval(scale):
    raw, scaled = measured(100.0, 110.0, 120.0).rate, measured(100.0, 110.0, 120.0, scale=scale).rate
    for name in ("value", "low", "high"):
        assert getattr(scaled, name) == pytest.approx(scale * getattr(raw, name))


def test_the_scale_moves_nothing_that_was_measured():
    """Seconds, CPU seconds and shares are those of the heat."""
    raw, scaled = measured(100.0, 110.0), measured(100.0, 110.0, scale=2.0)
    for name in ("windows", "wall_s", "wait_share", "sync_share", "transfer_share", "cpu_main_per_image_s"):
        assert getattr(scaled, name) == getattr(raw, name)


def test_shares_are_of_all_windows():
    made = measured(100.0, 300.0)
    assert made.wait_share == pytest.approx(0.25)
    assert made.sync_share == pytest.approx(1 / 8)
    assert made.transfer_share == pytest.approx(1 / 16)
    assert made.cpu_main_per_image_s == pytest.approx((32 / 100 + 32 / 300) / 128)
    assert made.cpu_workers_per_image_s == pytest.approx(2 * made.cpu_main_per_image_s)
    assert made.images == 128


def test_what_was_not_measured_has_no_share():
    plain = Window(steps=1, images=1, wall_s=1.0, wait_s=0.0, cpu_main_s=0.0, cpu_workers_s=0.0)
    made = replace(measured(1.0), windows=(plain,))
    assert made.sync_share is None
    assert made.transfer_share is None
