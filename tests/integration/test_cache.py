"""The cache among processes: forked and spawned, strangers to each other, and killed at any moment."""

import gc
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from autotrain.cache.cache import Cache
from autotrain.cache.disk import disk_cache
from autotrain.cache.memory import memory_cache
from autotrain.cache.shelf import kept, remove

LENGTH = 400
CAPACITY = 64 << 20

DEFINITIONS = """
import numpy as np

def make_sample(index):
    height, width = 40 + index % 31, 50 + index % 17
    image = (np.arange(height * width * 3) * (2 * index + 1) + index).astype(np.uint8).reshape(height, width, 3)
    return image, np.asarray(index)
"""
exec(DEFINITIONS)  # for the processes that are started by a command as well as for this one


def right(cache: Cache) -> int:
    """Return how many samples are there; all of these are right."""
    count = 0
    for index in range(len(cache)):
        found = cache.get(index)
        if found is not None:
            image, number = make_sample(index)  # noqa: F821
            assert found[1] == number
            assert np.array_equal(found[0], image)
            count += 1
    return count


def fill(cache: Cache, order: list[int]) -> None:
    """Do what a loader's worker does: take what is there, make what is not."""
    for index in order:
        found = cache.get(index)
        image, number = make_sample(index)  # noqa: F821
        if found is None:
            cache.put(index, (image, number))
        elif found[1] != number or not np.array_equal(found[0], image):
            os._exit(3)


def shuffled(seed: int) -> list[int]:
    order = list(range(LENGTH))
    random.Random(seed).shuffle(order)
    return order


def forked(target, *arguments):
    process = multiprocessing.get_context("fork").Process(target=target, args=arguments)
    process.start()
    return process


@pytest.fixture(params=["memory", "disk"])
def cache(request, tmp_path):
    kind = request.param
    with memory_cache(LENGTH, CAPACITY) if kind == "memory" else disk_cache(tmp_path, "k", LENGTH, CAPACITY) as made:
        yield made


def test_forked_workers_fill_one_cache(cache):
    workers = [forked(fill, cache, shuffled(seed)) for seed in range(3)]
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert right(cache) == LENGTH
    assert cache.filled == LENGTH


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_started_workers_share_it_too(cache, method):
    assert cache.put(0, make_sample(0))  # noqa: F821
    context = multiprocessing.get_context(method)
    worker = context.Process(target=Cache.put, args=(cache, 1, make_sample(1)))  # noqa: F821
    worker.start()
    worker.join()
    assert worker.exitcode == 0
    assert right(cache) == 2


def test_a_child_of_a_forked_child_shares_it(cache):
    def child() -> None:
        grandchild = forked(cache.put, 7, make_sample(7))  # noqa: F821
        grandchild.join()
        os._exit(0 if right(cache) == 1 else 1)

    worker = forked(child)
    worker.join()
    assert worker.exitcode == 0
    assert right(cache) == 1


STRANGER = (
    DEFINITIONS
    + """
import os, random, sys
from autotrain.cache.disk import disk_cache

directory, length, capacity, seed = sys.argv[1], *map(int, sys.argv[2:])
with disk_cache(directory, "k", length, capacity) as cache:
    child = os.fork()
    order = list(range(length))
    random.Random(2 * seed + (child == 0)).shuffle(order)
    sys.stdout.write("ready\\n" if child else "")
    sys.stdout.flush()
    if child:
        sys.stdin.readline()
    puts = 0
    for index in order:
        found = cache.get(index)
        sample = make_sample(index)
        if found is None:
            puts += cache.put(index, sample)
        elif not np.array_equal(found[0], sample[0]) or found[1] != sample[1]:
            os._exit(3)
    if not child:
        os._exit(0)
    _, status = os.waitpid(child, 0)
    print(puts, cache.filled, status)
"""
)


def test_two_strangers_fill_one_disk_cache_each_with_two_processes(tmp_path):
    command = [sys.executable, "-c", STRANGER, str(tmp_path), str(LENGTH), str(CAPACITY)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with (
        subprocess.Popen([*command, "0"], **pipes) as first,
        subprocess.Popen([*command, "1"], **pipes) as second,
    ):
        assert first.stdout.readline() == second.stdout.readline() == "ready\n"
        answers = [process.communicate("go\n")[0].split() for process in (first, second)]
    assert [process.returncode for process in (first, second)] == [0, 0]
    assert all(status == "0" for _, _, status in answers)
    assert max(int(filled) for _, filled, _ in answers) == LENGTH
    with disk_cache(tmp_path, "k", LENGTH, CAPACITY) as cache:
        assert right(cache) == LENGTH


def open_and_fill(directory, seed: int) -> None:
    with disk_cache(directory, "k", LENGTH, CAPACITY) as cache:
        fill(cache, shuffled(seed))


def test_processes_killed_at_any_moment_leave_a_cache_that_is_right_and_can_be_filled(tmp_path):
    """Each round opens, or makes, the cache anew in two processes and kills them, the later the longer it goes on."""
    counts = []
    for number in range(24):
        workers = [forked(open_and_fill, tmp_path, 2 * number + other) for other in range(2)]
        time.sleep(0.001 * number)
        for worker in workers:
            os.kill(worker.pid, signal.SIGKILL)
            worker.join()
            assert worker.exitcode in (-signal.SIGKILL, 0)
        if number % 4 == 3:
            with disk_cache(tmp_path, "k", LENGTH, CAPACITY) as cache:
                counts.append(right(cache))
                assert cache.filled == counts[-1]
    assert counts == sorted(counts)
    with disk_cache(tmp_path, "k", LENGTH, CAPACITY) as cache:
        fill(cache, shuffled(0))
        assert right(cache) == LENGTH
    (entry,) = kept(tmp_path)
    assert not entry.in_use


def test_workers_killed_at_any_moment_leave_the_others_a_cache_in_memory(cache):
    for number in range(12):
        worker = forked(fill, cache, shuffled(number))
        time.sleep(0.0007 * number)
        os.kill(worker.pid, signal.SIGKILL)
        worker.join()
        assert right(cache) == cache.filled
    fill(cache, shuffled(0))
    assert right(cache) == LENGTH


def test_a_frozen_worker_holds_nobody_up(cache):
    workers = [forked(fill, cache, shuffled(seed)) for seed in range(2)]
    try:
        for _ in range(20):
            for worker in workers:
                os.kill(worker.pid, signal.SIGSTOP)
            start = cache.filled
            fill(cache, shuffled(99)[:3])
            assert cache.filled >= start
            for worker in workers:
                os.kill(worker.pid, signal.SIGCONT)
    finally:
        for worker in workers:
            worker.join()
    fill(cache, shuffled(0))
    assert right(cache) == LENGTH


def test_a_cache_that_another_process_uses_is_not_removed(tmp_path):
    with disk_cache(tmp_path, "k", LENGTH, CAPACITY) as cache:
        cache.put(0, (np.ones(5),))
        worker = forked(time.sleep, 60)
    gc.collect()
    try:
        assert not remove(tmp_path, "k")  # the forked worker still has it
    finally:
        worker.kill()
        worker.join()
    assert remove(tmp_path, "k")
    assert not (tmp_path / "k").exists()


KILLED = """
import os, signal, sys, numpy as np
from autotrain.cache.memory import memory_cache
cache = memory_cache(10, 1 << 20)
assert cache.put(0, (np.ones(100_000, np.uint8),))
if os.fork() == 0:
    assert cache.get(0)[0].sum() == 100_000
    os._exit(0)
os.wait()
print("filled", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_memory_leaves_no_file_when_its_process_is_killed(tmp_path):
    before = set(os.listdir("/dev/shm"))
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", KILLED]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "filled\n")
    assert list(tmp_path.iterdir()) == []
    assert not [name for name in set(os.listdir("/dev/shm")) - before if "autotrain" in name]
