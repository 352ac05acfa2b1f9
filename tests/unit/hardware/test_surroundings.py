"""Pressure, quota's account, clock, paging, mounts and limits from made-up /proc and /sys trees."""

import resource
from pathlib import Path

import pytest

from autotrain.hardware.limits import file_limit
from autotrain.hardware.mounts import mount_of
from autotrain.hardware.paging import paging
from autotrain.hardware.pressure import pressure
from autotrain.hardware.throttling import clock, throttling
from autotrain.hardware.units import size_words


def write(root: Path, path: str, text: str) -> None:
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)


def test_pressure_is_in_shares(tmp_path):
    lines = "some avg10=12.50 avg60=7.00 avg300=0.64 total=8479768528\nfull avg10=1.00 avg60=2.50 avg300=0.00 total=0\n"
    write(tmp_path, "proc/pressure/io", lines)
    write(tmp_path, "proc/pressure/cpu", lines.splitlines()[0])  # before Linux 5.13 there is no line for full
    found = pressure(tmp_path)
    assert (found.io.some_10s, found.io.some_60s, found.io.full_60s) == (0.125, 0.07, 0.025)
    assert found.cpu.full_60s == 0.0
    assert found.memory is None


def test_the_group_that_was_stopped_most_counts(tmp_path):
    write(tmp_path, "proc/self/cgroup", "0::/pod/task\n")
    write(tmp_path, "sys/fs/cgroup/pod/task/cpu.stat", "usage_usec 5\nnr_periods 0\nnr_throttled 0\n")
    write(tmp_path, "sys/fs/cgroup/pod/cpu.stat", "usage_usec 5\nnr_periods 1000\nnr_throttled 250\nthrottled_usec 9\n")
    found = throttling(tmp_path)
    assert (found.periods, found.throttled, found.share) == (1000, 250, 0.25)
    assert throttling(tmp_path / "nothing") is None


def test_the_slowest_governor_counts_and_what_it_does_depends_on_the_driver(tmp_path):
    base = "sys/devices/system/cpu"
    for core, governor in enumerate(("performance", "powersave")):
        write(tmp_path, f"{base}/cpu{core}/cpufreq/scaling_governor", f"{governor}\n")
        write(tmp_path, f"{base}/cpu{core}/cpufreq/scaling_driver", "acpi-cpufreq\n")
        write(tmp_path, f"{base}/cpu{core}/cpufreq/scaling_max_freq", "3000000\n")
        write(tmp_path, f"{base}/cpu{core}/cpufreq/cpuinfo_max_freq", "3600000\n")
        write(tmp_path, f"{base}/cpu{core}/cpufreq/cpuinfo_min_freq", "800000\n")
    write(tmp_path, f"{base}/cpufreq/boost", "0\n")
    found = clock(tmp_path)
    assert (found.governor, found.held_low, found.turbo) == ("powersave", True, False)
    assert (found.now_max_khz, found.hardware_max_khz, found.hardware_min_khz) == (3_000_000, 3_600_000, 800_000)
    write(tmp_path, f"{base}/cpu0/cpufreq/scaling_driver", "intel_pstate\n")
    write(tmp_path, f"{base}/intel_pstate/no_turbo", "0\n")
    assert (clock(tmp_path).held_low, clock(tmp_path).turbo) == (False, True)


def test_a_virtual_machine_does_not_tell_its_clock(tmp_path):
    assert clock(tmp_path) is None


def test_paging(tmp_path):
    write(tmp_path, "proc/meminfo", "MemTotal: 100 kB\nSwapTotal:  2048 kB\nSwapFree:  1024 kB\n")
    write(tmp_path, "sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n")
    found = paging(tmp_path)
    assert (found.swap_bytes, found.swap_used_bytes, found.huge_pages) == (2 << 20, 1 << 20, "madvise")
    assert paging(tmp_path / "nothing").swap_bytes is None


def test_the_innermost_mount_holds_a_path_and_the_last_covers_the_others(tmp_path):
    write(
        tmp_path,
        "proc/self/mounts",
        "/dev/sda / ext4 rw 0 0\nserver:/data /mnt/my\\040data nfs4 rw 0 0\n"
        "tmpfs /scratch tmpfs rw 0 0\n/dev/sdb /scratch xfs rw 0 0\n",
    )
    found = mount_of(Path("/mnt/my data/train"), tmp_path)
    assert (found.point, found.kind, found.source, found.network) == ("/mnt/my data", "nfs4", "server:/data", True)
    assert mount_of(Path("/scratch/a"), tmp_path).kind == "xfs"
    assert mount_of(Path("/mnt/my"), tmp_path).kind == "ext4"
    assert mount_of(Path("/"), tmp_path / "nothing") is None


def test_the_limit_on_open_files_is_that_of_this_process():
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    found = file_limit()
    assert found.soft == (None if soft == resource.RLIM_INFINITY else soft)
    with open("/dev/null"):
        assert file_limit().used == found.used + 1


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 bytes"), (1023, "1023 bytes"), (64 << 20, "64.0 MiB"), (3 << 39, "1.5 TiB")]
)
def test_sizes(count, words):
    assert size_words(count) == words
