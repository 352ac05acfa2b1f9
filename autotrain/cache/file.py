"""The cache's file: a header, a table of slots, and entries one after the other, written by many and read by more.

A lock is held only while room is given out. An entry is written first and its offset last, 8 aligned bytes at once, so
that a reader sees all of it or nothing; should it ever see half an offset, the entry's head, which names its sample,
does not lie there. A writer that is killed leaves room that no one uses. Everything is written by ``pwrite``, since a
full disk then is an error and not a signal, and read through one mapping.
"""

from __future__ import annotations

import logging
import mmap
import os
import weakref
import zlib
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotrain.cache.boot import boot_stamp
from autotrain.cache.entry import ARRAY, CHECKED_FROM, HEAD, MAGIC, MAX_ARRAYS, Layout, Sheet, read_layout
from autotrain.cache.header import (
    COUNT_AT,
    END_AT,
    ENTRY_STEP,
    LOSS_AT,
    STOPPED_AT,
    TABLE_AT,
    WORD,
    FormatError,
    TableFullError,
    data_at,
    read_header,
    write_all,
)
from autotrain.cache.lock import locked, share
from autotrain.hardware.memory import memory_facts

log = logging.getLogger(__name__)

SHORT_S, LONG_S = 0.005, 10.0
"""Patience for a lock: on the way of a sample, which is merely not kept otherwise; and when opening."""

MAX_LAYOUTS = 4096
"""Layouts remembered; photographs of a folder have a few hundred sizes at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a cache's file is, so that another process can open it too."""

    path: str
    lock: str
    """File whose lock is held while room is given out."""

    token: bytes
    """Tells this file from another that has taken its path or number; empty where any will do."""

    writable: bool = True
    durable: bool = True
    """Whether it may outlive the machine's page cache, so that entries need checksums and users must be known."""

    def for_others(self) -> Place:
        """Return the place as another process on this machine can name it."""
        own, theirs = "/proc/self/", f"/proc/{os.getpid()}/"
        return replace(self, path=self.path.replace(own, theirs, 1), lock=self.lock.replace(own, theirs, 1))


class CacheFile:
    """An open cache file. It closes when nothing refers to it any more, so no thread uses a number that another closed.

    Raises:
        FormatError: it is not the file that was meant.
        OSError: it cannot be opened, locked or mapped.
    """

    def __init__(self, place: Place, *, number: int | None = None) -> None:
        if number is None:
            number = os.open(place.path, (os.O_RDWR if place.writable else os.O_RDONLY) | os.O_CLOEXEC)
        self.number = number
        self._closing = weakref.finalize(self, os.close, number)
        self._closing.atexit = False
        if place.durable:
            share(number, patience_s=LONG_S)
        self.table: int
        self.table, self.token = read_header(number)
        if place.token and place.token != self.token:
            raise FormatError("it is another cache than the one that was shared")
        if not place.durable:  # without a name: this process and those that it forks have it under their own number
            own = f"/proc/self/fd/{number}"
            place = replace(place, path=own, lock=own)
        self.place = place
        self.stamp = boot_stamp()
        self._layouts: dict[bytes, Layout] = {}
        self._sound = bytearray()
        self._stopped = False
        self._touched = bytearray(self.table) if place.durable else None
        self._usual_bytes = 0
        self._warm_bytes = memory_facts().budget_bytes // 2 if place.durable else 0
        self._map()

    def _map(self) -> None:
        size = os.fstat(self.number).st_size
        if size < data_at(self.table):
            raise FormatError("it is cut short")
        self.bytes = mmap.mmap(self.number, size, access=mmap.ACCESS_READ)
        view = memoryview(self.bytes)
        middle = TABLE_AT + 8 * self.table
        self.tags = view[TABLE_AT:middle].cast("Q")
        self.offsets = view[middle : middle + 8 * self.table].cast("Q")
        self._words = view[:TABLE_AT].cast("Q")
        self.size = size  # last: another thread that sees it sees the new mapping too

    @property
    def used_bytes(self) -> int:
        """Room that was given out."""
        return self.end - data_at(self.table)

    @property
    def end(self) -> int:
        """The end of the room that was given out."""
        return int(self._words[END_AT // 8])

    @property
    def stopped(self) -> bool:
        """Whether this process or another met a full disk."""
        return self._stopped or self._words[STOPPED_AT // 8] != 0

    def read(self, slot: int) -> tuple[NDArray[Any], ...] | None:
        """Return a slot's arrays as views of the mapping; None where there are none, or not what was once written."""
        offset = self.offsets[slot]
        if not offset:
            return None
        views = self._views(slot, offset)
        if views is None:
            self._lost(slot, offset)
        return views

    def _views(self, slot: int, offset: int) -> tuple[NDArray[Any], ...] | None:
        touched = self._touched
        if touched is not None and (not touched[slot] or self._words[END_AT // 8] > self._warm_bytes):
            self._fetch(touched, slot, offset)
        first = offset + HEAD.size
        if first > self.size and not self._grown(first):
            return None
        stamp, checksum, magic, tag, size, count, _ = HEAD.unpack_from(self.bytes, offset)
        if magic != MAGIC or tag != self.tags[slot] or count > MAX_ARRAYS:
            return None
        if offset + size > self.size and not self._grown(offset + size):
            return None
        whole = self.bytes
        layout = self._layout(whole[first : first + ARRAY.size * count])
        if layout is None or layout.size != size:
            return None
        self._usual_bytes = max(size, self._usual_bytes * 15 // 16)
        if stamp != self.stamp and not self._check(slot, offset, size, checksum):
            return None
        return tuple([np.ndarray(shape, dtype, whole, offset + start) for shape, dtype, start in layout.arrays])

    def _fetch(self, touched: bytearray, slot: int, offset: int) -> None:
        """Have the system read an entry in one piece, before a missed page has it read what it likes around that.

        From a disk, a sample then comes four to five times as fast (measured: 0.9 against 4.3 ms for 640 kB). The call
        costs 8 microseconds even where all is in memory, so it is made when a process first reads a sample, and each
        time where the file is too large to stay in memory.
        """
        touched[slot] = 1
        start = offset // mmap.PAGESIZE * mmap.PAGESIZE
        with suppress(OSError, ValueError, OverflowError):  # behind the end, as is found out below
            self.bytes.madvise(mmap.MADV_WILLNEED, start, offset + self._usual_bytes - start)

    def _layout(self, lines: bytes) -> Layout | None:
        layout = self._layouts.get(lines)
        if layout is None:
            layout = read_layout(lines)
            if layout is not None:
                if len(self._layouts) >= MAX_LAYOUTS:
                    self._layouts = {}
                self._layouts[lines] = layout
        return layout

    def _grown(self, size: int) -> bool:
        """Map the file anew if another process has made it larger; return whether ``size`` bytes are there now."""
        if os.fstat(self.number).st_size > self.size:
            self._map()
        return size <= self.size

    def _check(self, slot: int, offset: int, size: int, checksum: int) -> bool:
        """Tell whether an entry of another boot is whole, and remember it, for everybody if possible."""
        if not self._sound:
            self._sound = bytearray(self.table)
        if self._sound[slot]:
            return True
        with memoryview(self.bytes)[offset + CHECKED_FROM : offset + size] as body:
            if zlib.crc32(body) != checksum:
                return False
        self._sound[slot] = 1
        if self.place.writable:
            with suppress(OSError):  # without it the next process checks once more
                os.pwrite(self.number, WORD.pack(self.stamp), offset)
        return True

    def _lost(self, slot: int, offset: int) -> None:
        """Let a slot be filled again whose entry did not survive a crash; said once for all processes."""
        if self.place.writable and self.offsets[slot] == offset:
            if self._words[LOSS_AT // 8] != self.stamp:
                log.warning("cache: %s has lost samples, as in a crash; they are made anew", self.place.path)
            with suppress(OSError):  # without it the entry is found broken once more
                os.pwrite(self.number, WORD.pack(self.stamp), LOSS_AT)
                self.publish(slot, 0)

    def allocate(self, size: int, limit: int) -> int | None:
        """Give out ``size`` bytes that end before ``limit``; return their offset, None if there is no such room.

        Raises:
            BlockingIOError: the lock was not to be had at once.
            OSError: the file cannot be written.
        """
        size = -(-size // ENTRY_STEP) * ENTRY_STEP
        if self.end + size > limit:
            return None
        with locked(self.place.lock, patience_s=SHORT_S):
            start = self._read_end()
            if start + size > limit:
                return None
            os.pwrite(self.number, WORD.pack(start + size), END_AT)
        return start

    def _read_end(self) -> int:
        """Return ``end`` as the file has it; on a network's file system the mapping may be behind."""
        return int.from_bytes(os.pread(self.number, 8, END_AT), "little")

    def write(self, slot: int, offset: int, sheet: Sheet) -> None:
        """Write an entry into room that was given out, and publish it.

        Raises:
            OSError: the disk is full or broken; nothing is published then.
        """
        parts = sheet.parts(self.tags[slot], self.stamp, checked=self.place.durable)
        done = os.pwritev(self.number, parts, offset)
        if done < sheet.layout.size:
            write_all(self.number, memoryview(b"".join(parts))[done:], offset + done)
        self.publish(slot, offset)

    def publish(self, slot: int, offset: int) -> None:
        """Store a slot's offset."""
        os.pwrite(self.number, WORD.pack(offset), TABLE_AT + 8 * (self.table + slot))

    def stop(self) -> bool:
        """Tell all processes that writing has stopped; return whether they knew."""
        known, self._stopped = self.stopped, True
        with suppress(OSError):  # without it each process finds out by itself
            os.pwrite(self.number, WORD.pack(1), STOPPED_AT)
        return known

    def go_on(self) -> None:
        """Let writing be tried again."""
        self._stopped = False
        if self.stopped:
            os.pwrite(self.number, WORD.pack(0), STOPPED_AT)

    def give_out(self, tags: NDArray[np.uint64]) -> NDArray[np.int64] | None:
        """Return the slot of each tag, new ones for those that are not known yet; None for slots 0, 1, 2 and so on.

        Without leave to write, new tags get -1.

        Raises:
            TableFullError: there are not enough slots left.
        """
        if not self.place.writable:
            return self._match(tags)
        with locked(self.place.lock, patience_s=LONG_S):
            slots = self._match(tags)
            new = np.flatnonzero(slots < 0) if slots is not None else np.empty(0, dtype=np.int64)
            if new.size:
                assert slots is not None
                count = self._count()
                if count + new.size > self.table:
                    raise TableFullError
                slots[new] = np.arange(count, count + new.size)
                write_all(self.number, memoryview(tags[new].tobytes()), TABLE_AT + 8 * count)
                os.pwrite(self.number, WORD.pack(count + new.size), COUNT_AT)
        return None if slots is None or np.array_equal(slots, np.arange(len(slots))) else slots

    def _count(self) -> int:
        return min(self.table, int.from_bytes(os.pread(self.number, 8, COUNT_AT), "little"))

    def _match(self, tags: NDArray[np.uint64]) -> NDArray[np.int64] | None:
        known = np.frombuffer(self.tags, dtype=np.uint64)[: self._count()]
        if len(known) >= len(tags) and np.array_equal(known[: len(tags)], tags):
            return None
        if not len(known):
            return np.full(len(tags), -1, dtype=np.int64)
        order = np.argsort(known, kind="stable")
        place = np.minimum(np.searchsorted(known, tags, sorter=order), len(known) - 1)
        slots = order[place].astype(np.int64)
        slots[known[slots] != tags] = -1
        return slots

    def make_ready(self, capacity_bytes: int) -> None:
        """Let the file hold that many bytes of entries, and mend what a crash of the machine left behind.

        The end may have reached the disk later than the offsets of the entries before it: it must lie behind them all,
        or new entries would be written over old ones.
        """
        with locked(self.place.lock, patience_s=LONG_S):
            wanted = data_at(self.table) + capacity_bytes
            if wanted > os.fstat(self.number).st_size:
                os.ftruncate(self.number, wanted)
            if wanted > self.size:
                self._map()
            known, last = self._read_end(), self._last_end()
            if known < last:
                os.pwrite(self.number, WORD.pack(last), END_AT)

    def _last_end(self) -> int:
        """Return where the last entry of the table ends; offsets that lead to no entry are cleared on the way."""
        offsets = np.frombuffer(self.offsets, dtype=np.uint64)
        filled = np.flatnonzero(offsets)
        for slot in filled[np.argsort(offsets[filled])[::-1]].tolist():
            offset = self.offsets[slot]
            if offset % ENTRY_STEP == 0 and data_at(self.table) <= offset <= self.size - HEAD.size:
                _, _, magic, tag, size, _, _ = HEAD.unpack_from(self.bytes, offset)
                end: int = offset + size
                if magic == MAGIC and tag == self.tags[slot] and end <= self.size:
                    return -(-end // ENTRY_STEP) * ENTRY_STEP
            self.publish(slot, 0)
        return 0
