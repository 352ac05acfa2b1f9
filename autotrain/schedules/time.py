"""Durations in any unit: ``5ep``, ``1000step``, ``64000sample``, ``0.05dur``, ``30min``."""

import math
import re
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction

from autotrain.errors import ScheduleError, unknown

EXAMPLES = "Examples: 5ep, 1000step, 64000sample, 0.05dur, 90s, 30min, 1.5h"


class Unit(Enum):
    """What a duration is counted in; the value is how it is written."""

    EPOCH = "ep"
    """Passes over the training set."""

    STEP = "step"
    """Optimizer steps; whole numbers only."""

    SAMPLE = "sample"
    """Training images; whole numbers only."""

    FRACTION = "dur"
    """Share of the whole training, at most 1."""

    SECOND = "s"
    """Wall-clock time."""


NAMES: dict[str, tuple[Unit, int]] = {
    **dict.fromkeys(("ep", "epoch", "epochs"), (Unit.EPOCH, 1)),
    **dict.fromkeys(("step", "steps"), (Unit.STEP, 1)),
    **dict.fromkeys(("sample", "samples"), (Unit.SAMPLE, 1)),
    "dur": (Unit.FRACTION, 1),
    **dict.fromkeys(("s", "sec", "second", "seconds"), (Unit.SECOND, 1)),
    **dict.fromkeys(("min", "minute", "minutes"), (Unit.SECOND, 60)),
    **dict.fromkeys(("h", "hour", "hours"), (Unit.SECOND, 3600)),
}
"""Every accepted name, its unit, and by what the number is multiplied."""

_TEXT = re.compile(
    r"\s*(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|[+-]?(?:nan|inf))\s*(?P<unit>[a-z]*)\s*", re.I
)


@dataclass(frozen=True, slots=True)
class Time:
    """A positive duration in one unit; ``str`` writes it such that ``parse_time`` gives the same back."""

    value: float
    """How many units; greater than 0 and finite."""

    unit: Unit
    """What is counted."""

    def __post_init__(self) -> None:
        if problem := _problem(self.value, self.unit):
            raise ScheduleError(f"duration {self.value!r} {self.unit.value}: {problem}. {EXAMPLES}")

    def __str__(self) -> str:
        value, name = self.value, self.unit.value
        if self.unit is Unit.SECOND and value < 1e15:  # beyond that, division by 60 may round
            for longer, seconds in (("h", 3600), ("min", 60)):
                if value % seconds == 0:
                    value, name = value / seconds, longer
                    break
        return f"{int(value) if float(value).is_integer() else value!r}{name}"


def parse_time(text: str) -> Time:
    """Read a duration such as ``5ep``, ``5 epochs`` or ``1.5h``; case and spaces do not matter.

    Raises:
        ScheduleError: the text is no duration; the message names it, what is wrong, and examples.
    """
    match = _TEXT.fullmatch(text)
    if match is None:
        raise ScheduleError(f"duration '{text}': not a number followed by a unit. {EXAMPLES}")
    name = match["unit"].lower()
    if not name:
        raise ScheduleError(f"duration '{text}': the unit is missing. {EXAMPLES}")
    if name not in NAMES:
        raise ScheduleError(f"duration '{text}': {unknown('unit', name, NAMES)}. {EXAMPLES}")
    unit, multiple = NAMES[name]
    value = float(match["number"]) * multiple
    if problem := _problem(value, unit):
        raise ScheduleError(f"duration '{text}': {problem}. {EXAMPLES}")
    return Time(value, unit)


def to_steps(
    time: Time,
    *,
    steps_per_epoch: int,
    batch_size: int,
    total_steps: int | None = None,
    steps_per_s: float | None = None,
    stretch: float = 1.0,
) -> int:
    """Return the duration in optimizer steps, at least 1; epochs, steps and samples are multiplied by ``stretch``.

    Epochs, steps and shares of the training are rounded to the nearest step, samples up (the last batch holds the last
    of them) and wall-clock time down (the training ends before the bell).

    Raises:
        ScheduleError: the unit needs ``total_steps`` or ``steps_per_s``, which is not given; a count is not positive.
    """
    counts = {"steps_per_epoch": steps_per_epoch, "batch_size": batch_size}
    counts |= {} if total_steps is None else {"total_steps": total_steps}
    for name, count in counts.items():
        if count < 1:
            raise ScheduleError(f"duration '{time}': {name}={count}; at least 1 is needed")
    match time.unit:
        case Unit.STEP | Unit.EPOCH:
            steps = nearest(exact_steps(time, steps_per_epoch=steps_per_epoch, batch_size=batch_size, stretch=stretch))
        case Unit.SAMPLE:
            steps = math.ceil(
                exact_steps(time, steps_per_epoch=steps_per_epoch, batch_size=batch_size, stretch=stretch)
            )
        case Unit.FRACTION:
            if total_steps is None:
                raise ScheduleError(
                    f"duration '{time}': a share of the training needs total_steps, the training's length. "
                    "Give epochs, steps, samples or time, such as 5ep or 30min"
                )
            steps = nearest(exact(time.value) * total_steps)
        case Unit.SECOND:
            if steps_per_s is None or not (0 < steps_per_s < math.inf):
                raise ScheduleError(
                    f"duration '{time}': wall-clock time needs a measured rate, but steps_per_s={steps_per_s}. "
                    "Measure first, or give epochs, steps or samples, such as 5ep"
                )
            steps = math.floor(exact(time.value) * exact(steps_per_s))
    return max(1, steps)


def exact_steps(time: Time, *, steps_per_epoch: int, batch_size: int, stretch: float = 1.0) -> Fraction:
    """Return a duration in epochs, steps or samples in optimizer steps, without rounding, so that parts add up."""
    units = {Unit.EPOCH: Fraction(steps_per_epoch), Unit.STEP: Fraction(1), Unit.SAMPLE: Fraction(1, batch_size)}
    return exact(time.value) * units[time.unit] * exact(stretch)


def nearest(steps: Fraction) -> int:
    """Return the nearest whole step, the later one of two that are as near."""
    return math.floor(steps + Fraction(1, 2))


def exact(value: float) -> Fraction:
    """Return the decimal that people wrote, so that 0.29 times 50 is 14.5 and not a little less."""
    return Fraction(repr(float(value)))


def _problem(value: float, unit: Unit) -> str | None:
    """Say what is wrong with the number, or return None."""
    if not math.isfinite(value):
        return "the number is not finite"
    if value <= 0:
        return "a duration must be greater than 0"
    if unit in (Unit.STEP, Unit.SAMPLE) and not float(value).is_integer():
        return f"a {unit.value} cannot be split; give a whole number"
    if unit is Unit.FRACTION and value > 1:
        return "a share of the training is at most 1 (0.05dur is 5%)"
    return None
