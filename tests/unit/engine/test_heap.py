"""Freed memory is kept for the next step while a scope is open, and goes back to the kernel after the last."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from autotrain.engine import heap
from autotrain.engine.heap import find_heap, kept_heap, tunes_malloc

CPU = torch.device("cpu")

only_glibc = pytest.mark.skipif(heap.HEAP is None, reason="malloc is not glibc's here, or tuned already")

FIGURES = """
import json, os, resource
import psutil, torch
from autotrain.engine.heap import kept_heap
from autotrain.engine.rig import Rig
from autotrain.preparation import prepare_workload
from autotrain.settings import Settings
from autotrain.task import Task

BLOCKS, BLOCK = 4, 64 << 20  # larger than what malloc takes from the kernel anew by itself
LARGER = 4 * BLOCK  # larger than any hole that blocks of the first size leave in the heap
cpu, cuda = torch.device("cpu"), torch.device("cuda")
figures = {}
torch.set_num_threads(1)  # a forked process cannot use the threads of OpenMP

def page_faults(size):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(BLOCKS):
        torch.ones(size, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def fewest_page_faults(size):
    # What else asks for memory may cut up a hole once; blocks that are not kept are new in every round.
    return min(page_faults(size) for _ in range(3))

def in_child(measure):
    reading, writing = os.pipe()
    if child := os.fork():
        os.waitpid(child, 0)
        return json.loads(os.read(reading, 100))
    os.write(writing, json.dumps(measure()).encode())
    os._exit(0)

figures["before"] = page_faults(BLOCK)
figures["before, larger"] = page_faults(LARGER)
with kept_heap(cuda):
    figures["on another device"] = page_faults(LARGER)
with kept_heap(cpu):
    page_faults(BLOCK)
    figures["within"] = fewest_page_faults(BLOCK)
    with kept_heap(cpu):
        figures["nested"] = fewest_page_faults(BLOCK)
    figures["after the nested"] = fewest_page_faults(BLOCK)
    figures["forked"] = in_child(lambda: page_faults(LARGER))
figures["after"] = page_faults(LARGER)
try:
    with kept_heap(cpu):
        page_faults(BLOCK)
        figures["resident before an error"] = psutil.Process().memory_info().rss
        raise ZeroDivisionError
except ZeroDivisionError:
    figures["resident after an error"] = psutil.Process().memory_info().rss
figures["after an error"] = page_faults(LARGER)

images = torch.zeros(16, 3, 8, 8, dtype=torch.uint8)
model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 2))
task = Task(model=model, dataset=[(image, 0) for image in images], batch_size=4, device="cpu", duration="1ep")
with Rig(prepare_workload(task), Settings(workers=0)) as rig:
    figures["rig at rest"] = page_faults(LARGER)
    with rig.active():
        page_faults(BLOCK)
        figures["rig active"] = fewest_page_faults(BLOCK)
    figures["rig at rest again"] = page_faults(LARGER)
print(json.dumps(figures))
"""
"""Page faults of blocks that are freed one after the other, in a process whose heap no other test has cut up."""


@pytest.fixture(scope="module")
def figures() -> dict[str, int]:
    shown = subprocess.run([sys.executable, "-c", FIGURES], check=True, capture_output=True, text=True, timeout=60)
    return json.loads(shown.stdout)


@only_glibc
@pytest.mark.parametrize("scope", ["within", "nested", "after the nested", "rig active"])
def test_within_a_scope_blocks_are_used_again(figures: dict[str, int], scope: str) -> None:
    assert figures[scope] < figures["before"] / 2


@only_glibc
@pytest.mark.parametrize(
    "scope", ["on another device", "forked", "after", "after an error", "rig at rest", "rig at rest again"]
)
def test_elsewhere_blocks_are_new_each_time(figures: dict[str, int], scope: str) -> None:
    assert figures[scope] > figures["before, larger"] / 2


@only_glibc
def test_on_leaving_by_an_error_the_memory_goes_back(figures: dict[str, int]) -> None:
    assert figures["resident after an error"] < figures["resident before an error"] - (48 << 20)


@pytest.mark.parametrize(
    ("environment", "tuned"),
    [
        ({}, False),
        ({"MALLOC_TRIM_THRESHOLD_": "100000"}, True),
        ({"MALLOC_ARENA_MAX": "2"}, False),
        ({"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=128"}, True),
        ({"GLIBC_TUNABLES": "glibc.pthread.rseq=0"}, False),
    ],
)
def test_who_tunes_malloc_is_left_alone(
    environment: dict[str, str], tuned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tunes_malloc(environment) is tuned
    if tuned:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        assert find_heap() is None


def test_elsewhere_than_on_linux_with_glibc_there_is_no_heap(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sys, "platform", "darwin")
        assert find_heap() is None
    monkeypatch.setattr("platform.libc_ver", lambda: ("", ""))
    assert find_heap() is None
    monkeypatch.setattr(heap, "HEAP", None)
    with kept_heap(CPU):
        torch.ones(8)
