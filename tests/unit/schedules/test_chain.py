"""Chained schedules: where phases begin and end, what they are there, and how milestones stretch."""

from fractions import Fraction

import numpy as np
import pytest

from autotrain.errors import ScheduleError
from autotrain.schedules.phases import Line, Steps
from autotrain.schedules.schedule import Chain, Schedule
from autotrain.schedules.span import Span
from autotrain.schedules.text import parse_schedule


def factors(text: str, total: int, steps_per_epoch: int = 10, **options) -> list[float]:
    factor = parse_schedule(text).over(Span(total=total, steps_per_epoch=steps_per_epoch, **options))
    return [factor(step) for step in range(total + 1)]


def test_a_line_that_comes_first_warms_up():
    assert factors("linear(4step) > constant", 6) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0]


def test_a_line_that_is_alone_or_last_goes_down():
    assert factors("linear(length=4step)", 4) == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert factors("constant(2step) > linear", 6) == [1.0, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0]


def test_a_trapezoid_is_a_chain_of_three():
    whole = factors("trapezoid(warmup=4step, decay=8step)", 40)
    assert whole == factors("linear(4step) > constant > linear(8step)", 40)
    assert whole[3:33] == [1.0] * 30
    assert whole[40] == 0.0


def test_open_phases_share_what_is_left():
    found = factors("cosine(end=0.5) > cosine", 20)
    assert (found[0], found[10], found[20]) == (1.0, 0.5, 0.0)


def test_a_phase_goes_on_where_the_one_before_ended():
    found = factors("linear(5step, start=0.5) > constant(5step) > poly", 20)
    assert found[0] == 0.5
    assert found[5:11] == [1.0] * 6
    assert found[15] == pytest.approx(0.25)


def test_what_ends_early_is_held():
    assert factors("linear(2step, start=1, end=0.5)", 5) == [1.0, 0.75, 0.5, 0.5, 0.5, 0.5]


def test_steps_fall_at_their_milestones():
    found = factors("step(2ep)", 50)
    assert [found[step] for step in (0, 19, 20, 39, 40)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    found = factors("linear(1ep) > step(at=1ep+3ep, gamma=0.5)", 60)
    assert [found[step] for step in (9, 19, 20, 39, 40, 60)] == [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
    found = factors("linear(2ep) > step(3ep, gamma=0.5, resolution=epoch)", 80)
    assert found[::10] == [0.5, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25]


def test_waves_restart_and_grow():
    found = factors("restarts(1ep, growth=2)", 70)
    assert [step for step in range(70) if found[step] == 1.0] == [0, 10, 30]
    assert found[20] == pytest.approx(0.5)
    assert found[70] == 0.0
    found = factors("linear(1ep) > restarts(1ep, growth=2)", 80)
    assert [step for step in range(80) if found[step] == 1.0] == [9, 10, 20, 40]


def test_one_cycle_rises_and_falls():
    found = factors("onecycle", 100)
    assert found[0] == pytest.approx(0.04)
    assert max(found) == found[30] == 1.0
    assert found[100] == pytest.approx(4e-6)


def test_milestones_stretch_with_the_recipe_and_shares_as_ever():
    recipe = "linear(2ep) > constant(50step) > step(1ep) > cosine(0.25dur)"
    long = factors(recipe, 200)
    short = parse_schedule(recipe).over(Span(total=100, steps_per_epoch=10, stretch=0.5))
    assert [short(step) for step in range(13, 101)] == pytest.approx(
        [long[2 * step] for step in range(13, 101)], abs=0.03
    )
    assert short(9) == 1.0


def test_epochs_are_held_where_asked():
    found = factors("linear(2ep) > cosine(resolution=epoch)", 50)
    assert found[:20] == [0.5] * 10 + [1.0] * 10
    assert [found[10 * epoch] for epoch in range(5)] == pytest.approx([0.5, 1.0, 0.853553, 0.5, 0.146447], abs=1e-6)
    assert all(found[step] == found[step // 10 * 10] for step in range(50))


def test_samples_are_steps_of_a_batch():
    assert factors("linear(64sample) > constant", 8, batch_size=16) == factors("linear(4step) > constant", 8)
    with pytest.raises(ScheduleError, match="the batch size is not known"):
        factors("linear(64sample) > constant", 8)


def test_by_wall_clock_milestones_are_times_and_shares():
    factor = parse_schedule("linear(5min) > cosine").over(Span(total=600, steps_per_epoch=600, seconds=3600.0))
    assert factor(49) == 1.0
    assert factor(24) == 0.5
    with pytest.raises(ScheduleError, match="'5ep' counts epochs, but the training's duration is wall-clock"):
        parse_schedule("linear(5ep) > cosine").over(Span(total=600, steps_per_epoch=600, seconds=3600.0))
    with pytest.raises(ScheduleError, match="'5min' is wall-clock time, but the training's duration is not"):
        factors("linear(5min) > cosine", 10)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("linear(resolution=epoch)", "the training's duration is wall-clock time. Leave resolution out, or give"),
        ("linear(5min) > cosine(20min)", r"a chain of 5min \+ 20min is 1500 s, but the training has 3600,"),
        ("linear(5min) > cosine(60min)", r"a chain of 5min \+ 60min is 3900 s, but the training has 3600\."),
    ],
)
def test_what_does_not_fit_the_clock_is_refused(text, message):
    with pytest.raises(ScheduleError, match=message):
        parse_schedule(text).over(Span(total=1_000_000, steps_per_epoch=1_000_000, seconds=3600.0))


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("constant(0.5dur) > cosine(0.5dur)", {"total": 625}),
        ("linear(0.2dur) > constant(0.3dur) > cosine(0.5dur)", {"total": 33}),
        ("linear(0.01dur) > constant(0.01dur) > cosine(0.98dur)", {"total": 10}),
        ("constant(0.5dur) > cosine(0.5dur, resolution=epoch)", {"total": 625, "steps_per_epoch": 5}),
        ("linear(0.5dur) > cosine(500sample)", {"total": 63, "batch_size": 16}),
        ("linear(505sample) > cosine(505sample)", {"total": 64, "batch_size": 16}),
        ("linear(10min) > cosine(20min)", {"total": 1000, "seconds": 1800.0}),
        ("linear(10min) > cosine(20min)", {"total": 1000, "seconds": 1800 * 0.3, "stretch": 0.3}),
    ],
)
def test_parts_that_make_a_whole_fill_the_training(text, options):
    found = factors(text, **options)
    assert found[-1] == 0.0
    assert found[-2] > 0.0


def test_joints_are_rounded_and_not_lengths():
    found = factors("constant(0.25dur) > constant(0.25dur) > cosine(0.5dur)", 625)
    assert found.count(1.0) == 314  # up to step 312.5 and the cosine's first
    assert found == factors("constant(313step) > cosine(312step)", 625)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("linear(5ep) > cosine(20ep)", r"a chain of 5ep \+ 20ep is 250 steps, but the training has 900,"),
        ("cosine(899step)", "Leave out the last length, or say what follows"),
        ("restarts(10ep, length=20ep)", "a chain of 20ep is 200 steps"),
        ("linear(5ep)", r"To warm up, let another phase follow: linear\(5ep\) > constant"),
        ("linear(5ep) > cosine(20ep, resolution=epoch)", r"5ep \+ 20ep is 25 epochs, but the training has 90,"),
    ],
)
def test_a_chain_that_leaves_the_rest_at_zero_is_refused(text, message):
    with pytest.raises(ScheduleError, match=message):
        factors(text, 900)


def test_a_chain_that_leaves_the_rest_above_zero_or_says_so_is_not():
    assert factors("linear(2step) > cosine(2step, end=0.1)", 6)[4:] == [0.1] * 3
    assert factors("linear(2step) > cosine(2step, end=0) > constant", 6)[4:] == [0.0] * 3
    assert factors("linear(2step) > step(1step, length=2step)", 6)[4:] == pytest.approx([0.01] * 3)


@pytest.mark.parametrize("text", ["linear(3ep) > cosine", "constant(20step) > constant(20step) > linear"])
def test_a_chain_longer_than_the_training_is_refused(text):
    with pytest.raises(ScheduleError, match=r"is (30|40) steps, but the training has 25"):
        factors(text, 25)


def test_a_schedule_of_ones_own_gives_phases():
    class Mine(Schedule):
        def phases(self):
            return parse_schedule("linear(2step) > constant").phases()

    assert [Mine().factor(step, 4, 2) for step in range(4)] == [0.5, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("stretch", [0.0, -1.0, float("inf"), float("nan"), "0.5", None])
def test_a_stretch_is_a_positive_factor(stretch):
    with pytest.raises(ScheduleError, match="stretch="):
        Span(total=10, steps_per_epoch=5, stretch=stretch)


@pytest.mark.parametrize("stretch", [np.float64(0.5), np.float32(0.5), Fraction(1, 2)])
def test_a_stretch_is_any_real_number(stretch):
    span = Span(total=100, steps_per_epoch=10, stretch=stretch)
    assert span == Span(total=100, steps_per_epoch=10, stretch=0.5)
    assert type(span.stretch) is float
    assert parse_schedule("linear(4ep) > cosine").over(span)(19) == 1.0


def test_lists_are_as_good_as_tuples():
    chain = Chain(parts=[Line(length="1ep"), Steps(at=["1ep", "3ep"])])
    assert chain == parse_schedule("linear(1ep) > step(at=1ep+3ep)")
    assert chain.factor(20, 60, 10) == pytest.approx(0.1)
