"""Each check finds its harm on a machine that is healthy otherwise, and no other check takes it for something else."""

import importlib.metadata
from dataclasses import replace

import healthy
import pytest
from healthy import CPU, DATA, GIB, GPU, PACKAGES, SITE, installed, machine, made, several
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from autotrain.doctor.check import NotDone, Severity
from autotrain.doctor.checks import CHECKS
from autotrain.doctor.examine import examine
from autotrain.doctor.facts import Facts
from autotrain.doctor.installed import Distribution
from autotrain.doctor.torch_facts import Device
from autotrain.doctor.versions import KNOWN
from autotrain.hardware.mounts import Mount
from autotrain.hardware.pressure import Stall
from autotrain.hardware.programs import OtherPrograms, Program

CRASH, SLOW, NOTE = Severity.CRASH, Severity.SLOW, Severity.NOTE
WAITING = Stall(some_10s=0.5, some_60s=0.4, full_60s=0.3)
SPINNER = Program(number=4711, name="stress", cores=24.0)


def packages(**versions: str):
    return installed(PACKAGES | {name.replace("_", "-"): version for name, version in versions.items()})


def gpu(**changes):
    return {"visible_gpus": (replace(GPU, **changes),)}


PLANTED = [
    # changes, check, severity, words of what was found, words of the cost, words of the command
    ({"pressure": {"memory": WAITING}}, "stalls", SLOW, "wait for memory", "30%", ""),
    ({"pressure": {"io": WAITING}}, "stalls", SLOW, "wait for storage", "30%", ""),
    (
        {"others": OtherPrograms(share=0.75, seconds=1.0, busiest=(SPINNER,))},
        "other-programs",
        SLOW,
        "24.0 of 32 cores",
        "50% of the cores' time",
        "renice -n 19 -p 4711",
    ),
    ({"throttling": {"throttled": 3_000}}, "quota", SLOW, "in 30% of its periods", "", "OMP_NUM_THREADS=16"),
    (
        {"clock": {"driver": "acpi-cpufreq"}},
        "clock",
        SLOW,
        "powersave keeps the CPU at 0.8 GHz",
        "79%",
        "cpupower frequency-set -g performance",
    ),
    ({"clock": {"now_max_khz": 1_900_000}}, "clock", SLOW, "limited to 1.9 of 3.8 GHz", "50%", "-u 3800000kHz"),
    ({"clock": {"turbo": False}}, "clock", SLOW, "turbo", "", "no_turbo"),
    ({"memory": {"shm_bytes": 64 << 20}}, "shared-memory", CRASH, "64.0 MiB free in /dev/shm", "Bus error", "remount"),
    ({"memory": {"shm_bytes": None}}, "shared-memory", CRASH, "no /dev/shm", "Bus error", "--shm-size"),
    ({"file_limit": {"soft": 128}}, "open-files", CRASH, "128 open files", "Too many open files", "ulimit -n 65536"),
    ({"file_limit": {"soft": 128, "hard": 128}}, "open-files", CRASH, "128", "", "--ulimit nofile"),
    (
        {"memory": {"limit_bytes": 4 * GIB, "limit_free_bytes": GIB}, "data": {"bytes": GIB // 2, "files": 4_582}},
        "free-memory",
        CRASH,
        "1.0 GiB",
        "kills",
        "ps ",
    ),
    (
        {"memory": {"available_bytes": 12 * GIB}, "paging": {"swap_used_bytes": 5 * GIB}},
        "swap",
        SLOW,
        "5.0 GiB of swap",
        "",
        "ps ",
    ),
    ({"temporary": {"free_bytes": 1 << 20}}, "temporary", CRASH, "1.0 MiB free in /tmp", "No space left", "TMPDIR"),
    ({"temporary": {"path": None}}, "temporary", CRASH, "no folder", "", "TMPDIR"),
    (
        {"installed": packages(autotrain_advanced="0.8.36")},
        "name-clash",
        CRASH,
        "autotrain-advanced 0.8.36",
        "",
        "pip uninstall autotrain-advanced",
    ),
    (
        {"installed": packages(pillow_simd="9.5.0.post2")},
        "overwritten",
        CRASH,
        "pillow and pillow-simd",
        "mixture",
        "pip uninstall -y pillow pillow-simd && pip install pillow",
    ),
    (
        {"installed": packages(opencv_python="4.12", opencv_python_headless="4.10")},
        "overwritten",
        CRASH,
        "opencv-python and opencv-python-headless",
        "mixture",
        "pip install opencv-python",
    ),
    (
        {
            "installed": replace(
                installed(PACKAGES),
                distributions=(
                    *installed(PACKAGES).distributions,
                    Distribution(name="torch", version="2.12.0", folder=SITE),
                ),
            )
        },
        "overwritten",
        CRASH,
        "torch is listed in 2 versions",
        "",
        "pip install torch",
    ),
    ({"namesakes": ("other-autotrain",)}, "name-clash", CRASH, "other-autotrain", "", "pip uninstall other-autotrain"),
    ({"installed": packages(torch="2.10.0")}, "requirements", CRASH, "1 requirement", "", "'torch>=2.11'"),
    (
        {"pillow": {"turbo": False}},
        "pillow",
        SLOW,
        "without libjpeg-turbo",
        "2.2 ms",
        "pip install --force-reinstall --no-cache-dir pillow",
    ),
    ({"pillow": {"jpeg": False, "turbo": False}}, "pillow", CRASH, "reads no JPEG", "", "pillow"),
    (
        {"pillow": {"error": "The _imaging extension was built for another version"}},
        "pillow",
        CRASH,
        "cannot be used",
        "",
        "pillow",
    ),
    ({"simplejpeg_missing": "No module named 'simplejpeg'"}, "simplejpeg", SLOW, "cannot be used", "2.2", "simplejpeg"),
    ({"environ": {"CUDA_LAUNCH_BLOCKING": "1"}}, "switches", SLOW, "CUDA_LAUNCH_BLOCKING=1", "waited for", "unset"),
    ({"environ": {"TORCHDYNAMO_DISABLE": "1"}}, "switches", SLOW, "TORCHDYNAMO_DISABLE", "does nothing", "unset"),
    ({"environ": {"NVIDIA_TF32_OVERRIDE": "0"}}, "switches", SLOW, "NVIDIA_TF32_OVERRIDE=0", "no effect", "unset"),
    ({"environ": {"KMP_DUPLICATE_LIB_OK": "TRUE"}}, "switches", CRASH, "KMP_DUPLICATE", "incorrect", "unset"),
    ({"environ": {"TORCH_LOGS": "+dynamo"}}, "switches", NOTE, "TORCH_LOGS=+dynamo", "", "unset TORCH_LOGS"),
    ({"environ": {"LD_PRELOAD": "/usr/lib/libasan.so.8"}}, "preloaded", SLOW, "libasan", "", "unset LD_PRELOAD"),
    ({"interpreter": {"debug_build": True}}, "python", SLOW, "debug build", "", ""),
    ({"interpreter": {"development_mode": True}}, "python", SLOW, "development mode", "", "PYTHONDEVMODE"),
    ({"interpreter": {"tracing_memory": True}}, "python", SLOW, "traces its allocations", "", "PYTHONTRACEMALLOC"),
    ({"interpreter": {"traced": True}}, "python", SLOW, "is traced", "", ""),
    ({"interpreter": {"free_threaded": True, "version": "3.13.1"}}, "python", SLOW, "3.13 without", "", ""),
    (
        {"torch": {"threads": 32, "own_step_s": 0.006}},
        "threads",
        SLOW,
        "32 threads on 16 usable cores",
        "measured: a small block of a network takes 3.0 times",
        "export OMP_NUM_THREADS=16",
    ),
    (
        {"environ": {"OMP_NUM_THREADS": "64"}},
        "threads",
        SLOW,
        "64 threads on 16 usable cores",
        "",
        "export OMP_NUM_THREADS=16",
    ),
    ({"torch": {"affinity": 1}, "environ": {"OMP_PROC_BIND": "true"}}, "binding", SLOW, "bound", "1 core", "unset"),
    ({"torch": {"idle_cores": 15.2}}, "spinning", SLOW, "burn", "15.2 cores busy", "OMP_WAIT_POLICY=PASSIVE"),
    (
        {"torch": {"onednn": "3.12.3"}},
        "onednn",
        NOTE,
        "oneDNN 3.12.3",
        "15.5 s instead of 8 ms",
        "",
    ),
    (
        {"installed": packages(torch="2.13.0.dev20260601")},
        "known-versions",
        SLOW,
        "torch 2.13.0.dev20260601",
        "4 to 16 times",
        "pip install",
    ),
    (
        {"visible_gpus": (), "nvidia_devices": 2},
        "gpu",
        SLOW,
        "2 NVIDIA GPUs without a driver",
        "CPU",
        "docker run --gpus all",
    ),
    ({"machine": machine(torch="2.15.0")}, "gpu", SLOW, "built without CUDA, beside 1 GPU", "CPU", "pip install"),
    (gpu(driver="550.54.15"), "gpu", SLOW, "driver 550.54.15 is too old for torch's CUDA 13.2", "CPU", ""),
    ({"environ": {"CUDA_VISIBLE_DEVICES": ""}}, "gpu", SLOW, "hides 1 GPU", "CPU", "unset CUDA_VISIBLE_DEVICES"),
    (
        {"torch": {"cuda_works": False, "cuda_problem": "CUDA initialization: unknown error"}},
        "gpu",
        SLOW,
        "torch cannot use the GPU",
        "CPU",
        "nvidia-smi",
    ),
    (
        {"torch": {"devices": (Device(name="GTX 970", uuid="", capability=(5, 2)),)}},
        "gpu",
        CRASH,
        "no kernels for GTX 970",
        "no kernel image",
        "",
    ),
    ({"torch": {"cudnn_enabled": False}}, "gpu-flags", SLOW, "without cuDNN", "", "pip install"),
    ({"torch": {"cudnn_flags": ("deterministic",)}}, "gpu-flags", NOTE, "deterministic", "", ""),
    (
        gpu(reasons=("hardware thermal slowdown",), sm_clock_mhz=990, temperature_c=91),
        "gpu-clocks",
        SLOW,
        "throttled: hardware thermal slowdown",
        "990 MHz, 50% below",
        "nvidia-smi -q",
    ),
    (
        gpu(reasons=("application clocks setting",), application_clock_mhz=1200),
        "gpu-clocks",
        SLOW,
        "held at 1200 of 1980 MHz",
        "39%",
        "-rac",
    ),
    (gpu(reasons=(), sm_clock_mhz=990), "gpu-clocks", SLOW, "computes at 990 of 1980 MHz", "50% below", "-i 0 -rgc"),
    (gpu(power_limit_w=350.0), "gpu-power", SLOW, "350 of 700 W", "50%", "nvidia-smi -i 0 -pl 700"),
    (gpu(pcie_width=4), "gpu-bus", SLOW, "PCIe 5 x4 of 5 x16", "15.8 instead of 63.0 GB/s", "lspci"),
    (gpu(pcie_width=8), "gpu-bus", NOTE, "PCIe 5 x8 of 5 x16", "31.5 instead of 63.0 GB/s", "lspci"),
    (gpu(pcie_generation=3), "gpu-bus", SLOW, "PCIe 3 x16 of 5 x16", "15.8 instead of 63.0 GB/s", "lspci"),
    (gpu(persistence=False), "gpu-persistence", NOTE, "persistence mode is off", "1 to 3 seconds", "persistenced"),
    (
        gpu(utilisation_percent=97, memory_used_bytes=60 * GIB, processes=(811,)),
        "gpu-sharing",
        SLOW,
        "used by other programs",
        "60.0 GiB",
        "nvidia-smi",
    ),
    (gpu(compute_mode=3, processes=(811,)), "gpu-sharing", CRASH, "no further program", "busy", "-c DEFAULT"),
    (gpu(memory_errors=3), "gpu-errors", CRASH, "memory errors", "", "ECC"),
    (gpu(remapping=True), "gpu-errors", CRASH, "memory errors", "", "ROW_REMAPPER"),
    (
        {"data": {"bytes": 900 * GIB, "files": 8_246_337}},
        "data-size",
        NOTE,
        "900.0 GiB of 100.0 GiB",
        "8.1 min",
        "--cache-dir",
    ),
    (
        {"data": {"complete": False}},
        "data-size",
        NOTE,
        "the data are at least 10.9 GiB",
        "at least 5.9 s each",
        "du -sh --apparent-size /data/train",
    ),
    (
        {"data": {"read_s": 1.0}},
        "data-speed",
        SLOW,
        "storage gives 512 images/s, the cores could decode 8,000",
        "the first epoch loads at most 512 images/s, 15.6 times less",
        "find /data/train",
    ),
]


@pytest.mark.parametrize(
    ("changes", "check", "severity", "what", "cost", "command"),
    PLANTED,
    ids=[f"{case[1]}: {case[3]}" for case in PLANTED],
)
def test_a_harm_is_found_by_its_check_and_by_no_other(changes, check, severity, what, cost, command):
    found = examine(made(**changes), CHECKS)
    assert found.failed == ()
    assert [(name, problem.severity) for name, problem in found.problems] == [(check, severity)], found.problems
    problem = found.problems[0][1]
    assert what in problem.what
    assert cost in problem.cost
    assert command in problem.command
    assert problem.evidence
    assert problem.remedy


def test_every_check_has_a_harm_that_it_finds():
    elsewhere = {"cores", "idle-cores"}  # tested below, on machines of their own
    assert {case[1] for case in PLANTED} | elsewhere == {check.name for check in CHECKS}


@pytest.mark.parametrize("facts", [made(), made(**several(2))])
def test_a_healthy_machine_has_nothing_to_mend(facts):
    found = examine(facts, CHECKS)
    assert (found.problems, found.failed, found.left_out) == ((), (), ())
    assert len(found.passed) == len(CHECKS)
    assert found.healthy


def no_gpu(**changes):
    """The same machine without a GPU."""
    torch = {"cuda_works": False, "devices": ()}
    return made(**{"visible_gpus": (), "nvidia_devices": 0, "torch": torch | changes.pop("torch", {}), **changes})


def test_without_a_gpu_its_checks_are_left_out_with_the_reason():
    found = examine(no_gpu(), CHECKS)
    assert (found.problems, found.failed) == ((), ())
    reasons = dict(found.left_out)
    assert set(reasons) == {check.name for check in CHECKS if check.name.startswith("gpu")}
    assert reasons["gpu-clocks"] == "no NVIDIA driver here"


def test_a_single_core_of_many_is_told_with_what_it_can_decode():
    facts = made(cpu={"affinity": 1, "usable": 1, "quota": None}, torch={"threads": 1, "affinity": 1})
    ((name, problem),) = examine(facts, CHECKS).problems
    assert (name, problem.severity, problem.what) == ("cores", SLOW, "one usable core of 32")
    assert "one core decodes 1,000 photographs" in problem.cost
    assert problem.command == "taskset -cp 0-31 $$"


def test_a_machine_with_a_single_core_is_not_told_of_it():
    facts = made(cpu={"logical": 1, "affinity": 1, "usable": 1, "quota": None}, torch={"threads": 1, "affinity": 1})
    assert examine(facts, CHECKS).problems == ()


def test_idle_cores_are_a_problem_where_the_cpu_trains():
    slow = {"threads": 1, "own_step_s": 0.02}
    environ = {"OMP_NUM_THREADS": "1"}
    ((name, problem),) = examine(no_gpu(torch=slow, environ=environ), CHECKS).problems
    assert (name, problem.what) == ("idle-cores", "1 thread for 16 usable cores, and no GPU")
    assert "10.0 times" in problem.cost
    assert examine(made(torch=slow, environ=environ), CHECKS).problems == ()  # with a GPU


@pytest.mark.parametrize("environ", [{}, {"OMP_NUM_THREADS": "8"}])
def test_threads_for_physical_cores_alone_are_fine_unless_measured_clearly_slower(environ):
    for seconds in (0.0018, 0.0022):
        found = examine(no_gpu(torch={"threads": 8, "own_step_s": seconds}, environ=environ), CHECKS)
        assert found.problems == ()
        fact = dict(found.passed)["idle-cores"]
        assert fact.startswith("8 threads for 16 usable cores (")
        assert f"takes {seconds / 0.002:.1f} times as long as with 16 threads" in fact
    found = examine(no_gpu(torch={"threads": 8, "own_step_s": 0.0035}, environ=environ), CHECKS)
    assert [name for name, _ in found.problems] == ["idle-cores"]


def test_slow_storage_costs_every_epoch_where_memory_does_not_hold_the_data():
    found = examine(made(data={"read_s": 1.0, "bytes": 500 * GIB, "files": 4_581_298}), CHECKS)
    assert [(name, problem.severity) for name, problem in found.problems] == [("data-speed", SLOW), ("data-size", NOTE)]
    assert "every epoch" in found.problems[0][1].cost


def test_slow_storage_is_not_called_fast_from_the_second_epoch_on_where_it_was_not_listed_to_its_end():
    found = examine(made(data={"read_s": 1.0, "bytes": 2_000_000, "files": 16, "complete": False}), CHECKS)
    assert [(name, problem.severity) for name, problem in found.problems] == [("data-speed", SLOW), ("data-size", NOTE)]
    cost = found.problems[0][1].cost
    assert cost.startswith("measured: every epoch that does not find them in memory loads at most 480 images/s")
    assert "find /data/train" not in found.problems[0][1].command
    more = examine(made(data={"bytes": 900 * GIB, "files": 8_246_337, "complete": False}), CHECKS).problems[0][1]
    assert "at least 900.0 GiB of 100.0 GiB" in more.what
    assert "at least 8.1 min each" in more.cost


def test_slow_storage_that_costs_the_first_epoch_seconds_is_worth_knowing():
    found = examine(made(data={"read_s": 1.0, "files": 10_000, "bytes": 1_171_875_000}), CHECKS)
    assert [(name, problem.severity) for name, problem in found.problems] == [("data-speed", NOTE)]
    assert "which is 18 s longer" in found.problems[0][1].cost


def test_a_file_that_was_read_in_part_counts_as_that_part():
    found = replace(DATA, files=10, bytes=10_000_000_000, read_files=0, read_bytes=50_000_000, read_s=1.0)
    assert found.files_per_s == pytest.approx(0.05)


def test_a_network_is_named_and_a_warm_cache_is_no_measurement_of_storage():
    mount = Mount(point="/data", kind="nfs4", source="server:/data")
    fact = dict(examine(made(data={"mount": mount, "cold_share": 0.1}), CHECKS).passed)["data-speed"]
    assert "nfs4, over a network" in fact
    assert "90% came from memory" in fact


def test_variables_alone_count_where_torch_is_not_imported():
    def quick(**environ: str):
        facts = Facts(environ=environ, quick=True, known={**healthy.healthy(), "visible_gpus": ()})
        del facts.__dict__["torch"]
        return [name for name, _ in examine(facts, CHECKS).problems if name not in ("gpu",)]

    assert quick() == []
    assert quick(OMP_NUM_THREADS="32") == ["threads"]
    assert quick(OMP_NUM_THREADS="2") == ["idle-cores"]
    assert quick(OMP_PROC_BIND="close") == ["binding"]
    assert quick(OMP_PROC_BIND="false", OMP_PLACES="cores") == []
    assert quick(OMP_WAIT_POLICY="active") == ["spinning"]
    assert quick(GOMP_SPINCOUNT="infinity") == ["spinning"]
    assert quick(GOMP_SPINCOUNT="30G") == ["spinning"]
    assert quick(GOMP_SPINCOUNT="300000", KMP_BLOCKTIME="0") == []
    assert quick(KMP_BLOCKTIME="5000") == ["spinning"]


@pytest.mark.parametrize(
    "environ",
    [
        {"CUDA_LAUNCH_BLOCKING": "0"},
        {"TORCH_LOGS": ""},
        {"NVIDIA_TF32_OVERRIDE": "1"},
        {"TORCH_DISTRIBUTED_DEBUG": "INFO"},
        {"OMP_NUM_THREADS": "16", "MKL_NUM_THREADS": "16"},
        {"PYTHONMALLOC": "pymalloc"},
        {"ONEDNN_MAX_CPU_ISA": "ALL"},
        {"LD_PRELOAD": "/usr/lib/libjemalloc.so.2", "PYTORCH_ALLOC_CONF": "expandable_segments:True"},
        {"CUDA_VISIBLE_DEVICES": "0"},
    ],
)
def test_harmless_values_are_no_problem(environ):
    assert examine(made(environ=environ), CHECKS).problems == ()


def test_a_switch_for_gpus_is_worth_knowing_without_one():
    found = examine(no_gpu(environ={"CUDA_LAUNCH_BLOCKING": "1"}), CHECKS)
    assert [problem.severity for _, problem in found.problems] == [NOTE]
    assert found.healthy


def test_pillow_in_front_of_another_is_not_over_it():
    elsewhere = Distribution(name="pillow-simd", version="9.5.0.post2", folder="/home/me/simd")
    both = replace(installed(PACKAGES), distributions=(elsewhere, *installed(PACKAGES).distributions))
    assert examine(made(installed=both), CHECKS).problems == ()


def test_what_is_not_told_is_left_out():
    facts = made(clock=None, file_limit=None, paging={"swap_bytes": None, "swap_used_bytes": None})
    assert dict(examine(facts, CHECKS).left_out) == {
        "clock": "this machine does not tell its clock, as most virtual ones",
        "open-files": "this system has no such limit",
        "swap": "this system does not tell about its swap space",
    }


def test_without_torch_its_checks_say_so(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    facts = Facts(known={name: fact for name, fact in healthy.healthy().items() if name != "torch"})
    with pytest.raises(NotDone, match="torch is not installed"):
        _ = facts.torch


def test_the_pillow_in_use_is_told_with_the_copy_that_is_kept():
    def told(**changes):
        return dict(examine(made(pillow=changes), CHECKS).passed)["pillow"]

    assert told() == "Pillow 13.0.0 with libjpeg-turbo 3.2.0; no copy of Pillow-SIMD from 'autotrain simd'"
    both = told(version="9.5.0.post2", simd=True, simd_copy="9.5.0.post2")
    assert both.startswith("Pillow-SIMD 9.5.0.post2 with libjpeg-turbo 3.2.0; a copy of Pillow-SIMD 9.5.0.post2 from ")
    slow = examine(made(pillow={"turbo": False, "simd_copy": "9.5.0.post2"}), CHECKS).problems[0][1]
    assert "a copy of Pillow-SIMD 9.5.0.post2" in slow.evidence


def test_versions_that_the_requirements_refuse_are_not_in_the_list_of_slow_ones():
    required = {line.name: line.specifier for line in map(Requirement, importlib.metadata.requires("autotrain-torch"))}
    for entry in KNOWN:
        bounds = [spec.version for spec in SpecifierSet(entry.versions)]
        assert any(required[entry.name].contains(bound, prereleases=True) for bound in bounds), entry


def test_every_project_that_clashes_is_told_once():
    both = made(installed=packages(autotrain_advanced="0.8.36"), namesakes=("autotrain-advanced", "other"))
    assert [problem.what.split()[0] for _, problem in examine(both, CHECKS).problems] == ["autotrain-advanced", "other"]


def test_cores_that_others_leave_are_enough():
    busy = OtherPrograms(share=0.4, seconds=1.0, busiest=(SPINNER,))
    assert examine(made(others=busy), CHECKS).problems == ()  # 19 of 32 cores are left for 16
    assert CPU.usable == 16
    assert DATA.complete
