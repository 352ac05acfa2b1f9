"""Adapting: a training that runs slower than its plan tries other loader settings, on its own steps."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from time import perf_counter

import torch

from autotrain.data.feed import HANG_S
from autotrain.engine.events import Adapted
from autotrain.engine.rig import Rig
from autotrain.errors import AutotrainError
from autotrain.hardware.machine import Machine
from autotrain.knobs.registry import canonical, illegal, knob
from autotrain.settings import Settings

log = logging.getLogger(__name__)

TRIED = ("workers", "prefetch")
"""Settings that are tried: they move nothing but when a batch is made."""

STINT_S, LEAST_STEPS = 4.0, 8
"""How long settings are tried, at least."""

LEAD_S = 1.0
"""Seconds before that, at least, which do not count: a new loader has nothing ready, an old one too much."""

BETTER = 1.05
"""Factor by which others must be faster than the present ones were, before them and after them, to be taken."""


@dataclass(slots=True, kw_only=True)
class _Stint:
    """A stretch of training under some settings."""

    settings: Settings
    lead_steps: int
    begun: float
    """When it began, by the clock."""

    since: float | None = None
    """When its lead was over; None while that lasts."""

    seconds: float = 0.0
    """Of its steps that count, in epochs before this one."""

    steps: int = 0
    images: int = 0
    rate: float = 0.0
    """Images/s, once it is over."""


class Adapter:
    """Tries neighbours of the loader's settings once it was asked to, from the end of an epoch on.

    Every step of it is a step of the training, with the images that it would have had in any case. The present
    settings are tried first and last, so that a machine that recovers meanwhile is not taken for a gain. A stint that
    the end of an epoch interrupts goes on when the stock that loaders have filled meanwhile is used up.

    Args:
        rig: what trains.
        machine: says what is possible.
        clock: brings the time, in seconds.
    """

    def __init__(self, rig: Rig, machine: Machine, *, clock: Callable[[], float] = perf_counter) -> None:
        self._rig, self._machine, self._clock = rig, machine, clock
        self._asked = False
        self._present = rig.settings
        self._stint: _Stint | None = None
        self._waiting: list[Settings] = []
        self._seen: list[_Stint] = []

    @property
    def busy(self) -> bool:
        """Whether it is trying settings: the training's rate says nothing then."""
        return self._stint is not None

    def ask(self) -> None:
        """Note that training is slower than it should be."""
        self._asked = True

    def begin(self) -> None:
        """Begin, at the end of an epoch, to try others if that was asked for."""
        if self._stint is None and self._asked:
            self._asked, self._seen, self._present = False, [], self._rig.settings
            self._waiting = [*self._neighbours(), self._present]
            if len(self._waiting) > 1:
                self._stint = self._fresh(self._present)

    def hold(self) -> None:
        """Leave out the end of an epoch, which begins now."""
        stint = self._stint
        if stint is None:
            return
        if stint.since is not None:
            stint.seconds += self._now() - stint.since
            stint.since = None
        per_epoch = self._rig.workload.stream().steps_per_epoch
        stint.lead_steps = max(stint.lead_steps, min(self._rig.input.stock, per_epoch // 2))

    def stepped(self, step: int, images: int) -> Adapted | None:
        """Take a step into account, which was the one before ``step``; return what was decided after the last."""
        stint = self._stint
        if stint is None:
            return None
        if stint.since is None:
            stint.lead_steps -= 1
            if stint.lead_steps <= 0 and self._clock() - stint.begun >= LEAD_S:
                stint.since = self._now()
            return None
        stint.steps += 1
        stint.images += images
        if stint.steps < LEAST_STEPS or stint.seconds + self._clock() - stint.since < STINT_S:
            return None
        stint.rate = stint.images / (stint.seconds + self._now() - stint.since)
        self._seen.append(stint)
        while self._waiting:
            if self._try(self._waiting.pop(0), step):
                return None
        return self._decide(step)

    def retreat(self, step: int) -> bool:
        """Go back to the settings before at this step, whose batch could not be had; return whether that may help."""
        if not self.busy or self._rig.settings == self._present:
            return False
        log.info("gives up to load with %s", self._rig.settings.changes(self._present))
        self._stint, self._waiting = None, []
        self._rig.reload(self._present, start=step)
        return True

    def _now(self) -> float:
        """Return the time when all steps so far are done."""
        if self._rig.device.type == "cuda":
            torch.cuda.synchronize(self._rig.device)
        return self._clock()

    def _fresh(self, settings: Settings) -> _Stint:
        return _Stint(settings=settings, lead_steps=2 * self._rig.input.stock, begun=self._clock())

    def _neighbours(self) -> Iterator[Settings]:
        """Yield what lies next to the present settings, one setting moved at a time."""
        workload, present = self._rig.workload, self._present
        for name in TRIED:
            values = sorted(knob(name).choices(workload, self._machine).allowed)
            own = getattr(present, name)
            below, above = [value for value in values if value < own], [value for value in values if value > own]
            for value in (*below[-1:], *above[:1]):
                moved = canonical(replace(present, **{name: value}), workload)  # type: ignore[arg-type]
                if moved != present and illegal(moved, workload, self._machine) is None:
                    yield moved

    def _try(self, settings: Settings, step: int) -> bool:
        """Go on with settings; return whether that is possible."""
        try:
            if settings != self._rig.settings:
                self._rig.reload(settings, start=step, hang_s=0.0 if settings == self._present else HANG_S)
        except (AutotrainError, OSError, RuntimeError) as problem:
            log.info("cannot load with %s: %s", settings.changes(self._present), problem)
            self._rig.reload(self._present, start=step)
            return False
        self._stint = self._fresh(settings)
        return True

    def _decide(self, step: int) -> Adapted:
        """Take the fastest, or stay."""
        present = self._present
        before = max(entry.rate for entry in self._seen if entry.settings == present)
        fastest = max(self._seen, key=lambda entry: entry.rate)
        self._stint = None
        taken = fastest.settings if fastest.rate > BETTER * before else present
        if taken != self._rig.settings:
            self._rig.reload(taken, start=step)
        return Adapted(
            step=step,
            changes=taken.changes(present),
            tried=len({entry.settings for entry in self._seen}) - 1,
            before=before,
            images_per_s=fastest.rate if taken != present else before,
        )
