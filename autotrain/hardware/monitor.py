"""Conditions during a measurement: what else used the CPU, and the GPU's state; sampled at both ends, no threads."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psutil

from autotrain.hardware.gpu import GpuState, gpu_state


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What surrounded a measurement."""

    other_cpu_share: float
    """Share (0 to 1) of the time of the cores we may run on that went to others: processes outside our tree, and other
    guests of the hypervisor. The kernel may count in ticks of 10 ms, so a stretch below a second says little."""

    gpu: GpuState | None = None
    """State of the watched GPU at the end; None where none is watched."""

    load_1m: float | None = None
    """Runnable processes of the machine, averaged over the last minute; None where the system does not tell."""


class Monitor:
    """Compares the CPU time of the whole machine with that of our processes between ``start`` and ``stop``.

    Our processes are this one, those beside it that train the same model, and all their descendants. What a child used
    up to its end counts as ours once its parent has waited for it, so workers may come and go in between.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.perf_counter,
        *,
        gpu: str | int | None = None,
        beside: Sequence[int] = (),
    ) -> None:
        self._clock = clock
        self._beside = tuple(beside)
        self._gpu = gpu
        self._start: tuple[float, float, float] | None = None

    def start(self) -> None:
        """Take the first sample; a monitor can be started again after it was stopped."""
        self._start = self._sample()

    def stop(self) -> Conditions:
        """Take the second sample and return what happened since ``start``.

        Raises:
            RuntimeError: the monitor was not started.
        """
        if self._start is None:
            raise RuntimeError("Monitor.stop: call start first")
        # The GPU comes first: the driver's utilisation is of the last moment.
        gpu = None if self._gpu is None else gpu_state(self._gpu)
        wall, busy, own = (now - then for now, then in zip(self._sample(), self._start, strict=True))
        self._start = None
        capacity = wall * _cores()
        share = (busy - own) / capacity if capacity > 0 else 0.0
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
        return Conditions(other_cpu_share=min(1.0, max(0.0, share)), gpu=gpu, load_1m=load)

    def _sample(self) -> tuple[float, float, float]:
        """Return wall-clock, busy seconds of our cores, and CPU seconds of our processes."""
        return self._clock(), busy_s(), own_s(self._beside)


def busy_s() -> float:
    """Return the seconds, since the machine started, in which the cores that we may run on were not idle."""
    cores = psutil.cpu_times(percpu=True)
    if hasattr(os, "sched_getaffinity"):
        ours = os.sched_getaffinity(0)
        if max(ours) < len(cores):  # cores that are switched off leave gaps in the numbering; then all are counted
            cores = [cores[index] for index in ours]
    kinds = ("user", "nice", "system", "irq", "softirq", "steal")  # guests are in user already
    return sum(getattr(core, kind, 0.0) for core in cores for kind in kinds)


def own_s(beside: Sequence[int] = ()) -> float:
    """Return the CPU seconds of this process and of others, their live descendants, and those that were waited for."""
    return sum(_seconds(process) for number in (os.getpid(), *beside) for process in _family(number))


def _family(number: int) -> list[psutil.Process]:
    try:
        head = psutil.Process(number)
        try:
            return [head, *head.children(recursive=True)]
        except psutil.Error:
            return [head]
    except psutil.Error:
        return []


def _seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:  # it ended after it was listed; its parent's account takes it over
        return 0.0
    return sum(getattr(times, kind, 0.0) for kind in ("user", "system", "children_user", "children_system"))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
