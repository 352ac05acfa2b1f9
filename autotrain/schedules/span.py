"""The length of a training, by which milestones given in any unit become steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from numbers import Real

from autotrain.errors import ScheduleError
from autotrain.schedules.time import Unit, exact, exact_steps, nearest, parse_time


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """How long a training is."""

    total: int
    """Steps, at least 1."""

    steps_per_epoch: int
    batch_size: int | None = None
    """Images in a step; None where no milestone is counted in images."""

    seconds: float | None = None
    """Planned wall-clock seconds; None where the length is counted in steps. ``total`` is then how finely it is cut."""

    stretch: float = 1.0
    """Factor by which the recipe is longer; milestones in epochs, steps, samples and seconds move with it."""

    def __post_init__(self) -> None:
        if self.total < 1 or self.steps_per_epoch < 1:
            raise ScheduleError(
                f"schedule: total={self.total}, steps_per_epoch={self.steps_per_epoch}; both must be at least 1"
            )
        object.__setattr__(self, "stretch", checked_stretch(self.stretch))

    def steps(self, text: str) -> int:
        """Return a length such as ``5ep`` in steps, rounded to the nearest, at least 1.

        Raises:
            ScheduleError: it is no duration, or its unit says nothing about this training.
        """
        return max(1, nearest(self.length(text)))

    def length(self, text: str) -> Fraction:
        """Return a length such as ``5ep`` in steps, without rounding, so that lengths add up.

        Raises:
            ScheduleError: it is no duration, or its unit says nothing about this training.
        """
        time = parse_time(text)
        if time.unit is Unit.FRACTION:
            return exact(time.value) * self.total
        if time.unit is Unit.SECOND:
            if self.seconds is None:
                raise ScheduleError(
                    f"schedule: '{text}' is wall-clock time, but the training's duration is not. Give epochs, steps "
                    "or a share: 5ep, 1000step, 0.05dur"
                )
            return exact(time.value) * exact(self.stretch) / exact(self.seconds) * self.total
        if self.seconds is not None:
            raise ScheduleError(
                f"schedule: '{text}' counts {_PLURALS[time.unit]}, but the training's duration is wall-clock time. "
                "Give a share or a time: 0.05dur, 5min"
            )
        if time.unit is Unit.SAMPLE and self.batch_size is None:
            raise ScheduleError(f"schedule: '{text}' counts samples, but the batch size is not known here")
        return exact_steps(
            time, steps_per_epoch=self.steps_per_epoch, batch_size=self.batch_size or 1, stretch=self.stretch
        )


def checked_stretch(stretch: object) -> float:
    """Return a stretch as a plain number, whatever kind of real number it was given as.

    Raises:
        ScheduleError: it is no number greater than 0, or infinite.
    """
    if not isinstance(stretch, Real) or not 0 < float(stretch) < math.inf:
        raise ScheduleError(f"schedule: stretch={stretch!r}; it is a factor greater than 0, such as 0.5")
    return float(stretch)


_PLURALS = {Unit.EPOCH: "epochs", Unit.STEP: "steps", Unit.SAMPLE: "samples"}
