"""Drives: what one step of a burst does. Full training, training on resident batches, or loading alone."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch

from autotrain.data.batch import HostBatch
from autotrain.data.transfer import DeviceBatch
from autotrain.engine.rig import Rig
from autotrain.errors import DataError
from autotrain.knobs.base import Side
from autotrain.knobs.registry import knob
from autotrain.measure.clock import Clock
from autotrain.measure.measurement import Kind

RESIDENT = 4
"""Batches that the compute ceiling rotates."""


class Drive:
    """Advances a rig step by step; the rig must be active meanwhile."""

    kind: Kind

    def __init__(self, rig: Rig, clock: Clock) -> None:
        self.rig = rig
        self.clock = clock
        self.wait_s = 0.0
        self.losses: list[torch.Tensor] = []
        self._device = rig.device
        self._events: list[tuple[Any, Any]] = []

    def step(self) -> int:
        """Do one step without waiting for the device; return its images."""
        raise NotImplementedError

    def _images(self, batch: HostBatch | DeviceBatch) -> int:
        """Return the images of a batch, of all ranks together."""
        return batch.count if self.clock.team.alone else self.rig.images(batch)

    @property
    def pids(self) -> Sequence[int]:
        """Process numbers of the workers."""
        return ()

    @property
    def stock(self) -> int:
        """Batches that a loader may hold ready."""
        return 0

    @property
    def asynchronous(self) -> bool:
        """Whether the device works on while the host goes ahead."""
        return self._device.type != "cpu" and self.kind is not Kind.INPUT

    def synchronize(self) -> None:
        """Wait for the device."""
        synchronize(self._device)

    def transfer_s(self) -> float | None:
        """Return the seconds that copies took since the last call, None where that is not known."""
        if self._device.type != "cuda":
            return None
        events, self._events = self._events, []
        return float(sum(start.elapsed_time(end) for start, end in events)) / 1000.0

    def loss_values(self) -> tuple[float, ...]:
        """Return the losses of all steps so far."""
        return tuple(torch.stack([loss.float().reshape(()) for loss in self.losses]).tolist()) if self.losses else ()


class FullDrive(Drive):
    """Load, transfer, train."""

    kind = Kind.FULL

    def __init__(self, rig: Rig, clock: Clock) -> None:
        super().__init__(rig, clock)
        self._moved_s: float | None = None

    def step(self) -> int:
        """Train on the next batch of the stream."""
        batch = self._next()
        if self._device.type == "cuda":
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            moved = self.rig.transfer.move(batch, events=(start, end))
            self._events.append((start, end))
        else:
            started = self.clock.now()
            moved = self.rig.move(batch)
            self._moved_s = (self._moved_s or 0.0) + self.clock.now() - started
        self.losses.append(self.rig.train(moved))
        return self._images(batch)

    def _next(self) -> HostBatch:
        """Return the next batch; where a rank has none, all stop here."""
        started = self.clock.now()
        batch = self.clock.team.together(lambda: _next(self.rig))
        self.wait_s += self.clock.now() - started
        return batch

    def transfer_s(self) -> float | None:
        """Return the seconds that copies took since the last call: on the device's clock, or the host's where it waits.

        None where nothing was copied.
        """
        if self._device.type == "cuda":
            return super().transfer_s()
        moved_s, self._moved_s = self._moved_s, None
        return moved_s

    @property
    def pids(self) -> Sequence[int]:
        """Process numbers of the workers."""
        return self.rig.input.loader.pids

    @property
    def stock(self) -> int:
        """Batches that the loader may hold ready."""
        return self.rig.input.stock


class ComputeDrive(Drive):
    """Train on a few batches that lie on the device, in turn."""

    kind = Kind.COMPUTE

    def __init__(self, rig: Rig, clock: Clock, batches: Sequence[HostBatch]) -> None:
        super().__init__(rig, clock)
        self._batches = itertools.cycle([rig.move(batch) for batch in batches])

    def step(self) -> int:
        """Train on the next resident batch."""
        batch = next(self._batches)
        self.losses.append(self.rig.train(batch))
        return self._images(batch)


class InputDrive(FullDrive):
    """Drain the loader."""

    kind = Kind.INPUT

    def step(self) -> int:
        """Load the next batch and drop it."""
        return self._images(self._next())


class Resident:
    """Makes compute drives, ``resident(rig, clock)``; the batches are loaded once for rigs that are fed alike.

    A copy in another process begins without batches.
    """

    def __init__(self) -> None:
        self._batches: dict[tuple[str, str, Side], list[HostBatch]] = {}

    def __call__(self, rig: Rig, clock: Clock) -> ComputeDrive:
        """Return a drive over the first batches of the stream."""
        settings = rig.settings
        fed = settings.augmentation, settings.placement, knob("decoder").side_of(settings.decoder)
        if fed not in self._batches:
            self._batches[fed] = resident_batches(rig, RESIDENT)
            rig.input.close()
        return ComputeDrive(rig, clock, self._batches[fed])

    def __reduce__(self) -> tuple[type[Resident], tuple[()]]:
        return Resident, ()


def synchronize(device: torch.device) -> None:
    """Wait until a device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def resident_batches(rig: Rig, count: int = 4) -> list[HostBatch]:
    """Load the first few batches of the stream into host memory."""
    batches = []
    for _ in range(count):
        batches.append(_next(rig))
    return batches


def _next(rig: Rig) -> HostBatch:
    try:
        return rig.input.next()
    except StopIteration as problem:
        raise DataError("the stream of batches ended during a measurement: the sampler gives too few") from problem
