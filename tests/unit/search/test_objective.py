"""The best is what trains soonest to its end, among what may be chosen at all."""

import random
from dataclasses import replace

import pytest

from autotrain.measure.measurement import Kind
from autotrain.measure.session import Failed, Guard
from autotrain.search.objective import (
    OPEN_END_IMAGES,
    best,
    candidates,
    cost,
    filling_images,
    least_needed,
    predicted_s,
    training_s,
)
from autotrain.settings import Settings

DEFAULT = Settings()
BF16 = Settings(precision="bf16")
BOTH = Settings(precision="bf16", workers=2)


def test_the_objective_is_the_planned_trainings_wall_clock(make_session, measure):
    made = make_session()
    assert made.job.planned_images == 640
    assert training_s(made, measure(DEFAULT, 64.0, startup_s=3.0)) == pytest.approx(13.0, rel=1e-3)
    open_end = replace(made, job=replace(made.job, planned_images=0))
    expected = pytest.approx(OPEN_END_IMAGES / 64.0, rel=1e-3)
    assert training_s(open_end, measure(DEFAULT, 64.0, startup_s=0.0)) == expected


def test_a_slow_start_can_cost_a_short_training_its_gain(make_session, measure):
    made = make_session(measure(DEFAULT, 100.0), measure(BF16, 150.0, startup_s=60.0))
    assert best(made).settings == DEFAULT
    long = replace(made, job=replace(made.job, planned_images=10**7))
    assert best(long).settings == BF16


def test_the_first_epoch_fills_a_cache_at_the_rate_without_it(make_session, measure):
    cached = replace(DEFAULT, cache="ram")
    made = make_session(measure(DEFAULT, 64.0), measure(cached, 640.0))
    assert (made.job.planned_images, made.job.samples) == (640, 64)
    burst = made.find(Kind.FULL, cached)
    assert training_s(made, burst) - burst.startup_s == pytest.approx(64 / 64 + 576 / 640, rel=0.01)
    once = replace(made, job=replace(made.job, planned_images=64))
    assert best(once).settings == DEFAULT  # one epoch only fills it
    assert best(made).settings == cached


def test_what_a_cache_costs_counts_when_others_are_ruled_out(make_session, measure):
    cached = replace(DEFAULT, cache="ram")
    made = make_session(measure(DEFAULT, 64.0), measure(cached, 640.0))
    plain, kept = (made.find(Kind.FULL, settings) for settings in (DEFAULT, cached))
    assert least_needed(made, plain) == pytest.approx(plain.rate.low)
    assert least_needed(made, kept) == pytest.approx(640 / 1.9 * kept.rate.low / kept.rate.value, rel=0.01)


@pytest.mark.parametrize("kind", ["ram", "disk"])
def test_ranks_fill_caches_of_their_own_as_images_come_their_way(make_session, measure, kind):
    """In memory each of four has one, on disk each of two machines; every epoch deals the images anew."""
    cached = replace(DEFAULT, cache=kind)
    made = make_session(measure(DEFAULT, 64.0), measure(cached, 640.0))
    made = replace(made, job=replace(made.job, processes=4, machines=2, planned_images=640))
    count = {"ram": 4, "disk": 2}[kind]
    dealt, missing = random.Random(0), 0
    for _ in range(300):
        kept = [set() for _ in range(count)]
        for _ in range(10):
            for image in range(64):
                own = kept[dealt.randrange(count)]
                missing += image not in own
                own.add(image)
    assert filling_images(made, cached) == pytest.approx(missing / 300, rel=0.02)
    burst = made.find(Kind.FULL, cached)
    seconds = filling_images(made, cached) / 64 + (640 - filling_images(made, cached)) / 640
    assert training_s(made, burst) - burst.startup_s == pytest.approx(seconds, rel=0.01)
    assert cost(made, cached).seconds(burst.rate.value) == pytest.approx(seconds, rel=0.01)
    part = replace(made, job=replace(made.job, planned_images=16))
    assert filling_images(part, cached) == 16  # within one epoch nothing comes twice


def test_compiling_counts_once(make_session, measure):
    made = make_session()
    plain, compiled = (measure(DEFAULT, 64.0, startup_s=1.0, compile_s=seconds) for seconds in (0.0, 30.0))
    assert training_s(made, compiled) - training_s(made, plain) == pytest.approx(30.0)


def test_a_heat_compares_by_the_same_cost(make_session, measure):
    """But for the start-up, which is not known before it."""
    cached = replace(DEFAULT, cache="ram")
    made = make_session(measure(DEFAULT, 64.0, startup_s=0.0), measure(cached, 640.0, startup_s=0.0))
    for settings in (DEFAULT, cached):
        burst = made.find(Kind.FULL, settings)
        assert cost(made, settings).seconds(burst.rate.value) == pytest.approx(training_s(made, burst))


def test_a_training_of_one_epoch_only_fills_the_cache(make_session, measure):
    made = make_session(measure(DEFAULT, 64.0, startup_s=0.0))
    once = replace(made, job=replace(made.job, planned_images=64))
    filling = cost(once, replace(DEFAULT, cache="ram"))
    assert filling.seconds(640.0) == pytest.approx(64 / 64, rel=0.01)


def test_what_nobody_knows_is_not_predicted(make_session, measure):
    made = make_session(measure(DEFAULT, 64.0))
    assert predicted_s(made, BOTH) is None
    parts = measure(DEFAULT, 100.0, kind=Kind.COMPUTE), measure(DEFAULT, 100.0, kind=Kind.INPUT)
    known = make_session(*parts)
    assert predicted_s(known, DEFAULT) == pytest.approx(known.job.planned_images / 50.0, rel=0.01)


def test_of_equals_the_one_with_the_fewest_changes_is_best(make_session, measure):
    made = make_session(measure(BOTH, 200.0), measure(BF16, 200.0), measure(DEFAULT, 100.0))
    assert best(made).settings == BF16


def test_the_latest_burst_of_settings_counts(make_session, measure):
    made = make_session(measure(BF16, 300.0), measure(DEFAULT, 200.0), measure(BF16, 100.0))
    assert best(made).settings == DEFAULT
    assert len(candidates(made)) == 2


def test_a_burst_that_was_given_up_is_no_candidate(make_session, measure):
    made = make_session(measure(DEFAULT, 100.0), measure(BF16, 300.0, stopped_early=True))
    assert [entry.settings for entry in candidates(made)] == [DEFAULT]


def test_what_the_guard_disqualified_is_no_candidate(make_session, measure):
    made = make_session(measure(DEFAULT, 100.0), measure(BF16, 300.0), measure(BOTH, 200.0))
    problem = Guard(settings=BF16, candidate=(1.0,), references=((1.0,),), problem="the loss is nan at step 1")
    assert best(replace(made, guards=(problem,))).settings == BOTH
    assert best(replace(made, guards=(replace(problem, problem=None),))).settings == BF16


def test_what_failed_after_its_burst_is_no_candidate(make_session, measure):
    made = make_session(measure(DEFAULT, 100.0), measure(BF16, 300.0), measure(BOTH, 200.0))
    failed = Failed(settings=BF16, reason="out of memory")
    assert best(replace(made, failures=(failed,))).settings == BOTH


def test_another_augmentation_policy_is_no_candidate(make_session, measure):
    made = make_session(measure(DEFAULT, 100.0), default=replace(DEFAULT, augmentation="crop"))
    made = replace(made, measurements=(*made.measurements, measure(replace(BF16, augmentation="crop"), 80.0)))
    assert best(made).settings.augmentation == "crop"


def test_ceilings_are_no_candidates(make_session, measure):
    made = make_session(measure(BF16, 900.0, kind=Kind.COMPUTE), measure(BF16, 900.0, kind=Kind.INPUT))
    assert best(made) is None
