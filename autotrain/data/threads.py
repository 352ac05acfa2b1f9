"""Loading threads: batches without a copy between processes.

Reading, decoding and resizing release the interpreter's lock, so that threads do them side by side; the lesson of SPDL
(https://github.com/facebookresearch/spdl).
"""

from __future__ import annotations

import contextlib
import copy
import ctypes
import functools
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from typing import Any

import torch

from autotrain.data.batch import Failure, HostBatch
from autotrain.data.feed import Feed, LoaderOptions, can_pin, pinned
from autotrain.data.reader import Reader
from autotrain.data.stream import Ticket
from autotrain.errors import CandidateError

GRACE_S = 10.0
"""How long a thread may take to come to the end of a sample when it is to pause or to end."""

STOPS = ("sample", "encoded", "label", "batch")
"""Methods of a source that mark the places where a batch can be left for a while, or for good."""


def thread_problem(reader: Reader) -> str | None:
    """Return why a reader cannot be used by several threads at once, or None."""
    if not reader.source.pure:
        return (
            f"the samples of {reader.source.name} may depend on more than their index, such as random transforms, "
            "and threads share one set of random generators: use worker processes"
        )
    if reader.recipe.collate is not None:
        return "a collation of the user's own may draw random numbers, and threads share one set of generators"
    return None


class ThreadFeed(Feed):
    """Batches read by a pool of threads in this process, handed over in the stream's order.

    At most ``workers`` times ``prefetch`` batches are under way or ready.
    """

    start_method = "threads"

    def __init__(self, reader: Reader, tickets: Iterator[Ticket], options: LoaderOptions) -> None:
        super().__init__(reader, tickets, options)
        self._hang_s = options.hang_s
        self._stock = options.workers * options.prefetch
        self._slots: deque[SimpleQueue[Any]] = deque()
        self._pool = _Pool(reader, options)
        self._end = weakref.finalize(self, self._pool.end)  # also where nobody closes, and when the program ends
        self._pool.start()
        self._fill(self._stock)

    def next(self) -> HostBatch | Failure:
        """Return the next batch, or raise what its thread met."""
        if not self._slots:
            raise StopIteration
        try:
            result = self._slots[0].get(timeout=self._hang_s or None)
        except Empty:
            raise CandidateError(f"no batch for {self._hang_s:g} s: a loading thread hangs") from None
        self._fill(self._stock + 1)  # the batch in hand is no longer under way
        self._slots.popleft()
        if isinstance(result, BaseException):
            try:
                raise result
            finally:
                del result  # its traceback holds this frame
        assert isinstance(result, HostBatch | Failure)
        return result

    def _fill(self, most: int) -> None:
        """Hand out tickets. Only the consumer does: the user's sampler draws from this process's generators."""
        while len(self._slots) < most:
            slot: SimpleQueue[Any] = SimpleQueue()
            try:
                ticket = next(self._tickets)
            except StopIteration:
                return
            except Exception as problem:
                slot.put(problem)  # belongs to this place of the stream, not to the batch before
                self._slots.append(slot)
                return
            self._slots.append(slot)
            self._pool.tasks.put((ticket, slot))

    def pause(self) -> bool:
        """Hold every thread at the end of its sample; return whether there is nothing left that runs."""
        return self._pool.pause()

    def resume(self) -> bool:
        """Let held threads go on; return whether they had been held."""
        return self._pool.resume()

    def close(self) -> None:
        """End the threads, in the middle of a batch where they are in one, and wait for them."""
        self._slots.clear()
        self._end()


class _Ended(BaseException):
    """The pool ends: leave the batch."""


class _Pool:
    """Threads that read batches. All that several threads touch is atomic, so that Ctrl-C finds no lock half taken."""

    def __init__(self, reader: Reader, options: LoaderOptions) -> None:
        self.tasks: SimpleQueue[tuple[Ticket, SimpleQueue[Any]] | None] = SimpleQueue()
        self._reader = _interruptible(reader, self._checkpoint)
        self._device = torch.accelerator.current_device_index() if options.pin and can_pin() else None
        self._gate: SimpleQueue[None] | None = None
        self._ended = self._held = False
        self._busy: dict[int, bool] = {}
        self._ready: SimpleQueue[None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._run, name=f"autotrain-loader-{number}", daemon=True)
            for number in range(options.workers)
        ]

    def start(self) -> None:
        """Start the threads and wait until torch knows them: its thread count may be changed by others afterwards."""
        for thread in self._threads:
            thread.start()
        for _ in self._threads:
            self._ready.get()

    def pause(self) -> bool:
        if self._gate is None:
            self._gate = SimpleQueue()
        until = time.monotonic() + GRACE_S
        while any(list(self._busy.values())) and time.monotonic() < until:
            time.sleep(0.001)
        self._held = not any(list(self._busy.values()))
        return self._held

    def resume(self) -> bool:
        gate, self._gate = self._gate, None
        held, self._held = self._held, False
        if gate is not None:
            for _ in self._threads:
                gate.put(None)
        return held

    def end(self) -> None:
        self._ended = True
        self.resume()
        for _ in self._threads:
            self.tasks.put(None)
        until = time.monotonic() + GRACE_S
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, until - time.monotonic()))

    def _run(self) -> None:
        own = threading.get_ident()
        try:
            use_one_core()
            if self._device is not None:
                torch.accelerator.set_device_index(self._device)
        finally:
            self._ready.put(None)
        while (task := self.tasks.get()) is not None:
            ticket, slot = task
            try:
                self._checkpoint()
                slot.put(pinned(self._reader[ticket], self._device is not None))
            except _Ended:
                return
            except BaseException as problem:
                slot.put(problem)
            finally:
                self._busy[own] = False
            del ticket, slot, task  # nothing keeps a batch that was handed over

    def _checkpoint(self) -> None:
        """Wait while the pool is paused; leave the batch when it ends."""
        own = threading.get_ident()
        while True:
            self._busy[own] = True  # before the gate is looked at: who shuts it looks at this afterwards
            if self._ended:
                raise _Ended
            gate = self._gate
            if gate is None:
                return
            self._busy[own] = False
            try:
                gate.get(timeout=1.0)
            except Empty:
                continue


def _interruptible(reader: Reader, checkpoint: Callable[[], None]) -> Reader:
    """Return a reader that calls ``checkpoint`` before each sample."""
    source = copy.copy(reader.source)
    for name in STOPS:
        method = getattr(source, name, None)
        if method is not None:
            setattr(source, name, _after(checkpoint, method))
    reader = copy.copy(reader)
    reader.source = source
    return reader


def _after(checkpoint: Callable[[], None], method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def checked(*arguments: Any) -> Any:
        checkpoint()
        return method(*arguments)

    return checked


ONE_THREAD = ("omp_set_num_threads", "MKL_Set_Num_Threads_Local")
"""Functions of OpenMP and MKL that set the calling thread's count alone."""


def use_one_core() -> None:
    """Keep torch's operators in the calling thread to that thread, whatever other threads are set to.

    ``torch.set_num_threads`` would also set the count of all threads to come, and MKL's of all threads. OpenMP and MKL
    have functions for the calling thread alone, but torch gives a thread its own count when that first needs it:
    ``get_num_threads`` makes it do so before. They are looked up in what torch is linked with; there may be none.
    """
    torch.get_num_threads()
    for name in ONE_THREAD:
        with contextlib.suppress(AttributeError, OSError):
            getattr(ctypes.CDLL(torch._C.__file__), name)(1)
