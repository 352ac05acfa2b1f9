"""Freed memory is kept for the next step while a scope is open, and goes back to the kernel after the last."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Callable

import psutil
import pytest
import torch
from torch import nn

from autotrain.engine import heap
from autotrain.engine.heap import find_heap, kept_heap, tunes_malloc
from autotrain.engine.rig import Rig
from autotrain.preparation import prepare_workload
from autotrain.settings import Settings
from autotrain.task import Task

CPU = torch.device("cpu")
BLOCK = 96 << 20
"""Bytes above every threshold that glibc sets by itself, so that a freed block goes back at once."""

LARGE = BLOCK // resource.getpagesize() // 8
"""Page faults that show that a block was new: each page costs one, or every 512th where pages are huge."""

only_glibc = pytest.mark.skipif(heap.HEAP is None, reason="malloc is not glibc's here, or tuned already")


def faults_of_a_block() -> int:
    """Return the page faults that writing to a large block costs."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(BLOCK, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@only_glibc
def test_a_block_is_new_each_time_but_within_the_scope_only_once() -> None:
    assert faults_of_a_block() > LARGE
    with kept_heap(CPU):
        faults_of_a_block()
        assert faults_of_a_block() < LARGE
        with kept_heap(CPU):
            assert faults_of_a_block() < LARGE
        assert faults_of_a_block() < LARGE, "leaving an inner scope gave the memory back"
    assert faults_of_a_block() > LARGE
    assert faults_of_a_block() > LARGE


@only_glibc
def test_on_leaving_by_an_error_the_memory_goes_back() -> None:
    process, held = psutil.Process(), 0

    def fail() -> None:
        nonlocal held
        with kept_heap(CPU):
            faults_of_a_block()
            held = process.memory_info().rss
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert process.memory_info().rss < held - BLOCK / 2


@only_glibc
def test_a_forked_process_keeps_nothing() -> None:
    with kept_heap(CPU):
        child = os.fork()
        if not child:
            faults_of_a_block()
            os._exit(int(faults_of_a_block() > LARGE))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
        faults_of_a_block()  # the fork made every page one to copy
        assert faults_of_a_block() < LARGE


@only_glibc
def test_a_rig_on_the_cpu_keeps_the_heap_while_it_is_active(tiny_model: Callable[..., nn.Module]) -> None:
    images = torch.zeros(16, 3, 8, 8, dtype=torch.uint8)
    task = Task(
        model=tiny_model(), dataset=[(image, 0) for image in images], batch_size=4, device="cpu", duration="1ep"
    )
    workload = prepare_workload(task)
    with Rig(workload, Settings(workers=0)) as rig:
        assert faults_of_a_block() > LARGE
        with rig.active():
            faults_of_a_block()
            assert faults_of_a_block() < LARGE
        assert faults_of_a_block() > LARGE


@only_glibc
def test_on_another_device_nothing_is_kept() -> None:
    with kept_heap(torch.device("cuda")):
        faults_of_a_block()
        assert faults_of_a_block() > LARGE


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
