"""What schedules promise for every length, and that they agree with torch where shapes are the same."""

import functools
import math
from itertools import accumulate, pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autotrain.errors import ScheduleError
from autotrain.schedules.schedule import WarmupCosine, WarmupLinear
from autotrain.schedules.span import Span
from autotrain.schedules.text import parse_schedule
from autotrain.schedules.time import Time, Unit, parse_time, to_steps

KINDS = st.sampled_from([WarmupCosine, WarmupLinear])
FINALS = st.floats(0, 1)


@st.composite
def trainings(draw):
    total = draw(st.integers(1, 400))
    return total, draw(st.integers(1, 60)), draw(st.integers(1, total))


@given(KINDS, trainings(), FINALS, st.sampled_from(["step", "epoch"]))
def test_range_monotony_and_end(kind, training, final, resolution):
    total, steps_per_epoch, warmup = training
    schedule = kind(warmup=f"{warmup}step", final=final, resolution=resolution)
    factors = [schedule.factor(step, total, steps_per_epoch) for step in range(total + 1)]
    top = factors.index(1.0)
    assert all(0 <= factor <= 1 for factor in factors)
    assert factors[0] > 0
    assert factors[: top + 1] == sorted(factors[: top + 1])
    assert factors[top:] == sorted(factors[top:], reverse=True)
    assert factors[total] == final
    if resolution == "step":
        assert top == warmup - 1


@given(KINDS, trainings(), FINALS)
def test_no_jump_anywhere(kind, training, final):
    total, steps_per_epoch, warmup = training
    schedule = kind(warmup=f"{warmup}step", final=final)
    factors = [schedule.factor(step, total, steps_per_epoch) for step in range(total + 1)]
    steepest = math.pi / 2 / (total - warmup + 1)  # the cosine's slope in the middle
    for step in range(total):
        change = abs(factors[step + 1] - factors[step])
        assert change <= (1 / warmup if step < warmup - 1 else steepest) + 1e-12


@given(KINDS, trainings(), FINALS)
def test_epochs_of_one_step_make_both_resolutions_the_same(kind, training, final):
    total, _, warmup = training
    by_step = kind(warmup=f"{warmup}step", final=final)
    by_epoch = kind(warmup=f"{warmup}step", final=final, resolution="epoch")
    assert all(by_step.factor(step, total, 1) == by_epoch.factor(step, total, 1) for step in range(total + 1))


def torch_factors(total, make):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedulers = make(optimizer)
    found = []
    for _ in range(total):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    return found


@given(st.integers(1, 80), FINALS)
@settings(max_examples=20, deadline=None)
def test_cosine_without_warm_up_is_torchs(total, final):
    schedule = WarmupCosine(warmup=None, final=final)
    theirs = torch_factors(
        total, lambda opt: [torch.optim.lr_scheduler.CosineAnnealingLR(opt, T_max=total, eta_min=final)]
    )
    assert [schedule.factor(step, total, 7) for step in range(total)] == pytest.approx(theirs, abs=1e-9)


@given(st.integers(1, 80), FINALS)
@settings(max_examples=20, deadline=None)
def test_line_without_warm_up_is_torchs(total, final):
    schedule = WarmupLinear(warmup=None, final=final)
    theirs = torch_factors(
        total,
        lambda opt: [torch.optim.lr_scheduler.LinearLR(opt, start_factor=1.0, end_factor=final, total_iters=total)],
    )
    assert [schedule.factor(step, total, 7) for step in range(total)] == pytest.approx(theirs, abs=1e-9)


@given(st.integers(2, 30), st.integers(1, 60), FINALS)
@settings(max_examples=20, deadline=None)
def test_warm_up_and_cosine_are_torchs_in_sequence(warmup, rest, final):
    total, joint = warmup + rest, warmup - 1

    def make(optimizer):
        schedulers = torch.optim.lr_scheduler
        parts = [
            schedulers.LinearLR(optimizer, start_factor=1 / warmup, total_iters=joint),
            schedulers.CosineAnnealingLR(optimizer, T_max=total - joint, eta_min=final),
        ]
        return [schedulers.SequentialLR(optimizer, parts, milestones=[joint])]

    schedule = WarmupCosine(warmup=f"{warmup}step", final=final)
    assert [schedule.factor(step, total, 7) for step in range(total)] == pytest.approx(
        torch_factors(total, make), abs=1e-9
    )


@given(st.integers(2, 30), st.integers(1, 20), st.integers(1, 80), st.floats(0.1, 0.9))
@settings(max_examples=20, deadline=None)
def test_steps_and_restarts_after_a_warm_up_are_torchs_in_sequence(warmup, period, rest, gamma):
    schedulers = torch.optim.lr_scheduler

    def make(optimizer, follows):
        rise = schedulers.LinearLR(optimizer, start_factor=1 / warmup, total_iters=warmup - 1)
        return [schedulers.SequentialLR(optimizer, [rise, follows(optimizer)], milestones=[warmup])]

    for text, follows in (
        (f"step({period}step, gamma={gamma})", lambda opt: schedulers.StepLR(opt, period, gamma)),
        (f"restarts({period}step)", lambda opt: schedulers.CosineAnnealingWarmRestarts(opt, T_0=period)),
    ):
        theirs = torch_factors(warmup + rest, functools.partial(make, follows=follows))
        assert ours(f"linear({warmup}step) > {text}", warmup + rest) == pytest.approx(theirs, abs=1e-9)


@st.composite
def durations(draw):
    unit = draw(st.sampled_from(Unit))
    if unit in (Unit.STEP, Unit.SAMPLE):
        return Time(float(draw(st.integers(1, 10**12))), unit)
    top = 1.0 if unit is Unit.FRACTION else 1e300
    return Time(draw(st.floats(0, top, exclude_min=True)), unit)


@given(durations())
@settings(max_examples=300)
def test_what_is_written_is_read_back(time):
    assert parse_time(str(time)) == time


@given(st.integers(1, 10**6), durations())
def test_whole_minutes_and_hours_are_read_back(count, time):
    for text in (f"{count}min", f"{count}h", f"{count}s"):
        assert parse_time(str(parse_time(text))) == parse_time(text)


@given(st.text(max_size=12))
def test_any_text_is_a_duration_or_an_error_that_names_it(text):
    try:
        problem = "" if parse_time(text).value > 0 else "not positive"
    except ScheduleError as error:
        problem = str(error)
    assert not problem or problem.startswith(f"duration '{text}': ")


@given(durations(), st.integers(1, 1000), st.integers(1, 4096), st.integers(1, 10**6))
def test_steps_are_at_least_one_and_a_share_is_within_the_training(time, steps_per_epoch, batch_size, total):
    steps = to_steps(time, steps_per_epoch=steps_per_epoch, batch_size=batch_size, total_steps=total, steps_per_s=3.0)
    assert steps >= 1
    if time.unit is Unit.FRACTION:
        assert steps <= total
    if time.unit is Unit.SAMPLE:
        assert (steps - 1) * batch_size < time.value <= steps * batch_size


POWERS = st.floats(0.5, 4.0)


def ours(text: str, total: int, **options) -> list[float]:
    factor = parse_schedule(text).over(Span(total=total, steps_per_epoch=7, **options))
    return [factor(step) for step in range(total)]


@given(st.integers(1, 80), POWERS)
@settings(max_examples=20, deadline=None)
def test_the_polynomial_is_torchs(total, power):
    theirs = torch_factors(
        total, lambda opt: [torch.optim.lr_scheduler.PolynomialLR(opt, total_iters=total, power=power)]
    )
    assert ours(f"poly(power={power})", total) == pytest.approx(theirs, abs=1e-9)


@given(st.integers(1, 30), st.integers(1, 80), st.floats(0.1, 0.9))
@settings(max_examples=20, deadline=None)
def test_steps_are_torchs(period, total, gamma):
    schedulers = torch.optim.lr_scheduler
    theirs = torch_factors(total, lambda opt: [schedulers.StepLR(opt, period, gamma)])
    assert ours(f"step({period}step, gamma={gamma})", total) == pytest.approx(theirs, abs=1e-9)
    places = sorted({period, 2 * period, 3 * period + 1})
    theirs = torch_factors(total, lambda opt: [schedulers.MultiStepLR(opt, places, gamma)])
    at = "+".join(f"{place}step" for place in places)
    assert ours(f"step(at={at}, gamma={gamma})", total) == pytest.approx(theirs, abs=1e-9)


@given(st.integers(1, 20), st.integers(1, 3), st.integers(1, 80), FINALS)
@settings(max_examples=20, deadline=None)
def test_restarts_are_torchs(period, growth, total, final):
    theirs = torch_factors(
        total,
        lambda opt: [
            torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(opt, T_0=period, T_mult=growth, eta_min=final)
        ],
    )
    assert ours(f"restarts({period}step, growth={growth}, end={final})", total) == pytest.approx(theirs, abs=1e-9)


@given(st.integers(1, 30), st.integers(2, 50))
@settings(max_examples=20, deadline=None)
def test_one_cycle_is_torchs(up, down):
    total = up + down + 1  # torch ends at its last step, we one after
    theirs = torch_factors(
        total - 1,
        lambda opt: [
            torch.optim.lr_scheduler.OneCycleLR(opt, max_lr=1.0, total_steps=total, pct_start=(up + 1) / total)
        ],
    )
    found = ours(f"cosine({up}step, start=0.04) > cosine(end=4e-6)", total - 1)
    assert found == pytest.approx(theirs, abs=1e-9)


SHAPES = st.sampled_from(("linear", "cosine", "poly", "constant"))


@given(st.lists(st.tuples(SHAPES, st.floats(0.05, 0.3), st.floats(0.0, 1.0)), min_size=1, max_size=3), SHAPES, FINALS)
@settings(max_examples=60, deadline=None)
def test_chains_have_no_jumps_and_end_where_they_say(parts, last, final):
    texts = [f"{name}({share:.3f}dur{'' if name == 'constant' else f', end={end:.3f}'})" for name, share, end in parts]
    texts.append(f"{last}{'' if last == 'constant' else f'(end={final:.4f})'}")
    total = 4000
    factor = parse_schedule(" > ".join(texts)).over(Span(total=total, steps_per_epoch=100))
    found = [factor(step) for step in range(total + 1)]
    assert all(0 <= value <= 1 for value in found)
    assert max(abs(after - before) for before, after in pairwise(found)) < 0.015
    if last != "constant":
        assert found[-1] == pytest.approx(round(final, 4), abs=1e-12)


@given(st.lists(st.integers(1, 100), min_size=1, max_size=6), st.integers(1, 2000), st.sampled_from(("step", "epoch")))
@settings(max_examples=100, deadline=None)
def test_shares_that_make_a_whole_fill_any_training(shares, total, resolution):
    cuts = sorted({min(99, place) for place in accumulate(shares)})
    parts = [f"linear({(after - before) / 100}dur, end=1)" for before, after in pairwise([0, *cuts])]
    text = " > ".join([*parts, f"linear({(100 - cuts[-1]) / 100}dur, resolution={resolution})"])
    factor = parse_schedule(text).over(Span(total=total, steps_per_epoch=7))
    assert factor(0) == 1.0
    assert factor(total) == 0.0
    assert all(factor(step) > 0.0 for step in range(total))


@given(st.integers(10, 40).map(lambda count: 20 * count), st.sampled_from((0.25, 0.5, 2.0, 3.0)))
@settings(max_examples=20, deadline=None)
def test_a_stretched_recipe_is_the_recipe_at_another_pace(total, stretch):
    recipe = parse_schedule("cosine(80step, start=0.1, end=1) > cosine")
    long = round(total * stretch)
    stretched = recipe.over(Span(total=long, steps_per_epoch=7, stretch=stretch))
    plain = recipe.over(Span(total=total, steps_per_epoch=7))
    for step in range(0, total, 7):
        assert stretched(round(step * stretch)) == pytest.approx(plain(step), abs=0.05)
