"""Adapting: a training that runs slower than its plan tries other loader settings, on its own steps."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace

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
    lead_s: float
    steps: int = 0
    images: int = 0
    seconds: float = 0.0

    def take(self, images: int, seconds: float) -> None:
        """Take a step into account."""
        if self.lead_steps > 0 or self.lead_s > 0:
            self.lead_steps -= 1
            self.lead_s -= seconds
            return
        self.steps += 1
        self.images += images
        self.seconds += seconds

    @property
    def over(self) -> bool:
        """Whether it has lasted long enough."""
        return self.seconds >= STINT_S and self.steps >= LEAST_STEPS

    @property
    def rate(self) -> float:
        """Images/s."""
        return self.images / self.seconds


class Adapter:
    """Tries neighbours of the loader's settings once it was asked to, from the end of an epoch on.

    Every step of it is a step of the training, with the images that it would have had in any case. The present
    settings are tried first and last, so that a machine that recovers meanwhile is not taken for a gain.

    Args:
        rig: what trains.
        machine: says what is possible.
    """

    def __init__(self, rig: Rig, machine: Machine) -> None:
        self._rig, self._machine = rig, machine
        self._asked = False
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

    def begin(self, step: int) -> None:
        """Begin to try others at this step, if that was asked for."""
        if not self._asked or self.busy:
            return
        self._asked, self._seen = False, []
        present = self._rig.settings
        self._waiting = [*self._neighbours(present), present]
        if len(self._waiting) > 1:
            self._try(present, step)

    def stepped(self, step: int, images: int, seconds: float) -> Adapted | None:
        """Take a step into account, which was the one before ``step``; return what was decided after the last."""
        if self._stint is None:
            return None
        self._stint.take(images, seconds)
        if not self._stint.over:
            return None
        self._seen.append(self._stint)
        while self._waiting:
            if self._try(self._waiting.pop(0), step):
                return None
        return self._decide(step)

    def _neighbours(self, present: Settings) -> Iterator[Settings]:
        """Yield what lies next to the present settings, one setting moved at a time."""
        workload = self._rig.workload
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
        present = self._rig.settings
        try:
            if settings != present:
                self._rig.reload(settings, start=step)
        except (AutotrainError, OSError, RuntimeError) as problem:
            log.info("cannot load with %s: %s", settings.changes(present), problem)
            self._rig.reload(present, start=step)
            return False
        self._stint = _Stint(settings=settings, lead_steps=2 * self._rig.input.stock, lead_s=LEAD_S)
        return True

    def _decide(self, step: int) -> Adapted:
        """Take the fastest, or stay."""
        present = self._seen[0].settings
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
