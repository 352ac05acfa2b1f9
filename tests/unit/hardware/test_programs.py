"""Other programs: a process that spins is seen with its share."""

import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from autotrain.hardware import programs
from autotrain.hardware.programs import Program, other_programs


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["python3", "-u", "/home/me/train.py", "--password", "x"], "python3 train.py"),
        (["python3", "-m", "torch.distributed.run", "x.py"], "python3 -m torch.distributed.run"),
        (["python3", "-c", "while True: pass"], "python3"),
        (["python3"], "python3"),
    ],
)
def test_python_is_named_with_its_script_and_nothing_more(monkeypatch, words, name):
    monkeypatch.setattr(programs.psutil, "Process", lambda number: SimpleNamespace(cmdline=lambda: words))
    assert programs._called(Program(number=1, name="python3", cores=1.0)) == name


def test_others_keep_their_name_and_an_ended_one_too(monkeypatch):
    assert programs._called(Program(number=1, name="ffmpeg", cores=1.0)) == "ffmpeg"

    def gone(number):
        raise programs.psutil.NoSuchProcess(number)

    monkeypatch.setattr(programs.psutil, "Process", gone)
    assert programs._called(Program(number=1, name="python3", cores=1.0)) == "python3"


@pytest.fixture
def spinning():
    """A process that uses a core; it is no child of ours, as far as the watch is concerned."""
    process = subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"])
    yield process
    process.kill()
    process.wait()


def test_the_busiest_are_named(spinning, monkeypatch):
    monkeypatch.setattr(programs.psutil.Process, "children", lambda self, recursive=False: [])
    found = other_programs(0.3)
    mine = [program for program in found.busiest if program.number == spinning.pid]
    assert len(mine) == 1
    assert mine[0].cores > 0.2
    assert found.seconds >= 0.3
    assert 0.0 <= found.share <= 1.0


def test_our_own_children_are_none_of_them(spinning):
    time.sleep(0.05)
    assert spinning.pid not in [program.number for program in other_programs(0.2).busiest]
