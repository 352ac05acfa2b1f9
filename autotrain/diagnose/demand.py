"""Demand per image on each resource, the bound that follows, and what the contention model predicts.

The bound is the utilisation law of operational analysis (Denning and Buzen, The operational analysis of queueing
network models, ACM Computing Surveys 10, 1978): no resource can be busy for more than all of the time.
"""

from __future__ import annotations

from dataclasses import dataclass

from autotrain.measure.measurement import Kind, Measurement
from autotrain.measure.session import Session
from autotrain.settings import Settings, Value

SHARED_EFFICIENCY = 0.93
"""Part of the cores' time that useful work gets where loader and model compete for them (656 of 706 images/s seen)."""

CONTENT = ("augmentation", "placement", "decoder", "resize", "cache")
"""Settings that decide what is done to load an image; the others decide who does it."""

SOFTNESS = 8.0
"""Exponent that rounds the corner where two limits meet; larger is sharper."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What one image asks for."""

    compute_s: float
    """Seconds of training on a resident batch."""

    compute_high_s: float
    """The same at the optimistic end of its interval."""

    compute_cpu_s: float
    """CPU seconds of that, all threads of the training process."""

    input_s: float
    """Seconds in which one process loads it, waiting included."""

    input_high_s: float
    """The same at the optimistic end of its interval."""

    input_cpu_s: float
    """CPU seconds of loading."""


def demand(session: Session, settings: Settings) -> Demand | None:
    """Return the demand of settings from component measurements; None where one is missing."""
    compute = session.find(Kind.COMPUTE, settings)
    load = one_loader(session, settings)
    if compute is None or load is None:
        return None
    return Demand(
        compute_s=1.0 / compute.rate.value,
        compute_high_s=1.0 / compute.rate.high,
        compute_cpu_s=compute.cpu_main_per_image_s,
        input_s=_loader_s(load, load.rate.value),
        input_high_s=_loader_s(load, load.rate.high),
        input_cpu_s=load.cpu_workers_per_image_s if load.settings.workers else load.cpu_main_per_image_s,
    )


def content(settings: Settings) -> tuple[Value, ...]:
    """Return the part of the settings that decides what loading an image costs, whoever loads it."""
    return tuple(getattr(settings, name) for name in CONTENT)


def one_loader(session: Session, settings: Settings) -> Measurement | None:
    """Return the input measurement of the fewest workers that load images in the same way."""
    fitting = [entry for entry in session.of(Kind.INPUT) if content(entry.settings) == content(settings)]
    return min(fitting, key=lambda entry: entry.settings.workers, default=None)


def bound(session: Session, settings: Settings) -> float | None:
    """Return images/s that the settings cannot exceed, each demand taken at its optimistic end; None if unknown."""
    need = demand(session, settings)
    if need is None:
        return None
    limits = _limits(session, settings, need, optimistic=True)
    return min(limits.values())


def predict(session: Session, settings: Settings) -> float | None:
    """Return the images/s that the contention model expects; None where a component is missing."""
    need = demand(session, settings)
    if need is None:
        return None
    limits = _limits(session, settings, need, optimistic=False)
    if "cores" in limits and len(limits) > 1:
        limits["cores"] *= SHARED_EFFICIENCY
    total: float = sum(rate**-SOFTNESS for rate in limits.values()) ** (-1.0 / SOFTNESS)
    return total


def _limits(session: Session, settings: Settings, need: Demand, *, optimistic: bool) -> dict[str, float]:
    compute_s = need.compute_high_s if optimistic else need.compute_s
    input_s = need.input_high_s if optimistic else need.input_s
    on_cpu = session.job.device == "cpu"
    if settings.workers == 0 and on_cpu:
        return {"serial": 1.0 / (compute_s + input_s)}
    # An accelerator works on while the training process loads the next batch itself, as if that were a worker.
    limits = {"compute": 1.0 / compute_s, "input": max(1, settings.workers) / input_s}
    input_cpu_s = need.input_cpu_s * (input_s / need.input_s)
    cpu_s = need.compute_cpu_s * (compute_s / need.compute_s) + input_cpu_s
    if on_cpu and cpu_s > 0:
        limits["cores"] = session.cores / cpu_s
    elif input_cpu_s > 0:
        limits["input cores"] = session.cores / input_cpu_s
    return limits


def _loader_s(load: Measurement, rate: float) -> float:
    return max(1, load.settings.workers) / rate
