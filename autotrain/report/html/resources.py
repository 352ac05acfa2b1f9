"""Resources: what an image asks of each, and the images/s at which each would be busy all of the time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from autotrain.diagnose.contention import Crew, Demand, Limit
from autotrain.diagnose.demand import crew_of, demand, prediction
from autotrain.measure.measurement import Kind, Measurement
from autotrain.measure.session import Session
from autotrain.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One thing that a training step needs."""

    limit: Limit
    name: str
    seconds: float
    """For which an image keeps it, or all of its kind together, busy."""

    words: str
    """The demand of an image, for people."""

    binds: bool = False
    """Whether the contention model names it as what binds."""

    @property
    def ceiling(self) -> float:
        """Images/s at which it is busy all of the time."""
        return 1.0 / self.seconds


def burst_of(session: Session, settings: Settings) -> Measurement | None:
    """Return the full burst of settings that says most: the one with the most windows, the last of such."""
    bursts = [entry for entry in session.of(Kind.FULL) if entry.settings == settings]
    return max(reversed(bursts), key=lambda entry: (not entry.stopped_early, len(entry.windows)), default=None)


def resources(session: Session, settings: Settings) -> tuple[Resource, ...]:
    """Return what settings need, the tightest first; empty where loading or training alone was not measured."""
    need = demand(session, settings, compose=True)
    expected = prediction(session, settings)
    if need is None or expected is None:
        return ()
    found = [entry for entry in _all(need, crew_of(session, settings)) if entry.seconds > 0]
    return tuple(
        Resource(
            limit=entry.limit,
            name=entry.name,
            seconds=entry.seconds,
            words=entry.words,
            binds=entry.limit is expected.limit,
        )
        for entry in sorted(found, key=lambda entry: -entry.seconds)
    )


def _all(need: Demand, crew: Crew) -> Iterator[Resource]:
    composed = ", estimated from other settings" if need.composed else ""
    words = f"{_ms(need.compute_s)} of training{composed}"
    yield Resource(limit=Limit.TRAINING, name="training alone", seconds=need.compute_s, words=words)
    yield _loading(need, crew)
    if not crew.on_cpu:
        yield from _of_device(need, crew)
    elif crew.workers == 0:
        words = f"{_ms(need.input_s)} of loading, then {_ms(need.compute_s)} of training"
        both_s = need.input_s + need.compute_s
        yield Resource(limit=Limit.SERIAL, name="loading and training in turn", seconds=both_s, words=words)
    else:
        loading_s = min(need.input_cpu_s, need.input_s) + need.send_s
        words = f"{_ms(need.compute_cpu_s)} of CPU for training and {_ms(loading_s)} for loading, on {_cores(crew)}; "
        words += "threads that spin while they wait count as busy"
        seconds = (need.compute_cpu_s + need.receive_s + loading_s) / crew.cores
        yield Resource(limit=Limit.CORES, name="the shared cores", seconds=seconds, words=words)


def _loading(need: Demand, crew: Crew) -> Resource:
    words = f"{_ms(need.input_s)} of loading"
    seconds = need.input_s / max(1, crew.workers)
    if crew.workers:
        kind = "thread" if crew.threads else "worker"
        words += f", by {crew.workers} {kind}{'s' if crew.workers > 1 else ''}"
    if crew.workers and need.drain_per_s is not None:
        seconds = 1.0 / need.drain_per_s
    if not crew.on_cpu and not crew.workers:
        host_s = need.issue_s + (0.0 if crew.pinned else need.copy_s)
        seconds += host_s
        words += f" and {_ms(host_s)} of issuing work and copying, in turn" if host_s else ""
    return Resource(limit=Limit.LOADING, name="loading alone", seconds=seconds, words=words)


def _of_device(need: Demand, crew: Crew) -> Iterator[Resource]:
    words = f"{_ms(need.copy_s)} of copying"
    yield Resource(limit=Limit.BUS, name="copies to the device", seconds=need.copy_s, words=words)
    if crew.workers:
        loading_s = min(need.input_cpu_s, need.input_s) + need.send_s
        words = f"{_ms(loading_s)} of CPU for loading, on {_cores(crew)}"
        yield Resource(limit=Limit.LOADING_CORES, name="the loading cores", seconds=loading_s / crew.cores, words=words)
        host_s = need.issue_s + (0.0 if crew.pinned else need.copy_s) + need.receive_s
        words = f"{_ms(host_s)} of issuing work and taking over batches"
        yield Resource(limit=Limit.HOST, name="the training process", seconds=host_s, words=words)


def _cores(crew: Crew) -> str:
    return f"{crew.cores:g} core{'s' if crew.cores != 1 else ''}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms"
