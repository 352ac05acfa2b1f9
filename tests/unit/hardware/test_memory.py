"""Memory facts from made-up /proc and /sys trees."""

from pathlib import Path

from autotrain.hardware.memory import MemoryFacts, memory_facts

GIB = 1 << 30
MEMINFO = f"MemTotal:  {64 * GIB // 1024} kB\nMemFree: 9 kB\nMemAvailable:  {40 * GIB // 1024} kB\nHugePages_Total: 0\n"


def write(root: Path, path: str, text: str) -> None:
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)


def test_without_a_limit_what_is_available_is_the_budget(tmp_path):
    write(tmp_path, "proc/meminfo", MEMINFO)
    write(tmp_path, "sys/fs/cgroup/memory.max", "max\n")
    facts = memory_facts(tmp_path)
    assert facts == MemoryFacts(total_bytes=64 * GIB, available_bytes=40 * GIB)
    assert facts.budget_bytes == 40 * GIB


def test_cgroup_v2_limit_counts_droppable_page_cache_as_free(tmp_path):
    write(tmp_path, "proc/meminfo", MEMINFO)
    write(tmp_path, "proc/self/cgroup", "0::/pod/box\n")
    write(tmp_path, "sys/fs/cgroup/pod/box/memory.max", str(8 * GIB))
    write(tmp_path, "sys/fs/cgroup/pod/box/memory.current", str(7 * GIB))
    write(tmp_path, "sys/fs/cgroup/pod/box/memory.stat", f"anon 5\nfile {5 * GIB}\ninactive_file {4 * GIB}\n")
    facts = memory_facts(tmp_path)
    assert (facts.limit_bytes, facts.limit_free_bytes, facts.budget_bytes) == (8 * GIB, 5 * GIB, 5 * GIB)


def test_a_fuller_parent_with_a_larger_limit_leaves_less(tmp_path):
    write(tmp_path, "proc/meminfo", MEMINFO)
    write(tmp_path, "proc/self/cgroup", "0::/pod/box\n")
    write(tmp_path, "sys/fs/cgroup/pod/box/memory.max", str(8 * GIB))
    write(tmp_path, "sys/fs/cgroup/pod/box/memory.current", str(1 * GIB))
    write(tmp_path, "sys/fs/cgroup/pod/memory.max", str(20 * GIB))
    write(tmp_path, "sys/fs/cgroup/pod/memory.current", str(18 * GIB))
    facts = memory_facts(tmp_path)
    assert (facts.limit_bytes, facts.budget_bytes) == (8 * GIB, 2 * GIB)


def test_cgroup_v1_limit_and_its_word_for_none(tmp_path):
    write(tmp_path, "proc/meminfo", MEMINFO)
    write(tmp_path, "proc/self/cgroup", "4:memory:/job\n")
    write(tmp_path, "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    assert memory_facts(tmp_path).limit_bytes is None
    write(tmp_path, "sys/fs/cgroup/memory/job/memory.limit_in_bytes", str(10 * GIB))
    write(tmp_path, "sys/fs/cgroup/memory/job/memory.usage_in_bytes", str(4 * GIB))
    write(tmp_path, "sys/fs/cgroup/memory/job/memory.stat", f"total_inactive_file {1 * GIB}\n")
    facts = memory_facts(tmp_path)
    assert (facts.limit_bytes, facts.budget_bytes) == (10 * GIB, 7 * GIB)


def test_a_group_over_its_limit_leaves_nothing(tmp_path):
    write(tmp_path, "proc/meminfo", MEMINFO)
    write(tmp_path, "sys/fs/cgroup/memory.max", str(GIB))
    write(tmp_path, "sys/fs/cgroup/memory.current", str(2 * GIB))
    assert memory_facts(tmp_path).budget_bytes == 0


def test_shared_memory_is_measured_where_it_exists(tmp_path):
    write(tmp_path, "proc/meminfo", MEMINFO)
    assert memory_facts(tmp_path).shm_bytes is None
    (tmp_path / "dev/shm").mkdir(parents=True)
    assert memory_facts(tmp_path).shm_bytes > 0


def test_without_proc_psutil_answers(tmp_path):
    facts = memory_facts(tmp_path)
    assert 0 < facts.budget_bytes <= facts.total_bytes


def test_this_machine():
    facts = memory_facts()
    assert 0 < facts.budget_bytes <= facts.available_bytes <= facts.total_bytes
