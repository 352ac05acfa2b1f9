"""By the clock a schedule ends on the bell, whatever the first step took and whatever is not measured yet."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from autotrain.engine.course import MOST_UNSEEN, Course

STEPS_PER_EPOCH = 50
TOTAL_S = 100.0


class Line:
    """A schedule whose factor is what is left."""

    def over(self, span: Any) -> Any:
        return lambda place: 1.0 - place / span.total


def course(*, validation: int = 0, total_s: float = TOTAL_S) -> Course:
    workload: Any = SimpleNamespace(
        span=SimpleNamespace(seconds=total_s, total=1_000_000),
        schedule=Line(),
        stream=lambda: SimpleNamespace(steps_per_epoch=STEPS_PER_EPOCH),
        validation=range(validation) if validation else None,
        batch_size=10,
    )
    return Course(workload)


class Clock:
    """Trains by a clock of its own; keeps the factor of every step."""

    def __init__(self, course: Course, *, at: float = 0.0) -> None:
        self.course, self.now = course, at
        self.factors: list[float] = []
        self.evaluations = 0

    def step(self, seconds: float) -> None:
        self.factors.append(self.course.factor(len(self.factors), self.now))
        self.now += seconds
        self.course.stepped(seconds)

    def run(self, step_s: float, pause_s: float, *, first_s: float | None = None) -> None:
        """Train to the end as the loop does."""
        ended, seconds = False, step_s if first_s is None else first_s
        while not ended:
            self.step(seconds)
            seconds = step_s
            ended = self.course.ended(len(self.factors), self.now)
            if ended or len(self.factors) % STEPS_PER_EPOCH == 0:
                self.evaluations += 1
                self.now += pause_s
                self.course.paused(pause_s)
                ended = ended or self.course.ended(len(self.factors), self.now)


@pytest.mark.parametrize("pause_s", [0.0, 0.5, 4.0])
@pytest.mark.parametrize("first_s", [0.1, 3.0, 20.0])
def test_the_schedule_ends_on_the_bell(pause_s: float, first_s: float) -> None:
    clock = Clock(course(validation=1_000))
    clock.run(0.1, pause_s, first_s=first_s)
    assert clock.now == pytest.approx(TOTAL_S, rel=0.02)
    assert clock.factors[-1] < 0.02
    assert all(later <= earlier for earlier, later in zip(clock.factors, clock.factors[1:], strict=False))


def test_a_slow_first_step_takes_nothing_of_the_schedule() -> None:
    """It compiles, and starts the loader: neither is the pace, nor what the learning rate goes by."""
    clock = Clock(course(validation=1_000))
    clock.step(20.0)
    assert not clock.course.ended(1, clock.now)
    for _ in range(10):
        clock.step(0.1)
    assert clock.factors[-1] > 0.97
    clock.now -= 20.0
    quick = Clock(course(validation=1_000))
    for _ in range(11):
        quick.step(0.1)
    assert clock.factors[-1] == pytest.approx(quick.factors[-1], abs=0.01)


def test_an_evaluation_that_was_not_seen_does_not_end_the_training() -> None:
    """10,000 batches of a tenth of a second would take longer than the training has."""
    clock = Clock(course(validation=100_000))
    for _ in range(5):
        clock.step(0.1)
    assert clock.course.closing_s <= MOST_UNSEEN * TOTAL_S
    assert not clock.course.ended(5, clock.now)
    assert clock.factors[-1] > 0.9


def test_asking_how_far_it_is_moves_nothing() -> None:
    """Several ranks ask at moments of their own, and have to train with the same learning rate."""
    one, other = Clock(course()), Clock(course())
    for step_s in (0.1, 0.1, 0.4, 0.1, 0.05, 0.3):
        one.step(step_s)
        other.step(step_s)
        for _ in range(3):
            other.course.progress(0, other.now + 7.0)
    one.step(0.1)
    other.step(0.1)
    assert one.factors == other.factors


def test_what_goes_on_knows_what_the_end_of_an_epoch_takes() -> None:
    first = Clock(course(validation=1_000))
    first.run(0.1, 6.0)
    again = course(validation=1_000)
    again.go_on(first.course.trained_s / 2, 0.5, first.course.pause_s)
    assert again.closing_s == 6.0


def test_by_steps_it_is_told_by_steps() -> None:
    workload: Any = SimpleNamespace(
        span=SimpleNamespace(total=100, seconds=None),
        schedule=Line(),
        stream=lambda: SimpleNamespace(steps_per_epoch=STEPS_PER_EPOCH),
        validation=None,
        batch_size=10,
    )
    made = Course(workload)
    assert (made.progress(25, 1e9), made.ended(99, 1e9), made.ended(100, 0.0)) == (0.25, False, True)
