"""The loader: batches in host memory in the stream's order, from worker processes, threads or the caller's own."""

from __future__ import annotations

from autotrain.data.batch import Failure, HostBatch
from autotrain.data.feed import HANG_S, PROCESSES, THREADS, Feed, LoaderOptions
from autotrain.data.reader import Reader
from autotrain.data.stream import Tickets
from autotrain.data.threads import ThreadFeed, thread_problem
from autotrain.data.workers import ProcessFeed, pillow_problem, usual_start_method
from autotrain.errors import CandidateError, DataError, unknown

__all__ = ["HANG_S", "Loader", "LoaderOptions", "usual_start_method"]


class Loader:
    """An iterator of host batches over the steps ``start`` to ``stop``, across epochs, without a stop between them.

    Use it in a ``with``, or call ``close``: workers end then, not when Python gets round to it.

    Raises:
        DataError: the workers cannot be of this kind, or not start this way, for this dataset.
        CandidateError: another Pillow is asked for, and nothing but worker processes could run it.
    """

    def __init__(
        self,
        reader: Reader,
        stream: Tickets,
        options: LoaderOptions,
        *,
        start: int = 0,
        stop: int | None = None,
    ) -> None:
        self.options = options
        self._feed: Feed | None = _feed_kind(reader, options)(reader, stream.tickets(start, stop), options)
        self.start_method = self._feed.start_method

    @property
    def pids(self) -> tuple[int, ...]:
        """Process numbers of the workers; empty for threads and once closed."""
        return () if self._feed is None else self._feed.pids

    def __iter__(self) -> Loader:
        return self

    def __next__(self) -> HostBatch:
        if self._feed is None:
            raise StopIteration
        batch = self._feed.next()
        if isinstance(batch, Failure):
            raise batch.error()
        return batch

    def pause(self) -> bool:
        """Freeze the workers as they are; return whether there is nothing left that runs."""
        return self._feed is None or self._feed.pause()

    def resume(self) -> bool:
        """Let frozen workers go on; return whether they had been frozen."""
        return self._feed is None or self._feed.resume()

    def close(self) -> None:
        """End the workers and wait for them."""
        if self._feed is not None:
            self._feed.close()
            self._feed = None

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _feed_kind(reader: Reader, options: LoaderOptions) -> type[Feed]:
    """Return what brings the batches, having refused what it could not."""
    if options.kind not in (PROCESSES, THREADS):
        raise DataError(unknown("kind of workers", options.kind, (PROCESSES, THREADS)))
    if options.workers and options.kind == PROCESSES:
        return ProcessFeed
    problem = None if options.pillow is None else pillow_problem(options.pillow)
    if problem is not None:
        raise CandidateError(f"{problem} in the training process: use worker processes")
    if not options.workers:
        return Feed
    problem = thread_problem(reader)
    if problem is not None:
        raise DataError(f"kind='{THREADS}': {problem}")
    return ThreadFeed
