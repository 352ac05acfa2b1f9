"""The clock: the only way in which time enters a measurement, so that tests can bring their own."""

from __future__ import annotations

import time
from collections.abc import Sequence

import psutil

from autotrain.team import ALONE, Team


class Clock:
    """Wall-clock and CPU time of this process and of workers, in seconds.

    Args:
        team: all ranks that measure together.
    """

    team: Team = ALONE

    def __init__(self, team: Team = ALONE) -> None:
        self.team = team

    def now(self) -> float:
        """Return wall-clock seconds from an arbitrary start."""
        return time.perf_counter()

    def agreed(self) -> float:
        """Return what rank 0's ``now`` returns, on all ranks: for decisions that all must take alike."""
        return self.now() if self.team.alone else self.team.first(self.now())

    def cpu_s(self) -> float:
        """Return CPU seconds of this process, all its threads together."""
        return time.process_time()

    def workers_cpu_s(self, pids: Sequence[int]) -> float:
        """Return CPU seconds of other processes; one that is gone counts as 0. The kernel counts in 10 ms."""
        total = 0.0
        for pid in pids:
            try:
                times = psutil.Process(pid).cpu_times()
            except psutil.Error:
                continue
            total += times.user + times.system
        return total
