"""Memory: what the machine has, what is free, and what the control group and ``/dev/shm`` leave of it."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import psutil

from autotrain.hardware.cgroup import legacy, read_int, read_text, unified


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryFacts:
    """What this process has of the memory, in bytes."""

    total_bytes: int
    """Memory of the machine."""

    available_bytes: int
    """Memory that can be had without swapping, page cache that can be dropped included."""

    limit_bytes: int | None = None
    """The smallest limit of the control group and its parents; None without one below the machine's memory."""

    limit_free_bytes: int | None = None
    """The least that any of those limits still leaves; page cache that can be dropped counts as free."""

    shm_bytes: int | None = None
    """Free space in ``/dev/shm``, through which loader workers hand over batches; None where there is none."""

    @property
    def budget_bytes(self) -> int:
        """What may really be used now: the available memory, or what the control group leaves, if that is less."""
        free = self.available_bytes if self.limit_free_bytes is None else self.limit_free_bytes
        return max(0, min(self.available_bytes, free))


def memory_facts(root: Path = Path("/")) -> MemoryFacts:
    """Read the facts from the operating system; ``root`` is where ``proc``, ``sys`` and ``dev`` lie."""
    total, available = _meminfo(root)
    levels = [_level(folder, "memory.max", "memory.current", "inactive_file") for folder in unified(root)]
    levels += [
        _level(folder, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        for folder in legacy(root, "memory")
    ]
    # A limit above the machine's memory is no limit; v1 writes 2**63 rounded to pages for "none".
    limits = [level for level in levels if level is not None and level[0] < total]
    return MemoryFacts(
        total_bytes=total,
        available_bytes=available,
        limit_bytes=min((limit for limit, _ in limits), default=None),
        limit_free_bytes=min((free for _, free in limits), default=None),
        shm_bytes=_free_bytes(root / "dev/shm"),
    )


def _meminfo(root: Path) -> tuple[int, int]:
    """Return total and available bytes from ``/proc/meminfo``, or from psutil where there is no such file."""
    kibibytes: dict[str, int] = {}
    for line in (read_text(root / "proc/meminfo") or "").splitlines():
        name, _, value = line.partition(":")
        words = value.split()
        if words and words[0].isdigit():
            kibibytes[name] = int(words[0])
    if "MemTotal" in kibibytes and "MemAvailable" in kibibytes:
        return kibibytes["MemTotal"] * 1024, kibibytes["MemAvailable"] * 1024
    memory = psutil.virtual_memory()
    return memory.total, memory.available


def _level(folder: Path, limit_file: str, usage_file: str, droppable: str) -> tuple[int, int] | None:
    """Return limit and free bytes of one control group, or None without a limit.

    Usage counts the page cache, which fills up whenever a dataset is read; what the kernel drops first (inactive file
    pages) is free for us, the same reckoning as Kubernetes' working set.
    """
    limit = read_int(folder / limit_file)
    if limit is None:
        return None
    used = (read_int(folder / usage_file) or 0) - _stat(folder / "memory.stat", droppable)
    return limit, max(0, limit - max(0, used))


def _stat(path: Path, name: str) -> int:
    for line in (read_text(path) or "").splitlines():
        words = line.split()
        if len(words) == 2 and words[0] == name and words[1].isdigit():
            return int(words[1])
    return 0


def _free_bytes(folder: Path) -> int | None:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None
