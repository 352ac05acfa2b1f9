"""Candidates by the value of a setting: what is compared, in which order, and when nothing is said."""

from dataclasses import replace
from xml.etree import ElementTree

import pytest
from made import measured, session

from autotrain.measure.measurement import Kind
from autotrain.plan.plan import Plan
from autotrain.report.html.slices import FEWEST_CANDIDATES, slice_section, slices
from autotrain.settings import Settings

DEFAULT = Settings()
FAST = replace(DEFAULT, precision="bf16", workers=4)


def bursts(**rates):
    """Return bursts of workers by rate, named like w0 or w2_bf16."""
    for name, rate in rates.items():
        workers, _, precision = name.removeprefix("w").partition("_")
        settings = replace(DEFAULT, workers=int(workers), precision=precision or "fp32")
        yield measured(Kind.FULL, rate, settings=settings)


SOME = tuple(bursts(w0=100, w0_bf16=110, w2=300, w4=310, w4_bf16=400, w2_bf16=390))


def rows_of(entry):
    return {value: [round(burst.rate.value) for burst in found] for value, found in entry.bursts}


def test_what_seems_to_matter_most_comes_first_and_numbers_are_in_order():
    first, second = slices((*SOME[3:], *SOME[:3]))
    assert first.names == ("workers",)
    assert list(rows_of(first)) == [(0,), (2,), (4,)]
    assert sorted(rows_of(first)[(4,)]) == [310, 400]
    assert second.names == ("precision",)
    assert sorted(rows_of(second)[("bf16",)]) == [110, 390, 400]
    assert first.ratios == pytest.approx((3.1, 400 / 110))
    assert sorted(second.ratios) == pytest.approx((1.1, 400 / 310, 1.3))
    assert first.effect > second.effect


def test_a_setting_that_came_with_a_good_one_is_not_taken_for_it():
    """The fastest candidate loads by threads, but of two that have as many workers neither is faster."""
    pairs = {"processes": (100, 101, 300), "threads": (None, 100, 302)}
    found = [
        measured(Kind.FULL, rate, settings=replace(DEFAULT, loader=loader, workers=workers))
        for loader, rates in pairs.items()
        for workers, rate in enumerate(rates)
        if rate is not None
    ]
    assert [entry.names for entry in slices(found)] == [("workers",), ("loader",)]


def test_settings_that_changed_together_share_their_rows():
    always = [replace(entry, settings=replace(entry.settings, resize="torch", cache="ram")) for entry in SOME[1:]]
    (together,) = (entry for entry in slices((SOME[0], *always)) if "cache" in entry.names)
    assert together.names == ("resize", "cache")
    assert set(rows_of(together)) == {("pillow", "none"), ("torch", "ram")}


def test_a_candidate_counts_once_by_its_complete_burst():
    again = replace(SOME[4], stopped_early=True, scale=0.5)
    workers, _ = slices((*SOME, again))
    assert sorted(rows_of(workers)[(4,)]) == [310, 400]


def test_few_candidates_say_nothing():
    assert slices(SOME[: FEWEST_CANDIDATES - 1]) == ()
    assert slices(SOME[:1] * FEWEST_CANDIDATES) == ()
    assert slice_section(session(*SOME[:2]), Plan(settings=DEFAULT)) is None


def test_training_alone_is_compared_by_what_it_depends_on():
    parts = [replace(entry, kind=Kind.COMPUTE) for entry in SOME]
    assert slices(parts) == ()  # of two precisions: workers make no difference to training alone
    parts = [
        measured(
            Kind.COMPUTE,
            rate,
            settings=replace(DEFAULT, precision=precision, optimizer_kernel=kernel, workers=rate % 2, cache="ram"),
        )
        for precision, rate in (("fp32", 100), ("bf16", 201))
        for kernel in ("own", "foreach", "fused")
    ]
    assert [entry.names for entry in slices(parts)] == [("precision",), ("optimizer_kernel",)]


def test_every_candidate_has_a_mark_in_its_row():
    section = slice_section(session(*SOME), Plan(settings=FAST))
    assert section is not None
    assert [block.kind for block in section.blocks] == ["words", "legend", "beside"]
    assert section.blocks[1].entries == (("default", "default"), ("choice", "choice"), ("other", "other candidate"))
    (title, (table,)), (other, _) = section.blocks[2].parts
    assert (title, other) == ("workers", "precision")
    assert [(row[0].text, row[0].note) for row in table.rows] == [
        *(("0", "2 candidates"), ("2", "2 candidates"), ("4", "2 candidates")),
    ]
    styles = [
        [mark.get("class").split()[1] for mark in ElementTree.fromstring(str(row[0].strip)) if len(mark)]
        for row in table.rows
    ]
    assert styles == [["other", "default"], ["other", "other"], ["other", "choice"]]
    assert table.caption == (
        "images/s by workers; candidates that are equal otherwise lie 3.37x apart (3.10 to 3.64, n=2)"
    )
    assert table.rows[2][1].text == "400"
    assert table.rows[2][1].note.endswith("n=9")


def test_rates_of_parts_are_folded_below(earlier):
    section = slice_section(earlier, Plan(settings=earlier.chosen))
    assert section is not None
    *_, training, loading = section.blocks
    assert training.summary.startswith("Training alone: ")
    assert loading.summary == "Loading alone: 20 candidates"
    names = {title for title, _ in loading.blocks[0].parts}
    assert names == {"decoder", "resize", "cache"}
