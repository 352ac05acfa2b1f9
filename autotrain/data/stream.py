"""The stream: which images make up which step, as a function of the seed alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from autotrain.augment.draws import permutation, sample_seeds
from autotrain.errors import DataError, TaskError
from autotrain.transforms.generators import seed_generators, seeded

__all__ = ["InOrder", "Stream", "Ticket", "Tickets", "seed_generators", "seeded"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """What one process loads for one step."""

    step: int
    """Number of the step from the start of training."""

    epoch: int
    """Number of the epoch that the step belongs to."""

    positions: NDArray[np.int64]
    """Places in the epoch's order, shape (n,); all draws are keyed by them."""

    indices: NDArray[np.int64]
    """Indices into the dataset, shape (n,)."""


class Tickets(Protocol):
    """What a loader needs of a stream."""

    def tickets(self, start: int = 0, stop: int | None = None) -> Iterator[Ticket]:
        """Yield the tickets of steps ``start`` to ``stop``, without end where ``stop`` is None."""


class Stream:
    """The endless sequence of steps: an epoch's order, cut into batches, the short last batch left out.

    Every epoch has an order of its own, so what one epoch leaves out another one brings.

    Args:
        length: samples in the dataset.
        batch_size: samples per step, over all ranks together.
        seed: determines everything.
        sampler: gives one epoch's indices at each iteration, in place of a shuffle.
        rank: this process's number; each rank gets a contiguous share of every batch, even in number so that pairs of
            neighbours stay together.
        world_size: number of processes that share a batch.
        subset: indices that stand in for the whole dataset, for measuring what a filled cache does.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        *,
        seed: int,
        sampler: Iterable[int] | None = None,
        rank: int = 0,
        world_size: int = 1,
        subset: NDArray[np.int64] | None = None,
    ) -> None:
        self.length = length
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self._sampler = sampler
        self._subset = subset
        self._orders: dict[int, NDArray[np.int64]] = {}
        self._epoch_length = length if sampler is None else len(self.order(0))
        if self._epoch_length < batch_size:
            raise TaskError(
                f"batch size {batch_size} is larger than the {self._epoch_length} samples of an epoch: "
                f"take a batch size of at most {self._epoch_length}, or more data"
            )
        if batch_size < world_size:
            raise TaskError(
                f"batch size {batch_size} is less than one image for each of {world_size} processes: it is that of all "
                "together, take a larger one or start fewer"
            )

    @property
    def weight(self) -> float:
        """What this rank's mean loss counts for when the ranks' gradients are averaged: 1 where all parts are equal."""
        part = self._share(self.rank + 1) - self._share(self.rank)
        return part * self.world_size / self.batch_size

    @property
    def steps_per_epoch(self) -> int:
        """Full batches in an epoch."""
        return self._epoch_length // self.batch_size

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Return the dataset's indices in the order of this epoch, shape (samples per epoch,)."""
        if epoch not in self._orders:
            order = permutation(self.seed, epoch, self.length) if self._sampler is None else self._sampled(epoch)
            self._orders = {epoch: order if self._subset is None else self._subset[order % len(self._subset)]}
        return self._orders[epoch]

    def ticket(self, step: int) -> Ticket:
        """Return this rank's share of a step."""
        epoch, within = divmod(step, self.steps_per_epoch)
        first, last = self._share(self.rank), self._share(self.rank + 1)
        positions = np.arange(first, last, dtype=np.int64) + within * self.batch_size
        return Ticket(step=step, epoch=epoch, positions=positions, indices=self.order(epoch)[positions])

    def part(self, first: int, count: int) -> Ticket:
        """Return ``count`` places of the first epoch's order from ``first`` on, round and round; not for training."""
        positions = np.arange(first, first + count, dtype=np.int64) % self._epoch_length
        return Ticket(step=0, epoch=0, positions=positions, indices=self.order(0)[positions])

    def tickets(self, start: int = 0, stop: int | None = None) -> Iterator[Ticket]:
        """Yield the tickets of steps ``start`` to ``stop``, without end where ``stop`` is None."""
        step = start
        while stop is None or step < stop:
            yield self.ticket(step)
            step += 1

    def _share(self, rank: int) -> int:
        """Return where a rank's part of a batch begins: at an even place, where there are two images for each rank."""
        place = rank * self.batch_size // self.world_size
        if rank == self.world_size or self.batch_size < 2 * self.world_size:
            return place
        return place // 2 * 2

    def _sampled(self, epoch: int) -> NDArray[np.int64]:
        assert self._sampler is not None
        set_epoch = getattr(self._sampler, "set_epoch", None)
        if callable(set_epoch):
            set_epoch(epoch)
        own = getattr(self._sampler, "generator", None)
        seed = int(sample_seeds(self.seed, epoch, np.zeros(1, dtype=np.int64))[0])
        with seeded(seed):
            before = own.get_state() if isinstance(own, torch.Generator) else None
            if isinstance(own, torch.Generator):
                own.manual_seed(seed)
            try:
                order = np.fromiter(iter(self._sampler), dtype=np.int64)
            except (TypeError, ValueError) as problem:
                raise TaskError(
                    f"sampler: {type(self._sampler).__name__} does not give whole numbers, one per sample ({problem}): "
                    "give a sampler of indices, not one of batches"
                ) from problem
            finally:
                if isinstance(own, torch.Generator) and before is not None:
                    own.set_state(before)
        if order.size and (order.min() < 0 or order.max() >= self.length):
            wrong = int(order.min() if order.min() < 0 else order.max())
            raise DataError(
                f"the sampler gave index {wrong}, but the dataset has {self.length} samples: "
                "give a sampler of this dataset"
            )
        if epoch and len(order) < self.steps_per_epoch * self.batch_size:
            raise DataError(
                f"the sampler gave {len(order)} indices for epoch {epoch}, but {self._epoch_length} for the first: "
                "give a sampler whose epochs are equally long"
            )
        return order


class InOrder:
    """All samples once, in the dataset's order, the short last batch included; for evaluation.

    Args:
        length: samples in the dataset.
        batch_size: samples of a batch.
        rank: this process's number; ranks take turns with the batches.
        world_size: number of processes that share them.
        even: give every rank as many batches, where need be one that does not count: of the first sample, with a step
            of ``batches`` or more.
    """

    def __init__(self, length: int, batch_size: int, *, rank: int = 0, world_size: int = 1, even: bool = False) -> None:
        self.length = length
        self.batch_size = batch_size
        self.rank = rank
        self.world_size = world_size
        self.batches = -(-length // batch_size)
        """Of all ranks together."""

        self._steps = -(-self.batches // world_size) * world_size if even else self.batches

    def tickets(self, start: int = 0, stop: int | None = None) -> Iterator[Ticket]:
        """Yield this rank's tickets of batches ``start`` to ``stop``."""
        last = self._steps if stop is None else stop
        for step in range(start + (self.rank - start) % self.world_size, last, self.world_size):
            first, end = step * self.batch_size, min(self.length, (step + 1) * self.batch_size)
            places = np.arange(first, end, dtype=np.int64) if step < self.batches else np.zeros(1, dtype=np.int64)
            yield Ticket(step=step, epoch=0, positions=places, indices=places)
