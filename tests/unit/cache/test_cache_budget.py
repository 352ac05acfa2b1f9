"""Budgets leave room for everything else."""

import numpy as np
import pytest

from autotrain.cache.budget import GIB, disk_budget, disk_share, estimate_bytes, memory_budget
from autotrain.cache.disk import disk_cache
from autotrain.hardware.memory import MemoryFacts


def facts(available: int, limit_free: int | None = None) -> MemoryFacts:
    return MemoryFacts(
        total_bytes=1024 * GIB,
        available_bytes=available * GIB,
        limit_bytes=None if limit_free is None else 64 * GIB,
        limit_free_bytes=None if limit_free is None else limit_free * GIB,
    )


@pytest.mark.parametrize(
    ("memory", "options", "gib"),
    [
        (facts(100), {}, 75),
        (facts(4), {}, 2),
        (facts(1), {}, 0),
        (facts(100, limit_free=8), {}, 6),
        (facts(100), {"ranks": 5}, 15),
        (facts(100), {"workers": 10}, 70),
        (facts(100), {"ranks": 2, "workers": 10}, 32.5),
        (facts(10), {"workers": 100}, 0),
    ],
)
def test_memory_leaves_a_margin_for_training(memory, options, gib):
    assert memory_budget(memory, **options) == gib * GIB


@pytest.mark.parametrize(("free", "cached", "share"), [(100, 0, 50), (60, 40, 50), (8, 0, 3), (4, 0, 0), (0, 100, 50)])
def test_the_disk_share_does_not_shrink_as_caches_fill(free, cached, share):
    assert disk_share(free_bytes=free * GIB, cached_bytes=cached * GIB) == share * GIB


def test_the_disk_budget_of_a_directory_that_is_not_there_yet(tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 20 * GIB})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    assert disk_budget(tmp_path / "a/b/c") == 10 * GIB
    with disk_cache(tmp_path / "shelf", "k", 4, GIB) as cache:
        cache.put(0, (np.ones(1_000_000, np.uint8),))
    assert disk_budget(tmp_path / "shelf") > 10 * GIB + 400_000

    def fail(path):
        raise OSError

    monkeypatch.setattr("shutil.disk_usage", fail)
    assert disk_budget(tmp_path) == 0


def test_an_estimate_errs_on_the_large_side():
    assert estimate_bytes([1000] * 10, 100) == 100 * 1256
    assert estimate_bytes([500, 1500], 2) == 2 * 1256
    assert estimate_bytes([500, 1500], 100) > 100 * 1500
    assert estimate_bytes([500, 1500] * 50, 10_000) < 10_000 * 1400
    assert estimate_bytes([], 100) == 0
