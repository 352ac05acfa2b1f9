"""What both kinds of cache promise: samples come back as they were put, and nothing is in the way."""

import gc
import pickle
import threading

import numpy as np
import pytest

from autotrain.cache.cache import Cache
from autotrain.cache.entry import DTYPES
from autotrain.cache.lock import locked
from autotrain.cache.memory import memory_cache
from autotrain.errors import UnsupportedError


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (7,), (3, 5), (4, 0, 3), (2, 3, 1, 5)], ids=str)
def test_every_dtype_and_shape_comes_back(cache, equal, dtype, shape):
    arrays = (np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype), np.ones(shape, dtype))
    assert cache.put(3, arrays)
    assert equal(cache.get(3), arrays)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24, dtype=np.uint8).reshape(4, 6)[::2, ::-1],
        np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        np.arange(5, dtype=">i4"),
    ],
    ids=["strided", "fortran", "big-endian"],
)
def test_any_memory_layout_comes_back_by_value(cache, array):
    assert cache.put(0, (array,))
    (found,) = cache.get(0)
    assert found.tolist() == array.tolist()


def test_a_sample_of_no_arrays(cache):
    assert cache.put(0, ())
    assert cache.get(0) == ()


@pytest.mark.parametrize(
    "array", [np.array(["a"]), np.array([object()]), np.zeros(2, complex), np.zeros((1, 1, 1, 1, 1))]
)
def test_what_cannot_be_kept_is_refused_by_name(cache, array):
    with pytest.raises(UnsupportedError, match=r"cache: an array of .* cannot be kept. Known: up to 4 dimensions of"):
        cache.put(0, (array,))
    assert cache.get(0) is None


def test_samples_are_told_apart(cache, sample, equal):
    for index in range(0, 50, 3):
        assert cache.put(index, sample(index))
    for index in range(50):
        found = cache.get(index)
        assert found is None if index % 3 else equal(found, sample(index))
    assert (len(cache), cache.filled, cache.full) == (50, 17, False)
    assert 0 < cache.used_bytes <= cache.capacity_bytes


def test_the_first_of_two_stays(cache, sample, equal):
    assert cache.put(4, sample(4))
    assert not cache.put(4, sample(5))
    assert equal(cache.get(4), sample(4))


def test_views_are_read_only_and_outlive_the_cache(cache, sample, equal):
    cache.put(1, sample(1))
    found = cache.get(1)
    assert not any(array.flags.writeable or array.flags.owndata for array in found)
    with pytest.raises(ValueError, match="read-only"):
        found[0][0] = 0
    cache.close()
    gc.collect()
    assert equal(found, sample(1))
    assert cache.get(1) is None
    assert not cache.put(2, sample(2))
    assert (cache.filled, cache.used_bytes, cache.full) == (0, 0, True)
    cache.close()


def test_samples_the_dataset_lacks(cache, sample):
    for index in (50, -51):
        with pytest.raises(IndexError):
            cache.get(index)
        with pytest.raises(IndexError):
            cache.put(index, sample(0))


def test_full_is_no_error_and_what_is_there_stays(sample, equal, opened):
    for cache in (memory_cache(50, 2000), opened(capacity_bytes=2000)):
        with cache:
            kept = [index for index in range(50) if cache.put(index, sample(index))]
            assert kept
            assert len(kept) < 50
            assert cache.full
            assert cache.filled == len(kept)
            assert cache.used_bytes <= 2000
            assert all(equal(cache.get(index), sample(index)) for index in kept)


def test_no_capacity_keeps_nothing(sample):
    with memory_cache(5, 0) as cache:
        assert cache.full
        assert not cache.put(0, sample(0))


def test_a_frozen_holder_of_the_lock_costs_a_sample_not_a_hang(cache, sample):
    with locked(cache._file.place.lock, patience_s=0):
        assert not cache.put(0, sample(0))
    assert not cache.full
    assert cache.put(0, sample(0))


def test_threads_fill_and_read_at_once(cache, sample, equal):
    wrong = []

    def work(start: int) -> None:
        for step in range(50):
            index = (start + step) % 50
            while cache.get(index) is None and not cache.put(index, sample(index)):
                pass
            if not equal(cache.get(index), sample(index)):
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(start,)) for start in (0, 10, 20, 20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert cache.filled == 50


def test_a_pickled_cache_is_the_same_cache(cache, sample, equal):
    cache.put(0, sample(0))
    with pickle.loads(pickle.dumps(cache)) as other:
        assert isinstance(other, Cache)
        assert equal(other.get(0), sample(0))
        assert other.put(1, sample(1))
        assert equal(cache.get(1), sample(1))
        assert other.capacity_bytes == cache.capacity_bytes


def test_a_pickled_cache_that_is_gone_keeps_nothing_and_says_so(sample, caplog):
    cache = memory_cache(5, 1000)
    pickled = pickle.dumps(cache)
    cache.close()
    gc.collect()
    other = pickle.loads(pickled)
    assert other.get(0) is None
    assert not other.put(0, sample(0))
    assert "cannot open that of process" in caplog.text


def test_another_file_under_the_same_number_is_not_taken_for_it(tmp_path, caplog):
    first, second = memory_cache(5, 1000), memory_cache(5, 1000)
    state = first.__getstate__()
    state["place"] = second._file.place.for_others().__class__(
        path=second._file.place.for_others().path,
        lock="",
        token=first._file.token,
        durable=False,
    )
    other = Cache.__new__(Cache)
    other.__setstate__(state)
    assert other.full
    assert "another cache than the one that was shared" in caplog.text


def test_nothing_is_left_open(opened, sample, open_files):
    before = open_files()
    for _ in range(3):
        for cache in (memory_cache(50, 1 << 20), opened()):
            with cache, pickle.loads(pickle.dumps(cache)) as other:
                cache.put(0, sample(0))
                assert other.get(0) is not None
    gc.collect()
    assert open_files() == before


def test_without_memory_for_it_nothing_is_kept(monkeypatch, sample, caplog):
    def fail(*args):
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr("os.memfd_create", fail)
    cache = memory_cache(5, 1000)
    assert not cache.put(0, sample(0))
    assert "no memory to keep samples in" in caplog.text


def test_where_there_are_no_nameless_files_a_temporary_one_serves(monkeypatch, tmp_path, sample, equal, open_files):
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    left = tmp_path / "autotrain-cache-of-a-killed-process"
    left.mkdir()
    (left / "samples.bin").write_bytes(b"")
    before = open_files()
    with memory_cache(5, 10_000) as cache, memory_cache(5, 10_000) as second:
        assert cache.put(0, sample(0))
        assert second.get(0) is None
        with pickle.loads(pickle.dumps(cache)) as other:
            assert equal(other.get(0), sample(0))
        assert not left.exists()
        assert len(list(tmp_path.iterdir())) == 2
    gc.collect()
    assert list(tmp_path.iterdir()) == []
    assert open_files() == before
