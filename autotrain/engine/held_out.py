"""The held-out images: what evaluations load, by how many workers, and what stays in memory between them."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator

import numpy as np
import torch

from autotrain.augment.extras import Extras
from autotrain.data.batch import HostBatch
from autotrain.data.caching import always_same, budget_bytes
from autotrain.data.feed import PROCESSES, THREADS
from autotrain.data.loader import Loader, LoaderOptions
from autotrain.data.reader import Reader
from autotrain.data.stream import InOrder, Ticket
from autotrain.data.threads import thread_problem
from autotrain.engine.rig import Rig
from autotrain.engine.staffing import Staffing, staffing
from autotrain.hardware.machine import Machine, machine_facts
from autotrain.settings import Settings

LIMIT_BYTES, LIMIT_SHARE = 1 << 30, 0.1
"""What finished images may take at most, and of what a cache in memory may take."""


class HeldOut:
    """The validation set of a rig, as its evaluations load it: in order, finished, without augmentation.

    Images that are the same every time stay in memory as the loader gave them, where they are few enough; the others
    are loaded by as many workers as proved to be fastest.
    """

    def __init__(self, rig: Rig, machine: Machine | None = None) -> None:
        workload = rig.workload
        assert workload.validation is not None
        self._rig = rig
        ranks = workload.team.world
        self._order = InOrder(
            len(workload.validation),
            workload.batch_size,
            rank=ranks.rank,
            world_size=ranks.world_size,
            even=rig.sharded,  # a pass of the model needs all ranks
        )
        self._reader = Reader(workload.validation, dataclasses.replace(workload.recipe("none"), extras=Extras()))
        self._in_process = not rig.settings.workers
        threads = thread_problem(self._reader) is None
        self._staffing: Staffing = staffing(rig, machine or machine_facts(), threads=threads)
        self._room = 0
        if workload.task.collate is None and always_same(workload.validation):
            self._room = min(LIMIT_BYTES, int(LIMIT_SHARE * budget_bytes("ram", None)))
        self._kept: list[HostBatch] | None = None

    @property
    def counted(self) -> int:
        """Batches of all ranks together; one with a step beyond does not count."""
        return self._order.batches

    @property
    def kept(self) -> bool:
        """Whether evaluations need no loader any more."""
        return self._kept is not None

    def first(self, count: int) -> HostBatch:
        """Return a batch of the first images, read by this process; on several ranks the same."""
        places = np.arange(min(count, self._order.length), dtype=np.int64)
        batch = self._reader[Ticket(step=0, epoch=0, positions=places, indices=places)]
        assert isinstance(batch, HostBatch)  # failures come from workers
        return batch

    def batches(self) -> Generator[HostBatch, None, None]:
        """Yield the batches in order."""
        if self._kept is not None:
            for batch in self._kept:  # on a CPU a model or loss may write to what it is given
                yield _copy(batch) if self._rig.device.type == "cpu" else batch
            return
        workload = self._rig.workload
        assert workload.validation is not None
        order = self._order
        kept: list[HostBatch] | None = [] if self._room else None
        with Loader(self._reader, order, self._options()) as loader:
            for batch in loader:
                own = None if kept is None else _own(batch, room=self._room * batch.count // len(workload.validation))
                if own is None:
                    kept = None
                elif kept is not None:
                    kept.append(own)
                yield batch
        self._kept = kept

    def took(self, seconds: float) -> None:
        """Note how long an evaluation took."""
        if not self.kept:
            self._staffing.took(seconds)

    def failed(self) -> bool:
        """Note that an evaluation could not be loaded; return whether it may be tried with other workers."""
        return self._staffing.failed()

    def _options(self) -> LoaderOptions:
        """Return how they are loaded: as the training set is, but by this process's Pillow, for every file.

        Workers beside a training that has none are threads.
        """
        training = self._rig.input.options
        kind = THREADS if self._in_process else training.kind
        if kind == THREADS and thread_problem(self._reader):
            kind = PROCESSES
        workers, prefetch = self._staffing.workers, Settings().prefetch
        return dataclasses.replace(training, workers=workers, prefetch=prefetch, pillow=None, kind=kind)


def _own(batch: HostBatch, *, room: int) -> HostBatch | None:
    """Return a batch in memory of its own, not that which workers share; None if it is not plain, or too large."""
    content = batch.content
    if not (type(content) in (tuple, list) and all(isinstance(part, torch.Tensor) for part in content)):
        return None
    if sum(part.nbytes for part in content) > room:
        return None
    return batch if any(part.is_pinned() for part in content) else _copy(batch)


def _copy(batch: HostBatch) -> HostBatch:
    return dataclasses.replace(batch, content=type(batch.content)(part.clone() for part in batch.content))
