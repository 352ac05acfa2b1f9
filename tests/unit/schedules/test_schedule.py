"""Schedules step by step."""

import pytest

from autotrain.errors import ScheduleError
from autotrain.schedules.schedule import Constant, Schedule, WarmupCosine, WarmupLinear
from autotrain.schedules.text import parse_schedule


def factors(schedule, total, steps_per_epoch):
    return [schedule.factor(step, total, steps_per_epoch) for step in range(total)]


def test_warm_up_starts_above_zero_and_ends_at_one():
    assert factors(WarmupCosine(warmup="4step"), 20, 5)[:4] == [0.25, 0.5, 0.75, 1.0]


def test_the_cosine_ends_at_final_after_the_last_step():
    schedule = WarmupCosine(warmup="1ep", final=0.1)
    assert schedule.factor(20, 20, 5) == 0.1
    assert 0.1 < schedule.factor(19, 20, 5) < 0.11


def test_the_line_goes_down_evenly():
    assert factors(WarmupLinear(warmup=None), 4, 2) == [1.0, 0.75, 0.5, 0.25]


def test_a_share_is_of_the_whole_training():
    assert factors(WarmupCosine(warmup="0.5dur"), 8, 4)[:4] == [0.25, 0.5, 0.75, 1.0]


def test_constant_is_one_and_may_be_warmed_up():
    assert factors(Constant(), 3, 1) == factors(Schedule(), 3, 1) == [1.0] * 3
    assert factors(Constant(warmup="2step"), 3, 1) == [0.5, 1.0, 1.0]


def test_resolution_epoch_holds_the_factor_for_an_epoch():
    schedule = WarmupLinear(warmup="2ep", resolution="epoch")
    assert factors(schedule, 12, 3) == pytest.approx([0.5] * 3 + [1.0] * 3 + [2 / 3] * 3 + [1 / 3] * 3)
    assert schedule.factor(12, 12, 3) == 0.0


def test_resolution_epoch_with_a_part_of_an_epoch_at_the_end():
    assert factors(WarmupLinear(warmup=None, resolution="epoch"), 5, 2) == pytest.approx([1, 1, 2 / 3, 2 / 3, 1 / 3])


def test_the_shortest_training():
    assert factors(WarmupCosine(), 1, 1) == [1.0]
    assert factors(WarmupCosine(warmup="1dur"), 3, 3) == pytest.approx([1 / 3, 2 / 3, 1.0])


@pytest.mark.parametrize(
    ("text", "schedule"), [("cosine", WarmupCosine()), ("constant", Constant()), (" Linear ", WarmupLinear())]
)
def test_schedules_by_name(text, schedule):
    assert parse_schedule(text) == schedule


def test_an_unknown_name_comes_with_a_proposal():
    with pytest.raises(ScheduleError, match=r"unknown schedule 'cosin'\. Did you mean 'cosine'"):
        parse_schedule("cosin")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"warmup": "5"}, "unit is missing"),
        ({"final": 1.5}, "final=1.5"),
        ({"final": float("nan")}, "final=nan"),
        ({"resolution": "batch"}, "unknown resolution 'batch'"),
    ],
)
@pytest.mark.parametrize("kind", [WarmupCosine, WarmupLinear])
def test_a_wrong_description_is_refused_when_it_is_made(kind, options, message):
    with pytest.raises(ScheduleError, match=message):
        kind(**options)


@pytest.mark.parametrize(
    ("step", "total", "steps_per_epoch", "message"),
    [(-1, 10, 5, "step -1"), (11, 10, 5, "step 11"), (0, 0, 5, "total=0"), (0, 10, 0, "steps_per_epoch=0")],
)
def test_a_step_outside_the_training_is_refused(step, total, steps_per_epoch, message):
    for schedule in (Constant(), WarmupCosine(warmup=None)):
        with pytest.raises(ScheduleError, match=message):
            schedule.factor(step, total, steps_per_epoch)


def test_a_warm_up_longer_than_the_training_is_refused():
    with pytest.raises(ScheduleError, match="5ep is 50 steps, but the training has 20"):
        WarmupCosine(warmup="5ep").factor(0, 20, 10)
