"""Demands, bounds and predictions: what follows from the parts that were measured, and from the bursts so far."""

from dataclasses import fields, replace
from typing import Any

import pytest
from made import JOB, measured
from made import session as made_session

from autotrain.diagnose.components import RECEIVE_S_PER_BYTE, SEND_S_PER_BYTE, content, training_key
from autotrain.diagnose.contention import Crew, Demand, Limit, throughput
from autotrain.diagnose.demand import bound, demand, estimate_compute, one_loader, predict, prediction
from autotrain.measure.measurement import Kind, Measurement
from autotrain.measure.profile import StageProfile, StageTime
from autotrain.measure.session import Session
from autotrain.settings import Settings

BATCH = 1000
"""So large that what a batch costs to hand over does not show."""


def session(*measurements: Measurement, **facts: Any) -> Session:
    return made_session(*measurements, **({"batch_size": BATCH} | facts))


COMPUTE, INPUT = measured(Kind.COMPUTE, 1000), measured(Kind.INPUT, 1000)


@pytest.mark.parametrize(
    ("cores", "workers", "expected"),
    [(2, 0, 500), (1, 1, 500), (16, 1, 925), (16, 8, 1000), (2, 8, 1000), (1, 8, 500)],
)
def test_equal_halves_share_as_many_cores_as_there_are(cores, workers, expected):
    assert predict(session(COMPUTE, INPUT, cores=cores), Settings(workers=workers)) == pytest.approx(expected, rel=0.09)


def test_a_loader_that_waits_takes_no_core_meanwhile():
    asleep = measured(Kind.INPUT, 100, main=0.01)
    made = session(measured(Kind.COMPUTE, 1000, main=1.0), asleep, cores=1)
    assert predict(made, Settings(workers=4)) == pytest.approx(400, rel=0.05)
    assert predict(made, Settings(workers=64)) > 800


def test_intra_op_threads_on_all_cores_slow_the_loader_down():
    alone = session(measured(Kind.COMPUTE, 1000, main=1.0), measured(Kind.INPUT, 250), cores=2)
    crowded = session(measured(Kind.COMPUTE, 1000, main=2.0), measured(Kind.INPUT, 250), cores=2)
    settings = Settings(workers=1)
    assert predict(alone, settings) == pytest.approx(250, rel=0.01)
    # 4 ms of loading, in which 1 ms of training on both cores takes 1.5 ms: the loader loses half a millisecond.
    assert predict(crowded, settings) == pytest.approx(1000 / 4.5, rel=0.03)


def test_threads_need_no_handover_and_share_the_interpreters_lock():
    made = session(COMPUTE, measured(Kind.INPUT, 20_000), cores=16, batch_size=1)
    assert demand(made, Settings(workers=1, loader="threads")).send_s == 0.0
    assert demand(made, Settings(workers=1)).send_s > 0.0
    need = Demand(
        compute_s=1e-4, compute_high_s=1e-4, compute_cpu_s=1e-4, input_s=1e-2, input_high_s=1e-2, input_cpu_s=1e-2
    )
    many = Crew(cores=64, workers=32, stock=64)
    assert throughput(need, replace(many, threads=True)).per_s < throughput(need, many).per_s


def test_handing_over_goes_by_what_is_handed_over_until_it_was_seen():
    made = session(COMPUTE, INPUT)
    none = StageTime()
    stages = dict.fromkeys(("reading", "dataset", "decoding", "augmenting", "collating"), none)
    large = replace(made, profile=StageProfile(**stages, images=8, handed_bytes=1e6))
    for name, per_byte in (("send_s", SEND_S_PER_BYTE), ("receive_s", RECEIVE_S_PER_BYTE)):
        usual, more = (getattr(demand(entry, Settings(workers=4)), name) for entry in (made, large))
        assert more - usual == pytest.approx(per_byte * (1e6 - 3 * JOB.image_size**2))


def test_handing_over_is_taken_from_loading_with_worker_processes():
    worker = measured(Kind.INPUT, 800, main=0.08, workers=1.0, settings=Settings(workers=1))
    need = demand(session(COMPUTE, INPUT, worker), Settings(workers=4))
    assert need.send_s == pytest.approx(1 / 800 - 1 / 1000)
    assert need.receive_s == pytest.approx(0.08 / 800)


def test_what_exactly_these_loaders_reached_counts_more_than_what_one_would_make_of_them():
    settings = Settings(workers=4)
    seen = measured(Kind.INPUT, 500, main=0.0, workers=0.5, settings=settings)
    made = session(COMPUTE, INPUT, seen, cores=16)
    assert predict(made, settings) == pytest.approx(500, rel=0.02)
    assert bound(made, settings) == pytest.approx(500)
    assert predict(made, Settings(workers=3)) > 900


def test_without_workers_an_accelerator_waits_while_work_is_loaded_and_issued():
    compute = measured(Kind.COMPUTE, 1000, issue_share=0.5)
    made = session(compute, measured(Kind.INPUT, 1000), device="cuda", cores=8)
    assert predict(made, Settings()) == pytest.approx(1 / 1.5e-3, rel=0.02)
    assert bound(made, Settings()) == pytest.approx(1000)
    hidden = session(compute, measured(Kind.INPUT, 4000), device="cuda", cores=8)
    assert predict(hidden, Settings()) == pytest.approx(1000, rel=0.06)


def test_copies_bind_where_they_take_longest_and_page_locked_ones_do_not_hold_up_the_host():
    full = [
        measured(Kind.FULL, 400, transfer=0.8, settings=Settings(workers=8, pinning=pinning))
        for pinning in (False, True)
    ]
    compute = measured(Kind.COMPUTE, 1000, issue_share=0.4)
    made = session(compute, measured(Kind.INPUT, 10_000), *full, device="cuda", cores=8)
    pinned = prediction(made, Settings(workers=8, pinning=True))
    assert pinned.limit is Limit.BUS
    assert pinned.per_s / pinned.factor == pytest.approx(500, rel=0.01)
    pageable = prediction(made, Settings(workers=8))
    assert pageable.limit is Limit.HOST
    assert pageable.per_s / pageable.factor == pytest.approx(1 / 2.4e-3, rel=0.01)


def test_threads_that_spin_are_not_work_that_a_bound_may_count():
    spinning = measured(Kind.COMPUTE, 1000, main=2.0)
    one = measured(Kind.COMPUTE, 800, main=1.0, settings=Settings(threads=1))
    loading = measured(Kind.INPUT, 1000)
    settings = Settings(workers=4)
    assert bound(session(spinning, loading), settings) == pytest.approx(2 / 3e-3)
    assert bound(session(spinning, one, loading), settings) == pytest.approx(2 / 2.25e-3)
    assert bound(session(spinning, one, loading), replace(settings, threads=1)) == pytest.approx(800)


def test_a_bound_takes_the_machine_at_its_fastest():
    slow = measured(Kind.COMPUTE, 400)
    made = session(measured(Kind.COMPUTE, 600), slow, INPUT, cores=8)
    settings = Settings(workers=4)
    assert bound(made, settings) == pytest.approx(600)
    assert predict(made, settings) == pytest.approx(400, rel=0.01)  # an expectation is of the machine as it is now


def test_a_burst_above_its_bound_raises_all_bounds():
    settings = Settings(workers=4)
    exceeding = measured(Kind.FULL, 1200, settings=settings)
    made = session(COMPUTE, INPUT, exceeding, cores=8)
    assert bound(made, settings) == pytest.approx(1200)
    assert bound(made, Settings()) == pytest.approx(600)


def seen(made: Session, settings: Settings, ratio: float) -> Session:
    """Return the session with a full burst at ``ratio`` of what is predicted without any."""
    burst = measured(Kind.FULL, ratio * predict(made, settings), settings=settings)
    return replace(made, measurements=(*made.measurements, burst))


def test_bursts_correct_later_predictions_of_their_own_way_most():
    made = session(COMPUTE, INPUT, cores=8)
    workers, threads = Settings(workers=4), Settings(workers=4, loader="threads")
    plain = predict(made, workers)
    once = seen(made, workers, 0.8)
    twice = replace(once, measurements=(*once.measurements, once.measurements[-1]))
    factors = [predict(entry, workers) / plain for entry in (once, twice)]
    assert 0.8 < factors[1] < factors[0] < 1.0
    other = predict(once, threads) / predict(made, threads)
    assert factors[0] < other < 1.0
    # More bursts, all at 0.8: the factor goes there.
    many = replace(once, measurements=(*made.measurements, *[once.measurements[-1]] * 50))
    assert predict(many, workers) / plain == pytest.approx(0.8, rel=0.02)


def test_a_ceiling_that_was_measured_at_a_bad_moment_is_found_out_by_its_bursts():
    bad, good = Settings(workers=1, threads=1), Settings(workers=1)
    made = session(COMPUTE, measured(Kind.COMPUTE, 500, settings=bad), measured(Kind.INPUT, 9000), cores=8)
    for workers in (1, 2, 4):
        made = seen(made, replace(bad, workers=workers), 1.9)
        made = seen(made, replace(good, workers=workers), 1.0)
    others = replace(bad, workers=8), replace(good, workers=8)
    factors = [prediction(made, settings).factor for settings in others]
    assert factors[0] > 1.15 * factors[1]


def test_a_factor_rests_on_the_model_and_not_on_earlier_factors():
    made = seen(session(COMPUTE, INPUT, cores=8), Settings(workers=4), 0.8)
    found = prediction(made, Settings(workers=4))
    again = seen(made, Settings(workers=4), 1.0)
    # That burst met the calibrated prediction exactly, so it confirms the factor instead of drawing it to 1.
    assert prediction(again, Settings(workers=4)).factor <= found.factor


def test_one_wild_burst_does_not_carry_all_others_away():
    made = session(COMPUTE, INPUT, cores=8)
    wild = seen(made, Settings(), 0.01)
    assert predict(wild, Settings()) > 0.5 * predict(made, Settings())


COMPUTE_SIDE = {
    "precision": "bf16",
    "memory_format": "channels_last",
    "compile": "default",
    "optimizer_kernel": "fused",
    "cudnn_benchmark": True,
    "micro_batches": 2,
    "sharding": "full",
    "bucket_mib": 5,
    "gradient_precision": "bf16",
    "gradient_views": True,
    "static_graph": True,
    "threads": 1,
}


@pytest.mark.parametrize("name", COMPUTE_SIDE)
def test_what_acts_on_training_alone_needs_no_other_loading(name):
    settings = replace(Settings(), **{name: COMPUTE_SIDE[name]})
    assert content(settings) == content(Settings())
    made = session(COMPUTE, INPUT, measured(Kind.COMPUTE, 2000, settings=settings))
    assert predict(made, settings) == pytest.approx(1 / (1 / 2000 + 1 / 1000))
    assert predict(made, replace(settings, workers=0)) > predict(made, Settings())


def test_every_setting_decides_training_or_loading():
    changed = {
        "augmentation": "crop",
        "placement": "device",
        "decoder": "simplejpeg",
        "resize": "torch",
        "cache": "ram",
        "loader": "threads",
        "workers": 3,
        "prefetch": 4,
        "pinning": True,
    } | COMPUTE_SIDE
    assert set(changed) == {entry.name for entry in fields(Settings)}
    crew = {"loader", "workers", "prefetch", "pinning"}
    for name, value in changed.items():
        other = replace(Settings(), **{name: value})
        loads, trains = content(other) != content(Settings()), training_key(other) != training_key(Settings())
        assert loads or trains or name in crew, name


def test_the_fewest_workers_speak_for_one_loader():
    two = measured(Kind.INPUT, 1500, main=0.0, workers=2.0, settings=Settings(workers=2))
    assert one_loader(session(two), Settings(workers=8)) is two
    assert one_loader(session(two, INPUT), Settings(workers=8)) is INPUT
    assert one_loader(session(two), Settings(cache="ram")) is None


SINGLES = {
    "precision": ("bf16", 1.5),
    "memory_format": ("channels_last", 0.9),
    "optimizer_kernel": ("fused", 1.1),
}


def singles() -> Session:
    entries = [
        measured(Kind.COMPUTE, 1000 * ratio, settings=replace(Settings(), **{name: value}))
        for name, (value, ratio) in SINGLES.items()
    ]
    return session(COMPUTE, INPUT, *entries)


def test_a_combination_is_composed_of_its_parts():
    made = singles()
    assert estimate_compute(made, Settings(precision="bf16", optimizer_kernel="fused")) == pytest.approx(1650, rel=0.01)
    assert estimate_compute(made, Settings(precision="bf16")) == pytest.approx(1500)  # measured
    everything = Settings(precision="bf16", memory_format="channels_last", optimizer_kernel="fused")
    assert estimate_compute(made, everything) == pytest.approx(1000 * 1.5 * 0.9 * 1.1, rel=0.01)


def test_what_precision_and_layout_do_together_is_taken_over_once_seen():
    made = singles()
    both = Settings(precision="bf16", memory_format="channels_last")
    made = replace(made, measurements=(*made.measurements, measured(Kind.COMPUTE, 2400, settings=both)))
    assert estimate_compute(made, replace(both, optimizer_kernel="fused")) == pytest.approx(2640, rel=0.01)
    assert estimate_compute(made, Settings(precision="bf16", optimizer_kernel="fused")) == pytest.approx(1650, rel=0.01)


def test_what_was_never_seen_is_not_composed():
    made = singles()
    assert estimate_compute(made, Settings(precision="bf16", compile="default")) is None
    assert predict(made, Settings(precision="bf16", compile="default")) is None
    assert estimate_compute(session(INPUT), Settings()) is None


def test_a_composed_prediction_says_so_and_bounds_nothing():
    made = singles()
    settings = Settings(precision="bf16", optimizer_kernel="fused")
    found = prediction(made, settings)
    assert found.composed
    assert found.per_s == pytest.approx(1 / (1 / 1650 + 1 / 1000), rel=0.01)
    assert bound(made, settings) is None
    assert demand(made, settings) is None
    assert not prediction(made, Settings(precision="bf16")).composed


def test_new_measurements_are_seen_at_once():
    made = session(COMPUTE, INPUT)
    before = predict(made, Settings())
    faster = replace(made, measurements=(*made.measurements, measured(Kind.COMPUTE, 4000)))
    assert predict(faster, Settings()) > before
    assert predict(made, Settings()) == before
    assert predict(replace(made, cores=1), Settings(workers=2)) < predict(made, Settings(workers=2))
    assert predict(replace(made, job=replace(made.job, device="cuda")), Settings()) > before
