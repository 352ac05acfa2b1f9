"""Loading threads bring what one process brings, can be held and ended at any sample, and leave the rest alone."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from autotrain.augment.policy import policy
from autotrain.data.loader import Loader, LoaderOptions
from autotrain.data.reader import Reader, Recipe
from autotrain.data.source import Source, open_source
from autotrain.data.stream import InOrder, Stream
from autotrain.data.threads import thread_problem
from autotrain.errors import CandidateError, DataError

BATCH = 4


class Numbers(Source):
    """Numbered samples of which nothing is random; ``act`` is called with the index of each that is read."""

    pure = True

    def __init__(self, act: Callable[[int], object] = lambda index: None, length: int = 40) -> None:
        super().__init__(range(length), "numbers")
        self.act = act
        self.read: list[int] = []

    def sample(self, index: int) -> Any:
        self.act(index)
        self.read.append(index)
        return torch.full((2,), float(index)), index


def reader(source: Source, collate: Any = None) -> Reader:
    return Reader(source, Recipe(seed=0, policy=policy("none"), collate=collate))


def threaded(source: Source, *, workers: int = 2, stop: int | None = None, **options: Any) -> Loader:
    order = InOrder(len(source), BATCH)
    return Loader(reader(source), order, LoaderOptions(workers=workers, kind="threads", **options), stop=stop)


def pool() -> list[threading.Thread]:
    return [entry for entry in threading.enumerate() if entry.name.startswith("autotrain-loader")]


def wait_for(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.002)
    return condition()


@pytest.mark.parametrize("name", ["crop", "trivial"])
def test_batches_are_those_of_one_thread_bit_for_bit(jpeg_folder: Path, name: str) -> None:
    def batches(options: LoaderOptions) -> list[Any]:
        made = Reader(open_source(jpeg_folder), Recipe(seed=3, policy=policy(name), image_size=24))
        with Loader(made, Stream(36, 8, seed=3), options, start=2, stop=9) as loader:
            return list(loader)

    expected, got = batches(LoaderOptions()), batches(LoaderOptions(workers=3, kind="threads"))
    assert [(one.step, one.epoch, one.count) for one in got] == [(one.step, one.epoch, one.count) for one in expected]
    for one, other in zip(got, expected, strict=True):
        assert one.content[0].stride() == other.content[0].stride()
        assert torch.equal(one.content[0], other.content[0])
        assert torch.equal(one.content[1], other.content[1])


def test_batches_come_in_order_though_later_ones_are_ready_first() -> None:
    source = Numbers(lambda index: time.sleep(0.02 if index < BATCH else 0.0))
    with threaded(source, workers=4) as loader:
        assert [batch.step for batch in loader] == list(range(10))


def test_no_more_batches_lie_ready_than_asked_for() -> None:
    source = Numbers(length=400)
    with threaded(source, workers=2, prefetch=3) as loader:
        for taken in (0, 1, 2):
            assert wait_for(lambda taken=taken: len(source.read) == (6 + taken) * BATCH)  # type: ignore[misc]
            time.sleep(0.02)
            assert len(source.read) == (6 + taken) * BATCH
            next(loader)


def test_an_error_comes_in_the_place_of_its_batch() -> None:
    def act(index: int) -> None:
        if index == 2 * BATCH + 1:
            raise ValueError("broken")

    steps: list[Any] = []
    with threaded(Numbers(act)) as loader:
        while True:
            try:
                steps.append(next(loader).step)
            except DataError as problem:
                steps.append(str(problem))
            except StopIteration:
                break
    assert steps == [0, 1, "sample 9 of numbers: the dataset raised ValueError: broken", *range(3, 10)]


def test_an_error_of_the_sampler_comes_after_the_batches_before_it() -> None:
    class Shrinking:
        epoch = 0

        def set_epoch(self, epoch: int) -> None:
            self.epoch = epoch

        def __iter__(self) -> Iterator[int]:
            return iter(range(8 if self.epoch == 0 else 3))

    stream = Stream(40, BATCH, seed=0, sampler=Shrinking())
    with Loader(reader(Numbers()), stream, LoaderOptions(workers=2, kind="threads")) as loader:
        assert [next(loader).step, next(loader).step] == [0, 1]
        with pytest.raises(DataError, match="the sampler gave 3 indices for epoch 1"):
            next(loader)


@pytest.mark.parametrize("taken", [0, 1])
def test_closing_ends_the_threads_in_the_middle_of_a_batch(taken: int) -> None:
    source = Numbers(lambda index: time.sleep(0.05 if index >= taken * BATCH else 0.0), length=400)
    loader = threaded(source)
    for _ in range(taken):
        next(loader)
    assert wait_for(lambda: len(source.read) > taken * BATCH)
    loader.close()
    assert pool() == []
    assert len(source.read) < (taken + 2) * BATCH
    loader.close()
    assert list(loader) == []


def test_threads_end_with_a_loader_that_nobody_closes() -> None:
    loader = threaded(Numbers())
    assert len(pool()) == 2
    del loader
    gc.collect()
    assert pool() == []


def test_held_threads_read_nothing_until_they_go_on() -> None:
    source = Numbers(lambda index: time.sleep(0.001), length=400)
    with threaded(source, stop=30) as loader:
        first = next(loader)
        assert not loader.resume()
        assert loader.pause()
        before = len(source.read)
        time.sleep(0.03)
        assert len(source.read) == before
        assert loader.pause()
        assert loader.resume()
        assert [first.step, *(batch.step for batch in loader)] == list(range(30))


def test_held_threads_can_be_closed() -> None:
    loader = threaded(Numbers())
    loader.pause()
    loader.close()
    assert pool() == []


def test_a_thread_that_hangs_is_a_failed_candidate() -> None:
    free = threading.Event()
    with threaded(Numbers(lambda index: free.wait()), hang_s=0.05) as loader:
        with pytest.raises(CandidateError, match=r"no batch for 0\.05 s: a loading thread hangs"):
            next(loader)
        free.set()
        assert next(loader).step == 0


def test_ctrl_c_arrives_while_a_batch_is_awaited_and_loses_none() -> None:
    free = threading.Event()
    with threaded(Numbers(lambda index: free.wait())) as loader:
        timer = threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            next(loader)
        timer.join()
        free.set()
        assert [batch.step for batch in loader] == list(range(10))


def test_torch_runs_on_one_core_in_a_loading_thread_and_as_before_elsewhere() -> None:
    counts: set[int] = set()
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with threaded(Numbers(lambda index: counts.add(torch.get_num_threads()))) as loader:
            assert len(list(loader)) == 10
            assert torch.get_num_threads() == 2
            fresh: list[int] = []
            thread = threading.Thread(target=lambda: fresh.append(torch.get_num_threads()))
            thread.start()
            thread.join()
    finally:
        torch.set_num_threads(before)
    assert counts == {1}
    assert fresh == [2]


def test_there_are_no_processes() -> None:
    with threaded(Numbers()) as loader:
        assert loader.pids == ()
        assert loader.start_method == "threads"


class Drawing(Numbers):
    pure = False


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (reader(Drawing()), "the samples of numbers may depend on more than their index"),
        (reader(Numbers(), collate=list), "a collation of the user's own"),
    ],
)
def test_what_may_draw_random_numbers_is_not_for_threads(made: Reader, words: str) -> None:
    problem = thread_problem(made)
    assert problem is not None
    assert words in problem
    with pytest.raises(DataError, match=words):
        Loader(made, InOrder(40, BATCH), LoaderOptions(workers=1, kind="threads"))
    assert pool() == []
    assert thread_problem(reader(Numbers())) is None
