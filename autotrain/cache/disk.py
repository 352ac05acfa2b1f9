"""The cache on disk: shared by all processes and runs that want the same samples done in the same way."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotrain.cache.cache import Cache
from autotrain.cache.file import LONG_S, CacheFile, Place
from autotrain.cache.header import ForeignError, FormatError, TableFullError, initialise
from autotrain.cache.keys import distinct
from autotrain.cache.lock import alone, share
from autotrain.cache.shelf import DRAFT, LOCK, SAMPLES, describe, held, make_room

log = logging.getLogger(__name__)

KEY = re.compile(r"[0-9A-Za-z_-]{1,64}")

SPARE = 4
"""Slots per sample, for those that a growing or changing dataset brings; a slot that is not used takes no disk."""


def disk_cache(
    directory: str | os.PathLike[str],
    key: str,
    length: int,
    capacity_bytes: int,
    *,
    tags: NDArray[np.uint64] | None = None,
    about: Mapping[str, Any] | None = None,
    total_bytes: int | None = None,
) -> Cache:
    """Open the cache of that key, or make it; what cannot be opened or written is said and keeps nothing.

    Args:
        directory: the shelf, with a folder for each key; see ``shelf.default_directory``.
        key: says how samples are made; see ``keys.cache_key``.
        length: samples of the dataset.
        capacity_bytes: room for entries, those that are there included.
        tags: what each sample is made of (see ``keys.file_tags``), shape (length,). With them a changed file loses
            only its own entry, and samples may come, go and change places between runs. Without them sample i is sample
            i for ever, and the key must say all.
        about: words for people (dataset, steps), written beside the samples.
        total_bytes: what all caches of the directory may take together; the longest unused are removed for it.

    Raises:
        ValueError: the key is no plain name, or there are not as many tags as samples.
    """
    if not KEY.fullmatch(key):
        raise ValueError(f"cache: the key {key!r} must be up to 64 letters, digits, '-' and '_'")
    wanted = np.arange(1, length + 1, dtype=np.uint64) if tags is None else distinct(tags)
    if len(wanted) != length:
        raise ValueError(f"cache: {len(wanted)} tags for {length} samples")
    folder = Path(directory).expanduser().absolute() / key
    if sys.platform == "win32":
        return _nothing(folder, length, "Windows has no means for it that autotrain knows")
    try:
        return _open(folder, wanted, capacity_bytes, dict(about or {}), total_bytes)
    except OSError as problem:
        return _read_only(folder, wanted, problem)
    except FormatError as problem:
        return _nothing(folder, length, str(problem))


def _nothing(folder: Path, length: int, reason: str) -> Cache:
    log.warning("cache: %s cannot be used (%s). Each sample is made anew in every epoch", folder, reason)
    return Cache(None, length=length, capacity_bytes=0)


def _read_only(folder: Path, tags: NDArray[np.uint64], problem: OSError) -> Cache:
    reason = problem.strerror or str(problem)
    try:
        file = CacheFile(Place(path=str(folder / SAMPLES), lock=str(folder / LOCK), token=b"", writable=False))
        slots = file.give_out(tags)
    except (OSError, FormatError):
        return _nothing(folder, len(tags), reason)
    cache = Cache(file, length=len(tags), capacity_bytes=file.end, slots=slots)
    log.warning("cache: %s cannot be written (%s); its %d samples are used as they are", folder, reason, cache.filled)
    return cache


def _open(
    folder: Path, tags: NDArray[np.uint64], capacity_bytes: int, about: dict[str, Any], total_bytes: int | None
) -> Cache:
    folder.mkdir(parents=True, exist_ok=True)
    with held(folder.parent):
        if total_bytes is not None:
            wanted_bytes = capacity_bytes
            capacity_bytes = make_room(folder.parent, folder.name, wanted_bytes, total_bytes)
            if capacity_bytes < wanted_bytes:
                log.info("cache: %s gets %d of %d bytes: the others are in use", folder, capacity_bytes, wanted_bytes)
        file = _existing(folder) or _new(folder, len(tags))
        try:
            slots = _slots(file, tags, capacity_bytes)
        except TableFullError:
            log.info("cache: %s is for files that are gone or have changed, and begins anew", folder)
            del file
            (folder / SAMPLES).unlink()
            file = _new(folder, len(tags))
            slots = _slots(file, tags, capacity_bytes)
        describe(folder, {"samples": len(tags), "key": folder.name, **about})
    return Cache(file, length=len(tags), capacity_bytes=capacity_bytes, slots=slots)


def _existing(folder: Path) -> CacheFile | None:
    """Open the file that is there, if there is one and it is sound; another one is got out of the way."""
    path = folder / SAMPLES
    try:
        return CacheFile(_place(folder))
    except FileNotFoundError:
        return None
    except ForeignError as problem:
        aside = path.with_name(f"{SAMPLES}.foreign-{os.getpid()}")
        path.rename(aside)
        log.warning("cache: %s: %s. It is now %s, and the cache begins anew", path, str(problem), aside.name)
    except FormatError as problem:
        path.unlink()
        log.warning("cache: %s: %s. The cache begins anew", path, str(problem))
    return None


def _place(folder: Path, token: bytes = b"") -> Place:
    return Place(path=str(folder / SAMPLES), lock=str(folder / LOCK), token=token)


def _new(folder: Path, length: int) -> CacheFile:
    """Make an empty file, which has its name only when it is whole and on the disk."""
    for left in folder.glob(f"*{DRAFT}"):
        left.unlink(missing_ok=True)
    draft = folder / f"{SAMPLES}{DRAFT}"
    number = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        token = initialise(number, SPARE * length + 1024, np.empty(0, dtype=np.uint64))
        os.fsync(number)
    finally:
        os.close(number)
    (folder / LOCK).touch()
    os.replace(draft, folder / SAMPLES)
    return CacheFile(_place(folder, token))


def _slots(file: CacheFile, tags: NDArray[np.uint64], capacity_bytes: int) -> NDArray[np.int64] | None:
    """Make a file ready for these samples, and return their slots.

    Raises:
        TableFullError: it should begin anew: slots have run out, or what is no longer wanted takes the room of what is.
    """
    file.make_ready(capacity_bytes)
    if alone(file.number):
        file.go_on()
        if _crowded(file, tags, capacity_bytes):
            raise TableFullError
    share(file.number, patience_s=LONG_S)
    return file.give_out(tags)


def _crowded(file: CacheFile, tags: NDArray[np.uint64], capacity_bytes: int) -> bool:
    """Tell whether most entries are of samples that this dataset lacks, and the rest would not fit beside them."""
    offsets = np.frombuffer(file.offsets, dtype=np.uint64)
    entries = np.flatnonzero(offsets)
    if not entries.size:
        return False
    live = int(np.isin(np.frombuffer(file.tags, dtype=np.uint64)[entries], tags).sum())
    missing = (len(tags) - live) * (file.used_bytes / entries.size)
    return 2 * live < entries.size and file.used_bytes + missing > capacity_bytes
