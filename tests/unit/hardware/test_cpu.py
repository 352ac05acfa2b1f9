"""CPU facts from made-up /proc and /sys trees."""

import os
from pathlib import Path

import pytest

from autotrain.hardware import cpu
from autotrain.hardware.cpu import cpu_facts, cpu_quota


def write(root: Path, path: str, text: str) -> None:
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)


@pytest.fixture
def eight_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 16)


def test_the_smallest_quota_of_the_own_group_and_its_parents_counts(tmp_path, eight_cores):
    write(tmp_path, "proc/self/cgroup", "0::/job/step\n")
    write(tmp_path, "sys/fs/cgroup/job/step/cpu.max", "max 100000\n")
    write(tmp_path, "sys/fs/cgroup/job/cpu.max", "250000 100000\n")
    write(tmp_path, "sys/fs/cgroup/cpu.max", "600000 100000\n")
    facts = cpu_facts(tmp_path)
    assert (facts.logical, facts.affinity, facts.quota, facts.usable) == (16, 8, 2.5, 2)


def test_a_quota_below_one_core_leaves_one(tmp_path, eight_cores):
    write(tmp_path, "proc/self/cgroup", "0::/\n")
    write(tmp_path, "sys/fs/cgroup/cpu.max", "50000 100000\n")
    assert cpu_facts(tmp_path).usable == 1


def test_without_a_quota_the_affinity_counts(tmp_path, eight_cores):
    write(tmp_path, "proc/self/cgroup", "0::/\n")
    write(tmp_path, "sys/fs/cgroup/cpu.max", "max 100000\n")
    facts = cpu_facts(tmp_path)
    assert (facts.quota, facts.usable) == (None, 8)


def test_cgroup_v1_quota(tmp_path):
    write(tmp_path, "proc/self/cgroup", "4:cpu,cpuacct:/slurm/job_7\n3:memory:/x\n0::/\n")
    write(tmp_path, "sys/fs/cgroup/cpu/slurm/job_7/cpu.cfs_quota_us", "300000\n")
    write(tmp_path, "sys/fs/cgroup/cpu/slurm/job_7/cpu.cfs_period_us", "100000\n")
    write(tmp_path, "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n")
    write(tmp_path, "sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n")
    assert cpu_quota(tmp_path) == 3.0


def test_a_container_that_shows_the_hosts_path_uses_the_mount_itself(tmp_path):
    write(tmp_path, "proc/self/cgroup", "0::/system.slice/docker-1234.scope\n")
    write(tmp_path, "sys/fs/cgroup/cpu.max", "150000 100000\n")
    assert cpu_quota(tmp_path) == 1.5


def test_a_path_outside_the_mount_does_not_leave_it(tmp_path):
    write(tmp_path, "proc/self/cgroup", "0::/../../other\n")
    write(tmp_path, "sys/fs/cgroup/cpu.max", "200000 100000\n")
    write(tmp_path, "other/cpu.max", "1000 100000\n")
    assert cpu_quota(tmp_path) == 2.0


@pytest.mark.parametrize("text", ["", "garbage", "100000", "100000 0", "-5 100000", "a b"])
def test_a_malformed_quota_is_none(tmp_path, text):
    write(tmp_path, "sys/fs/cgroup/cpu.max", text)
    assert cpu_quota(tmp_path) is None


def test_name_and_the_features_that_matter(tmp_path):
    write(
        tmp_path,
        "proc/cpuinfo",
        "processor\t: 0\nmodel name\t: Intel(R) Xeon(R) Platinum 8481C\n"
        "flags\t\t: fpu sse avx2 avx512f amx_bf16 amx_tile\n\n"
        "processor\t: 1\nmodel name\t: other\nflags\t\t: fpu\n",
    )
    facts = cpu_facts(tmp_path)
    assert facts.name == "Intel(R) Xeon(R) Platinum 8481C"
    assert facts.features == ("avx2", "avx512f", "amx_tile", "amx_bf16")


def test_an_arm_kernel_gives_numbers_for_a_name(tmp_path, monkeypatch):
    monkeypatch.setattr(cpu.platform, "machine", lambda: "aarch64")
    write(
        tmp_path,
        "proc/cpuinfo",
        "processor\t: 0\nFeatures\t: fp asimd bf16 sve\nCPU implementer\t: 0x41\nCPU part\t: 0xd40\n",
    )
    facts = cpu_facts(tmp_path)
    assert (facts.name, facts.features) == ("aarch64 0x41/0xd40", ("neon", "bf16", "sve"))


def test_without_proc_the_platform_module_answers(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 10)
    monkeypatch.setattr(cpu.platform, "processor", lambda: "arm")
    monkeypatch.setattr(cpu.platform, "machine", lambda: "arm64")
    facts = cpu_facts(tmp_path)
    assert (facts.name, facts.usable, facts.features) == ("arm", 10, ("neon",))


def test_this_machine():
    facts = cpu_facts()
    assert facts.name
    assert 1 <= facts.usable <= facts.affinity <= facts.logical
