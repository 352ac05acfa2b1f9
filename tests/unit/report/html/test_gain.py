"""The report says of every worth how it was measured."""

import re
from dataclasses import replace

import pytest

from autotrain.plan.evidence import Worth
from autotrain.report.html.gain import worth_section
from autotrain.report.html.page import summary_snippet
from autotrain.stats.summary import Estimate

RATIO = Estimate(value=1.3, low=1.2, high=1.4, n=5)
TURNS = Worth(setting="workers", value=2, instead_of=0, alone=RATIO, within=RATIO)
SINGLE = Worth(
    setting="precision", value="bf16", instead_of="fp32", ratio=RATIO, note="from single bursts, not in pairs"
)
UNKNOWN = Worth(setting="threads", value=1, instead_of=0, note="not measured")


def shown(told, *entries):
    plan = replace(told.plan, evidence=replace(told.plan.evidence, worth=entries))
    section = worth_section(plan)
    words, table = section.blocks[0].texts[0], next(block for block in section.blocks if block.kind == "table")
    return words, [" ".join(f"{cell.text} {cell.note}" for cell in row) for row in table.rows]


def test_turns_are_called_turns(told):
    words, (row,) = shown(told, TURNS)
    assert words.startswith("Alone: ")
    assert words.endswith("without this setting. Measured in interleaved turns; intervals are of 95%.")
    assert "single" not in row


def test_single_bursts_are_called_single_bursts(told):
    words, (row,) = shown(told, SINGLE)
    assert "turns" not in words
    assert "Alone" not in words
    assert "from single bursts apart from each other" in words
    assert row == "precision = bf16 instead of fp32 1.30x 1.20 to 1.40, n=5; from single bursts"


def test_of_both_each_row_says_which(told):
    words, rows = shown(told, TURNS, SINGLE, UNKNOWN)
    assert words.endswith("in interleaved turns, but for the rows that say from single bursts; intervals are of 95%.")
    assert ["from single bursts" in row for row in rows] == [False, True, False]


def test_of_what_was_not_measured_nothing_is_claimed(told):
    words, (row,) = shown(told, UNKNOWN)
    assert "easured" not in words
    assert row == "threads = 1 instead of 0 - not measured"


@pytest.mark.parametrize(("entry", "said"), [(TURNS, False), (SINGLE, True)])
def test_a_notebook_says_it_too(told, entry, said):
    settings = replace(told.session.default, **{entry.setting: entry.value})
    plan = replace(told.plan, settings=settings, evidence=replace(told.plan.evidence, worth=(entry,)))
    piece = summary_snippet(told.session, plan, None)
    assert ("(1.20 to 1.40), from single bursts" in re.sub(r"\s+", " ", piece)) == said
