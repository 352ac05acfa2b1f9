"""The cache of samples: arrays by index, filled and read by every process that has it."""

from __future__ import annotations

import logging
import os
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from autotrain.cache.entry import sheet
from autotrain.cache.file import CacheFile, Place
from autotrain.cache.header import FormatError, data_at

log = logging.getLogger(__name__)


class Cache:
    """Samples by index, in memory or on disk. Picklable, and safe to use from forked processes and from threads.

    It never stands in the way: what cannot be kept is just not there. A sample is whatever arrays were put, of the
    dtypes in ``entry.DTYPES`` and up to 4 dimensions.

    Args:
        file: where samples are kept; None keeps nothing.
        length: samples of the dataset.
        capacity_bytes: room for entries.
        slots: slot of each sample in the file's table, -1 for none; None where sample i has slot i.
    """

    def __init__(
        self,
        file: CacheFile | None,
        *,
        length: int,
        capacity_bytes: int,
        slots: NDArray[np.int64] | None = None,
    ) -> None:
        self._file = file
        self._length = length
        self._slots = slots
        self._slot: Any = range(length) if slots is None else np.ascontiguousarray(slots).data
        self.capacity_bytes = capacity_bytes if file is not None else 0
        """Bytes that entries may take, what other users of a disk cache put there included."""

    def __len__(self) -> int:
        return self._length

    def get(self, index: int) -> tuple[NDArray[Any], ...] | None:
        """Return a sample's arrays as read-only views, which stay valid after ``close``; None if it is not there.

        Raises:
            IndexError: the dataset has no such sample.
        """
        file, slot = self._file, self._slot[index]
        return None if file is None or slot < 0 else file.read(slot)

    def put(self, index: int, arrays: tuple[NDArray[Any], ...]) -> bool:
        """Keep a sample; return whether it was done.

        It is not done when the sample is there already, when there is no room, when the cache cannot be written, or
        when another process holds up the giving out of room (it may be frozen).

        Raises:
            IndexError: the dataset has no such sample.
            UnsupportedError: an array is of another kind than those that can be kept.
        """
        file, slot = self._file, self._slot[index]
        if file is None or slot < 0 or not file.place.writable or file.stopped or file.offsets[slot]:
            return False
        ready = sheet(arrays)
        try:
            offset = file.allocate(ready.layout.size, data_at(file.table) + self.capacity_bytes)
            if offset is None:
                return False
            file.write(slot, offset, ready)
        except BlockingIOError:
            return False
        except OSError as problem:
            self._stop(file, problem)
            return False
        return True

    def _stop(self, file: CacheFile, problem: OSError) -> None:
        """Fill no further, in any process; the first to notice says so."""
        if not file.stop():
            log.warning(
                "cache: %s cannot be filled further (%s). What it holds is used, the rest is made anew each epoch",
                file.place.path,
                problem.strerror or problem,
            )

    @property
    def filled(self) -> int:
        """Number of samples that are there; after a crash of the machine some may prove to be lost when first used."""
        file = self._file
        if file is None:
            return 0
        offsets = np.frombuffer(file.offsets, dtype=np.uint64)
        if self._slots is None:
            return int(np.count_nonzero(offsets[: self._length]))
        return int(np.count_nonzero(offsets[self._slots[self._slots >= 0]]))

    @property
    def used_bytes(self) -> int:
        """Bytes of the capacity that are taken."""
        file = self._file
        return 0 if file is None else file.used_bytes

    @property
    def full(self) -> bool:
        """Whether no more can be expected to be kept: the room left is less than an entry takes on average."""
        file = self._file
        if file is None or not file.place.writable or file.stopped:
            return True
        entries = int(np.count_nonzero(np.frombuffer(file.offsets, dtype=np.uint64)))
        used = self.used_bytes
        return self.capacity_bytes - used < max(1, used // max(1, entries))

    def close(self) -> None:
        """Let go of the file in this process; a cache in memory is gone when no process has it any more."""
        self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        file = self._file
        return {
            "place": None if file is None else file.place.for_others(),
            "pid": os.getpid(),
            "length": self._length,
            "capacity_bytes": self.capacity_bytes,
            "slots": self._slots,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        place: Place | None = state["place"]
        file = None
        try:
            file = None if place is None else CacheFile(place)
        except (OSError, FormatError) as problem:
            log.warning(
                "cache: process %d cannot open that of process %d (%s), and makes each sample anew",
                os.getpid(),
                state["pid"],
                str(problem),  # not the error itself, whose traceback keeps files open
            )
        self.__init__(  # type: ignore[misc]
            file, length=state["length"], capacity_bytes=state["capacity_bytes"], slots=state["slots"]
        )
