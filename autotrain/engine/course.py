"""The course: how far a training is, what its learning rate is there, and when it ends."""

from __future__ import annotations

from autotrain.workload import Workload

RECENT = 0.05
"""Weight of a new step in the running mean of step times."""

UNSEEN = 0.5
"""Share of a training step that a batch of validation takes, as long as none was seen: it has no backward pass."""

MOST_UNSEEN = 0.25
"""Share of the training that an evaluation which was not seen yet is taken for, at most."""


class Course:
    """How far a training is and what its learning rate is there: by steps, or by wall-clock.

    By wall-clock, evaluations and checkpoints count too: what is left for training is the time to the bell, less what
    those have taken so far and are expected to take. As the pace drifts, so does what is left, and the schedule with
    it; it never goes back. A process's first step, which starts the loader and may compile, says nothing of the pace.
    """

    def __init__(self, workload: Workload) -> None:
        span = workload.span
        self.steps_per_epoch = workload.stream().steps_per_epoch
        self.total_s = span.seconds
        self.total_steps = None if span.seconds is not None else span.total
        self._factor = workload.schedule.over(span)
        self._parts = span.total
        validation = len(workload.validation) if workload.validation is not None else 0
        self._validation_steps = validation / workload.batch_size
        self._trained_s = 0.0
        self._begun = False
        self._step_s: float | None = None
        self._pause_s: float | None = None
        self._reached = 0.0

    def go_on(self, trained_s: float, reached: float, pause_s: float | None) -> None:
        """Take up where an earlier run of the training was."""
        self._trained_s, self._reached, self._pause_s = trained_s, reached, pause_s

    @property
    def trained_s(self) -> float:
        """Seconds of steps so far."""
        return self._trained_s

    @property
    def pause_s(self) -> float | None:
        """Seconds that the last end of an epoch took; None where there was none."""
        return self._pause_s

    def stepped(self, seconds: float) -> None:
        """Note how long a step took, from the end of the one before on."""
        if not self._begun:
            self._begun = True
            return
        if self._step_s is None:
            self._trained_s += 2 * seconds  # the first one, as it would have been
            self._step_s = seconds
            return
        self._trained_s += seconds
        self._step_s += RECENT * (seconds - self._step_s)

    def paused(self, seconds: float) -> None:
        """Note how long the end of an epoch took: evaluation and checkpoint."""
        self._pause_s = seconds

    @property
    def closing_s(self) -> float:
        """Seconds that the end of the training is expected to take after its last step."""
        if self._pause_s is not None:
            return self._pause_s
        unseen_s = UNSEEN * self._validation_steps * (self._step_s or 0.0)
        return min(unseen_s, MOST_UNSEEN * (self.total_s or 0.0))

    def progress(self, step: int, elapsed_s: float) -> float:
        """Return the share that is done, 0 to 1."""
        if self.total_s is None:
            assert self.total_steps is not None
            return step / self.total_steps
        left_s = self.total_s - elapsed_s - self.closing_s
        if left_s <= 0:
            return 1.0
        if self._step_s is None:
            return self._reached
        epoch_s = self.steps_per_epoch * self._step_s
        left_s *= epoch_s / (epoch_s + self.closing_s)  # the ends of epochs on the way
        return max(self._reached, self._trained_s / (self._trained_s + left_s))

    def factor(self, step: int, elapsed_s: float) -> float:
        """Return what the base learning rate is multiplied by in the step that is taken now."""
        self._reached = self.progress(step, elapsed_s)
        return self._factor(step if self.total_s is None else int(self._parts * self._reached))

    def shape(self, places: int) -> tuple[float, ...]:
        """Return the factor at evenly spaced places, from the first step to the last."""
        last = self._parts - 1
        return tuple(self._factor(round(place * last / max(1, places - 1))) for place in range(places))

    def ended(self, step: int, elapsed_s: float) -> bool:
        """Tell whether no further step is to be taken: by wall-clock, when more than half of it would come too late."""
        if self.total_s is None:
            assert self.total_steps is not None
            return step >= self.total_steps
        return self.total_s - elapsed_s - self.closing_s <= (self._step_s or 0.0) / 2
