"""Durations: reading, writing, steps."""

import pytest

from autotrain.errors import ScheduleError
from autotrain.schedules.time import Time, Unit, parse_time, to_steps


@pytest.mark.parametrize(
    ("text", "value", "unit", "written"),
    [
        ("5ep", 5, Unit.EPOCH, "5ep"),
        ("5 epochs", 5, Unit.EPOCH, "5ep"),
        ("5epochs", 5, Unit.EPOCH, "5ep"),
        ("0.5 Epoch", 0.5, Unit.EPOCH, "0.5ep"),
        ("1000step", 1000, Unit.STEP, "1000step"),
        ("5 steps", 5, Unit.STEP, "5step"),
        ("64000sample", 64000, Unit.SAMPLE, "64000sample"),
        ("1e6 samples", 1_000_000, Unit.SAMPLE, "1000000sample"),
        ("0.05dur", 0.05, Unit.FRACTION, "0.05dur"),
        ("1dur", 1, Unit.FRACTION, "1dur"),
        ("90s", 90, Unit.SECOND, "90s"),
        ("30min", 1800, Unit.SECOND, "30min"),
        ("1.5h", 5400, Unit.SECOND, "90min"),
        ("  2 hours ", 7200, Unit.SECOND, "2h"),
        ("1e-05dur", 1e-05, Unit.FRACTION, "1e-05dur"),
        (".5h", 1800, Unit.SECOND, "30min"),
    ],
)
def test_reading_and_writing(text, value, unit, written):
    time = parse_time(text)
    assert (time.value, time.unit) == (value, unit)
    assert str(time) == written
    assert parse_time(written) == time


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "not a number followed by a unit"),
        ("ep", "not a number followed by a unit"),
        ("five ep", "not a number followed by a unit"),
        ("5ep3", "not a number followed by a unit"),
        ("5", "the unit is missing"),
        ("5epcohs", "Did you mean 'epochs'"),
        ("5m", "unknown unit 'm'"),
        ("0ep", "greater than 0"),
        ("-3step", "greater than 0"),
        ("nan ep", "not finite"),
        ("inf s", "not finite"),
        ("1e400s", "not finite"),
        ("1.5step", "cannot be split"),
        ("2.5sample", "cannot be split"),
        ("1.2dur", "at most 1"),
    ],
)
def test_what_is_no_duration_is_refused_with_text_reason_and_examples(text, problem):
    with pytest.raises(ScheduleError) as caught:
        parse_time(text)
    message = str(caught.value)
    assert message.startswith(f"duration '{text}': ")
    assert problem in message
    assert "Examples: 5ep" in message


def test_a_time_made_by_hand_is_checked_too():
    with pytest.raises(ScheduleError, match="greater than 0"):
        Time(-1, Unit.EPOCH)


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("3ep", 30),
        ("0.25ep", 3),
        ("0.29ep", 3),
        ("7step", 7),
        ("64sample", 2),
        ("65sample", 3),
        ("0.05dur", 10),
        ("0.001dur", 1),
        ("1min", 150),
        ("0.1s", 1),
        ("1.99s", 4),
    ],
)
def test_steps_of_every_unit(text, steps):
    found = to_steps(parse_time(text), steps_per_epoch=10, batch_size=32, total_steps=200, steps_per_s=2.5)
    assert found == steps


@pytest.mark.parametrize(
    ("text", "stretch", "steps"), [("5ep", 0.5, 3), ("5step", 0.5, 3), ("1ep", 0.01, 1), ("65sample", 2.0, 5)]
)
def test_a_stretch_is_multiplied_before_rounding(text, stretch, steps):
    assert to_steps(parse_time(text), steps_per_epoch=1, batch_size=32, stretch=stretch) == steps


@pytest.mark.parametrize(("text", "needed"), [("0.1dur", "total_steps"), ("30min", "steps_per_s=None")])
def test_missing_context_is_named(text, needed):
    with pytest.raises(ScheduleError, match=needed) as caught:
        to_steps(parse_time(text), steps_per_epoch=10, batch_size=32)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    "context",
    [
        {"steps_per_epoch": 0, "batch_size": 1},
        {"steps_per_epoch": 1, "batch_size": 0},
        {"steps_per_epoch": 1, "batch_size": 1, "total_steps": 0},
    ],
)
def test_counts_must_be_positive(context):
    with pytest.raises(ScheduleError, match="at least 1"):
        to_steps(parse_time("1ep"), **context)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_a_rate_that_is_none_is_refused(rate):
    with pytest.raises(ScheduleError, match="steps_per_s"):
        to_steps(parse_time("1min"), steps_per_epoch=1, batch_size=1, steps_per_s=rate)
