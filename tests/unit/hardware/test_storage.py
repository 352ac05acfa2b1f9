"""Reading files in order, up to a limit, with a clock that the test moves."""

import pytest

from autotrain.hardware import storage
from autotrain.hardware.storage import ReadRate, cold_read


class Ticking:
    """A clock that moves on by ``step`` seconds whenever it is read."""

    def __init__(self, step):
        self.now, self.step = 0.0, step

    def __call__(self):
        self.now += self.step
        return self.now


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / f"{index}.jpg" for index in range(4)]
    for path in paths:
        path.write_bytes(b"x" * 1000)
    return paths


def test_all_files_are_read(files):
    rate = cold_read(files)
    assert (rate.bytes, rate.files) == (4000, 4)
    assert rate.bytes_per_s > 0


def test_it_stops_at_the_byte_limit_to_the_byte(files):
    rate = cold_read(files, limit_bytes=2500)
    assert (rate.bytes, rate.files) == (2500, 2)


def test_it_stops_at_the_time_limit(files, monkeypatch):
    monkeypatch.setattr(storage, "CHUNK_BYTES", 100)
    rate = cold_read(files, limit_s=5.0, clock=Ticking(1.0))
    assert rate == ReadRate(bytes=400, files=0, seconds=6.0)


def test_a_missing_file_is_passed_over(files, tmp_path):
    assert cold_read([tmp_path / "none.jpg", *files]).files == 4


def test_nothing_to_read_has_no_rate():
    rate = cold_read([])
    assert (rate.bytes, rate.bytes_per_s) == (0, 0.0)


def test_the_rate_is_bytes_over_seconds():
    assert ReadRate(bytes=3000, files=1, seconds=1.5).bytes_per_s == 2000
