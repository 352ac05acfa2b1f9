"""Bursts: short timed stretches of real training. One burst ranks; claims come from the duel."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch

from autotrain.engine.rig import Rig
from autotrain.hardware.gpu import GpuState, gpu_of
from autotrain.hardware.monitor import Monitor
from autotrain.measure.clock import Clock
from autotrain.measure.drive import Drive, FullDrive
from autotrain.measure.measurement import Measurement, Window
from autotrain.stats.warmup import is_stationary

MakeDrive = Callable[[Rig, Clock], Drive]
"""What makes the drive of a rig: full training, training alone or loading alone."""

STATIONARY_STEPS = 16
"""Step times that are looked at to tell whether a burst has settled."""

LONG = 2.0
"""Factor of the limit after which two windows are enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BurstOptions:
    """How long a burst lasts."""

    window_s: float = 0.25
    """Shortest window."""

    window_steps: int = 4
    """Fewest steps in a window; a burst on a CPU does with one long step."""

    windows: int = 6
    """Windows that are enough."""

    least_windows: int = 3
    """Windows that are taken even when time is short; two where they take ``LONG`` times the limit."""

    limit_s: float = 4.0
    """Timed seconds after which no further window is begun."""

    warmup_s: float = 1.0
    """Seconds after which warming up ends, settled or not, once the loader's stock has been used twice over; that in
    turn is waited for at most three times as long."""


SCREENING = BurstOptions()
CEILING = BurstOptions(windows=5, limit_s=2.0, warmup_s=0.6)


def burst(
    rig: Rig,
    *,
    make_drive: MakeDrive = FullDrive,
    options: BurstOptions = SCREENING,
    clock: Clock | None = None,
) -> Measurement:
    """Measure a rig.

    Args:
        rig: entered, not active.
        make_drive: what a step does: full training where not given.
        options: how long.
        clock: brings the time.

    Raises:
        CandidateError: the candidate failed: out of memory, a dead or hanging worker.
    """
    clock = clock or Clock(rig.workload.team)
    with rig.active():
        started = clock.now()
        drive = make_drive(rig, clock)
        if not drive.asynchronous:
            options = replace(options, window_steps=1)
        drive.step()
        drive.synchronize()
        first_s = clock.now() - started
        warmup_steps, stationary, issue_share, usual_s = _warm_up(drive, options, clock)
        compile_s = max(0.0, first_s - usual_s) if rig.step.compiled else 0.0
        options = fixed(options, usual_s, clock)
        _reset_peak(rig)
        monitor = Monitor(clock.now, gpu=gpu_of(rig.device), beside=clock.team.neighbours)
        monitor.start()
        windows = _windows(drive, options, clock)
        conditions = monitor.stop()
        return Measurement(
            kind=drive.kind,
            settings=rig.settings,
            windows=windows,
            startup_s=rig.startup_s + first_s - compile_s,
            compile_s=compile_s,
            warmup_steps=warmup_steps + 1,
            stationary=stationary,
            losses=drive.loss_values(),
            peak_bytes=_peak(rig),
            other_cpu_share=conditions.other_cpu_share,
            issue_share=issue_share,
            **gpu_conditions(conditions.gpu),
        )


def run_window(drive: Drive, options: BurstOptions, clock: Clock) -> Window:
    """Time a window: steps until it is long enough, then one synchronisation."""
    drive.transfer_s()
    wait_before, workers_before = drive.wait_s, clock.workers_cpu_s(drive.pids)
    cpu_before, started = clock.cpu_s(), clock.now()
    images = steps = 0
    while steps < options.window_steps or clock.now() - started < options.window_s:
        images += drive.step()
        steps += 1
    issued = clock.now()
    drive.synchronize()
    if not clock.team.alone:
        clock.team.gather()  # the slowest rank's time counts
    ended = clock.now()
    return Window(
        steps=steps,
        images=images,
        wall_s=ended - started,
        wait_s=drive.wait_s - wait_before,
        cpu_main_s=clock.cpu_s() - cpu_before,
        cpu_workers_s=clock.workers_cpu_s(drive.pids) - workers_before,
        sync_s=ended - issued if drive.asynchronous else None,
        transfer_s=drive.transfer_s(),
    )


def fixed(options: BurstOptions, step_s: float, clock: Clock) -> BurstOptions:
    """Return options under which all ranks do as many steps in a window, given what a step takes."""
    if clock.team.alone:
        return options
    return replace(options, window_steps=max(options.window_steps, math.ceil(options.window_s / step_s)), window_s=0.0)


def discard(drive: Drive, steps: int) -> None:
    """Do untimed steps and wait for the device."""
    for _ in range(steps):
        drive.step()
    drive.synchronize()


def _warm_up(drive: Drive, options: BurstOptions, clock: Clock) -> tuple[int, bool, float | None, float]:
    """Return the steps done, whether they had settled, the share of issuing, and the seconds of a usual step."""
    started = clock.agreed()
    times, issued = [started], []
    stock = 2 * drive.stock
    while True:
        begun = clock.now()
        drive.step()
        issued.append(clock.now() - begun)
        drive.synchronize()
        times.append(clock.agreed())
        steps = len(times) - 1
        durations = [later - earlier for earlier, later in pairwise(times)]
        settled = is_stationary(durations, window=STATIONARY_STEPS)
        out_of_time = times[-1] - started >= options.warmup_s
        if steps >= max(1, stock) and (settled or out_of_time):
            return steps, settled, _issue_share(drive, issued, durations), statistics.median(durations)
        if times[-1] - started >= 3 * options.warmup_s and steps >= 1:
            return steps, False, _issue_share(drive, issued, durations), statistics.median(durations)


def _issue_share(drive: Drive, issued: Sequence[float], durations: Sequence[float]) -> float | None:
    """Return the median share of a step that goes into issuing it, from steps that were waited for one by one."""
    if not drive.asynchronous:
        return None
    return statistics.median(part / whole for part, whole in zip(issued, durations, strict=True) if whole > 0)


def _windows(drive: Drive, options: BurstOptions, clock: Clock) -> tuple[Window, ...]:
    windows: list[Window] = []
    started = clock.agreed()
    while len(windows) < options.windows:
        windows.append(run_window(drive, options, clock))
        spent_s = clock.agreed() - started
        least = options.least_windows if spent_s < LONG * options.limit_s else min(2, options.least_windows)
        if len(windows) >= least and spent_s >= options.limit_s:
            break
    return tuple(windows)


def gpu_conditions(state: GpuState | None) -> dict[str, Any]:
    """Return the fields of a measurement that tell a GPU's state."""
    if state is None:
        return {}
    return {
        "gpu_utilisation": state.utilisation_percent,
        "gpu_clock_mhz": state.sm_clock_mhz,
        "gpu_temperature_c": state.temperature_c,
        "gpu_throttled": state.throttle_reasons,
    }


def _reset_peak(rig: Rig) -> None:
    if rig.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(rig.device)


def _peak(rig: Rig) -> int | None:
    return torch.cuda.max_memory_allocated(rig.device) if rig.device.type == "cuda" else None
