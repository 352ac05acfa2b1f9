"""The disk cache through what disks, crashes and other people do to it."""

import errno
import gc
import multiprocessing
import os
import resource
import struct
import zlib

import numpy as np
import pytest

from autotrain.cache import disk
from autotrain.cache.header import COUNT_AT, END_AT, FIXED, TABLE_AT, data_at
from autotrain.cache.keys import file_tags
from autotrain.cache.memory import memory_cache


def fill(cache, sample, indices=range(50)):
    for index in indices:
        assert cache.put(index, sample(index))


def right(cache, sample, equal):
    """Return how many of the samples are there; all of these are right."""
    found = [(index, cache.get(index)) for index in range(len(cache))]
    present = [(index, arrays) for index, arrays in found if arrays is not None]
    assert all(equal(arrays, sample(index)) for index, arrays in present)
    return len(present)


def entry_at(path, slot):
    """Return where a slot's entry begins in the file."""
    with open(path, "rb") as file:
        table = FIXED.unpack(file.read(FIXED.size))[3]
        file.seek(TABLE_AT + 8 * (table + slot))
        return int.from_bytes(file.read(8), "little")


def overwrite(path, offset, content):
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(content)


def test_another_run_finds_what_one_has_put(opened, sample, equal, caplog):
    with opened(about={"dataset": "photos"}) as cache:
        fill(cache, sample)
    with opened(about={"dataset": "photos"}) as cache:
        assert right(cache, sample, equal) == 50
    with opened(key="other") as cache:
        assert right(cache, sample, equal) == 0
    assert caplog.text == ""


def test_a_larger_capacity_lets_it_grow_also_for_those_who_have_it_open(opened, sample, equal):
    with opened(capacity_bytes=2000) as small:
        first = sum(small.put(index, sample(index)) for index in range(50))
        assert small.full
        with opened(capacity_bytes=1 << 20) as large:
            assert not large.full
            assert sum(large.put(index, sample(index)) for index in range(50)) == 50 - first
        assert right(small, sample, equal) == 50


# Crashes of the machine: what was written last may be missing, in any combination.


@pytest.mark.parametrize("what", ["all", "head", "pixels", "one bit"])
def test_an_entry_whose_data_was_lost_is_found_and_made_anew(opened, sample, equal, boot, shelf, caplog, what):
    boot(1)
    with opened() as cache:
        fill(cache, sample)
    path = shelf / "k/samples.bin"
    start, after = entry_at(path, 20), entry_at(path, 21)
    if what == "one bit":
        before = path.read_bytes()[start + 100]
        overwrite(path, start + 100, bytes([before ^ 4]))
    else:
        begin, end = {"all": (0, after - start), "head": (0, 40), "pixels": (90, 130)}[what]
        overwrite(path, start + begin, bytes(end - begin))
    boot(2)
    with opened() as cache, opened() as other:
        assert cache.get(20) is None
        assert right(other, sample, equal) == 49
        assert caplog.text.count("has lost samples") == 1
        assert cache.put(20, sample(20))
        assert right(other, sample, equal) == 50


def test_entries_are_checked_once_in_a_boot(opened, sample, boot, monkeypatch):
    boot(1)
    checks = []
    with opened() as cache:
        fill(cache, sample)
        real = zlib.crc32
        monkeypatch.setattr("autotrain.cache.file.zlib.crc32", lambda *given: checks.append(1) or real(*given))
        [cache.get(index) for index in range(50)]
        assert not checks
    for _ in range(2):
        boot(2)
        with opened() as cache:
            assert all(cache.get(index) for index in range(50))
            checks_by_header = 50 + 5
            assert 50 <= len(checks) <= checks_by_header


def test_no_entry_is_written_over_when_the_end_of_the_room_was_lost(opened, sample, equal, shelf, boot):
    boot(1)
    with opened() as cache:
        fill(cache, sample, range(30))
    path = shelf / "k/samples.bin"
    table = FIXED.unpack(path.read_bytes()[: FIXED.size])[3]
    overwrite(path, END_AT, struct.pack("<Q", data_at(table)))
    boot(2)
    with opened() as cache:
        assert right(cache, sample, equal) == 30
        fill(cache, sample, range(30, 50))
        assert right(cache, sample, equal) == 50


def test_nor_when_the_last_entry_was_lost_too(opened, sample, equal, shelf, boot):
    boot(1)
    with opened() as cache:
        fill(cache, sample, range(30))
    path = shelf / "k/samples.bin"
    table = FIXED.unpack(path.read_bytes()[: FIXED.size])[3]
    overwrite(path, entry_at(path, 29), bytes(100))
    overwrite(path, END_AT, struct.pack("<Q", data_at(table)))
    boot(2)
    with opened() as cache:
        fill(cache, sample, range(29, 50))
        assert right(cache, sample, equal) == 50


@pytest.mark.parametrize("part", ["tags", "offsets", "nonsense offsets"])
def test_a_lost_table_loses_samples_only(opened, sample, equal, shelf, boot, part):
    boot(1)
    with opened() as cache:
        fill(cache, sample)
    path = shelf / "k/samples.bin"
    table = FIXED.unpack(path.read_bytes()[: FIXED.size])[3]
    begin = TABLE_AT + (0 if part == "tags" else 8 * table)
    lost = bytes(range(1, 201)) if part == "nonsense offsets" else bytes(200)
    overwrite(path, begin, lost)
    boot(2)
    with opened() as cache:
        assert right(cache, sample, equal) == 25
        assert sum(cache.put(index, sample(index)) for index in range(50)) == 25
        assert right(cache, sample, equal) == 50


def test_slots_given_out_twice_after_a_crash_give_no_one_anothers_sample(opened, sample, equal, shelf, boot):
    boot(1)
    with opened(tags=np.arange(101, 151, dtype=np.uint64)) as cache:
        fill(cache, sample)
    overwrite(shelf / "k/samples.bin", COUNT_AT, bytes(8))
    boot(2)
    with opened(tags=np.arange(150, 100, -1, dtype=np.uint64)) as cache:
        assert all(cache.get(index) is None for index in range(50))
        fill(cache, sample)
        assert right(cache, sample, equal) == 50


@pytest.mark.parametrize("nonsense", [1, 5000, 1 << 19, 1 << 40, (1 << 64) - 1])
def test_half_an_offset_leads_nowhere(opened, sample, equal, shelf, nonsense):
    path = shelf / "k/samples.bin"
    with opened() as cache:
        fill(cache, sample)
        table = FIXED.unpack(path.read_bytes()[: FIXED.size])[3]
        overwrite(path, TABLE_AT + 8 * (table + 9), struct.pack("<Q", nonsense))
        assert cache.get(9) is None
        overwrite(path, entry_at(path, 10) + 24, struct.pack("<Q", nonsense))
        assert cache.get(10) is None
        overwrite(path, entry_at(path, 11) + 40, bytes([255] * 20))
        assert cache.get(11) is None
        fill(cache, sample, [9, 10, 11])
        assert right(cache, sample, equal) == 50


def test_a_file_cut_short_loses_what_was_cut(opened, sample, equal, shelf, boot):
    boot(1)
    with opened() as cache:
        fill(cache, sample)
    path = shelf / "k/samples.bin"
    os.truncate(path, entry_at(path, 30) + 10)
    boot(2)
    with opened() as cache:
        assert right(cache, sample, equal) == 30
        fill(cache, sample, range(30, 50))
        assert right(cache, sample, equal) == 50


@pytest.mark.parametrize("seed", range(20))
def test_any_mixture_of_old_and_new_pages_is_survived(opened, sample, equal, shelf, boot, seed):
    """A crash leaves each page as it was at some moment since it was last written to the disk."""
    draws = np.random.default_rng(seed)
    path = shelf / "k/samples.bin"
    boot(1)
    tags = np.arange(1, 51, dtype=np.uint64)
    with opened(tags=tags[:30], length=30) as cache:
        versions = [path.read_bytes()]
        fill(cache, sample, range(10))
        versions.append(path.read_bytes())
        fill(cache, sample, range(10, 30))
        versions.append(path.read_bytes())
    with opened(tags=tags) as cache:
        fill(cache, sample, range(30, 50))
        versions.append(path.read_bytes())
    pages = [version + bytes(len(versions[-1]) - len(version)) for version in versions]
    step = 512 if seed % 2 else 4096
    choice = draws.integers(0, len(pages), len(pages[0]) // step + 1)
    mixed = b"".join(pages[version][at * step : (at + 1) * step] for at, version in enumerate(choice.tolist()))
    path.write_bytes(versions[0][:4096] + mixed[4096:] if seed % 3 == 0 else mixed)
    for number in (2, 3):
        boot(number)
        with opened(tags=tags) as cache:
            right(cache, sample, equal)
            for index in draws.permutation(50).tolist():
                cache.put(index, sample(index))
            assert right(cache, sample, equal) == 50


# Files that are not what they should be.


def replace_version(content):
    fixed = FIXED.pack(*FIXED.unpack(content[: FIXED.size])[:1], 2, *FIXED.unpack(content[: FIXED.size])[2:])
    return fixed + struct.pack("<I", zlib.crc32(fixed)) + content[FIXED.size + 4 :]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (replace_version, "it has format 2, and this autotrain writes format 1. The cache begins anew"),
        (lambda content: content[:20] + b"????" + content[24:], "it is damaged. The cache begins anew"),
        (lambda content: content[:30], "it is damaged. The cache begins anew"),
        (lambda content: content[:5000], "it is cut short. The cache begins anew"),
        (lambda content: b"", "it is empty. The cache begins anew"),
        (lambda content: bytes(9000), "it is empty. The cache begins anew"),
    ],
    ids=["version", "damaged", "header cut", "table cut", "empty", "zeroed"],
)
def test_a_file_of_no_use_is_replaced_and_said(opened, sample, equal, shelf, caplog, change, words):
    with opened() as cache:
        fill(cache, sample)
    path = shelf / "k/samples.bin"
    path.write_bytes(change(path.read_bytes()))
    with opened() as cache:
        assert words in caplog.text
        assert right(cache, sample, equal) == 0
        fill(cache, sample)
    with opened() as cache:
        assert right(cache, sample, equal) == 50


def test_a_foreign_file_is_put_aside_not_destroyed(opened, sample, equal, shelf, caplog):
    (shelf / "k").mkdir(parents=True)
    (shelf / "k/samples.bin").write_bytes(b"my only copy")
    with opened() as cache:
        fill(cache, sample)
        assert right(cache, sample, equal) == 50
    (aside,) = (shelf / "k").glob("samples.bin.foreign-*")
    assert aside.read_bytes() == b"my only copy"
    assert "is not a cache of autotrain's. It is now samples.bin.foreign-" in caplog.text


# Disks that are full or cannot be written.


@pytest.mark.parametrize("short", [0, 100], ids=["at once", "in the middle"])
def test_a_full_disk_is_a_full_cache_and_one_warning(opened, sample, equal, monkeypatch, caplog, short):
    def fail(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    real_write, real_writev = os.pwrite, os.pwritev
    with opened() as cache, opened() as other:
        fill(cache, sample, range(20))
        with monkeypatch.context() as patch:
            if short:
                patch.setattr(os, "pwritev", lambda n, parts, at: real_write(n, b"".join(parts)[:short], at))
                patch.setattr(os, "pwrite", lambda n, part, at: real_write(n, part, at) if len(part) == 8 else fail())
            else:
                patch.setattr(os, "pwritev", fail)
            assert not any(cache.put(index, sample(index)) for index in range(20, 50))
        assert os.pwritev is real_writev
        assert not other.put(49, sample(49))
        assert cache.full
        assert other.full
        assert right(other, sample, equal) == 20
        warnings = [record for record in caplog.records if record.name.startswith("autotrain")]
        assert len(warnings) == 1
        assert "k/samples.bin cannot be filled further (No space left on device)" in warnings[0].getMessage()
    with opened() as cache:
        fill(cache, sample, range(20, 50))
        assert right(cache, sample, equal) == 50


def test_a_limit_of_the_system_is_a_full_cache_too(opened, sample, equal, shelf):
    """The kernel itself refuses here, in the midst of an entry."""
    with opened() as cache:

        def child():
            room = os.stat(shelf / "k/samples.bin").st_size - (1 << 20) + 3000
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
            done = [cache.put(index, sample(index)) for index in range(50)]
            os._exit(0 if 5 < sum(done) < 50 and cache.full else 1)

        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        process.join()
        assert process.exitcode == 0
        assert cache.full
        assert right(cache, sample, equal) == cache.filled > 5


def test_a_directory_that_cannot_be_is_said_and_keeps_nothing(tmp_path, sample, caplog):
    (tmp_path / "file").write_text("")
    with disk.disk_cache(tmp_path / "file/shelf", "k", 5, 1000) as cache:
        assert not cache.put(0, sample(0))
        assert cache.get(0) is None
        assert cache.full
    assert "file/shelf/k cannot be used (Not a directory). Each sample is made anew in every epoch" in caplog.text


@pytest.fixture
def read_only(shelf, monkeypatch):
    """A function that makes the shelf refuse to be written, also to root."""
    real = os.open

    def refuse(path, flags, *rest, **more):
        if str(path).startswith(str(shelf)) and flags & (os.O_RDWR | os.O_WRONLY | os.O_CREAT):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return real(path, flags, *rest, **more)

    return lambda: monkeypatch.setattr(os, "open", refuse)


def test_a_read_only_cache_is_used_as_it_is(opened, sample, equal, caplog, read_only):
    with opened() as cache:
        fill(cache, sample, range(30))
    read_only()
    with opened() as cache:
        assert right(cache, sample, equal) == 30
        assert not cache.put(40, sample(40))
        assert cache.full
    assert "k cannot be written (Read-only file system); its 30 samples are used as they are" in caplog.text


def test_a_read_only_cache_of_a_dataset_that_has_changed_serves_what_it_can(opened, sample, equal, boot, read_only):
    boot(1)
    with opened(tags=np.arange(100, 150, dtype=np.uint64)) as cache:
        fill(cache, sample)
    boot(2)
    read_only()
    with opened(tags=np.arange(90, 140, dtype=np.uint64)) as cache:
        assert [cache.get(index) for index in range(10)] == [None] * 10
        assert all(equal(cache.get(index), sample(index - 10)) for index in range(10, 50))
        assert cache.filled == 40


def test_a_read_only_shelf_without_the_cache_keeps_nothing(opened, sample, shelf, caplog, read_only):
    shelf.mkdir()
    read_only()
    with opened() as cache:
        assert not cache.put(0, sample(0))
    assert "Read-only file system" in caplog.text


def test_nothing_is_left_open_after_failures(opened, sample, shelf, open_files, read_only):
    before = open_files()
    with opened() as cache:
        fill(cache, sample)
    (shelf / "k/samples.bin").write_bytes(b"foreign")
    opened().close()
    read_only()
    opened().close()
    opened(key="no").close()
    gc.collect()
    assert open_files() == before


# Datasets that change.


def photos(folder, names):
    folder.mkdir(exist_ok=True)
    for name in names:
        if not (folder / name).exists():
            (folder / name).write_bytes(name.encode() * 7)
    return sorted(folder.iterdir())


def put_paths(cache, paths):
    """Put each file's content and return the names of the files that were not there yet."""
    new = []
    for index, path in enumerate(paths):
        found = cache.get(index)
        content = np.frombuffer(path.read_bytes(), np.uint8)
        if found is None:
            new.append(path.name)
            assert cache.put(index, (content,))
        else:
            assert np.array_equal(found[0], content)
    return new


def test_a_new_file_throws_nothing_away_and_a_changed_one_only_its_own(opened, tmp_path):
    folder = tmp_path / "photos"
    paths = photos(folder, ["b", "d", "f", "h"])
    with opened(length=4, tags=file_tags(paths)) as cache:
        assert put_paths(cache, paths) == ["b", "d", "f", "h"]
    paths = photos(folder, ["a", "b", "c", "d", "f", "h", "i"])
    with opened(length=7, tags=file_tags(paths)) as cache:
        assert cache.filled == 4
        assert put_paths(cache, paths) == ["a", "c", "i"]
        assert cache.filled == 7
    (folder / "d").write_bytes(b"changed")
    (folder / "f").unlink()
    paths = photos(folder, [])
    with opened(length=6, tags=file_tags(paths)) as cache:
        assert put_paths(cache, paths) == ["d"]
    with opened(length=6, tags=file_tags(paths)[::-1]) as cache:
        assert put_paths(cache, paths[::-1]) == []


def test_a_file_listed_twice_has_a_sample_each(opened, sample, equal):
    tags = np.asarray([7, 7, 0, 9, 7, 0], dtype=np.uint64)
    for _ in range(2):
        with opened(length=6, tags=tags) as cache:
            for index in range(6):
                cache.put(index, sample(index))
            assert right(cache, sample, equal) == 6


def test_what_is_gone_makes_room_only_when_it_is_needed(opened, sample, equal):
    old, new = (np.arange(start, start + 50, dtype=np.uint64) for start in (1, 1001))
    with opened(tags=old) as cache:
        fill(cache, sample)
        size = cache.used_bytes
    with opened(tags=new, capacity_bytes=3 * size) as cache:
        fill(cache, sample)
        assert cache.used_bytes == 2 * size
    newest = np.arange(2001, 2051, dtype=np.uint64)
    with opened(tags=newest, capacity_bytes=2 * size) as cache:
        assert cache.used_bytes == 0
        fill(cache, sample)
        assert right(cache, sample, equal) == 50


def test_a_table_without_slots_left_begins_anew(opened, sample, equal):
    with opened(length=2) as cache:
        fill(cache, sample, range(2))
    with opened(length=2000) as cache:
        assert cache.filled == 0
        fill(cache, sample, range(1990, 2000))
        assert right(cache, sample, equal) == 10


def test_arguments_that_make_no_sense(shelf):
    for key in ("../k", "", "a/b", "k" * 65):
        with pytest.raises(ValueError, match="must be up to 64 letters"):
            disk.disk_cache(shelf, key, 5, 1000)
    with pytest.raises(ValueError, match="2 tags for 5 samples"):
        disk.disk_cache(shelf, "k", 5, 1000, tags=np.arange(2, dtype=np.uint64))
    assert not shelf.exists()


def test_memory_has_no_checks_to_pay_for(monkeypatch, sample):
    with memory_cache(5, 10_000) as cache:
        monkeypatch.setattr("autotrain.cache.entry.zlib.crc32", None)
        assert cache.put(0, sample(0))
        assert cache.get(0) is not None
