"""Samples that are told apart by their content, and caches of both kinds."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autotrain.cache.cache import Cache
from autotrain.cache.disk import disk_cache
from autotrain.cache.memory import memory_cache

LENGTH, CAPACITY = 50, 1 << 20


def make_sample(index: int) -> tuple[np.ndarray, ...]:
    """Return an image of a size of its own, every byte of which depends on the index, and the index."""
    height, width = 5 + index % 7, 6 + index % 5
    image = (np.arange(height * width * 3) * (index + 1) + index).astype(np.uint8).reshape(height, width, 3)
    return image, np.asarray(index)


def same(found: tuple[np.ndarray, ...] | None, wanted: tuple[np.ndarray, ...]) -> bool:
    """Tell whether arrays agree in number, dtype, shape and content."""
    return (
        found is not None
        and [(a.dtype, a.shape) for a in found] == [(a.dtype, a.shape) for a in wanted]
        and all(np.array_equal(a, b) for a, b in zip(found, wanted, strict=True))
    )


@pytest.fixture
def sample() -> Callable[[int], tuple[np.ndarray, ...]]:
    return make_sample


@pytest.fixture
def equal() -> Callable[..., bool]:
    return same


@pytest.fixture
def shelf(tmp_path) -> Path:
    """A directory for disk caches, not made yet."""
    return tmp_path / "shelf"


@pytest.fixture
def opened(shelf) -> Callable[..., Cache]:
    """Open the disk cache ``k`` of 50 samples and 1 MiB, or with other arguments."""

    def call(key: str = "k", length: int = LENGTH, capacity_bytes: int = CAPACITY, **more: Any) -> Cache:
        return disk_cache(shelf, key, length, capacity_bytes, **more)

    return call


@pytest.fixture(params=["memory", "disk"])
def cache(request, opened) -> Iterator[Cache]:
    """An empty cache of 50 samples and 1 MiB."""
    with memory_cache(LENGTH, CAPACITY) if request.param == "memory" else opened() as made:
        yield made


@pytest.fixture
def boot(monkeypatch) -> Callable[[int], None]:
    """A function that has the machine seem to have started anew, for caches opened from then on."""
    return lambda number: monkeypatch.setattr("autotrain.cache.file.boot_stamp", lambda: number)


@pytest.fixture
def open_files() -> Callable[[], int]:
    """A function that counts this process's open files."""
    return lambda: len(os.listdir("/proc/self/fd"))
