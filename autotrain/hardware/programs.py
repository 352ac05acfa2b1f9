"""Other programs: who uses the CPU beside us."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from autotrain.hardware.monitor import Monitor

LEAST_CORES = 0.05
"""Programs that use less are not named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A process that used the CPU during a stretch of time."""

    number: int
    """Its process number."""

    name: str
    """Its name, with the script or module for Python; no further arguments, which may be secret."""

    cores: float
    """Cores' worth of time that it used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherPrograms:
    """What others did with the CPU during a stretch of time."""

    share: float
    """Share (0 to 1) of the time of the cores that we may run on, which went to others."""

    seconds: float
    """Length of the stretch."""

    busiest: tuple[Program, ...]
    """Up to three that used most; those of other containers and machines are not to be seen."""


def other_programs(
    seconds: float, *, sleep: Callable[[float], None] = time.sleep, clock: Callable[[], float] = time.perf_counter
) -> OtherPrograms:
    """Watch for some seconds, doing nothing."""
    monitor = Monitor(clock)
    before, since = _used(), clock()
    monitor.start()
    sleep(seconds)
    conditions = monitor.stop()
    after, length = _used(), clock() - since
    found = [
        Program(number=number, name=name, cores=(used - before[number][1]) / length)
        for number, (name, used) in after.items()
        if number in before and length > 0
    ]
    found.sort(key=lambda program: program.cores, reverse=True)
    busiest = tuple(replace(program, name=_called(program)) for program in found[:3] if program.cores >= LEAST_CORES)
    return OtherPrograms(share=conditions.other_cpu_share, seconds=length, busiest=busiest)


def _called(program: Program) -> str:
    """Return ``python train.py`` or ``python -m package`` where a process is called no more than python."""
    if not program.name.startswith("python"):
        return program.name
    try:
        words = psutil.Process(program.number).cmdline()[1:]
    except psutil.Error:
        return program.name
    for place, word in enumerate(words):
        if word == "-m" and place + 1 < len(words):
            return f"{program.name} -m {words[place + 1]}"
        if word == "-c":
            break
        if not word.startswith("-"):
            return f"{program.name} {Path(word).name}"
    return program.name


def _used() -> dict[int, tuple[str, float]]:
    """Return name and CPU seconds of every process but our own tree."""
    ours = {os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))}
    found = {}
    for process in psutil.process_iter(["name", "cpu_times"]):
        times = process.info["cpu_times"]
        if process.pid not in ours and times is not None:
            found[process.pid] = (process.info["name"] or "?", times.user + times.system)
    return found
