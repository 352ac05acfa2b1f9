"""Contention: the images/s of a loader and a model that share cores, from what an image asks of each.

A fluid model. Whoever runs gets an equal part of the cores (processor sharing), and two states alternate: the training
process computes, or it waits for images. Where the loader keeps up there is only the first, and its workers run as much
as they are needed; where it does not, its workers always run, and slower while the training process computes. The
share of time in each state follows from the images that both must handle (the flow balance of Denning and Buzen, The
operational analysis of queueing network models, ACM Computing Surveys 10, 1978).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

GANG_LOSS = 0.25
"""Part of the speed that intra-op threads lose once more when they lose some to others on their cores: they wait for
the last of them at the end of every operator. 656 instead of 706 images/s, seen on 2 cores."""

LOCK_SHARE = 0.15
"""Part of a loading thread's work that holds Python's lock, of which the training process needs its own part."""

SOFTNESS = 12.0
"""Exponent that rounds the corner where two limits meet; larger is sharper."""

LEAD = 0.9
"""Share of what the first of two limits allows from which on it is what binds."""


class Limit(Enum):
    """What the predicted images/s come from."""

    SERIAL = "loading and training in turn"
    TRAINING = "training"
    LOADING = "loading"
    CORES = "the cores that loading and training share"
    LOADING_CORES = "the cores that load"
    HOST = "the training process, which hands over batches and issues work"
    BUS = "copies to the device"


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What one image asks for."""

    compute_s: float
    """Seconds of training on a resident batch."""

    compute_high_s: float
    """The same at the optimistic end of its interval."""

    compute_cpu_s: float
    """CPU seconds of that, all threads of the training process, those that spin included."""

    input_s: float
    """Seconds in which one process loads it, waiting included."""

    input_high_s: float
    """The same at the optimistic end of its interval."""

    input_cpu_s: float
    """CPU seconds of loading."""

    compute_least_cpu_s: float = 0.0
    """CPU seconds of training without those that threads spin, at the optimistic end; 0 where that is not known."""

    issue_s: float = 0.0
    """Seconds in which the training process issues the work for an accelerator, a part of ``compute_s``."""

    copy_s: float = 0.0
    """Seconds of copying it to the device."""

    receive_s: float = 0.0
    """Seconds in which the training process takes it over from a worker process."""

    send_s: float = 0.0
    """CPU seconds in which a worker process hands it over, on top of loading."""

    drain_per_s: float | None = None
    """Images/s of exactly these loaders without a model, where that was measured."""

    drain_high_per_s: float | None = None
    """The same at the optimistic end."""

    composed: bool = False
    """Whether training was not measured for these settings, but estimated from others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """Who does the work, and on what."""

    cores: float
    """CPUs that all may use together."""

    workers: int
    """Loader processes or threads; 0 loads in the training process."""

    threads: bool = False
    """Whether the loaders are threads of the training process."""

    stock: int = 2
    """Batches that may lie ready or be under way."""

    on_cpu: bool = True
    """Whether the model trains on the same cores."""

    pinned: bool = False
    """Whether copies to the device run beside the training process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """What the model expects."""

    per_s: float
    """Images per second."""

    limit: Limit
    """What binds."""


def throughput(need: Demand, crew: Crew) -> Throughput:
    """Return the images/s that a crew reaches in the long run."""
    if not crew.on_cpu:
        return _beside_device(need, crew)
    if crew.workers == 0:
        return Throughput(per_s=1.0 / (need.compute_s + need.input_s), limit=Limit.SERIAL)
    return _on_shared_cores(need, crew)


def limits(need: Demand, crew: Crew) -> dict[Limit, float]:
    """Return images/s that no crew can exceed, each demand at its optimistic end.

    What is not measured, or only as a part of something else, counts as nothing here: handing over, copying, issuing.
    """
    if crew.on_cpu and crew.workers == 0:
        return {Limit.SERIAL: 1.0 / (need.compute_high_s + need.input_high_s)}
    loaders = max(1, crew.workers)
    found = {Limit.TRAINING: 1.0 / need.compute_high_s, Limit.LOADING: loaders / need.input_high_s}
    if need.drain_high_per_s is not None:
        found[Limit.LOADING] = min(found[Limit.LOADING], need.drain_high_per_s)
    loading_cpu_s = min(need.input_cpu_s * (need.input_high_s / need.input_s), need.input_high_s)
    if crew.on_cpu:
        training_cpu_s = min(
            need.compute_least_cpu_s or need.compute_cpu_s * (need.compute_high_s / need.compute_s),
            crew.cores * need.compute_high_s,
        )
        if training_cpu_s + loading_cpu_s > 0:
            found[Limit.CORES] = crew.cores / (training_cpu_s + loading_cpu_s)
    elif loading_cpu_s > 0:
        found[Limit.LOADING_CORES] = crew.cores / loading_cpu_s
    return found


def _on_shared_cores(need: Demand, crew: Crew) -> Throughput:
    loaders = _Loaders(need, crew)
    train_s = need.compute_s + loaders.receive_s
    units = min(crew.cores, max(1e-9, need.compute_cpu_s + loaders.receive_s) / train_s)
    kept_up, starved = _states(loaders, units, train_s, crew.cores)
    rate = soft_least((kept_up, starved), _sharpness(crew))
    if kept_up <= starved:
        return Throughput(per_s=rate, limit=Limit.TRAINING if kept_up * train_s >= LEAD else Limit.CORES)
    return Throughput(per_s=rate, limit=Limit.LOADING if starved >= LEAD * loaders.rate(1.0) else Limit.CORES)


def _states(loaders: _Loaders, units: float, train_s: float, cores: float) -> tuple[float, float]:
    """Return the images/s where the loader keeps up with the training process, and where that waits for it.

    Args:
        loaders: load.
        units: cores that the training process would use while it runs.
        train_s: seconds per image in which it runs, were nobody else there.
        cores: shared by all.
    """
    gang = GANG_LOSS if units > 1.0 else 0.0
    kept_up = _kept_up(loaders, units, gang, train_s, cores)
    beside, alone = loaders.speed(units), loaders.speed(0.0)
    rate_beside, rate_alone = loaders.rate(beside), loaders.rate(alone)
    training = beside * (1.0 - gang * (1.0 - beside)) / train_s
    busy = rate_alone / (training + rate_alone - rate_beside)  # share of time in which the training process runs
    return kept_up, busy * training if busy < 1.0 else max(kept_up, rate_beside)


def _kept_up(loaders: _Loaders, units: float, gang: float, train_s: float, cores: float) -> float:
    """Return the images/s where the loader keeps up and the training process computes all of the time."""
    speed = factor = 1.0
    for _ in range(4):
        speed = min(1.0, cores / (units + factor * loaders.cpu_s / train_s))
        factor = 1.0 - gang * (1.0 - speed)
    return speed * factor / train_s


def _beside_device(need: Demand, crew: Crew) -> Throughput:
    copying_s = 0.0 if crew.pinned else need.copy_s
    found = [(1.0 / need.compute_s, Limit.TRAINING)]
    if need.copy_s > 0:
        found.append((1.0 / need.copy_s, Limit.BUS))
    if crew.workers == 0:
        # The device works on what was issued before; nothing is issued meanwhile.
        found.append((1.0 / (need.input_s + need.issue_s + copying_s), Limit.LOADING))
    else:
        loaders = _Loaders(need, crew)
        host_s = max(1e-9, need.issue_s + copying_s + loaders.receive_s)
        kept_up, starved = _states(loaders, min(1.0, crew.cores), host_s, crew.cores)
        found.append((kept_up, Limit.HOST if kept_up * host_s >= LEAD else Limit.LOADING_CORES))
        found.append((starved, Limit.LOADING if starved >= LEAD * loaders.rate(1.0) else Limit.LOADING_CORES))
    _, limit = min(found, key=lambda entry: entry[0])
    return Throughput(per_s=soft_least([rate for rate, _ in found], _sharpness(crew)), limit=limit)


class _Loaders:
    """The loaders of a crew: how fast they go beside others."""

    __slots__ = ("_cores", "_count", "_lock_per_s", "_slow", "cpu_s", "receive_s", "wait_s")

    def __init__(self, need: Demand, crew: Crew) -> None:
        self._count, self._cores = crew.workers, crew.cores
        cpu_s = min(need.input_cpu_s, need.input_s)  # a loader has one thread; more than that was spinning
        self.wait_s = need.input_s - cpu_s
        self.cpu_s = cpu_s if crew.threads else cpu_s + need.send_s
        self.receive_s = 0.0 if crew.threads else need.receive_s
        self._lock_per_s = 1.0 / (LOCK_SHARE * self.cpu_s) if crew.threads and self.cpu_s > 0 else math.inf
        self._slow = 1.0
        if need.drain_per_s is not None:
            # What loading alone was seen to reach takes the place of what the loaders should reach together.
            self._slow = self.rate(self.speed(0.0)) / need.drain_per_s

    def speed(self, units: float) -> float:
        """Return the part of a core that each gets when all load and ``units`` others run.

        ``speed * (units + running) = cores``, where a loader that waits ``wait_s`` per image does not run meanwhile.
        """
        wait, cpu, count, cores = self.wait_s, self.cpu_s, self._count, self._cores
        if cpu <= 0 or units + count * cpu / (wait + cpu) <= cores:
            return 1.0
        square, linear = units * wait, units * cpu + count * cpu - cores * wait
        if square <= 0:
            return min(1.0, cores * cpu / linear)
        root = math.sqrt(linear * linear + 4.0 * square * cores * cpu)
        return min(1.0, 2.0 * cores * cpu / (linear + root))

    def rate(self, speed: float) -> float:
        """Return the images/s of all at a speed."""
        return min(self._count / (self.wait_s + self.cpu_s / speed), self._lock_per_s) / self._slow


def _sharpness(crew: Crew) -> float:
    return SOFTNESS * min(2.0, max(1, crew.stock) / 2.0)


def soft_least(rates: Sequence[float], sharpness: float) -> float:
    """Return a little less than the least of some rates where others are near."""
    least = min(rates)
    return float(least * sum((rate / least) ** -sharpness for rate in rates) ** (-1.0 / sharpness))
