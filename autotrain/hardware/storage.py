"""Storage: reading files in order, which warms the page cache and tells the rate at which they come."""

import logging
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

log = logging.getLogger(__name__)

CHUNK_BYTES = 1 << 20
"""Bytes asked for at a time; the limits are looked at between two chunks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRate:
    """What a stretch of reading saw."""

    bytes: int
    """Bytes read."""

    files: int
    """Files read to their end."""

    seconds: float
    """Wall-clock time it took, opening the files included."""

    @property
    def bytes_per_s(self) -> float:
        """The rate; 0 where nothing was read."""
        return self.bytes / self.seconds if self.bytes and self.seconds > 0 else 0.0


def cold_read(
    paths: Iterable[str | os.PathLike[str]],
    *,
    limit_bytes: int | None = None,
    limit_s: float | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> ReadRate:
    """Read the files in order until they end or a limit is reached, and keep nothing of them.

    The rate is storage's only for files that the page cache does not hold yet. A file that cannot be opened is passed
    over: whoever needs its content says what is wrong with it.
    """
    buffer = memoryview(bytearray(CHUNK_BYTES))
    start, total, files, done = clock(), 0, 0, False
    for path in paths:
        if done:
            break
        try:
            with open(path, "rb", buffering=0) as file:
                while not (done := _reached(total, limit_bytes) or _reached(clock() - start, limit_s)):
                    room = CHUNK_BYTES if limit_bytes is None else min(CHUNK_BYTES, limit_bytes - total)
                    count = file.readinto(buffer[:room])
                    if not count:
                        files += 1
                        break
                    total += count
        except OSError as error:
            log.debug("cold_read passes over %s: %s", path, error)
    return ReadRate(bytes=total, files=files, seconds=clock() - start)


def _reached(value: float, limit: float | None) -> bool:
    return limit is not None and value >= limit
