"""Batches for a loop of the user's own: an epoch per iteration, finished on the device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from time import perf_counter
from typing import Any

from autotrain.engine.own_loop import OwnLoop
from autotrain.errors import CandidateError, TaskError


class Batches:
    """The training batches; each iteration is one epoch, and ``len`` is the steps of one.

    A batch is what the step is given: ``(images, labels)`` on the device, augmented and normalised, or whatever a
    collation of the user's makes; of several ranks, this one's part. Order and draws are those of ``fit``. Workers go
    on from one epoch into the next; an iteration that is left early ends its epoch. One iteration runs at a time.
    """

    def __init__(self, loop: OwnLoop) -> None:
        self._loop = loop
        self._per_epoch = loop.rig.workload.stream().steps_per_epoch
        self._next = 0
        """Step that the workers bring next."""

    def __len__(self) -> int:
        return self._per_epoch

    @property
    def step(self) -> int:
        """Batches given so far, from the first step of training on."""
        return self._loop.place.step

    @property
    def epoch(self) -> int:
        """Epoch of the batch that comes next, counted from 0."""
        return self.step // self._per_epoch

    def __iter__(self) -> Iterator[Any]:
        place = self._loop.place
        if place.begun:
            place.step = -(-place.step // self._per_epoch) * self._per_epoch
        place.begun = True
        place.iteration += 1
        own, last = place.iteration, (self.epoch + 1) * self._per_epoch
        while place.step < last:
            batch = self._load(place.step)
            place.step += 1
            yield batch
            if own != self._loop.place.iteration:
                raise TaskError(
                    "loader: another iteration has begun, which ends this one. Finish or leave one before the next"
                )

    def _load(self, step: int) -> Any:
        rig = self._loop.rig
        if self._next != step:
            rig.reload(rig.settings, start=step)
        batch = rig.input.next()
        if batch.step != step:  # the one before was lost to an interrupt
            rig.reload(rig.settings, start=step)
            batch = rig.input.next()
        self._next = step + 1
        return rig.transfer.finish(rig.move(batch))


class HeldOutBatches:
    """The validation batches in order, finished on the device, the short last one included; of several ranks, this
    one's share. Images that are the same every time stay in memory, within limits.
    """

    def __init__(self, loop: OwnLoop) -> None:
        self._loop = loop
        workload = loop.rig.workload
        assert workload.validation is not None
        world, batches = workload.team.world, -(-len(workload.validation) // workload.batch_size)
        self._length = len(range(world.rank, batches, world.world_size))

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Any]:
        held_out, started = self._loop.held_out, perf_counter()
        assert held_out is not None
        rig = self._loop.rig
        try:
            with closing(held_out.batches()) as batches:
                for batch in batches:
                    yield rig.transfer.finish(rig.move(batch))
        except CandidateError:
            held_out.failed()  # the next time with other workers
            raise
        held_out.took(perf_counter() - started)
