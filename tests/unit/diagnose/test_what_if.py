"""What another machine or a heavier model would give, where that can be told."""

from dataclasses import replace
from typing import Any

import pytest
from made import measured
from made import session as made_session

from autotrain.diagnose.contention import Limit
from autotrain.diagnose.demand import predict
from autotrain.diagnose.what_if import cores_needed, what_if
from autotrain.measure.measurement import Kind
from autotrain.measure.session import Session
from autotrain.settings import Settings


def session(compute: float, loading: float, *, busy: float = 1.0, device: str = "cpu", **facts: Any) -> Session:
    """Return a session whose batches are so large that what it costs to hand one over does not show."""
    training = measured(Kind.COMPUTE, compute, issue_share=0.05 if device == "cuda" else None)
    return made_session(training, measured(Kind.INPUT, loading, main=busy), device=device, batch_size=1000, **facts)


SESSIONS = [
    session(compute, loading, cores=cores, device=device, busy=busy)
    for compute, loading in ((1000, 200), (1000, 1000), (200, 1000))
    for cores in (1, 2, 8)
    for device in ("cpu", "cuda")
    for busy in (1.0, 0.5)
]
CREWS = [Settings(workers=workers, loader=loader) for workers in (0, 1, 2, 4) for loader in ("processes", "threads")]


def row(made: Session, settings: Settings, words: str):
    return next(entry for entry in what_if(made, settings) if words in entry.change)


@pytest.mark.parametrize("settings", CREWS, ids=str)
def test_the_first_row_is_the_prediction_and_the_only_one_that_is_no_extrapolation(settings):
    for made in SESSIONS:
        rows = what_if(made, settings)
        assert rows[0].per_s == predict(made, settings)
        assert [entry.extrapolated for entry in rows] == [False] + [True] * (len(rows) - 1)


@pytest.mark.parametrize("settings", CREWS, ids=str)
def test_more_never_slows_down_and_heavier_never_speeds_up(settings):
    for made in SESSIONS:
        rows = {entry.change: entry.per_s * (1 + 1e-9) for entry in what_if(made, settings)}
        now = rows.pop("as it is")
        cores = [rate for change, rate in rows.items() if "cores" in change and "device" not in change]
        devices = [rate for change, rate in rows.items() if "device" in change]
        models = [rate for change, rate in rows.items() if "model" in change]
        assert [now, *cores] == sorted([now, *cores])
        assert [now, *devices] == sorted([now, *devices])
        assert [now, *models] == sorted([now, *models], reverse=True)


def test_loading_that_binds_grows_with_the_cores():
    made = session(10_000, 100, device="cuda")
    settings = Settings(workers=2)
    now = what_if(made, settings)[0].per_s
    assert row(made, settings, "2 times the cores").per_s == pytest.approx(2 * now, rel=0.02)
    assert row(made, settings, "4 times the cores").per_s == pytest.approx(4 * now, rel=0.02)
    assert row(made, settings, "4 times the cores").limit in (Limit.LOADING, Limit.LOADING_CORES)
    assert row(made, settings, "5 times as fast").per_s == pytest.approx(now, rel=0.02)


def test_more_cores_are_for_the_workers_and_nothing_is_told_of_them_without():
    for device, words in (("cuda", "2 times the cores, 4 workers"), ("cpu", "2 times the cores, for 4 workers")):
        made = session(1000, 100, device=device)
        assert words in [entry.change for entry in what_if(made, Settings(workers=2))]
        assert not any("cores, " in entry.change for entry in what_if(made, Settings()))


def test_training_that_binds_goes_with_the_device_and_the_model():
    made = session(200, 10_000, device="cuda", cores=16)
    settings = Settings(workers=8)
    assert row(made, settings, "device 5 times").per_s == pytest.approx(1000, rel=0.02)
    assert row(made, settings, "4 times as heavy").per_s == pytest.approx(50, rel=0.02)
    assert row(made, settings, "4 times the cores").per_s == pytest.approx(200, rel=0.02)


def test_a_device_is_never_faster_than_its_work_is_issued():
    made = session(1000, 100_000, device="cuda", cores=16)
    issuing = replace(made.measurements[0], issue_share=0.5)
    made = replace(made, measurements=(issuing, made.measurements[1]))
    assert row(made, Settings(workers=8), "device 5 times").per_s == pytest.approx(2000, rel=0.1)


def test_beside_a_device_the_cores_are_free_for_loading():
    made = session(100, 100)  # one core's time each, of two
    settings = Settings(workers=2)
    assert what_if(made, settings)[0].per_s == pytest.approx(100, rel=0.1)
    found = row(made, settings, "a device 10 times")
    assert found.per_s == pytest.approx(200, rel=0.1)
    assert found.limit in (Limit.LOADING, Limit.LOADING_CORES)
    assert found.cores_needed == pytest.approx(10, rel=0.01)


def test_cores_needed_are_those_that_load_as_fast_as_the_device_trains():
    made = session(1000, 100, busy=0.5)
    assert cores_needed(made, Settings(), 1000) == pytest.approx(5)
    assert cores_needed(made, Settings(), 2000) == pytest.approx(10)
    assert cores_needed(made, Settings(cache="ram"), 1000) is None
    assert what_if(made, Settings())[0].cores_needed == pytest.approx(5)
    assert row(made, Settings(), "model 2 times").cores_needed == pytest.approx(2.5)


def test_faster_storage_is_offered_where_loading_waits():
    waiting, working = session(10_000, 100, busy=0.2, cores=8), session(10_000, 100, cores=8)
    settings = Settings(workers=2)
    assert row(waiting, settings, "storage").per_s == pytest.approx(200 / 0.6, rel=0.03)
    assert not any("storage" in entry.change for entry in what_if(working, settings))


def test_what_was_not_measured_is_not_extrapolated():
    assert what_if(session(100, 100), Settings(cache="ram")) == ()
    assert what_if(session(100, 100), Settings(precision="bf16")) == ()
