"""Events of a probe, for whoever shows its progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from autotrain.diagnose.finding import Finding
from autotrain.measure.measurement import Measurement
from autotrain.measure.session import Job
from autotrain.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The probe knows machine and task."""

    machine: str
    job: Job
    candidates: int
    budget_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A new part of the probe begins."""

    title: str
    steps: int | None = None
    """Measurements that it will take at most, where known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measuring:
    """A measurement begins."""

    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A measurement ended."""

    what: str
    measurement: Measurement
    predicted: float | None = None
    """Images/s that had been predicted."""

    raced: bool = False
    """Whether it is one of many short ones that are summed up in a line of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosed:
    """The default's bottleneck is known."""

    finding: Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A candidate was not measured, or failed."""

    settings: Settings
    reason: str
    failed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A pair of the duel is done."""

    pair: int
    pairs: int
    baseline_rate: float
    candidate_rate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """Something came out that is no measurement."""

    words: str
    """A sentence for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupted:
    """Ctrl-C: the search ends, the best found so far is put to the proof."""


Event = Started | Stage | Measuring | Measured | Diagnosed | Skipped | Turn | Noted | Interrupted
Observer = Callable[[Event], None]


def silent(event: Event) -> None:
    """Observe nothing."""
    del event
