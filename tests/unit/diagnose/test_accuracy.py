"""How far off a session's predictions were is counted from its own bursts."""

import pytest
from made import measured, session

from autotrain.diagnose.accuracy import accuracy
from autotrain.measure.measurement import Kind, Measurement
from autotrain.settings import Settings


def full(rate: float, predicted: float, *, bound: float = 1e6, workers: int = 1, **options) -> Measurement:
    return measured(Kind.FULL, rate, predicted=predicted, bound=bound, settings=Settings(workers=workers), **options)


def test_errors_are_shares_of_what_was_measured():
    found = accuracy(session(full(100, 110), full(100, 96, workers=2), full(200, 160, workers=4))).errors
    assert found.n == 3
    assert found.median == pytest.approx(0.10)
    assert found.worst == pytest.approx(-0.20)
    assert found.worst_settings == Settings(workers=4)
    assert found.mean == pytest.approx((0.10 - 0.04 - 0.20) / 3)


def test_it_reads_as_a_sentence():
    found = accuracy(session(full(100, 110), full(100, 96), full(200, 160)))
    assert found.describe() == "off by 10% in the median, 20% at worst, over 3 bursts"
    assert accuracy(session(full(100, 110))).describe().endswith("over 1 burst")


def test_what_was_predicted_at_the_time_counts_and_not_what_would_be_now():
    parts = measured(Kind.COMPUTE, 1000), measured(Kind.INPUT, 1000)
    assert accuracy(session(*parts, full(100, 110))).errors.median == pytest.approx(0.10)


def test_a_burst_without_a_prediction_is_predicted_by_all_others():
    parts = measured(Kind.COMPUTE, 1000), measured(Kind.INPUT, 1000)
    made = session(measured(Kind.FULL, 400), *parts)
    found = accuracy(made)
    assert found.errors.median == pytest.approx(500 / 400 - 1)  # its own calibration would have made it less
    assert found.slack.median == pytest.approx(0.2)


def test_slack_is_the_part_of_the_bound_that_was_not_reached():
    found = accuracy(session(full(80, 80, bound=100), full(90, 90, bound=100), full(50, 50, bound=100))).slack
    assert (found.n, found.median, found.violations) == (3, pytest.approx(0.2), ())


def test_a_bound_below_the_whole_interval_was_wrong():
    broken = full(120, 100, bound=100, workers=7)
    found = accuracy(session(full(80, 80, bound=100), broken)).slack
    assert found.violations == (Settings(workers=7),)


def test_nothing_is_said_where_nothing_is_known():
    found = accuracy(session(measured(Kind.FULL, 100)))
    assert (found.errors, found.slack, found.describe()) == (None, None, "")


def test_bursts_that_were_given_up_do_not_count():
    assert accuracy(session(full(100, 300, stopped_early=True))).errors is None
