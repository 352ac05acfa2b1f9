"""Budgets: how many bytes a cache may take of memory and disk, and how many it would need. Functions of facts."""

from __future__ import annotations

import math
import os
import shutil
import statistics
from collections.abc import Sequence
from pathlib import Path

from autotrain.cache.shelf import kept
from autotrain.hardware.memory import MemoryFacts

GIB = 1 << 30

TRAINING_SHARE, TRAINING_BYTES = 0.25, 2 * GIB
"""Of the free memory this share, and at least these bytes, are left to the ranks' models and everything else."""

WORKER_BYTES = GIB // 2
"""Left for each loader process: torch, its decoder and the batches under way."""

DISK_SHARE, DISK_BYTES = 0.5, 5 * GIB
"""All caches together take at most this share of the disk that is free without them, and leave at least these bytes."""

ENTRY_BYTES = 256
"""What an entry takes beside its arrays: its head, alignment, and its slot in the table."""

DOUBT = 2.0
"""Standard errors added to the mean of a sample."""


def memory_budget(facts: MemoryFacts, *, ranks: int = 1, workers: int = 0) -> int:
    """Return the bytes that this rank's cache in memory may take.

    Args:
        facts: the machine's memory, control groups included.
        ranks: training processes on this machine, each with a cache of its own (``World.local_world_size``).
        workers: loader processes of each rank that are still to be started.
    """
    left = max(TRAINING_BYTES, math.ceil(TRAINING_SHARE * facts.budget_bytes)) + ranks * workers * WORKER_BYTES
    return max(0, facts.budget_bytes - left) // ranks


def disk_budget(directory: str | os.PathLike[str]) -> int:
    """Return the bytes that all caches of a directory may take together, those that are there included; 0 if unknown.

    The directory need not exist yet.
    """
    place = Path(directory).expanduser().absolute()
    cached = sum(entry.bytes for entry in kept(place))
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        free = shutil.disk_usage(place).free
    except OSError:
        return 0
    return disk_share(free_bytes=free, cached_bytes=cached)


def disk_share(*, free_bytes: int, cached_bytes: int) -> int:
    """Return what caches may take of a disk with that much free and that much in caches already."""
    free = free_bytes + cached_bytes
    return max(0, min(int(DISK_SHARE * free), free - DISK_BYTES))


def estimate_bytes(sizes: Sequence[int], length: int) -> int:
    """Return the bytes that a cache of a whole dataset needs, rather too many than too few.

    Args:
        sizes: bytes of the arrays of some samples, drawn at random.
        length: samples of the dataset.
    """
    if not sizes:
        return 0
    mean, spread = statistics.fmean(sizes), statistics.stdev(sizes) if len(sizes) > 1 else 0.0
    if len(sizes) < length:
        mean += DOUBT * spread / math.sqrt(len(sizes))
    return math.ceil(length * (mean + ENTRY_BYTES))
