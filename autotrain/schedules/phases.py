"""Phases: the parts that a schedule is chained of, each a shape between two factors over a length."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from autotrain.errors import ScheduleError
from autotrain.schedules.functions import cosine, linear, polynomial
from autotrain.schedules.span import Span
from autotrain.schedules.time import parse_time

Curve = Callable[[float], float]
"""A factor by the steps since its phase began, 0 to its length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """One part of a schedule; it goes on from where the part before it ended, and holds that unless it says otherwise.

    Subclasses change ``shape``, or ``curve`` where they have milestones of their own.
    """

    length: str | None = None
    """How long, in any unit; None for an equal share of what the other phases leave."""

    start: float | None = None
    """Factor at its begin; None for the end of the phase before, or 1."""

    end: float | None = None
    """Factor at its end; None for 1 where another phase follows, else 0."""

    def __post_init__(self) -> None:
        if self.length is not None:
            parse_time(self.length)
        for name, value in (("start", self.start), ("end", self.end)):
            if value is not None and not 0 <= value < math.inf:
                raise ScheduleError(f"schedule: {name}={value}; a factor is 0 or more and finite")

    @property
    def climbs(self) -> bool:
        """Whether it rises from zero when it comes first and others follow: a warm-up."""
        return False

    @property
    def has_milestones(self) -> bool:
        """Whether it has milestones of its own, which count from the end of a warm-up, not from its last step."""
        return False

    def shape(self, progress: float, start: float, end: float) -> float:  # noqa: ARG002 (all shapes are called alike)
        """Return the factor at a progress from 0 to 1."""
        return start

    def curve(self, steps: float, start: float, last: bool, span: Span) -> Curve:
        """Return the factor by the steps since the begin.

        Args:
            steps: the phase's length.
            start: factor at the begin.
            last: whether no phase follows.
            span: the training.
        """
        del span
        end = self.end if self.end is not None else 0.0 if last else 1.0
        return lambda offset: self.shape(offset / steps if steps else 1.0, start, end)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold(Phase):
    """One factor throughout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line(Phase):
    """A straight line."""

    @property
    def climbs(self) -> bool:
        """It does where neither end is given."""
        return self.start is None and self.end is None

    def shape(self, progress: float, start: float, end: float) -> float:
        """Return the factor on the line."""
        return linear(progress, start=start, end=end)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wave(Phase):
    """Half a cosine wave."""

    def shape(self, progress: float, start: float, end: float) -> float:
        """Return the factor on the wave."""
        return cosine(progress, start=start, end=end)


@dataclass(frozen=True, slots=True, kw_only=True)
class Power(Phase):
    """A polynomial."""

    power: float = 2.0
    """Greater than 0; 1 is a line."""

    def __post_init__(self) -> None:
        Phase.__post_init__(self)
        if not 0 < self.power < math.inf:
            raise ScheduleError(f"schedule: power={self.power}; it is greater than 0")

    def shape(self, progress: float, start: float, end: float) -> float:
        """Return the factor on the polynomial."""
        return polynomial(progress, start=start, end=end, power=self.power)


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps(Phase):
    """Steps down: the factor is multiplied by ``gamma`` at milestones."""

    every: str | None = None
    """Distance of the milestones."""

    at: tuple[str, ...] = ()
    """Milestones since the phase began, instead of a distance."""

    gamma: float = 0.1
    """Greater than 0."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "at", tuple(self.at))  # a list would have no hash
        Phase.__post_init__(self)
        if (self.every is None) == (not self.at):
            raise ScheduleError("schedule: a step schedule needs either every= or at=: step(30ep), step(at=30ep+60ep)")
        if self.end is not None:
            raise ScheduleError("schedule: a step schedule ends where its steps lead; end= does not go with it")
        if not 0 < self.gamma < math.inf:
            raise ScheduleError(f"schedule: gamma={self.gamma}; it is greater than 0")
        for text in (*self.at, *((self.every,) if self.every else ())):
            parse_time(text)

    @property
    def has_milestones(self) -> bool:
        """It has."""
        return True

    def curve(self, steps: float, start: float, last: bool, span: Span) -> Curve:
        """Return the factor by the steps since the begin."""
        del steps, last
        if self.every is not None:
            period = span.steps(self.every)
            return lambda offset: start * self.gamma ** (offset // period)
        places = [span.steps(text) for text in self.at]
        return lambda offset: start * self.gamma ** sum(offset >= place for place in places)


@dataclass(frozen=True, slots=True, kw_only=True)
class Restarts(Phase):
    """Half cosine waves, one after the other, each from the start again.

    Source: Loshchilov and Hutter, SGDR: Stochastic gradient descent with warm restarts, ICLR 2017.
    """

    every: str
    """Length of the first wave."""

    growth: float = 1.0
    """Factor by which each wave is longer than the one before; 1 or more."""

    def __post_init__(self) -> None:
        Phase.__post_init__(self)
        parse_time(self.every)
        if not 1 <= self.growth < math.inf:
            raise ScheduleError(f"schedule: growth={self.growth}; it is 1 or more")

    @property
    def has_milestones(self) -> bool:
        """It has: where its waves begin."""
        return True

    def curve(self, steps: float, start: float, last: bool, span: Span) -> Curve:
        """Return the factor by the steps since the begin."""
        first = span.steps(self.every)
        end = 0.0 if self.end is None else self.end

        def factor(offset: float) -> float:
            if offset >= steps:  # the end of the phase is the end of a wave, not the begin of the next
                return self._factor(math.nextafter(steps, 0.0), first, start, end) if not last else end
            return self._factor(offset, first, start, end)

        return factor

    def _factor(self, offset: float, first: int, start: float, end: float) -> float:
        length = float(first)
        if self.growth == 1.0:
            offset %= first
        while offset >= length:
            offset -= length
            length *= self.growth
        return cosine(offset / length, start=start, end=end)
