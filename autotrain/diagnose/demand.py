"""Demand per image on each resource, the bound that follows, and what the contention model predicts.

The bound is the utilisation law of operational analysis (Denning and Buzen, The operational analysis of queueing
network models, ACM Computing Surveys 10, 1978): no resource can be busy for more than all of the time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from autotrain.diagnose.calibration import Calibration, calibrate
from autotrain.diagnose.components import Ceiling, Components, components, content, loading_key, training_key
from autotrain.diagnose.compose import composed_ceiling, estimate_compute
from autotrain.diagnose.contention import Crew, Demand, Limit, Throughput, limits, throughput
from autotrain.measure.measurement import Kind, Measurement
from autotrain.measure.session import Session
from autotrain.settings import Settings

__all__ = [
    "Demand",
    "Prediction",
    "bound",
    "content",
    "crew_of",
    "demand",
    "estimate_compute",
    "one_loader",
    "predict",
    "prediction",
    "uncalibrated",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What a session leads one to expect of settings."""

    per_s: float
    """Images per second."""

    limit: Limit
    """What binds."""

    factor: float
    """Calibration in it: what bursts like it reached over what the model alone had said."""

    composed: bool
    """Whether training alone was not measured for these settings, but estimated from others: less certain."""


def demand(session: Session, settings: Settings, *, compose: bool = False) -> Demand | None:
    """Return the demand of settings from component measurements; None where one is missing.

    Args:
        session: holds them.
        settings: whose demand.
        compose: estimate training from other settings' where these were not measured.
    """
    known = components(session)
    load = known.one_loader.get(content(settings))
    if load is None:
        return None
    training = known.training.get(training_key(settings))
    if training is not None:
        compute = 1.0 / training.rate, 1.0 / training.high, training.cpu_s
    else:
        estimated = composed_ceiling(known, session.default, settings) if compose else None
        if estimated is None:
            return None
        rate, busy_cores = estimated
        compute = 1.0 / rate, 1.0 / rate, busy_cores / rate
    return _demand(known, settings, load, compute, training)


def _demand(
    known: Components, settings: Settings, load: Ceiling, compute: tuple[float, float, float], training: Ceiling | None
) -> Demand:
    compute_s, compute_high_s, compute_cpu_s = compute
    loaders = max(1, load.measurement.settings.workers)
    exact = known.loading.get(loading_key(settings)) if settings.workers else None
    issue_share = training.measurement.issue_share if training is not None else None
    apart = settings.workers > 0 and settings.loader == "processes"
    counted = load.measurement.settings.workers > 0 and load.measurement.settings.loader == "processes"
    return Demand(
        compute_s=compute_s,
        compute_high_s=compute_high_s,
        compute_cpu_s=compute_cpu_s,
        compute_least_cpu_s=compute_cpu_s * known.needed_share.get(settings.threads, 1.0) * compute_high_s / compute_s,
        input_s=loaders / load.rate,
        input_high_s=loaders / load.high,
        input_cpu_s=load.cpu_s,
        issue_s=(issue_share or 0.0) * compute_s,
        copy_s=known.copy_s.get(settings.pinning, 0.0),
        receive_s=known.handover.receive_s if apart else 0.0,
        send_s=known.handover.send_s if apart and not counted else 0.0,
        drain_per_s=exact.rate if exact is not None else None,
        drain_high_per_s=exact.high if exact is not None else None,
        composed=training is None,
    )


def crew_of(session: Session, settings: Settings) -> Crew:
    """Return who does the work under settings."""
    return Crew(
        cores=session.cores,
        workers=settings.workers,
        threads=settings.loader == "threads",
        stock=settings.workers * settings.prefetch,
        on_cpu=session.job.device == "cpu",
        pinned=settings.pinning,
    )


def one_loader(session: Session, settings: Settings) -> Measurement | None:
    """Return the input measurement of the fewest workers that load images in the same way."""
    found = components(session).one_loader.get(content(settings))
    return found.measurement if found is not None else None


def bound(session: Session, settings: Settings) -> float | None:
    """Return images/s that the settings cannot exceed, each demand taken at its optimistic end; None if unknown.

    It rests on what was measured for these very settings; nothing is composed. Where a burst has exceeded its bound,
    the machine was slower when the parts were measured, and all bounds are raised by as much.
    """
    need = demand(session, settings)
    return None if need is None else _least(need, crew_of(session, settings)) * _history(_Same(session)).headroom


def predict(session: Session, settings: Settings) -> float | None:
    """Return the images/s that the contention model expects; None where a component is missing."""
    found = prediction(session, settings)
    return None if found is None else found.per_s


def prediction(session: Session, settings: Settings) -> Prediction | None:
    """Return what the contention model expects, calibrated by the session's full bursts; None where not possible."""
    need = demand(session, settings, compose=True)
    if need is None:
        return None
    crew = crew_of(session, settings)
    expected = throughput(need, crew)
    history = _history(_Same(session))
    factor = history.calibration.factor(settings, expected.limit)
    most = _least(need, crew) * history.headroom
    return Prediction(
        per_s=min(most, expected.per_s * factor), limit=expected.limit, factor=factor, composed=need.composed
    )


def uncalibrated(session: Session, settings: Settings) -> Throughput | None:
    """Return what the contention model alone says; None where a component was not measured."""
    need = demand(session, settings)
    return None if need is None else throughput(need, crew_of(session, settings))


class _Same:
    """A session as the key of a cache, compared by the identity of its components."""

    __slots__ = ("known", "session")

    def __init__(self, session: Session) -> None:
        self.session, self.known = session, components(session)

    def __hash__(self) -> int:
        return id(self.known)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.known is other.known and self.session.cores == other.session.cores


@dataclass(frozen=True, slots=True, kw_only=True)
class _History:
    """What a session's full bursts say of the model."""

    calibration: Calibration
    headroom: float
    """What bounds are multiplied with: the furthest that a rate's interval lay above its own."""


@lru_cache(maxsize=8)
def _history(same: _Same) -> _History:
    session, seen, headroom = same.session, [], 1.0
    for entry in session.of(Kind.FULL):
        need, crew = demand(session, entry.settings), crew_of(session, entry.settings)
        if need is None:
            continue
        expected = throughput(need, crew)
        seen.append((entry.settings, expected.limit, entry.rate.value / expected.per_s))
        headroom = max(headroom, entry.rate.low / _least(need, crew))
    return _History(calibration=calibrate(seen), headroom=headroom)


def _least(need: Demand, crew: Crew) -> float:
    return min(limits(need, crew).values())
