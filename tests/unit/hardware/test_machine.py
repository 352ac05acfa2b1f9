"""The record of the machine: fingerprint, line for people, JSON."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from autotrain.hardware.cpu import CpuFacts
from autotrain.hardware.gpu import GpuFacts
from autotrain.hardware.machine import Machine, machine_facts, package_versions
from autotrain.hardware.memory import MemoryFacts

GIB = 1 << 30
CPU = CpuFacts(
    name="Intel(R) Xeon(R) CPU @ 2.20GHz", logical=8, usable=2, affinity=4, quota=2.0, features=("avx2", "avx512f")
)
MEMORY = MemoryFacts(total_bytes=64 * GIB, available_bytes=30 * GIB)
GPU = GpuFacts(
    index=0,
    name="NVIDIA H100",
    memory_bytes=80 * GIB,
    driver="550",
    pcie_generation=5,
    pcie_width=16,
    uuid="GPU-a",
)
MACHINE = Machine(
    cpu=CPU,
    memory=MEMORY,
    gpus=(),
    platform="linux",
    python="3.11.7",
    versions=(("torch", "2.15.0"),),
    start_methods=("fork",),
)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({}, "Intel Xeon, 2 usable cores, 64.0 GiB, no GPU"),
        ({"cpu": replace(CPU, usable=1)}, "Intel Xeon, 1 usable core, 64.0 GiB, no GPU"),
        ({"memory": replace(MEMORY, limit_bytes=6 * GIB)}, "Intel Xeon, 2 usable cores, 6.0 GiB, no GPU"),
        ({"gpus": (GPU,)}, "Intel Xeon, 2 usable cores, 64.0 GiB, NVIDIA H100"),
        ({"gpus": (GPU, GPU)}, "Intel Xeon, 2 usable cores, 64.0 GiB, 2 x NVIDIA H100"),
        (
            {"cpu": replace(CPU, name="AMD EPYC 7B13 64-Core Processor")},
            "AMD EPYC 7B13 64-Core, 2 usable cores, 64.0 GiB, no GPU",
        ),
    ],
)
def test_one_line_for_people(change, line):
    assert replace(MACHINE, **change).describe() == line


def test_the_fingerprint_outlives_what_changes_from_run_to_run():
    later = replace(
        MACHINE, memory=replace(MEMORY, available_bytes=1), versions=(("torch", "2.16.0"),), python="3.12.0"
    )
    assert later.fingerprint == MACHINE.fingerprint == "357a758bee96"


@pytest.mark.parametrize(
    "change",
    [
        {"cpu": replace(CPU, usable=4)},
        {"cpu": replace(CPU, name="AMD")},
        {"gpus": (GPU,)},
        {"gpus": (GPU, GPU)},
        {"platform": "darwin"},
    ],
)
def test_the_fingerprint_tells_machines_apart(change):
    assert replace(MACHINE, **change).fingerprint != MACHINE.fingerprint


def test_json_there_and_back():
    machine = replace(MACHINE, gpus=(GPU,))
    assert Machine.from_dict(json.loads(json.dumps(machine.as_dict()))) == machine
    assert machine.as_dict()["fingerprint"] == machine.fingerprint


def test_versions_name_the_pillow_that_is_installed(monkeypatch):
    import importlib.metadata as metadata

    def version(name):
        if name != "pillow-simd":
            raise metadata.PackageNotFoundError(name)
        return "9.5.0.post2"

    monkeypatch.setattr(metadata, "version", version)
    names = dict(package_versions())
    assert names["pillow-simd"] == "9.5.0.post2"
    assert "pillow" not in names


def test_this_machine_without_importing_torch():
    script = "import sys; from autotrain.hardware.machine import machine_facts as f; f(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    machine = machine_facts()
    assert dict(machine.versions)["torch"]
    assert machine.platform == sys.platform
    assert machine.start_methods
