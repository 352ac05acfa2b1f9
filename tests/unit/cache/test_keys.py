"""Keys and tags change with what they stand for, and with nothing else."""

import os
import subprocess
import sys

import numpy as np

from autotrain.cache.boot import boot_stamp
from autotrain.cache.keys import cache_key, distinct, file_tags


def test_a_key_depends_on_each_part_and_its_place():
    keys = [cache_key("a", 1), cache_key("a", "1"), cache_key("a1"), cache_key(1, "a"), cache_key("a", 1, None)]
    assert len(set(keys)) == len(keys)
    assert cache_key("a", 1) == keys[0]
    assert all(len(key) == 24 and key.isalnum() for key in keys)


def test_keys_tags_and_boot_are_the_same_in_another_process(tmp_path):
    (tmp_path / "a").write_text("a")
    script = (
        "import sys; from autotrain.cache.keys import *; from autotrain.cache.boot import boot_stamp\n"
        "print(cache_key('x', ('y', 2)), file_tags([sys.argv[1]])[0], boot_stamp())"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "a")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    own = (cache_key("x", ("y", 2)), str(file_tags([tmp_path / "a"])[0]), str(boot_stamp()))
    assert tuple(done.stdout.split()) == own


def test_a_tag_follows_name_size_time_and_label(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    for path in (a, b):
        path.write_text("12")
        os.utime(path, ns=(5, 5))
    tags = file_tags([a, b])
    assert tags.dtype == np.uint64
    assert tags[0] != tags[1]
    assert file_tags([str(b), str(a)]).tolist() == tags[::-1].tolist()
    os.utime(a, ns=(5, 6))
    assert file_tags([a])[0] != tags[0]
    os.utime(a, ns=(5, 5))
    assert file_tags([a])[0] == tags[0]
    a.write_text("123")
    os.utime(a, ns=(5, 5))
    assert file_tags([a])[0] != tags[0]
    a.unlink()
    assert file_tags([a])[0] != tags[0]
    assert file_tags([b], labels=[1])[0] != file_tags([b], labels=[2])[0]


def test_a_moved_dataset_keeps_its_tags(tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old/a").write_text("a")
    before = file_tags([tmp_path / "old/a"], root=tmp_path / "old")
    (tmp_path / "old").rename(tmp_path / "new")
    assert file_tags([tmp_path / "new/a"], root=tmp_path / "new") == before


def test_repeated_tags_become_distinct_in_the_same_way_each_time():
    tags = np.asarray([3, 3, 3, 0, 1, 4], dtype=np.uint64)
    changed = distinct(tags)
    assert len(set(changed.tolist())) == 6
    assert 0 not in changed
    assert changed[[0, 5]].tolist() == [3, 4]
    assert distinct(tags).tolist() == changed.tolist()
