"""Locks between processes: flock on a file description of their own, which ends with the process, however it ends."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if sys.platform != "win32":
    import fcntl

PAUSE_S = 0.0005
"""Between two attempts."""


@contextmanager
def locked(path: str, *, patience_s: float, create: bool = False) -> Iterator[None]:
    """Hold a file's lock alone.

    flock belongs to the open file description, which forked children share: so every holder opens the file anew, and
    threads and children exclude each other like strangers. No one waits without end, since a holder may be frozen
    (SIGSTOP) for as long as somebody likes.

    Raises:
        BlockingIOError: it was not to be had in ``patience_s`` seconds.
        OSError: the file cannot be opened, or its file system knows no locks.
    """
    flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
    number = os.open(path, flags, 0o666)
    try:
        _wait(number, fcntl.LOCK_EX, patience_s)
        try:
            yield
        finally:
            fcntl.flock(number, fcntl.LOCK_UN)  # said, not left to close: a child forked meanwhile holds a copy
    finally:
        os.close(number)


def share(number: int, *, patience_s: float) -> None:
    """Mark an open file as in use, until its description is closed in this process and in all that inherited it.

    Raises:
        BlockingIOError: someone held it alone for ``patience_s`` seconds.
    """
    _wait(number, fcntl.LOCK_SH, patience_s)


def alone(number: int) -> bool:
    """Tell whether no one else uses an open file; if so it is now held alone, until ``share`` or its closing."""
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def sweep(parent: Path, prefix: str, lock: str) -> None:
    """Remove the folders of killed processes: those under a prefix whose lock file nobody holds any more.

    Args:
        parent: where they lie.
        prefix: of the folders' names.
        lock: name of the file in each of them that its owner shares; a folder without one is left alone.
    """
    for folder in parent.glob(f"{prefix}*"):
        try:
            number = os.open(folder / lock, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            if alone(number):
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(number)


def _wait(number: int, kind: int, patience_s: float) -> None:
    end = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(number, kind | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= end:
                raise
        time.sleep(PAUSE_S)
