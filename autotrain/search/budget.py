"""The budget: how long a probe may take, and what of it is left."""

from __future__ import annotations

import re

from autotrain.errors import ScheduleError
from autotrain.measure.clock import Clock
from autotrain.schedules.time import Unit, parse_time

LEAST_S, USUAL_S, MOST_S = 70.0, 84.0, 300.0
"""Seconds of the automatic budget: at least, where steps are not short, and at most (but for very slow ones)."""

USUAL_STEPS = 250
"""Steps at the default's rate that the budget allows for up to ``USUAL_S``."""

SHARE = 0.01
"""Share of the planned training that the automatic budget takes, within that range."""

SHORTEST_S, LARGEST_SHARE = 45.0, 0.06
"""Where the training follows at once, the automatic budget is no more than this share of it, but at least so long."""

SLOW_SHARE = 0.25
"""The same where steps are long: fewer of them than ``STEPS`` where those would be more than this share."""

LEAST_STEPS, MOST_WON = 40, 0.4
"""Training steps that the shortest search takes, all in all, and the part of a training that is won at 1.67x, what a
training that does not wait may hope for."""

LONG_S = 1200.0
"""Seconds of a training from which on 10 to 15 for what only informs are within 1%."""

STEPS = 80
"""Training steps at the default's rate that an automatic budget allows in any case: slow models need more time."""

SEARCH_END, PLAY_OFF_END, DUEL_END, ATTRIBUTION_END = 0.50, 0.57, 0.86, 0.96
"""Parts of the budget by which each of these is to be over; the guard runs between play-off and duel."""


class Budget:
    """Counts from its making. ``auto`` is 70 s to 5 minutes, 1% of the planned training in between; 10 if slow.

    Args:
        seconds: what the user gave; None is ``auto``.
        clock: tells the time.
        before_training: whether the training follows at once. An automatic budget is then no more than 6% of a training
            that is short, or 45 s; a quarter of it where steps are long.
    """

    def __init__(self, seconds: float | None, clock: Clock, *, before_training: bool = False) -> None:
        self._clock = clock
        self._started = clock.now()
        self._before_training = before_training
        self.automatic = seconds is None
        self.total_s = LEAST_S if seconds is None else seconds
        self.brief = False
        """Whether time for what only informs would be a good part of the training."""

        self.in_vain = False
        """Whether steps are so long and so few that even the shortest search would cost more than it may win."""

    def plan(self, training_s: float, step_s: float, *, wait_share: float = 0.0) -> None:
        """Set an automatic budget, now that the default's rate is known.

        Args:
            training_s: seconds of the planned training at that rate.
            step_s: seconds of a step.
            wait_share: part of them in which the training process waits for images, which all may be won.
        """
        if not self.automatic:
            return
        fewest_s = min(2 * MOST_S, STEPS * step_s)
        by_steps = max(min(USUAL_S, USUAL_STEPS * step_s), fewest_s)
        self.total_s = max(LEAST_S, min(MOST_S, SHARE * training_s), by_steps)
        if self._before_training:
            slow_s = min(fewest_s, SLOW_SHARE * training_s)
            self.total_s = min(self.total_s, max(SHORTEST_S, LARGEST_SHARE * training_s, slow_s))
            self.brief = training_s < LONG_S
            self.in_vain = LEAST_STEPS * step_s > max(SHORTEST_S, max(MOST_WON, wait_share) * training_s)

    def extend(self, seconds: float) -> None:
        """Lengthen an automatic budget."""
        if self.automatic:
            self.total_s += seconds

    @property
    def spent_s(self) -> float:
        """Seconds since the probe began."""
        return self._clock.now() - self._started

    @property
    def left_s(self) -> float:
        """Seconds left for everything."""
        return self.total_s - self.spent_s

    @property
    def search_left_s(self) -> float:
        """Seconds left for the search."""
        return self.left_until(SEARCH_END)

    def left_until(self, share: float) -> float:
        """Return the seconds left until a share of the budget is spent."""
        return share * self.total_s - self.spent_s


def parse_budget(text: str) -> float | None:
    """Return the seconds of ``90s``, ``2min`` or ``90``; None for ``auto``.

    Raises:
        ScheduleError: it is not a time, or too short to measure anything.
    """
    if text.strip() == "auto":
        return None
    try:
        time = parse_time(text + "s" if re.fullmatch(r"\s*[\d.]+\s*", text) else text)
    except ScheduleError as problem:
        raise ScheduleError(f"budget: {problem}") from problem
    if time.unit is not Unit.SECOND:
        raise ScheduleError(f"budget '{text}': give a time, such as 90s or 2min, or auto")
    if time.value < 5:
        raise ScheduleError(f"budget '{text}': too short to measure anything; give at least 5s")
    return time.value
