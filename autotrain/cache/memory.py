"""The cache in memory: a file without a name, which ends with the last process that has it, however that ends."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np

from autotrain.cache.cache import Cache
from autotrain.cache.file import CacheFile, Place
from autotrain.cache.header import data_at, initialise
from autotrain.cache.lock import sweep

log = logging.getLogger(__name__)

PREFIX = "autotrain-cache-"
"""Of the folders that stand in for memory where there are no files without a name."""


def memory_cache(length: int, capacity_bytes: int) -> Cache:
    """Return an empty cache in memory, shared with all processes that are forked or to which it is pickled.

    Pages are taken as entries come, counted where shared memory is counted (control group included), and not limited by
    the size of ``/dev/shm``. Where the system has no such memory a temporary file serves, and where that does not work
    either the cache keeps nothing, which is said.

    Args:
        length: samples of the dataset.
        capacity_bytes: room for entries; see ``budget.memory_budget``.
    """
    try:
        if sys.platform == "linux":
            file = _anonymous(length, capacity_bytes)
        elif sys.platform == "win32":
            raise OSError("Windows has no means for it that autotrain knows")
        else:
            file = _temporary(length, capacity_bytes)
    except OSError as problem:
        log.warning("cache: no memory to keep samples in (%s). Each is made anew in every epoch", str(problem))
        return Cache(None, length=length, capacity_bytes=0)
    return Cache(file, length=length, capacity_bytes=capacity_bytes)


def _anonymous(length: int, capacity_bytes: int) -> CacheFile:
    number = os.memfd_create("autotrain-cache", os.MFD_CLOEXEC)
    try:
        path = f"/proc/self/fd/{number}"
        token = _prepare(number, length, capacity_bytes)
        place = Place(path=path, lock=path, token=token, durable=False)
    except BaseException:
        os.close(number)
        raise
    return CacheFile(place, number=number)


def _temporary(length: int, capacity_bytes: int) -> CacheFile:
    """Make the file in a folder of its own; folders left by killed processes are removed on the way."""
    sweep(Path(tempfile.gettempdir()), PREFIX, "samples.bin")
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    remove = _in_this_process(folder)
    try:
        path = folder / "samples.bin"
        number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            token = _prepare(number, length, capacity_bytes)
        finally:
            os.close(number)
        (folder / "lock").touch()
        file = CacheFile(Place(path=str(path), lock=str(folder / "lock"), token=token))
    except BaseException:
        remove()
        raise
    weakref.finalize(file, remove)
    return file


def _prepare(number: int, length: int, capacity_bytes: int) -> bytes:
    token = initialise(number, length, np.arange(1, length + 1, dtype=np.uint64))
    os.ftruncate(number, data_at(length) + capacity_bytes)
    return token


def _in_this_process(folder: Path) -> Callable[[], None]:
    """Return what removes a folder, but in a forked child does nothing."""
    owner = os.getpid()

    def remove() -> None:
        if os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)

    return remove
