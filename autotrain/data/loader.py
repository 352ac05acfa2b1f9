"""The loader: batches in host memory in the stream's order, from worker processes or from this one."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler

from autotrain.data.reader import Failure, HostBatch, Reader, prepare_worker
from autotrain.data.stream import InOrder, Stream, Ticket
from autotrain.errors import CandidateError, DataError

HANG_S = 120.0
"""Seconds without a batch after which a worker counts as hanging."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderOptions:
    """How a loader runs; none of it changes what it gives."""

    workers: int = 0
    """Worker processes; 0 loads in this process."""

    prefetch: int = 2
    """Batches that each worker keeps ready."""

    pin: bool = False
    """Whether batches are moved to page-locked memory."""

    hang_s: float = HANG_S
    """Seconds without a batch after which a worker counts as hanging; 0 waits without end."""

    start_method: str | None = None
    """How workers start: fork, forkserver or spawn; the platform's usual one where None."""


class _Tickets(Sampler[Ticket]):
    """The stream's tickets from one step to another, as torch's loader wants them."""

    def __init__(self, stream: Stream | InOrder, start: int, stop: int | None) -> None:
        self._stream, self._start, self._stop = stream, start, stop

    def __iter__(self) -> Iterator[Ticket]:
        return self._stream.tickets(self._start, self._stop)


class Loader:
    """An iterator of host batches over the steps ``start`` to ``stop``, across epochs, without a stop between them.

    Use it in a ``with``, or call ``close``: workers end then, not when Python gets round to it.
    """

    def __init__(
        self,
        reader: Reader,
        stream: Stream | InOrder,
        options: LoaderOptions,
        *,
        start: int = 0,
        stop: int | None = None,
    ) -> None:
        self.options = options
        method = options.start_method or usual_start_method()
        if options.workers and method != "fork":
            _check_picklable(reader)
        with warnings.catch_warnings():
            # Asking for more workers than cores is what a probe does on purpose; forking beside torch's own threads
            # is what torch's loader does by default.
            warnings.filterwarnings("ignore", message="This DataLoader will create")
            warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*fork.*")
            loader: DataLoader[Any] = DataLoader(
                reader,
                sampler=_Tickets(stream, start, stop),
                batch_size=None,
                num_workers=options.workers,
                prefetch_factor=options.prefetch if options.workers else None,
                pin_memory=options.pin,
                multiprocessing_context=method if options.workers else None,
                worker_init_fn=partial(prepare_worker, parent=_tied_to()),
                timeout=options.hang_s if options.workers else 0,
                generator=torch.Generator(),  # torch's loader would otherwise draw from the process's own
            )
            self._iterator: Any = iter(loader)
            self.pids: tuple[int, ...] = tuple(worker.pid for worker in getattr(self._iterator, "_workers", ()))

    def __iter__(self) -> Loader:
        return self

    def __next__(self) -> HostBatch:
        try:
            batch = next(self._iterator)
        except RuntimeError as problem:
            if "DataLoader worker" in str(problem) or "DataLoader timed out" in str(problem):
                raise CandidateError(str(problem).splitlines()[0]) from problem
            raise
        except (OSError, EOFError) as problem:
            if self.pids:  # the pipe to a worker that died while it handed over a batch
                raise CandidateError(f"a loader worker died ({type(problem).__name__}: {problem})") from problem
            raise
        if isinstance(batch, Failure):
            raise batch.error()
        assert isinstance(batch, HostBatch)
        return batch

    def pause(self) -> bool:
        """Freeze the workers as they are; return whether there is nothing left that runs."""
        return self._signal("SIGSTOP")

    def resume(self) -> bool:
        """Let frozen workers go on; return whether they had been frozen."""
        return self._signal("SIGCONT")

    def _signal(self, name: str) -> bool:
        number = getattr(signal, name, None)
        if number is None:
            return not self.pids
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        return True

    def close(self) -> None:
        """End the workers and wait for them."""
        self.resume()
        iterator, self._iterator = self._iterator, iter(())
        shutdown = getattr(iterator, "_shutdown_workers", None)
        if shutdown is not None:
            with contextlib.suppress(AttributeError):
                shutdown()
        self.pids = ()

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _tied_to() -> int | None:
    """Return this process's number where workers may end with the thread that starts them, None elsewhere."""
    return os.getpid() if threading.current_thread() is threading.main_thread() else None


def usual_start_method() -> str:
    """Return how workers start here: fork on Linux (fast, and nothing needs pickling), spawn elsewhere."""
    return "fork" if sys.platform.startswith("linux") else "spawn"


def _check_picklable(reader: Reader) -> None:
    try:
        pickle.dumps(reader)
    except Exception as problem:
        raise DataError(
            f"the dataset {reader.source.name} cannot be pickled ({problem}), and workers here start by "
            f"'{usual_start_method()}': define its class at the top level of a module, or use workers=0"
        ) from problem
