"""The watch: a training keeps measuring itself, and says when it runs slower than its plan, and why.

A stretch may go on over the ends of epochs, which it is not told of: no step is to blame for an evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter

from autotrain.engine.events import SlowedDown
from autotrain.hardware.cgroup import read_text
from autotrain.hardware.monitor import Conditions, Monitor
from autotrain.stats.summary import Estimate

STRETCH_S = 10.0
"""Seconds that are looked at together: long enough for a loader's bursts to even out."""

MARGIN = 0.15
"""Share by which a stretch may lie below the plan's interval: a burst does not see evaluations, or a hot machine."""

CROWDED = 0.15
"""Share of the cores' time that other programs may take before they are named."""

STARVED = 0.15
"""By how much more of its time than at first a training may wait for images before that is named."""

PRESSED = 5.0
"""Percent of the last ten seconds in which some process waited for memory, from which on that is named."""


class Watch:
    """Compares stretches of a training with what was expected of it.

    Args:
        expected: rate of the plan in images/s; None for what the first stretches reach.
        gpu: the GPU's UUID, whose clocks are looked at; None for none.
        beside: process numbers of the other ranks on this machine.
        clock: brings the time.
        root: where ``proc`` lies.
    """

    def __init__(
        self,
        expected: Estimate | None,
        *,
        gpu: str | None = None,
        beside: Sequence[int] = (),
        clock: Callable[[], float] = perf_counter,
        root: Path = Path("/"),
    ) -> None:
        self._least = None if expected is None else (1 - MARGIN) * expected.low
        self._monitor = Monitor(clock, gpu=gpu, beside=beside)
        self._root = root
        self._first_waits: float | None = None
        self._images = 0
        self._seconds = self._wait_s = 0.0
        self.slow = False
        """Whether the last stretch was too slow."""

    def look(self, step: int, images: int, seconds: float, wait_s: float) -> SlowedDown | None:
        """Note the steps up to this one; return what was slow when a stretch is full, once per slow time."""
        if not self._seconds:
            self._monitor.start()
        self._images += images
        self._seconds += seconds
        self._wait_s += wait_s
        if self._seconds < STRETCH_S:
            return None
        rate, waits = self._images / self._seconds, self._wait_s / self._seconds
        self._images, self._seconds, self._wait_s = 0, 0.0, 0.0
        conditions = self._monitor.stop()
        if self._first_waits is None:
            self._first_waits = waits
            self._least = (1 - MARGIN) * rate if self._least is None else self._least
        assert self._least is not None
        was_slow, self.slow = self.slow, rate < self._least
        if was_slow or not self.slow:
            return None
        return SlowedDown(step=step, images_per_s=rate, expected=self._least, reasons=self._reasons(waits, conditions))

    def _reasons(self, waits: float, conditions: Conditions) -> tuple[str, ...]:
        reasons = []
        assert self._first_waits is not None
        if waits > self._first_waits + STARVED or (waits > 2 * STARVED and conditions.other_cpu_share <= CROWDED):
            reasons.append(f"it waits for images for {waits:.0%} of the time")
        if conditions.other_cpu_share > CROWDED:
            reasons.append(f"other programs take {conditions.other_cpu_share:.0%} of the CPU")
        if conditions.gpu is not None and conditions.gpu.throttle_reasons:
            reasons.append(f"the GPU's clocks are held back: {', '.join(conditions.gpu.throttle_reasons)}")
        pressure = self._pressure()
        if pressure >= PRESSED:
            reasons.append(f"processes wait for memory for {pressure:.0f}% of the time")
        return tuple(reasons)

    def _pressure(self) -> float:
        """Return the percentage of the last ten seconds in which some process waited for memory; 0 if not known."""
        for line in (read_text(self._root / "proc/pressure/memory") or "").splitlines():
            if line.startswith("some "):
                fields = dict(part.split("=", 1) for part in line.split()[1:])
                return float(fields.get("avg10", 0.0))
        return 0.0
