"""The loader: steps in order across epochs, errors of one line, and workers that end with it."""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from autotrain.augment.policy import policy
from autotrain.data.loader import Loader, LoaderOptions, usual_start_method
from autotrain.data.reader import Reader, Recipe
from autotrain.data.source import open_source
from autotrain.data.stream import InOrder, Stream
from autotrain.data.workers import MEMORY, ProcessFeed, spawn_problem
from autotrain.errors import CandidateError, DataError


class Numbers(Dataset[Any]):
    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        if index < 0:
            raise IndexError
        return torch.full((2,), float(index)), index


def reader(dataset: Any = None) -> Reader:
    return Reader(open_source(Numbers() if dataset is None else dataset), Recipe(seed=0, policy=policy("none")))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("start", "stop"), [(0, 5), (3, 12), (4, 4)])
def test_steps_come_in_order_across_epochs(workers: int, start: int, stop: int) -> None:
    stream = Stream(10, 4, seed=0)
    with Loader(reader(), stream, LoaderOptions(workers=workers), start=start, stop=stop) as loader:
        batches = list(loader)
    assert [batch.step for batch in batches] == list(range(start, stop))
    assert [batch.epoch for batch in batches] == [step // 2 for step in range(start, stop)]
    for batch in batches:
        assert batch.content[1].tolist() == stream.ticket(batch.step).indices.tolist()
        assert batch.count == 4


@pytest.mark.parametrize("workers", [0, 2])
def test_in_order_brings_the_short_last_batch(workers: int) -> None:
    with Loader(reader(), InOrder(10, 4), LoaderOptions(workers=workers)) as loader:
        batches = list(loader)
    assert [batch.count for batch in batches] == [4, 4, 2]
    assert torch.cat([batch.content[1] for batch in batches]).tolist() == list(range(10))


def test_workers_end_with_the_loader_though_batches_are_waiting() -> None:
    loader = Loader(reader(), Stream(10, 4, seed=0), LoaderOptions(workers=2, prefetch=4))
    next(loader)
    pids = loader.pids
    assert len(pids) == 2
    assert all(psutil.pid_exists(pid) for pid in pids)
    loader.close()
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert loader.pids == ()
    loader.close()
    assert list(loader) == []


def test_frozen_workers_go_on_and_can_be_closed() -> None:
    with Loader(reader(), Stream(10, 4, seed=0), LoaderOptions(workers=1), stop=8) as loader:
        first = next(loader)
        assert loader.pause()
        assert loader.resume()
        assert [first.step, *(batch.step for batch in loader)] == list(range(8))
    with Loader(reader(), Stream(10, 4, seed=0), LoaderOptions(workers=1)) as loader:
        next(loader)
        loader.pause()


def test_nothing_runs_without_workers() -> None:
    with Loader(reader(), Stream(10, 4, seed=0), LoaderOptions()) as loader:
        assert loader.pids == ()
        assert loader.start_method == "none"
        assert loader.pause()


def test_ctrl_c_is_for_the_training_process_alone() -> None:
    with Loader(reader(), Stream(10, 4, seed=0), LoaderOptions(workers=2), stop=6) as loader:
        next(loader)
        for pid in loader.pids:
            psutil.Process(pid).send_signal(signal.SIGINT)
        assert len(list(loader)) == 5


def test_a_killed_worker_is_a_failed_candidate() -> None:
    with Loader(reader(), Stream(10, 4, seed=0), LoaderOptions(workers=1)) as loader:
        next(loader)
        psutil.Process(loader.pids[0]).kill()
        with pytest.raises(CandidateError, match="DataLoader worker") as caught:
            list(loader)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not os.path.isdir(MEMORY), reason="shared memory has no names here")
def test_memory_that_workers_leave_is_removed_and_that_of_others_is_not() -> None:
    with Loader(reader(), Stream(10, 4, seed=0), LoaderOptions(workers=2)) as loader:
        next(loader)
        killed, other = loader.pids
        left = [Path(MEMORY, f"torch_{pid}_7_1") for pid in (killed, other)]
        kept = [Path(MEMORY, name) for name in (f"torch_{os.getpid()}_7_1", f"other_{killed}_1")]
        for path in (*left, *kept):
            path.touch()
        psutil.Process(killed).kill()
    there = [path.exists() for path in (*left, *kept)]
    for path in (*left, *kept):
        path.unlink(missing_ok=True)
    assert there == [False, False, True, True]


def test_a_worker_killed_while_it_held_a_lock_keeps_nobody_from_ending() -> None:
    """Workers look under a lock, time and again, whether they are to end; here a thread takes it and ends."""
    feed = ProcessFeed(reader(), iter(Stream(10, 4, seed=0).tickets()), LoaderOptions(workers=2))
    feed.next()
    lock = threading.Thread(target=feed._iterator._workers_done_event._cond.acquire)
    lock.start()
    lock.join()
    pids = feed.pids
    psutil.Process(pids[0]).kill()
    feed._iterator._workers[0].join()
    closing = threading.Thread(target=feed.close, daemon=True)
    started = time.monotonic()
    closing.start()
    closing.join(20)
    assert not closing.is_alive()
    assert time.monotonic() - started < 4  # torch gives each worker 5 s
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_a_killed_worker_is_no_concern_of_those_who_do_not_wait_for_it() -> None:
    """torch's signal handler would raise in whatever runs when the signal comes."""
    with (
        Loader(reader(), Stream(10, 4, seed=0), LoaderOptions(workers=1)) as mortal,
        Loader(reader(), Stream(10, 4, seed=0), LoaderOptions(workers=1), stop=50) as other,
    ):
        next(mortal)
        worker = psutil.Process(mortal.pids[0])
        worker.kill()
        while worker.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.001)
        assert len(list(other)) == 50
        with pytest.raises(CandidateError, match=f"{worker.pid}.* killed by signal: Killed. .* fewer workers$"):
            next(mortal)


class Local:
    """Cannot be pickled: it holds a generator."""

    def __init__(self) -> None:
        self.state: Iterator[int] = (number for number in range(3))

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.zeros(2), index


def test_what_cannot_be_pickled_needs_forked_workers() -> None:
    stream = Stream(10, 4, seed=0)
    options = LoaderOptions(workers=1, start_method="spawn")
    with pytest.raises(DataError, match=r"Local cannot be pickled .* or use workers=0"):
        Loader(reader(Local()), stream, options)
    with Loader(reader(Local()), stream, LoaderOptions(), stop=1) as loader:
        assert len(list(loader)) == 1
    if usual_start_method() == "fork":
        with Loader(reader(Local()), stream, LoaderOptions(workers=1), stop=1) as loader:
            assert len(list(loader)) == 1


def test_a_loader_draws_no_random_numbers() -> None:
    """The leak guard of all tests compares the states; a worker's draws do not reach this process either."""

    class Drawing(Numbers):
        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            return torch.rand(2) + float(np.random.rand()), index

    for workers in (0, 1):
        with Loader(reader(Drawing()), Stream(10, 4, seed=0), LoaderOptions(workers=workers), stop=3) as loader:
            assert len(list(loader)) == 3


def test_an_unknown_kind_of_workers() -> None:
    with pytest.raises(DataError, match="unknown kind of workers 'thread'"):
        Loader(reader(), Stream(10, 4, seed=0), LoaderOptions(workers=1, kind="thread"))


def test_the_start_method_is_told() -> None:
    with Loader(reader(), Stream(10, 4, seed=0), LoaderOptions(workers=1), stop=1) as loader:
        assert loader.start_method == usual_start_method()


@pytest.mark.parametrize("options", [{}, {"workers": 1, "kind": "threads"}])
def test_another_pillow_needs_worker_processes(jpeg_folder: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(CandidateError, match=r"asked for the Pillow in .*: use worker processes"):
        Loader(reader(jpeg_folder), Stream(36, 4, seed=0), LoaderOptions(pillow=str(tmp_path), **options))


def test_forked_workers_cannot_run_another_pillow(jpeg_folder: Path, tmp_path: Path) -> None:
    options = LoaderOptions(workers=1, start_method="fork", pillow=str(tmp_path))
    with pytest.raises(DataError, match="start them by spawn"):
        Loader(reader(jpeg_folder), Stream(36, 4, seed=0), options)


class Mine(Numbers):
    """Stands for a dataset that the main script defines."""

    def __init__(self, extra: Any = None) -> None:
        self.extra = extra


def double(sample: Any) -> Any:
    return sample


@pytest.fixture
def in_main(monkeypatch: pytest.MonkeyPatch) -> None:
    for entry in (Mine, double):
        monkeypatch.setattr(entry, "__module__", "__main__")
        monkeypatch.setattr(sys.modules["__main__"], entry.__name__, entry, raising=False)


def test_what_the_main_script_defines_is_found_wherever_it_is(in_main: None, tmp_path: Path) -> None:
    problem = spawn_problem(reader(Mine()))
    assert problem is not None
    assert "the dataset Mine uses Mine, which the main script defines" in problem
    nested = [(torch.zeros(2), {"hooks": [functools.partial(double)]})] * 2
    problem = spawn_problem(reader(nested))
    assert problem is not None
    assert "uses double, which the main script defines" in problem
    options = LoaderOptions(workers=1, pillow=str(tmp_path))
    with pytest.raises(DataError, match="workers here start by 'spawn': the dataset Mine uses Mine"):
        Loader(reader(Mine()), Stream(10, 4, seed=0), options)


def test_words_alone_are_no_reference_to_the_main_script(jpeg_folder: Path) -> None:
    assert spawn_problem(reader(jpeg_folder)) is None
    assert spawn_problem(reader([(torch.zeros(2), "c__main__\nMine\n")] * 2)) is None


def test_a_module_that_workers_would_not_find(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Mine, "__module__", "loaded_by_hand")
    monkeypatch.setitem(sys.modules, "loaded_by_hand", sys.modules[Numbers.__module__])
    problem = spawn_problem(reader(Mine()))
    assert problem is not None
    assert "uses Mine of loaded_by_hand, a module that workers cannot import" in problem


def test_the_main_script_and_the_path_are_put_back_when_workers_cannot_start(
    jpeg_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def failing(loader: Any) -> Any:
        seen.extend([sys.modules["__main__"], sys.path[0]])
        raise OSError("no more processes")

    main, path, environment = sys.modules["__main__"], list(sys.path), dict(os.environ)
    monkeypatch.setattr(DataLoader, "__iter__", failing)
    with pytest.raises(OSError, match="no more processes"):
        Loader(reader(jpeg_folder), Stream(36, 4, seed=0), LoaderOptions(workers=1, pillow=str(tmp_path)))
    assert seen[0] is not main
    assert seen[1] == str(tmp_path)
    assert sys.modules["__main__"] is main
    assert sys.path == path
    assert dict(os.environ) == environment
