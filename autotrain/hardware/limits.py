"""Limits of this process: how many files it may open, and how many it has open."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class FileLimit:
    """Open files of one process; sockets, pipes and shared memory count too."""

    soft: int | None
    """Limit in force; None for no limit."""

    hard: int | None
    """Up to here the process may raise it by itself; None for no limit."""

    used: int | None
    """Open now; None where the system does not tell."""


def file_limit(root: Path = Path("/")) -> FileLimit | None:
    """Return the limit on open files; None where the system has no such limits. ``root`` is where ``proc`` lies."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    soft, hard = (
        None if value == resource.RLIM_INFINITY else value for value in resource.getrlimit(resource.RLIMIT_NOFILE)
    )
    try:
        used = len(os.listdir(root / "proc/self/fd"))
    except OSError:
        used = None
    return FileLimit(soft=soft, hard=hard, used=used)
