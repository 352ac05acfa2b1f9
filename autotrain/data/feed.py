"""Feeds: what brings batches in the stream's order. The base reads each one when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from autotrain.data.batch import Failure, HostBatch
from autotrain.data.reader import Reader
from autotrain.data.stream import Ticket

HANG_S = 120.0
"""Seconds without a batch after which a worker counts as hanging."""

PROCESSES, THREADS = "processes", "threads"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderOptions:
    """How a loader runs; none of it changes what it gives."""

    workers: int = 0
    """Worker processes or threads; 0 loads in the thread that asks for a batch."""

    kind: str = PROCESSES
    """What the workers are: processes, or threads of this process, which only sources without random draws allow."""

    prefetch: int = 2
    """Batches that each worker keeps ready."""

    pin: bool = False
    """Whether batches are moved to page-locked memory."""

    hang_s: float = HANG_S
    """Seconds without a batch after which a worker counts as hanging; 0 waits without end."""

    start_method: str | None = None
    """How processes start: fork, forkserver or spawn; None is the platform's usual one, or spawn with ``pillow``."""

    pillow: str | None = None
    """Folder of another Pillow that worker processes import in place of the installed one."""


class Feed:
    """Reads each batch in the thread that asks for it.

    Args:
        reader: makes batches of tickets.
        tickets: the stream's, in order.
        options: how; ``workers`` is 0 here.
    """

    start_method = "none"
    """How workers came to be: none, threads, fork, forkserver or spawn."""

    pids: tuple[int, ...] = ()
    """Process numbers of the workers."""

    def __init__(self, reader: Reader, tickets: Iterator[Ticket], options: LoaderOptions) -> None:
        self._reader = reader
        self._tickets = tickets
        self._pins = options.pin and can_pin()

    def next(self) -> HostBatch | Failure:
        """Return the next batch.

        Raises:
            StopIteration: the stream has ended.
        """
        return pinned(self._reader[next(self._tickets)], self._pins)

    def pause(self) -> bool:
        """Freeze the workers as they are; return whether there is nothing left that runs."""
        return True

    def resume(self) -> bool:
        """Let frozen workers go on; return whether they had been frozen."""
        return True

    def close(self) -> None:
        """End the workers and wait for them."""


def can_pin() -> bool:
    """Tell whether page-locked memory is of use here; torch's loader asks the same."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return accelerator is not None and accelerator.type != "mps"


def pinned(batch: HostBatch | Failure, pins: bool) -> HostBatch | Failure:
    """Return the batch, in page-locked memory where wanted."""
    return batch.pin_memory() if pins and isinstance(batch, HostBatch) else batch
