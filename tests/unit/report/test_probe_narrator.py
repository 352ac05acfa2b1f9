import io
from dataclasses import replace

import pytest
from rich.console import Console

from autotrain.report.terminal import ProbeNarrator
from autotrain.search.events import Interrupted, Measured, Measuring, Noted, Skipped, Stage, Turn
from autotrain.settings import Settings


def narrated(events, **options) -> str:
    stream = io.StringIO()
    with ProbeNarrator(Console(file=stream, width=80), **options) as narrator:
        for event in events:
            narrator(event)
    return stream.getvalue()


def joined(text: str) -> str:
    """The words without line breaks."""
    return " ".join(text.split())


def test_the_story_holds_what_a_reader_needs(told):
    text = narrated(told.events)
    words = joined(text)
    for part in (
        "Intel Xeon, 2 usable cores",
        "ResNet, 11,181,642 parameters",
        "1,002 image files of photographs/clothing/train at 96 px, in batches of 32",
        "206 images/s (204 to 207, n=24) default",
        "bottleneck input-bound",
        "66% of the time the training process waits for images",
        "placement = device, workers = 2: predicted 1.61x",
        "2 workers (predicted 322)",
        "stopped early",
        "failed: bf16, augmenting on the device, 1 worker: out of memory: a batch did not fit",
        "2 candidates not measured",
        "after 8 pairs: 1.94x (1.93 to 1.95, n=8)",
    ):
        assert part in words
    assert "[####################..........]  66% of each step's time" in text


def test_piped_output_fits_80_columns_without_control_characters(told):
    text = narrated(told.events)
    assert max(map(len, text.splitlines())) <= 80
    assert all(row.isprintable() and row == row.rstrip() for row in text.split("\n"))


def test_what_is_being_measured_is_drawn_on_a_terminal_only(told):
    assert narrated([Measuring(what="bf16, 2 workers")]) == ""
    stream = io.StringIO()
    with ProbeNarrator(Console(file=stream, width=80, force_terminal=True)) as narrator:
        narrator(Measuring(what="bf16, 2 workers"))
        assert "measuring: bf16, 2 workers" in stream.getvalue()


def test_a_dumb_terminal_gets_lines_only(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    stream = io.StringIO()
    with ProbeNarrator(Console(file=stream, width=80, force_terminal=True)) as narrator:
        narrator(Measuring(what="default"))
    assert stream.getvalue() == ""


def test_the_status_line_runs_no_thread():
    import threading

    before = threading.active_count()
    with ProbeNarrator(Console(file=io.StringIO(), width=80, force_terminal=True)) as narrator:
        narrator(Measuring(what="default"))
        assert threading.active_count() == before


def test_the_streams_are_given_back_after_a_failure(told):
    import sys

    before = sys.stdout, sys.stderr
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    narrator = ProbeNarrator(console)

    def fail() -> None:
        with narrator:
            narrator(Measuring(what="default"))
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        fail()
    assert (sys.stdout, sys.stderr) == before


def test_lines_appear_as_they_happen(told):
    stream = io.StringIO()
    with ProbeNarrator(Console(file=stream, width=80)) as narrator:
        narrator(told.events[0])
        assert "Intel Xeon" in stream.getvalue()
        narrator(told.events[1])
        narrator(told.events[3])
        assert "206 images/s" in stream.getvalue()


def test_a_finalist_that_passes_the_guard_is_said_to():
    passed = narrated([Stage(title="numerics guard"), Noted(words="passed"), Stage(title="duel", steps=8)])
    assert "- passed" in passed
    failure = Skipped(settings=Settings(precision="bf16"), reason="numerics guard: the loss is nan", failed=True)
    failed = narrated([Stage(title="numerics guard"), failure, Stage(title="duel", steps=8)])
    assert "passed" not in failed
    assert "failed: bf16: numerics guard: the loss is nan" in failed
    assert "passed" not in narrated([Stage(title="numerics guard")])


def test_pruned_candidates_are_named_when_asked_for(told):
    text = joined(narrated(told.events, verbose=True))
    assert "not measured: 2 workers: cannot exceed 310 images/s" in text
    assert "2 candidates not measured" not in text


def test_an_interruption_is_told():
    assert "interrupted: no more candidates" in joined(narrated([Interrupted()]))


def test_quiet_tells_nothing(told):
    assert narrated(told.events, quiet=True) == ""


def test_a_heat_tells_its_contenders_and_what_disturbed_it(told, measurement):
    first = replace(measurement(Settings(precision="bf16"), 398), heat=1, repeats=2, other_cpu_share=0.06)
    second = replace(measurement(Settings(workers=2), 310, early=True), heat=1, repeats=2, other_cpu_share=0.06)
    events = [
        Stage(title="heat", steps=3),
        Measuring(what="3 side by side"),
        Measured(what="bf16", measurement=first),
        Measured(what="2 workers", measurement=second),
        Stage(title="attribution"),
    ]
    words = joined(narrated(events))
    assert "Heat: the best so far and its challengers, in short turns side by side (3 contenders)" in words
    assert (
        words.count("other programs disturbed 2 rounds: run again (in those that count they used 6% of the CPU)") == 1
    )
    assert "2 workers; behind, so stopped early" in words
    assert "What each setting is worth: alone, and within the choice" in words


def test_a_burst_that_others_disturbed_says_so(measurement):
    disturbed = replace(measurement(Settings(), 300), other_cpu_share=0.3)
    assert "default; other programs used 30% of the CPU" in joined(
        narrated([Measured(what="default", measurement=disturbed)])
    )


def test_a_long_duel_is_told_in_few_lines_and_its_end_however_early():
    turns = [Turn(pair=pair + 1, pairs=120, baseline_rate=200.0, candidate_rate=300.0 + pair) for pair in range(50)]
    told = narrated([Stage(title="duel", steps=120), *turns, Stage(title="attribution")])
    assert [line.split()[1] for line in told.splitlines() if "pairs:" in line] == ["4", "8", "16", "32", "50"]
