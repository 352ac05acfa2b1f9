"""The checks of GPUs: at rest and under load, and of those alone that this process may use."""

from dataclasses import replace

import healthy
import pytest
from healthy import GPU, H100, machine, made, several

from autotrain.doctor.check import Severity
from autotrain.doctor.checks import CHECKS
from autotrain.doctor.examine import examine
from autotrain.doctor.facts import Facts
from autotrain.doctor.gpu_load import GpuLoad
from autotrain.doctor.own_gpus import named, own_gpus
from autotrain.doctor.torch_facts import Device

SLOW, NOTE = Severity.SLOW, Severity.NOTE

NCCL_CASES = [
    ("NCCL_P2P_DISABLE", 1, {}, NOTE),
    ("NCCL_P2P_DISABLE", 2, {}, SLOW),
    ("NCCL_P2P_DISABLE", 1, {"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4"}, SLOW),  # each rank sees its own GPU
    ("NCCL_P2P_DISABLE", 1, {"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "1"}, NOTE),  # the others are elsewhere
    ("NCCL_SHM_DISABLE", 1, {}, NOTE),
    ("NCCL_SHM_DISABLE", 2, {}, SLOW),
    ("NCCL_IB_DISABLE", 1, {}, NOTE),
    ("NCCL_IB_DISABLE", 2, {}, NOTE),
    ("NCCL_IB_DISABLE", 2, {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}, NOTE),
    ("NCCL_IB_DISABLE", 2, {"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}, SLOW),
    ("NCCL_IB_DISABLE", 2, {"WORLD_SIZE": "four"}, NOTE),
    ("NCCL_DEBUG", 1, {}, NOTE),
    ("NCCL_DEBUG", 2, {}, SLOW),
    ("NCCL_DEBUG", 1, {"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "1"}, SLOW),
]


@pytest.mark.parametrize(("name", "gpus", "ranks", "severity"), NCCL_CASES)
def test_what_holds_gpus_back_from_each_other_needs_several(name, gpus, ranks, severity):
    found = examine(made(**several(gpus), environ={name: "TRACE" if name == "NCCL_DEBUG" else "1", **ranks}), CHECKS)
    assert [(check, problem.severity) for check, problem in found.problems] == [("switches", severity)]
    assert ("it has no effect yet" in found.problems[0][1].evidence) == (severity is NOTE)


def test_what_the_driver_does_not_tell_is_no_problem():
    silent = replace(
        GPU,
        reasons=(),
        **dict.fromkeys(
            (
                *("sm_clock_mhz", "sm_clock_max_mhz", "application_clock_mhz", "temperature_c", "power_limit_w"),
                *("power_default_w", "pcie_generation", "pcie_generation_device", "pcie_width", "pcie_width_device"),
                *("persistence", "utilisation_percent", "memory_bytes", "memory_used_bytes", "compute_mode", "ecc"),
                *("memory_errors", "remapping"),
            )
        ),
    )
    found = examine(made(visible_gpus=(silent,)), CHECKS)
    assert (found.problems, found.failed) == ((), ())


def test_what_throttles_under_load_alone_is_found():
    hot = replace(GPU, reasons=("software thermal slowdown",), sm_clock_mhz=1485, temperature_c=88)
    facts = made(gpu_loads=(GpuLoad(uuid=GPU.uuid, state=hot, copy_gb_per_s=12.0),))
    ((name, problem),) = examine(facts, CHECKS).problems
    assert (name, problem.what) == ("gpu-clocks", "GPU 0 is throttled: software thermal slowdown")
    assert "1485 of 1980 MHz under load, 88 °C" in problem.evidence


@pytest.mark.parametrize(
    ("state", "loaded"),
    [
        (replace(GPU, reasons=(), sm_clock_mhz=345), False),  # at rest clocks are low
        (replace(GPU, reasons=(), sm_clock_mhz=1400), True),  # none reaches its highest in every program
        (replace(GPU, reasons=("software power cap",), sm_clock_mhz=990), True),
        (replace(GPU, reasons=("sync boost",), sm_clock_mhz=990), True),
    ],
)
def test_a_low_clock_that_has_another_reason_is_not_locked(state, loaded):
    loads = (GpuLoad(uuid=GPU.uuid, state=state, copy_gb_per_s=54.2),) if loaded else ()
    assert examine(made(visible_gpus=(state,), gpu_loads=loads), CHECKS).problems == ()


def test_a_link_that_is_narrow_at_rest_alone_is_fine():
    loads = (GpuLoad(uuid=GPU.uuid, state=GPU, copy_gb_per_s=54.2),)
    facts = made(visible_gpus=(replace(GPU, pcie_width=1),), gpu_loads=loads)
    assert examine(facts, CHECKS).problems == ()


def test_a_link_that_is_faster_than_it_is_told_to_be_is_fine():
    slot = replace(GPU, pcie_generation=3)
    facts = made(visible_gpus=(slot,), gpu_loads=(GpuLoad(uuid=GPU.uuid, state=slot, copy_gb_per_s=52.0),))
    found = examine(facts, CHECKS)
    assert found.problems == ()
    assert "52.0 GB/s" in dict(found.passed)["gpu-bus"]


def busy_but_for(own: int):
    """Changes for a machine with four GPUs, three of which others use."""
    gpus = several(4)["visible_gpus"]
    return {
        "visible_gpus": tuple(
            gpu if gpu.index == own else replace(gpu, utilisation_percent=97, processes=(811,)) for gpu in gpus
        )
    }


def test_gpus_that_torch_does_not_see_are_none_of_this_process():
    seen = made(**busy_but_for(2), torch={"devices": (replace(H100, uuid="2"),)}, environ={"CUDA_VISIBLE_DEVICES": "2"})
    assert examine(seen, CHECKS).problems == ()
    found = examine(made(**busy_but_for(2), torch=several(4)["torch"]), CHECKS)
    assert [(name, problem.what[:6]) for name, problem in found.problems] == [
        ("gpu-sharing", f"GPU {index} ") for index in (0, 1, 3)
    ]


def test_gpus_that_a_variable_hides_are_left_out_without_torch():
    def quick(value: str):
        changes = busy_but_for(2) | {"gpu_loads": ()}
        facts = Facts(quick=True, environ={"CUDA_VISIBLE_DEVICES": value}, known={**healthy.healthy(), **changes})
        del facts.__dict__["torch"]
        return examine(facts, CHECKS)

    assert quick("2").problems == ()
    assert [name for name, _ in quick("1,2").problems] == ["gpu-sharing"]
    hidden = quick("-1")
    assert [(name, problem.what) for name, problem in hidden.problems] == [("gpu", "CUDA_VISIBLE_DEVICES hides 4 GPUs")]
    assert dict(hidden.left_out)["gpu-sharing"] == "CUDA_VISIBLE_DEVICES='-1' leaves no whole GPU to this process"
    part = quick("MIG-1f4c")
    assert part.problems == ()
    assert "leaves no whole GPU" in dict(part.left_out)["gpu-power"]


@pytest.mark.parametrize(
    ("value", "left"),
    [
        (None, [0, 1, 2]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("1", [1]),
        ("2, 0", [2, 0]),
        ("0,-1,1", [0]),
        ("0,7,1", [0]),
        ("1,1", []),
        ("GPU-ab", [0]),
        ("GPU-cd,GPU-abc1", [2, 0]),
        ("GPU-", []),  # which of them is not said
        ("GPU-c,GPU-ef", []),
        ("MIG-GPU-abc1/1/0", []),
    ],
)
def test_a_value_of_the_variable_names_gpus(value, left):
    uuids = ("GPU-abc1", "GPU-ce02", "GPU-cd03")
    gpus = tuple(replace(GPU, index=index, uuid=uuid) for index, uuid in enumerate(uuids))
    assert [gpu.index for gpu in named(gpus, value)] == left


def test_torch_counts_before_the_variable_but_for_devices_that_it_cannot_name():
    gpus = several(2)["visible_gpus"]
    assert own_gpus(gpus, (replace(H100, uuid="1"),), "0") == gpus[1:]
    assert own_gpus(gpus, (replace(H100, uuid=""),), "0") == gpus[:1]
    assert own_gpus(gpus, (), None) == gpus


def test_what_nvml_tells_is_looked_at_where_torch_cannot_be_imported(monkeypatch):
    broken = replace(GPU, memory_errors=3, power_limit_w=350.0)
    facts = made(visible_gpus=(broken,))
    del facts.__dict__["torch"], facts.__dict__["gpu_loads"]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    found = examine(facts, CHECKS)
    assert [name for name, _ in found.problems] == ["gpu-errors", "gpu-power"]
    assert {name for name, _ in found.left_out} == {"gpu", "gpu-flags", "onednn"}
    assert dict(found.passed)["gpu-clocks"].endswith("MHz at rest, 41 °C")


def test_a_gpu_that_could_not_be_loaded_is_looked_at_at_rest():
    facts = dict(examine(made(gpu_loads=()), CHECKS).passed)
    assert facts["gpu-clocks"] == "1980 of 1980 MHz at rest, 41 °C"
    assert facts["gpu-bus"] == "PCIe 5 x16"
    assert dict(examine(made(), CHECKS).passed)["gpu-bus"] == "PCIe 5 x16; measured: 54.2 GB/s from pinned memory"


def test_an_old_cuda_serves_an_old_driver():
    facts = made(visible_gpus=(replace(GPU, driver="550.54.15"),), machine=machine(torch="2.11.0", cuda="12.8"))
    assert examine(facts, CHECKS).problems == ()


def test_kernels_of_one_family_and_portable_code_serve_newer_devices():
    for capability in ((8, 9), (12, 1), (13, 0)):
        facts = made(torch={"devices": (Device(name="new", uuid="", capability=capability),)})
        assert examine(facts, CHECKS).problems == (), capability
