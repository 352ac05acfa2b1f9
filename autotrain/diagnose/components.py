"""Components: what a session knows of loading and of training alone, indexed by the settings that each depends on."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from autotrain.knobs.base import Side
from autotrain.knobs.registry import key
from autotrain.measure.measurement import Kind, Measurement
from autotrain.measure.session import Session
from autotrain.settings import Settings, Value

CONTENT = ("augmentation", "placement", "decoder", "resize", "cache")
"""Settings that decide what is done to load an image; the others decide who does it."""

THREADS = "threads"

SEND_S, SEND_S_PER_BYTE = 2e-3, 5e-10
RECEIVE_S, RECEIVE_S_PER_BYTE = 1.2e-3, 1e-10
"""What a batch of two tensors costs the worker process that hands it over, and the training process, until a session
has seen it. PyTorch's loader on a 2-core machine: 1.1 ms each where nothing else runs, 2 to 3 ms and 1 to 1.5 ms beside
other work, most of it for passing two file descriptors; and 1 ns and 0.1 ns per byte, less where pages come again."""

Key = tuple[tuple[str, Value], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """A component's measurement with its derived numbers at hand: they are asked for thousands of times."""

    measurement: Measurement
    rate: float
    high: float
    """Upper end of the rate's interval, the highest where it was measured several times: the machine can be as fast."""

    cpu_s: float
    """CPU seconds per image of whoever works: workers where there are any, else the training process."""

    receive_s: float
    """CPU seconds per image of the training process where workers load; 0 elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """What it costs to pass an image from a worker process to the training process."""

    send_s: float
    """CPU seconds of the worker."""

    receive_s: float
    """Seconds of the training process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Components:
    """Ceilings by what they depend on, each the last of its kind."""

    training: Mapping[Key, Ceiling]
    loading: Mapping[Key, Ceiling]
    one_loader: Mapping[tuple[Value, ...], Ceiling]
    """By content, those of the fewest workers."""

    needed_share: Mapping[int, float]
    """By thread count, the least part of training's CPU seconds that is work and not threads that spin."""

    copy_s: Mapping[bool, float]
    """Median seconds per image of copying to the device, by pinning."""

    handover: Handover


def components(session: Session) -> Components:
    """Return the components of a session; kept for the last few sessions."""
    return _components(_Same(session))


def content(settings: Settings) -> tuple[Value, ...]:
    """Return the part of the settings that decides what loading an image costs, whoever loads it."""
    return tuple(getattr(settings, name) for name in CONTENT)


@lru_cache(maxsize=1 << 16)
def training_key(settings: Settings) -> Key:
    """Return the part of the settings that training alone depends on."""
    return key(settings, Side.COMPUTE)


@lru_cache(maxsize=1 << 16)
def loading_key(settings: Settings) -> Key:
    """Return the part of the settings that loading alone depends on."""
    return key(settings, Side.INPUT)


class _Same:
    """A session as the key of a cache: its measurements are compared by identity, since hashing them takes long."""

    __slots__ = ("session",)

    def __init__(self, session: Session) -> None:
        self.session = session

    def __hash__(self) -> int:
        return id(self.session.measurements)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, _Same)
            and self.session.measurements is other.session.measurements
            and self.session.job == other.session.job
            and self.session.profile is other.session.profile
        )


@lru_cache(maxsize=8)
def _components(same: _Same) -> Components:
    session = same.session
    training = _last(session.of(Kind.COMPUTE), training_key)
    loading = _last(session.of(Kind.INPUT), loading_key)
    one_loader: dict[tuple[Value, ...], Ceiling] = {}
    for ceiling in loading.values():
        settings = ceiling.measurement.settings
        known = one_loader.get(content(settings))
        if known is None or settings.workers < known.measurement.settings.workers:
            one_loader[content(settings)] = ceiling
    return Components(
        training=training,
        loading=loading,
        one_loader=one_loader,
        needed_share=_needed_shares(training),
        copy_s=_copies(session),
        handover=_handover(session, loading, one_loader),
    )


def _last(entries: Iterable[Measurement], place: Callable[[Settings], Key]) -> dict[Key, Ceiling]:
    found: dict[Key, Ceiling] = {}
    for entry in entries:
        where, ceiling = place(entry.settings), _ceiling(entry)
        earlier = found.get(where)
        found[where] = ceiling if earlier is None else replace(ceiling, high=max(ceiling.high, earlier.high))
    return found


def _ceiling(entry: Measurement) -> Ceiling:
    apart = entry.kind is Kind.INPUT and _has_processes(entry.settings)
    rate = entry.rate
    return Ceiling(
        measurement=entry,
        rate=rate.value,
        high=rate.high,
        cpu_s=entry.cpu_workers_per_image_s if apart else entry.cpu_main_per_image_s,
        receive_s=entry.cpu_main_per_image_s if apart else 0.0,
    )


def _has_processes(settings: Settings) -> bool:
    return settings.workers > 0 and settings.loader == "processes"


def _needed_shares(training: Mapping[Key, Ceiling]) -> dict[int, float]:
    """Compare ceilings that differ in the thread count alone: what fewer threads do without is not work."""
    groups: dict[Key, dict[int, float]] = {}
    for place, ceiling in training.items():
        rest = tuple(entry for entry in place if entry[0] != THREADS)
        groups.setdefault(rest, {})[ceiling.measurement.settings.threads] = ceiling.cpu_s
    shares: dict[int, float] = {}
    for group in groups.values():
        least = min(group.values())
        for threads, cpu_s in group.items():
            if cpu_s > 0:
                shares[threads] = min(shares.get(threads, 1.0), least / cpu_s)
    return shares


def _copies(session: Session) -> dict[bool, float]:
    seen: dict[bool, list[float]] = {}
    for entry in session.of(Kind.FULL):
        share = entry.transfer_share
        if share is not None:
            seen.setdefault(entry.settings.pinning, []).append(share / entry.rate.value)
    return {pinning: statistics.median(values) for pinning, values in seen.items()}


def _handover(
    session: Session, loading: Mapping[Key, Ceiling], one_loader: Mapping[tuple[Value, ...], Ceiling]
) -> Handover:
    """Take it from loading alone with worker processes, or from what is usual."""
    job = session.job
    known = None if session.profile is None else session.profile.handed_bytes
    size = known if known is not None else 3 * (job.image_size or 0) ** 2
    sent, received = [], []
    for ceiling in loading.values():
        settings = ceiling.measurement.settings
        if not _has_processes(settings):
            continue
        received.append(ceiling.receive_s)
        alone = one_loader[content(settings)]
        if not _has_processes(alone.measurement.settings):
            sent.append(max(0.0, ceiling.cpu_s - alone.cpu_s))
    return Handover(
        send_s=statistics.median(sent) if sent else SEND_S / job.batch_size + SEND_S_PER_BYTE * size,
        receive_s=statistics.median(received) if received else RECEIVE_S / job.batch_size + RECEIVE_S_PER_BYTE * size,
    )
