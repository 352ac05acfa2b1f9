"""Demand and ceilings follow from what was measured, on CPUs and beside a device."""

from dataclasses import replace

import pytest
from made import measured, session

from autotrain.diagnose.contention import Limit
from autotrain.measure.measurement import Kind
from autotrain.report.html.page import report_page
from autotrain.report.html.resources import burst_of, resources
from autotrain.settings import Settings

DEFAULT, TWO = Settings(), Settings(workers=2)
PARTS = (
    measured(Kind.COMPUTE, 500, main=2.0),
    measured(Kind.INPUT, 250, wait=1.0),
)


def by_limit(found):
    return {entry.limit: entry for entry in found}


def test_without_workers_loading_and_training_take_turns():
    found = resources(session(*PARTS), DEFAULT)
    ceilings = {limit: entry.ceiling for limit, entry in by_limit(found).items()}
    assert ceilings == pytest.approx({Limit.SERIAL: 500 / 3, Limit.LOADING: 250, Limit.TRAINING: 500})
    assert [entry.limit for entry in found] == [Limit.SERIAL, Limit.LOADING, Limit.TRAINING]
    assert [entry.binds for entry in found] == [True, False, False]
    assert found[0].words == "4 ms of loading, then 2 ms of training"


def test_with_workers_both_share_the_cores():
    found = by_limit(resources(session(*PARTS), TWO))
    assert found.keys() == {Limit.TRAINING, Limit.LOADING, Limit.CORES}
    assert found[Limit.LOADING].ceiling == pytest.approx(500)
    # 4 ms of CPU for training and 4 ms for loading on 2 cores, and a little for handing over
    assert 150 < found[Limit.CORES].ceiling < 250
    assert "2 cores" in found[Limit.CORES].words


def test_a_device_has_a_bus_and_a_host():
    full = measured(Kind.FULL, 400, settings=TWO, transfer=0.1, sync=0.5)
    training = measured(Kind.COMPUTE, 2000, main=1.0, sync=0.5, issue_share=0.25)
    made = session(full, training, PARTS[1], device="cuda")
    found = by_limit(resources(made, TWO))
    assert found.keys() == {Limit.TRAINING, Limit.LOADING, Limit.BUS, Limit.LOADING_CORES, Limit.HOST}
    assert found[Limit.BUS].ceiling == pytest.approx(4000)
    assert found[Limit.HOST].seconds > 0.25 / 2000
    alone = by_limit(resources(made, DEFAULT))
    assert alone.keys() == {Limit.TRAINING, Limit.LOADING, Limit.BUS}
    assert "of issuing work and copying, in turn" in alone[Limit.LOADING].words
    page = report_page(replace(made, chosen=TWO))
    for words in ("copies to the device", "the loading cores", "a device 5 times as fast"):
        assert words in page
    assert "copying to the device for 10% of the time, beside that" in page


def test_nothing_is_said_where_a_part_was_not_measured():
    assert resources(session(PARTS[0]), DEFAULT) == ()


def test_the_burst_that_says_most_counts():
    first, early = measured(Kind.FULL, 100), measured(Kind.FULL, 90, stopped_early=True)
    assert burst_of(session(first, early), DEFAULT) is first
    assert burst_of(session(early), DEFAULT) is early
    assert burst_of(session(), DEFAULT) is None
