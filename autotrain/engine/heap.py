"""Keeping the heap: what one training step frees on the CPU, the next step uses again.

glibc hands large blocks back to the kernel when they are freed, and the kernel clears every page of them again for the
next step, which asks for blocks of the very same sizes. Source: mallopt(3), glibc 2.36, malloc/malloc.c.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Lock

import torch

TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4
"""Parameters of mallopt, as malloc.h numbers them."""

KEEPING = ((MMAP_MAX, 0), (TRIM_THRESHOLD, -1))
"""No block from the kernel alone, and nothing back to it."""

USUAL = ((MMAP_MAX, 65536), (MMAP_THRESHOLD, 32 << 20), (TRIM_THRESHOLD, 64 << 20))
"""glibc's own, its two thresholds (bytes) at the ceilings that they rise to by themselves as blocks are freed."""

OWN_CHOICE = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_", "MALLOC_TOP_PAD_")
"""Environment variables with which users tune glibc's malloc themselves; ``GLIBC_TUNABLES`` is another."""


class Heap:
    """The heap of this process, and how many scopes want it kept."""

    def __init__(self, libc: ctypes.CDLL) -> None:
        self._libc = libc
        self._lock = Lock()
        self._scopes = 0

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep freed memory until the last of all scopes is left, then give it back."""
        with self._lock:
            self._scopes += 1
            if self._scopes == 1:
                self._set(KEEPING)
        try:
            yield
        finally:
            with self._lock:
                self._scopes -= 1
                if self._scopes == 0:
                    self._set(USUAL)
                    self._libc.malloc_trim(0)

    def usual_in_child(self) -> None:
        """Keep nothing in a process forked within a scope: workers are many, and what they free may be large."""
        self._lock = Lock()
        if self._scopes:
            self._set(USUAL)

    def _set(self, values: tuple[tuple[int, int], ...]) -> None:
        for parameter, value in values:
            self._libc.mallopt(parameter, value)


def tunes_malloc(environment: Mapping[str, str]) -> bool:
    """Return whether whoever started this process has tuned glibc's malloc."""
    return "glibc.malloc" in environment.get("GLIBC_TUNABLES", "") or any(name in environment for name in OWN_CHOICE)


def find_heap() -> Heap | None:
    """Return the heap of this process, None where malloc is not glibc's or is tuned already."""
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc" or tunes_malloc(os.environ):
        return None
    heap = Heap(ctypes.CDLL(None))
    os.register_at_fork(after_in_child=heap.usual_in_child)
    return heap


HEAP = find_heap()


@contextmanager
def kept_heap(device: torch.device) -> Iterator[None]:
    """Keep what training on the CPU frees for the next step; on another device, or without glibc's malloc, do nothing.

    Scopes may be nested. On leaving the outermost the memory goes back to the kernel and malloc is as usual, but for
    one thing that glibc has no way back from: its thresholds stay at their ceilings instead of rising to them.
    """
    if device.type != "cpu" or HEAP is None:
        yield
        return
    with HEAP.kept():
        yield
