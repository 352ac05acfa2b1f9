"""The pulse: what ranks have to know of each other after every step, under way while the next step trains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from autotrain.team import Team


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """What all ranks agree on after a step."""

    elapsed_s: float
    """Seconds of training so far, by rank 0's clock."""

    step_s: float
    """What a step took there."""

    signal: int
    """Number of the signal that ends the training, from whichever rank got one; 0 where none did."""

    due: bool
    """Whether a checkpoint is to be written."""


class Pulse:
    """Every rank says something after each step and hears what all said after the step before.

    So nobody waits for a message, and all decide alike: a signal that one rank gets ends the training of all after the
    same step.
    """

    def __init__(self, team: Team) -> None:
        self._team = team
        self._heard: Callable[[], list[list[float]]] | None = None
        self._usual_s = 0.0

    def start(self, elapsed_s: float, *, due: bool) -> None:
        """Say something before the first step; ``due`` is about the state after the next step."""
        self._heard = self._team.begin(elapsed_s, 0.0, 0.0, float(due))

    def beat(self, elapsed_s: float, step_s: float, *, signal: int, due_next: bool) -> Beat:
        """Return what is agreed on after a step.

        Args:
            elapsed_s: seconds of training so far.
            step_s: what the step took.
            signal: number of a signal that came; 0 where none did.
            due_next: whether a checkpoint will be due after the next step; rank 0 knows.
        """
        assert self._heard is not None, "a beat before the start"
        rows = self._heard()
        self._heard = self._team.begin(elapsed_s, step_s, float(signal), float(due_next))
        first = rows[0]
        self._usual_s = min(first[1], 2 * self._usual_s) if self._usual_s else first[1]
        return Beat(
            elapsed_s=first[0] + self._usual_s,  # one step ago, which may have held a checkpoint
            step_s=first[1],
            signal=int(max(row[2] for row in rows)),
            due=bool(first[3]),
        )

    def rest(self) -> None:
        """Hear what is still under way."""
        if self._heard is not None:
            self._heard()
            self._heard = None
