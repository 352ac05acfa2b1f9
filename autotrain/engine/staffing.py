"""Staffing: how many workers load the validation set, found out by the evaluations themselves."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import replace

from autotrain.engine.rig import Rig
from autotrain.hardware.machine import Machine
from autotrain.knobs.registry import illegal, knob
from autotrain.world import world

WORTH_S = 1.0
"""Seconds of an evaluation below which nothing is tried."""

MOST_THREADS = 4
"""Threads that are tried where training has no workers; what they keep ready lies in this process's memory."""


class Staffing:
    """Tries some numbers of workers, one per evaluation, and stays with the fastest.

    An evaluation has no backward pass, so it needs more images per second than training does: what loads those fast
    enough for training may not do for it. The first number is tried twice, since the first evaluation finds files and
    compilers cold.

    Args:
        present: what training has.
        others: what else may be tried.
    """

    def __init__(self, present: int, others: Iterable[int] = ()) -> None:
        self._present = present
        self._waiting = deque([present, *(count for count in dict.fromkeys(others) if count != present), present])
        self._seconds: dict[int, float] = {}

    @property
    def workers(self) -> int:
        """How many the next evaluation is to have."""
        return self._waiting[0] if self._waiting else min(self._seconds, key=lambda count: self._seconds[count])

    def took(self, seconds: float) -> None:
        """Note how long an evaluation with that many took."""
        if not self._waiting:
            return
        count = self._waiting.popleft()
        first = not self._seconds
        self._seconds[count] = min(seconds, self._seconds.get(count, seconds))
        if first and seconds < WORTH_S:
            self._waiting.clear()

    def failed(self) -> bool:
        """Note that an evaluation with that many could not be done; return whether another number is left."""
        count = self.workers
        if count == self._present:
            return False
        self._waiting = deque(other for other in self._waiting if other != count)
        self._seconds.pop(count, None)
        return True


def staffing(rig: Rig, machine: Machine, *, threads: bool = False) -> Staffing:
    """Return what may be tried for a rig: as many workers as there are usable cores.

    Where training has no workers there may be a reason against processes: a dataset that holds on to a file, little
    shared memory. So there a few threads are tried, and only where those may read the images (``threads``). Nothing is
    tried where training goes by wall-clock, whose end is planned with the time of the last evaluation.
    """
    settings, workload = rig.settings, rig.workload
    if workload.span.seconds is not None:
        return Staffing(settings.workers)
    cores = world().cpu_budget(machine.cpu.usable)
    if not settings.workers:
        return Staffing(0, (min(cores, MOST_THREADS),) if threads else ())
    offered = cores in knob("workers").choices(workload, machine).allowed
    possible = offered and illegal(replace(settings, workers=cores), workload, machine) is None
    return Staffing(settings.workers, (cores,) if possible else ())
