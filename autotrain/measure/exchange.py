"""The exchange: what a step of several ranks spends on each other's gradients, and what each rank takes by itself."""

from __future__ import annotations

import math
import socket
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from autotrain.engine.rig import Rig
from autotrain.engine.sharded import CAREFUL
from autotrain.knobs.gradients import gradient_bytes
from autotrain.measure.clock import Clock
from autotrain.measure.drive import RESIDENT, ComputeDrive, resident_batches
from autotrain.settings import Settings
from autotrain.workload import Workload

TURN_S = 0.1
"""Seconds that a turn takes at least."""

ROUNDS, LIMIT_S = 9, 3.0
"""Turns of each kind, and seconds after which none is begun."""

FEWEST = 3
"""Turns of each kind that are taken even when time is short."""

STRAGGLES = 1.2
"""A rank that takes so many times as long as the median of the others holds them all up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankTime:
    """What one rank takes for its part of a batch, while all others work too."""

    host: str
    training_s: float
    """Seconds of forward pass, backward pass and update, nothing being sent."""

    loading_s: float
    """Seconds in which one process loads it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """Steps on resident batches in which ranks exchange gradients, and steps in which they do not, in turns."""

    together_s: float
    """Median seconds of a step with the exchange; the slowest rank's time counts."""

    apart_s: float
    """The same without."""

    bytes: int
    """Size of all gradients of a rank."""

    ranks: tuple[RankTime, ...]

    @property
    def exposed_s(self) -> float:
        """Seconds of a step in which gradients travel and nothing else is done."""
        return max(0.0, self.together_s - self.apart_s)

    def stragglers(self) -> tuple[str, ...]:
        """Name the ranks that hold up the others: which, where, in what part, by how much."""
        words = []
        for part, name in (("training", "training_s"), ("loading", "loading_s")):
            seconds = [getattr(entry, name) for entry in self.ranks]
            for rank, own in enumerate(seconds):
                others = statistics.median(seconds[:rank] + seconds[rank + 1 :])
                if own > STRAGGLES * others > 0:
                    who, slower = f"rank {rank} on {self.ranks[rank].host}", own / others
                    words.append(f"{who} takes {slower:.1f} times as long for {part} as the others")
        return tuple(words)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Exchange:
        """Build it from what ``dataclasses.asdict`` gave."""
        return cls(**{**values, "ranks": tuple(RankTime(**entry) for entry in values["ranks"])})


def exchange(workload: Workload, settings: Settings) -> Exchange:
    """Measure on all ranks at once; takes about 3 s.

    Raises:
        CandidateError: the settings failed, on this rank or another.
    """
    clock = Clock(workload.team)
    with Rig(workload, replace(settings, workers=0, static_graph=False)) as rig, rig.active():
        started = clock.now()
        batches = clock.team.together(lambda: resident_batches(rig, RESIDENT))
        loading_s = (clock.now() - started) / RESIDENT
        drive = ComputeDrive(rig, clock, batches)
        for _ in range(CAREFUL):  # which exchange gradients in a way of their own
            drive.step()
        drive.synchronize()
        usual_s = max(1e-6, clock.team.largest(_turn(drive, 1, clock)))
        steps = max(1, math.ceil(TURN_S / usual_s))
        together: list[float] = []
        apart: list[list[float]] = []
        begun = clock.agreed()
        while len(together) < ROUNDS and (len(together) < FEWEST or clock.agreed() - begun < LIMIT_S):
            together.append(clock.team.largest(_turn(drive, steps, clock)))
            with rig.step.silent():
                apart.append([row[0] for row in clock.team.gather(_turn(drive, steps, clock))])
        hosts = clock.team.everyone((socket.gethostname(), loading_s))
    by_rank = [statistics.median(column) for column in zip(*apart, strict=True)]
    return Exchange(
        together_s=statistics.median(together),
        apart_s=statistics.median(max(row) for row in apart),
        bytes=gradient_bytes(workload.model),
        ranks=tuple(
            RankTime(host=host, training_s=seconds, loading_s=loading)
            for (host, loading), seconds in zip(hosts, by_rank, strict=True)
        ),
    )


def _turn(drive: ComputeDrive, steps: int, clock: Clock) -> float:
    """Return the seconds of a step on this rank, in a turn that all begin together."""
    clock.team.gather()
    started = clock.now()
    for _ in range(steps):
        drive.step()
    drive.synchronize()
    return (clock.now() - started) / steps
