"""Learning-rate schedules: frozen descriptions whose factor is a pure function of the step."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, fields
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate
from typing import Literal

from autotrain.errors import ScheduleError, unknown
from autotrain.schedules.phases import Curve, Hold, Line, Phase, Wave
from autotrain.schedules.span import Span
from autotrain.schedules.time import nearest, parse_time

Resolution = Literal["step", "epoch"]
"""How often the factor changes: every step, or once an epoch as most training scripts do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """What the base learning rate is multiplied by at each step: a linear warm-up, then the variant's ``phases``.

    A warm-up of w steps starts at 1/w, not at zero, and reaches 1 at step w - 1; from there the phases go on without a
    jump, and the last is exactly at its end at step ``total``, one after the last: the last step still learns.
    Milestones (of steps and restarts) count from step w, as they do where torch's SequentialLR switches at w.
    Source of the warm-up: Goyal et al., Accurate, large minibatch SGD: training ImageNet in 1 hour, 2017.
    """

    warmup: str | None = None
    """Length of the warm-up, such as ``5ep``, ``500step`` or ``0.05dur``; None for none."""

    resolution: Resolution = "step"
    """``epoch`` holds the factor for an epoch, and counts phases and training in whole epochs, rounded up; it does not
    go with a duration in wall-clock time."""

    def __post_init__(self) -> None:
        if self.resolution not in ("step", "epoch"):
            raise ScheduleError(f"schedule: {unknown('resolution', self.resolution, ('step', 'epoch'))}")
        if self.warmup is not None:
            parse_time(self.warmup)

    def phases(self) -> tuple[Phase, ...]:
        """Return what follows the warm-up; the base learning rate throughout unless a variant says otherwise."""
        return (Hold(),)

    def over(self, span: Span) -> Callable[[int], float]:
        """Return the factor by step, which counts from 0 to ``span.total - 1``; ``span.total`` is the end point.

        Raises:
            ScheduleError: the phases do not fit into the training, leave a rest of it at zero, or have units that say
                nothing about it.
        """
        return _bound(self, span)

    def factor(self, step: int, total: int, steps_per_epoch: int) -> float:
        """Return the factor for one step of a training of ``total`` steps.

        Raises:
            ScheduleError: a count is not positive, ``step`` lies outside 0 to ``total``, or the phases do not fit.
        """
        found = self.over(Span(total=total, steps_per_epoch=steps_per_epoch))
        if not 0 <= step <= total:
            raise ScheduleError(f"schedule: step {step} lies outside the training's 0 to {total}")
        return found(step)


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant(Schedule):
    """The base learning rate throughout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmupCosine(Schedule):
    """A warm-up, then half a cosine wave down to ``final``."""

    warmup: str | None = "0.05dur"
    """Length of the warm-up; None for none."""

    final: float = 0.0
    """Factor at the end, 0 to 1."""

    def __post_init__(self) -> None:
        Schedule.__post_init__(self)
        _check_final(self.final)

    def phases(self) -> tuple[Phase, ...]:
        """Return the wave."""
        return (Wave(end=self.final),)


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmupLinear(Schedule):
    """A warm-up, then a straight line down to ``final``."""

    warmup: str | None = "0.05dur"
    """Length of the warm-up; None for none."""

    final: float = 0.0
    """Factor at the end, 0 to 1."""

    def __post_init__(self) -> None:
        Schedule.__post_init__(self)
        _check_final(self.final)

    def phases(self) -> tuple[Phase, ...]:
        """Return the line."""
        return (Line(start=1.0, end=self.final),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trapezoid(Schedule):
    """A warm-up, the base learning rate, and a decay at the end.

    Source: Hägele et al., Scaling laws and compute-optimal training beyond fixed training durations, NeurIPS 2024.
    """

    warmup: str | None = "0.05dur"
    """Length of the warm-up; None for none."""

    decay: str = "0.2dur"
    """Length of the decay."""

    final: float = 0.0
    """Factor at the end, 0 to 1."""

    def __post_init__(self) -> None:
        Schedule.__post_init__(self)
        parse_time(self.decay)
        _check_final(self.final)

    def phases(self) -> tuple[Phase, ...]:
        """Return the plateau and the decay."""
        return Hold(), Line(length=self.decay, start=1.0, end=self.final)


@dataclass(frozen=True, slots=True, kw_only=True)
class OneCycle(Schedule):
    """Half a cosine wave up to the base learning rate, and another down to nearly nothing.

    Source: Smith and Topin, Super-convergence, 2019; the default numbers are those of torch's OneCycleLR.
    """

    peak: str = "0.3dur"
    """When the base learning rate is reached."""

    start: float = 1 / 25
    """Factor at the begin, 0 to 1."""

    final: float = 4e-6
    """Factor at the end, 0 to 1."""

    def __post_init__(self) -> None:
        Schedule.__post_init__(self)
        parse_time(self.peak)
        _check_final(self.final)
        _check_final(self.start, name="start")

    def phases(self) -> tuple[Phase, ...]:
        """Return the way up and the way down."""
        return Wave(length=self.peak, start=self.start, end=1.0), Wave(end=self.final)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain(Schedule):
    """Phases one after the other, each from where the one before it ended."""

    parts: tuple[Phase, ...]

    def __post_init__(self) -> None:
        Schedule.__post_init__(self)
        object.__setattr__(self, "parts", tuple(self.parts))  # a list would have no hash
        if not self.parts:
            raise ScheduleError("schedule: a chain needs at least one phase")

    def phases(self) -> tuple[Phase, ...]:
        """Return the parts."""
        return self.parts


def _check_final(value: float, *, name: str = "final") -> None:
    if not 0 <= value <= 1:
        raise ScheduleError(f"schedule: {name}={value}; it is a factor from 0 to 1")


@lru_cache(maxsize=64)
def _bound(schedule: Schedule, span: Span) -> Callable[[int], float]:
    """Lay the phases out over a training."""
    parts = schedule.phases()
    if schedule.warmup is not None:
        parts = (Line(length=schedule.warmup, start=0.0, end=1.0), *parts)
    by_epoch = schedule.resolution == "epoch"
    if by_epoch and span.seconds is not None:
        raise ScheduleError(
            "schedule: resolution='epoch' changes the learning rate once an epoch, but the training's duration is "
            "wall-clock time. Leave resolution out, or give the duration in epochs: 10ep"
        )
    unit = span.steps_per_epoch if by_epoch else 1
    total = -(-span.total // unit)
    joints = _joints(parts, span, unit, total)
    begins, ends = _places(parts, joints)
    scaled = _Epochs(**{entry.name: getattr(span, entry.name) for entry in fields(span)}) if by_epoch else span
    curves: list[Curve] = []
    factor = 1.0
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        start = part.start if part.start is not None else 0.0 if _climbs(parts) and number == 0 else factor
        curves.append(part.curve(ends[number] - begins[number], start, last, scaled))
        factor = curves[-1](ends[number] - begins[number])
    if joints[-1] < total and factor == 0.0:
        raise ScheduleError(_too_short(parts, _compared(joints[-1], total, span, unit)))

    def found(step: int) -> float:
        place = total if step >= span.total else step // unit
        number = min(bisect_right(ends, place), len(curves) - 1)
        return curves[number](max(0, min(place, ends[number]) - begins[number]))

    return found


class _Epochs(Span):
    """A training whose milestones are counted in whole epochs, rounded up."""

    __slots__ = ()

    def steps(self, text: str) -> int:
        """Return a length in epochs."""
        return -(-Span.steps(self, text) // self.steps_per_epoch)


def _climbs(parts: tuple[Phase, ...]) -> bool:
    """Tell whether the first phase rises from zero."""
    first = parts[0]
    return first.start == 0.0 or (first.climbs and len(parts) > 1)


def _joints(parts: tuple[Phase, ...], span: Span, unit: int, total: int) -> list[int]:
    """Return up to where the phases go, in steps or epochs.

    Lengths are added up without rounding, and only the sums are rounded: parts that make a whole fill the training.
    """
    given = [None if part.length is None else span.length(part.length) for part in parts]
    fixed, still_open = sum((length or Fraction(0) for length in given), Fraction(0)), given.count(None)
    if _whole(fixed, unit) > total:
        lengths = [part.length for part in parts if part.length is not None]
        what = "a warm-up" if len(lengths) == 1 and lengths[0] == parts[0].length and _climbs(parts) else "a chain"
        raise ScheduleError(
            f"schedule: {what} of {' + '.join(lengths)} is {_compared(_whole(fixed, unit), total, span, unit)}. "
            "Shorten it, or give shares such as 0.05dur"
        )
    rest = max(Fraction(0), span.total - fixed) / max(1, still_open)
    places = list(accumulate(rest if length is None else length for length in given))
    joints = [min(total, _whole(place, unit)) for place in places]
    if places[-1] > span.total - 1:  # a training in samples is rounded up to a whole step
        joints[-1] = total
    return joints


def _whole(steps: Fraction, unit: int) -> int:
    """Return the nearest step, or the epoch that has begun there."""
    return -(-nearest(steps) // unit)


def _compared(count: int, total: int, span: Span, unit: int) -> str:
    """Return ``30 steps, but the training has 25``, for a training by the clock in seconds."""
    if span.seconds is not None:
        return f"{count / total * span.seconds:.6g} s, but the training has {span.seconds:.6g}"
    return f"{count} {'steps' if unit == 1 else 'epochs'}, but the training has {total}"


def _places(parts: tuple[Phase, ...], joints: list[int]) -> tuple[list[int], list[int]]:
    """Return where the phases begin and end."""
    ends, begins = joints.copy(), [0, *joints[:-1]]
    if _climbs(parts):
        begins[0] = -1
        ends[0] = max(0, ends[0] - 1)  # the first step learns already, the last of the warm-up at 1
        if len(parts) > 1 and not parts[1].has_milestones:
            begins[1] = ends[0]
    return begins, ends


def _too_short(parts: tuple[Phase, ...], compared: str) -> str:
    """Say that the learning rate would stay at zero, and how it need not."""
    lengths = " + ".join(str(part.length) for part in parts)
    if len(parts) == 1 and parts[0].climbs:
        remedy = f"To warm up, let another phase follow: linear({lengths}) > constant"
    else:
        remedy = "Leave out the last length, or say what follows: cosine(20ep, end=0.1) > constant"
    return f"schedule: a chain of {lengths} is {compared}, and the learning rate is 0 for the rest. {remedy}"
