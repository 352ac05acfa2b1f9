import io
from dataclasses import replace

from rich.console import Console

from autotrain.engine.events import EpochDone, EpochRecord, FitEnded, FitStarted, StepDone
from autotrain.measure.clock import Clock
from autotrain.report.terminal import HEARTBEAT_S, FitNarrator
from autotrain.settings import Settings

STARTED = FitStarted(
    settings=Settings(precision="bf16", workers=2),
    steps_per_epoch=31,
    total_steps=93,
    total_s=None,
    images=1002,
    validation_images=200,
)
STEP = StepDone(step=40, epoch=2, progress=0.43, loss=1.234, lr=0.00083, images_per_s=398.2, wait_share=0.12)
RECORD = EpochRecord(
    epoch=2,
    step=62,
    images=992,
    seconds=2.5,
    wait_s=0.3,
    loss=1.333,
    lr=1e-4,
    validation_s=0.4,
    validation_loss=1.6,
    accuracy=0.5,
)


class Hand(Clock):
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time


def narrated(*events, **options) -> str:
    stream = io.StringIO()
    with FitNarrator(Console(file=stream, width=80), **options) as narrator:
        for event in events:
            narrator(event)
    return stream.getvalue()


def test_the_schedule_is_drawn():
    text = narrated(replace(STARTED, lrs=(0.05, 0.1, 0.1, 0.02, 0.0)))
    rows = [row.split("|")[1] for row in text.splitlines() if "|" in row]
    assert rows == [" ##", " ##", " ##", "###", "####"]
    assert "learning rate 0.05 at first, 0.1 at most, 0 at last" in text


def test_a_training_is_told_epoch_by_epoch():
    text = narrated(STARTED, STEP, EpochDone(record=RECORD), FitEnded(seconds=9.1, interrupted=False))
    assert "93 steps, 3 epochs of 1,002 images" in text
    assert "200 images after every epoch" in text
    assert "epoch 2/3  loss 1.333  val 1.600  accuracy 50.0%    397 images/s  2.9 s" in text
    assert "trained 1 epoch in 9.1 s" in text
    assert "epoch 2 [" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert all(row.isprintable() for row in text.split("\n"))


def test_without_validation_and_by_time():
    started = replace(STARTED, total_steps=None, total_s=1800.0, validation_images=0)
    record = replace(RECORD, validation_s=None, validation_loss=None, accuracy=None)
    text = narrated(started, EpochDone(record=record))
    assert "30.0 min, in epochs of 1,002 images" in text
    assert "validation   none" in text
    assert "epoch 2  loss 1.333    397 images/s  2.5 s" in text


def test_a_long_epoch_gives_a_sign_of_life_where_there_is_no_terminal():
    clock, stream = Hand(), io.StringIO()
    with FitNarrator(Console(file=stream, width=80), clock=clock) as narrator:
        narrator(STARTED)
        narrator(STEP)
        assert "43%" not in stream.getvalue()
        clock.time = HEARTBEAT_S + 1
        narrator(STEP)
        narrator(STEP)
        assert stream.getvalue().count("43%") == 1


def test_steps_are_drawn_on_a_terminal():
    stream = io.StringIO()
    with FitNarrator(Console(file=stream, width=100, force_terminal=True)) as narrator:
        narrator(STARTED)
        narrator(STEP)
        assert "43%" in stream.getvalue()
        assert "wait 12%" in stream.getvalue()


def test_the_time_left_follows_from_what_was_done_since_it_began():
    stream, clock = io.StringIO(), Hand()
    with FitNarrator(Console(file=stream, width=120, force_terminal=True), clock=clock) as narrator:
        narrator(STARTED)
        narrator(replace(STEP, progress=0.40))
        clock.time = 1.0
        narrator(replace(STEP, progress=0.41))
        assert "left" not in stream.getvalue(), "it is too soon to tell"
        clock.time = 60.0
        narrator(replace(STEP, progress=0.50))
        assert "50%, 5.0 min left  loss" in stream.getvalue()


def test_by_time_what_is_left_is_known_at_once():
    stream = io.StringIO()
    with FitNarrator(Console(file=stream, width=120, force_terminal=True), clock=Hand()) as narrator:
        narrator(replace(STARTED, total_steps=None, total_s=600.0))
        narrator(replace(STEP, progress=0.25))
        assert "25%, 7.5 min left" in stream.getvalue()


def test_an_interrupted_training_says_so():
    text = narrated(STARTED, FitEnded(seconds=3.0, interrupted=True))
    assert "interrupted after 0 whole epochs in 3 s; the weights so far are kept" in text


def test_quiet_tells_nothing():
    assert narrated(STARTED, STEP, EpochDone(record=RECORD), quiet=True) == ""
