"""The shelf of disk caches: where it is, what is on it, and what goes when room is needed."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from autotrain.cache.cache import Cache
from autotrain.cache.disk import disk_cache
from autotrain.cache.shelf import default_directory, kept, remove
from autotrain.cli.main import run

SIZE = 300_000


@pytest.mark.parametrize(
    ("environ", "directory"),
    [
        ({"AUTOTRAIN_CACHE_DIR": "/a/b", "XDG_CACHE_HOME": "/x"}, Path("/a/b")),
        ({"AUTOTRAIN_CACHE_DIR": "", "XDG_CACHE_HOME": "/x"}, Path("/x/autotrain")),
        ({"XDG_CACHE_HOME": "not/absolute"}, Path.home() / ".cache/autotrain"),
        ({}, Path.home() / ".cache/autotrain"),
    ],
)
def test_the_default_directory(environ, directory):
    assert default_directory(environ) == directory


def keep(shelf: Path, key: str, used_at: float, *, about=None, **more) -> Cache:
    """Make a cache of 300 kB that was last used at a time, and leave it open."""
    cache = disk_cache(shelf, key, 4, 2 * SIZE, about=about, **more)
    assert cache.put(0, (np.ones(SIZE, np.uint8),))
    for name in ("samples.bin", "about.json"):
        os.utime(shelf / key / name, (used_at, used_at))
    return cache


def keys(shelf: Path) -> list[str]:
    return [entry.key for entry in kept(shelf)]


def test_what_is_there_is_told_with_its_description(shelf):
    keep(shelf, "old", 1000, about={"dataset": "photos", "prefix": "decode"}).close()
    (shelf / "no cache").mkdir()
    (shelf / "broken").mkdir()
    (shelf / "broken/samples.bin").write_bytes(b"broken")
    os.utime(shelf / "broken/samples.bin", (500, 500))
    with keep(shelf, "new", 2000):
        new, old, broken = kept(shelf)
        assert (new.key, new.in_use, new.filled, new.used_at) == ("new", True, 1, 2000)
        assert (old.key, old.in_use, old.filled, old.about["dataset"]) == ("old", False, 1, "photos")
        assert (broken.key, broken.filled) == ("broken", None)
        assert SIZE <= new.bytes < 2 * SIZE
    about = json.loads((shelf / "old/about.json").read_text(encoding="utf-8"))
    assert about.keys() == {"dataset", "prefix", "key", "samples", "created"}
    assert kept(shelf / "nowhere") == []


def test_opening_counts_as_use_and_keeps_the_date_of_making(shelf):
    keep(shelf, "a", 1000, about={"dataset": "photos"}).close()
    created = json.loads((shelf / "a/about.json").read_text())["created"]
    disk_cache(shelf, "a", 4, SIZE, about={"dataset": "photos"}).close()
    (entry,) = kept(shelf)
    assert entry.used_at > 2000
    assert entry.about["created"] == created


def test_the_longest_unused_go_when_room_is_needed(shelf):
    for number, key in enumerate("abcd"):
        keep(shelf, key, 1000 + number).close()
    with disk_cache(shelf, "new", 4, SIZE, total_bytes=4 * SIZE) as cache:
        assert cache.capacity_bytes == SIZE
        assert keys(shelf) == ["new", "d", "c"]


def test_nothing_goes_while_there_is_room(shelf):
    keep(shelf, "a", 1000).close()
    disk_cache(shelf, "b", 4, SIZE, total_bytes=3 * SIZE).close()
    disk_cache(shelf, "b", 4, SIZE, total_bytes=3 * SIZE).close()
    assert sorted(keys(shelf)) == ["a", "b"]


def test_what_is_in_use_stays_and_the_new_one_gets_what_is_left(shelf):
    with keep(shelf, "a", 1000) as used:
        keep(shelf, "b", 2000).close()
        with disk_cache(shelf, "new", 4, 3 * SIZE, total_bytes=3 * SIZE) as cache:
            assert sorted(keys(shelf)) == ["a", "new"]
            assert SIZE < cache.capacity_bytes <= 2 * SIZE
        with disk_cache(shelf, "newer", 4, SIZE, total_bytes=0) as cache:
            assert cache.full
        assert used.get(0)[0].sum() == SIZE


def test_removing_spares_what_is_in_use_and_what_is_not_ours(shelf):
    cache = keep(shelf, "a", 1000)
    (shelf / "a/notes.txt").write_text("mine")
    assert not remove(shelf, "a")
    cache.close()
    assert remove(shelf, "a")
    assert [path.name for path in (shelf / "a").iterdir()] == ["notes.txt"]
    assert remove(shelf, "a")
    assert remove(shelf, "never was there")
    assert keys(shelf) == []


def test_a_view_that_someone_still_has_keeps_its_bytes(shelf):
    cache = keep(shelf, "a", 1000)
    (view,) = cache.get(0)
    cache.close()
    remove(shelf, "a")
    assert view.sum() == SIZE


# The command.


@pytest.fixture
def command(shelf, capsys, monkeypatch):
    """Run ``autotrain cache`` on the shelf and return exit code, output and errors."""
    monkeypatch.setenv("AUTOTRAIN_CACHE_DIR", str(shelf))

    def call(*arguments: str) -> tuple[int, str, str]:
        code = run(["cache", *arguments])
        return code, *capsys.readouterr()

    return call


def test_the_command_lists(command, shelf):
    assert command() == (0, f"No caches in {shelf}\n", "")
    keep(shelf, "abc", 1000, about={"dataset": "/data/photos", "prefix": "decode"}).close()
    (shelf / "bad").mkdir()
    (shelf / "bad/samples.bin").write_bytes(b"x" * 10_000)
    with keep(shelf, "abd", 2000):
        code, out, err = command()
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert len(lines) == 4
    assert "of another version, or damaged" in lines[0]
    assert "1 of 4 samples, in use" in lines[1]
    assert lines[2].startswith("abc ")
    assert lines[2].endswith("days ago  /data/photos, decode")
    assert "KiB in all" in lines[3]


def test_the_command_removes_one(command, shelf):
    keep(shelf, "abc", 1000).close()
    keep(shelf, "abd", 2000).close()
    code, _, err = command("--clear", "ab")
    assert code == 2
    assert "more than one begins so (abd, abc)" in err
    code, out, _ = command("--clear", "abc")
    assert code == 0
    assert out.startswith("Removed abc, ")
    assert keys(shelf) == ["abd"]
    code, _, err = command("abc")
    assert code == 2
    assert f"{shelf}: no cache 'abc'" in err


def test_the_command_removes_all_but_says_what_it_could_not(command, shelf):
    keep(shelf, "a", 1000).close()
    with keep(shelf, "b", 2000):
        code, out, err = command("--clear")
        assert code == 2
        assert "Removed a" in out
        assert "not removed: b, in use" in err
        assert keys(shelf) == ["b"]
    assert command("--clear")[0] == 0
    assert keys(shelf) == []
    assert command("--clear", "--directory", str(shelf)) == (0, f"No caches in {shelf}\n", "")
