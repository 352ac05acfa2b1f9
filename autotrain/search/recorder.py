"""The recorder: makes measurements and keeps all of them, growing the session that everything else is a function of."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from autotrain.data.batch import HostBatch
from autotrain.engine.rig import Rig
from autotrain.errors import CandidateError
from autotrain.knobs.base import Side
from autotrain.knobs.registry import knob
from autotrain.measure.burst import CEILING, SCREENING, BurstOptions, burst
from autotrain.measure.clock import Clock
from autotrain.measure.drive import ComputeDrive, InputDrive, resident_batches
from autotrain.measure.failure import candidate
from autotrain.measure.measurement import Kind, Measurement
from autotrain.measure.session import Failed, Session
from autotrain.search.events import Measured, Measuring, Observer, Skipped
from autotrain.settings import Settings
from autotrain.workload import Workload

RESIDENT = 4
"""Batches that the compute ceiling rotates."""


class Recorder:
    """Measures settings once, component by component or in full.

    Args:
        workload: what is trained.
        session: what is known so far.
        observer: is told of every measurement.
        clock: brings the time.
    """

    def __init__(self, workload: Workload, session: Session, observer: Observer, clock: Clock) -> None:
        self.workload = workload
        self.session = session
        self.observer = observer
        self.clock = clock
        self._resident: dict[tuple[str, str, Side], list[HostBatch]] = {}

    def note(self, **changes: Any) -> None:
        """Change the session by copy."""
        self.session = replace(self.session, **changes)

    def full(
        self,
        settings: Settings,
        *,
        options: BurstOptions = SCREENING,
        incumbent: float | None = None,
        predicted: float | None = None,
        again: bool = False,
    ) -> Measurement | None:
        """Return the full burst of settings, measured now if need be; None where they failed."""
        known = self.session.find(Kind.FULL, settings)
        if known is not None and not again:
            return known
        return self._measure(settings, describe(settings, self.session.default), options, incumbent, predicted)

    def compute(
        self, settings: Settings, *, options: BurstOptions = CEILING, incumbent: float | None = None
    ) -> Measurement | None:
        """Return the compute ceiling of settings, measured now if need be; None where they failed."""
        known = self.session.find(Kind.COMPUTE, settings)
        if known is not None:
            return known
        what = f"training alone, {describe(settings, self.session.default)}"
        return self._guarded(
            settings, what, lambda: self._compute(replace(settings, workers=0), options, incumbent), None
        )

    def loading(self, settings: Settings, *, options: BurstOptions = CEILING) -> Measurement | None:
        """Return the input ceiling of settings, measured now if need be; None where they failed."""
        known = self.session.find(Kind.INPUT, settings)
        if known is not None:
            return known
        what = f"loading alone, {describe(settings, self.session.default)}"

        def measure() -> Measurement:
            with Rig(self.workload, settings) as rig:
                return burst(rig, make_drive=InputDrive, options=options, clock=self.clock)

        return self._guarded(settings, what, measure, None)

    def failed(self, settings: Settings, reason: str, *, pruned: bool = False) -> None:
        """Keep why settings were not measured."""
        entry = Failed(settings=settings, reason=reason, pruned=pruned)
        self.note(failures=(*self.session.failures, entry))
        self.observer(Skipped(settings=settings, reason=reason, failed=not pruned))

    def _measure(
        self, settings: Settings, what: str, options: BurstOptions, incumbent: float | None, predicted: float | None
    ) -> Measurement | None:
        def measure() -> Measurement:
            with Rig(self.workload, settings) as rig:
                return burst(rig, options=options, incumbent=incumbent, clock=self.clock)

        return self._guarded(settings, what, measure, predicted)

    def _compute(self, settings: Settings, options: BurstOptions, incumbent: float | None) -> Measurement:
        recipe = settings.augmentation, settings.placement, knob("decoder").side_of(settings.decoder)
        with Rig(self.workload, settings) as rig:
            if recipe not in self._resident:
                self._resident[recipe] = resident_batches(rig, RESIDENT)
            batches = self._resident[recipe]
            return burst(
                rig,
                make_drive=lambda live, clock: ComputeDrive(live, clock, batches),
                options=options,
                incumbent=incumbent,
                clock=self.clock,
            )

    def _guarded(self, settings: Settings, what: str, measure: Any, predicted: float | None) -> Measurement | None:
        self.observer(Measuring(what=what))
        try:
            with candidate():
                measurement: Measurement = measure()
        except CandidateError as problem:
            self.failed(settings, str(problem))
            return None
        self.note(measurements=(*self.session.measurements, measurement))
        self.observer(Measured(what=what, measurement=measurement, predicted=predicted))
        return measurement


def describe(settings: Settings, default: Settings) -> str:
    """Return settings for people, as what differs from the default."""
    changes = settings.changes(default)
    if not changes:
        return "default"
    return ", ".join(value_words(name, value) for name, value in changes.items())


def value_words(name: str, value: object) -> str:
    """Return one setting in the shortest words that say which it is."""
    if name in ("workers", "threads", "prefetch"):
        return f"{value} {name if value != 1 else name.rstrip('s')}" if name != "prefetch" else f"prefetch {value}"
    if name == "placement":
        return f"augmenting on the {value}" if value == "device" else "augmenting in workers"
    if name == "pinning":
        return "pinned" if value else "not pinned"
    if name == "cache":
        return "no cache" if value == "none" else f"cached {'in RAM' if value == 'ram' else f'on {value}'}"
    if name == "loader":
        return f"loading {value}"
    if name == "resize":
        return f"{value}'s resize" if value == "torch" else "Pillow's resize"
    return str(value).replace("_", "-")
