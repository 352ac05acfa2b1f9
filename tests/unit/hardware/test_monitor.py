"""The monitor's arithmetic with made-up readings, and once with real ones."""

import os
import subprocess
import sys
import time
from types import SimpleNamespace

import psutil
import pytest

from autotrain.hardware import monitor
from autotrain.hardware.monitor import Monitor, busy_s, own_s


def scripted(values):
    readings = iter(values)
    return lambda *_: next(readings)


@pytest.fixture
def readings(monkeypatch):
    def install(*, wall, busy, own, cores=2):
        monkeypatch.setattr(monitor, "busy_s", scripted(busy))
        monkeypatch.setattr(monitor, "own_s", scripted(own))
        monkeypatch.setattr(monitor, "_cores", lambda: cores)
        return Monitor(scripted(wall))

    return install


@pytest.mark.parametrize(
    ("busy", "own", "share"),
    [((100, 115), (40, 50), 0.25), ((100, 110), (40, 50), 0.0), ((100, 105), (40, 50), 0.0), ((0, 90), (0, 0), 1.0)],
)
def test_what_the_machine_did_beyond_our_own_work(readings, busy, own, share):
    watch = readings(wall=(0.0, 10.0), busy=busy, own=own)
    watch.start()
    conditions = watch.stop()
    assert conditions.other_cpu_share == pytest.approx(share)
    assert conditions.gpu is None


def test_no_time_passed_is_no_share(readings):
    watch = readings(wall=(5.0, 5.0), busy=(0, 1), own=(0, 0))
    watch.start()
    assert watch.stop().other_cpu_share == 0.0


def test_stop_needs_start(readings):
    watch = readings(wall=(0.0, 1.0), busy=(0, 0), own=(0, 0))
    with pytest.raises(RuntimeError, match="call start first"):
        watch.stop()
    watch.start()
    watch.stop()
    with pytest.raises(RuntimeError, match="call start first"):
        watch.stop()


def test_the_watched_gpu_is_asked_at_the_end(readings, monkeypatch):
    asked = []
    monkeypatch.setattr(monitor, "gpu_state", lambda which: asked.append(which))
    watch = Monitor(gpu="GPU-a")
    watch.start()
    assert asked == []
    watch.stop()
    assert asked == ["GPU-a"]


def test_only_the_cores_of_our_affinity_count(monkeypatch):
    cores = [SimpleNamespace(user=10.0 * index, system=1.0, idle=99.0, steal=0.5) for index in range(4)]
    monkeypatch.setattr(psutil, "cpu_times", lambda percpu: cores)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 3}, raising=False)
    assert busy_s() == 10 + 30 + 2 * 1.5


def test_a_child_that_vanishes_is_passed_over(monkeypatch):
    class Gone:
        def cpu_times(self):
            raise psutil.NoSuchProcess(1)

    monkeypatch.setattr(psutil.Process, "children", lambda self, recursive: [])
    before = own_s()
    monkeypatch.setattr(psutil.Process, "children", lambda self, recursive: [Gone()])
    assert own_s() >= before


def test_a_child_that_ended_stays_ours():
    script = "import time\nend = time.process_time() + 0.2\nwhile time.process_time() < end: pass"
    before = own_s()
    subprocess.run([sys.executable, "-c", script], check=True)
    assert own_s() - before > 0.15


def test_this_machine():
    watch = Monitor(gpu=0)
    watch.start()
    time.sleep(0.05)
    assert 0.0 <= watch.stop().other_cpu_share <= 1.0
