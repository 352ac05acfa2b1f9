"""What if: the images/s to expect of a machine that one might buy, or of a heavier model on this one.

The same contention model as for predictions, with other numbers put in: everything but the first row is an
extrapolation, and has no interval because nothing was measured that would give one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from autotrain.diagnose.contention import Crew, Demand, Limit, throughput
from autotrain.diagnose.demand import crew_of, demand, prediction
from autotrain.measure.session import Session
from autotrain.settings import Settings

MORE_CORES = (2, 4)
FASTER_DEVICES = (2, 5)
DEVICE_FOR_CORES = 10
"""How many times as fast as the cores a device is taken to be where the model trains on the cores now."""

HEAVIER_MODELS = (2, 4)
WAITING_SHARE = 0.2
"""Share of the time of loading an image that it waits, from which on faster storage is worth a row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One change of the machine or the model, all else as it is."""

    change: str
    """For people."""

    factor: float
    """By how much."""

    per_s: float
    """Predicted images per second."""

    limit: Limit
    """What would bind."""

    cores_needed: float
    """Cores that loading takes up while the model trains at full speed: per GPU, or beside the model's own on a CPU."""

    extrapolated: bool = True
    """Whether this is not the machine that was measured."""


def what_if(session: Session, settings: Settings) -> tuple[Scenario, ...]:
    """Return what to expect of other machines and models, this one first; empty where a component is missing.

    With more cores there are as many more workers; the model keeps its intra-op threads, as what more of them would
    give was not measured. Without workers nothing is told of more cores.
    """
    now, need = prediction(session, settings), demand(session, settings, compose=True)
    if now is None or need is None:
        return ()
    crew = crew_of(session, settings)
    rows = [
        Scenario(
            change="as it is",
            factor=1.0,
            per_s=now.per_s,
            limit=now.limit,
            cores_needed=_cores_needed(need, 1.0 / need.compute_s),
            extrapolated=False,
        )
    ]
    # The unchanged row is calibrated; the others keep its ratio to what the model alone says.
    correction = now.per_s / throughput(need, crew).per_s
    for change, factor, other_need, other_crew in _changes(need, crew):
        expected = throughput(other_need, other_crew)
        rows.append(
            Scenario(
                change=change,
                factor=factor,
                per_s=expected.per_s * correction,
                limit=expected.limit,
                cores_needed=_cores_needed(other_need, 1.0 / other_need.compute_s),
            )
        )
    return tuple(rows)


def cores_needed(session: Session, settings: Settings, device_rate: float) -> float | None:
    """Return the cores that loading keeps busy where a device trains ``device_rate`` images/s; None where unknown."""
    need = demand(session, settings, compose=True)
    return None if need is None else _cores_needed(need, device_rate)


def _cores_needed(need: Demand, device_rate: float) -> float:
    return (min(need.input_cpu_s, need.input_s) + need.send_s) * device_rate


def _changes(need: Demand, crew: Crew) -> Iterator[tuple[str, float, Demand, Crew]]:
    for factor in MORE_CORES if crew.workers else ():
        used = f"{'for ' if crew.on_cpu else ''}{factor * crew.workers} workers"
        yield f"{factor} times the cores, {used}", factor, _drained(need, factor), _with_cores(crew, factor)
    if crew.on_cpu:
        factor = DEVICE_FOR_CORES
        device = replace(crew, on_cpu=False, pinned=True)
        yield f"a device {factor} times as fast as these cores", factor, _faster(need, factor), device
    else:
        for factor in FASTER_DEVICES:
            yield f"a device {factor} times as fast", factor, _faster(need, factor), crew
    for factor in HEAVIER_MODELS:
        yield f"a model {factor} times as heavy", factor, _heavier(need, factor), crew
    waiting_s = need.input_s - min(need.input_cpu_s, need.input_s)
    if waiting_s > WAITING_SHARE * need.input_s:
        seconds = need.input_s - 0.5 * waiting_s
        yield "storage twice as fast", 2, replace(_drained(need, need.input_s / seconds), input_s=seconds), crew


def _drained(need: Demand, factor: float) -> Demand:
    """Return the demand with what exactly these loaders were seen to reach scaled."""
    return need if need.drain_per_s is None else replace(need, drain_per_s=factor * need.drain_per_s)


def _with_cores(crew: Crew, factor: int) -> Crew:
    return replace(crew, cores=factor * crew.cores, workers=factor * crew.workers, stock=factor * crew.stock)


def _faster(need: Demand, factor: float) -> Demand:
    """Return the demand on a faster device; issuing its work takes the host as long as before."""
    seconds = max(need.compute_s / factor, need.issue_s)
    return replace(need, compute_s=seconds, compute_high_s=seconds, compute_cpu_s=need.compute_cpu_s / factor)


def _heavier(need: Demand, factor: float) -> Demand:
    return replace(
        need,
        compute_s=factor * need.compute_s,
        compute_high_s=factor * need.compute_high_s,
        compute_cpu_s=factor * need.compute_cpu_s,
    )
