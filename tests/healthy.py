"""A healthy machine of made facts, to which tests do harm."""

from dataclasses import replace
from typing import Any

from autotrain.doctor.decoding import DecodeTimes, PillowFacts
from autotrain.doctor.facts import Facts
from autotrain.doctor.folders import DataFacts, FolderFacts
from autotrain.doctor.gpu_load import GpuLoad
from autotrain.doctor.installed import Distribution, Installed
from autotrain.doctor.interpreter import Interpreter
from autotrain.doctor.torch_facts import Device, TorchFacts
from autotrain.hardware.cpu import CpuFacts
from autotrain.hardware.gpu_health import GpuHealth
from autotrain.hardware.limits import FileLimit
from autotrain.hardware.machine import Machine
from autotrain.hardware.memory import MemoryFacts
from autotrain.hardware.mounts import Mount
from autotrain.hardware.paging import Paging
from autotrain.hardware.pressure import Pressure, Stall
from autotrain.hardware.programs import OtherPrograms
from autotrain.hardware.throttling import Clock, Throttling

GIB = 1 << 30
SITE = "/venv/lib/python3.12/site-packages"

CPU = CpuFacts(name="Intel Xeon", logical=32, usable=16, affinity=32, quota=16.0, features=("avx2", "amx_bf16"))
MEMORY = MemoryFacts(total_bytes=128 * GIB, available_bytes=100 * GIB, shm_bytes=64 * GIB)
GPU = GpuHealth(
    index=0,
    name="NVIDIA H100 80GB HBM3",
    uuid="GPU-a",
    driver="580.95.05",
    reasons=("software power cap",),
    sm_clock_mhz=1980,
    sm_clock_max_mhz=1980,
    application_clock_mhz=1980,
    temperature_c=41,
    power_limit_w=700.0,
    power_default_w=700.0,
    pcie_generation=5,
    pcie_generation_device=5,
    pcie_width=16,
    pcie_width_device=16,
    persistence=True,
    utilisation_percent=0,
    memory_bytes=80 * GIB,
    memory_used_bytes=GIB // 2,
    compute_mode=0,
    ecc=True,
    memory_errors=0,
    remapping=False,
)
H100 = Device(name="NVIDIA H100 80GB HBM3", uuid="a", capability=(9, 0))
TORCH = TorchFacts(
    version="2.15.0+cu132",
    cuda="13.2",
    threads=16,
    affinity=32,
    idle_cores=0.01,
    own_step_s=0.002,
    usable_step_s=0.002,
    cuda_works=True,
    cuda_problem=None,
    devices=(H100,),
    architectures=("sm_80", "sm_90", "sm_120", "compute_120"),
    cudnn_version=92600,
    onednn="3.13.3",
)
PACKAGES = {"torch": "2.15.0", "torchvision": "0.29.2", "pillow": "13.0.0", "simplejpeg": "1.9.0", "psutil": "7.2.2"}
DATA = DataFacts(
    path="/data/train",
    files=100_000,
    bytes=11_718_750_000,
    complete=True,
    mount=Mount(point="/data", kind="ext4", source="/dev/nvme0n1"),
    read_files=512,
    read_bytes=60_000_000,
    read_s=0.03,
    readers=8,
    cold_share=1.0,
    decode_s=0.002,
)


def machine(**versions: str) -> Machine:
    """The record of the machine, with versions."""
    return Machine(
        cpu=CPU,
        memory=MEMORY,
        gpus=(),
        platform="linux",
        python="3.12.4",
        versions=tuple(versions.items()),
        start_methods=("fork",),
    )


def installed(versions: dict[str, str], *, requirements: tuple[str, ...] = ("torch>=2.11", "pillow>=9.5")) -> Installed:
    """Distributions in one folder."""
    entries = tuple(Distribution(name=name, version=version, folder=SITE) for name, version in versions.items())
    return Installed(distributions=entries, requirements=requirements)


def healthy() -> dict[str, Any]:
    """All facts of a machine that has nothing to mend."""
    calm = Stall(some_10s=0.01, some_60s=0.01, full_60s=0.0)
    return {
        "cpu": CPU,
        "machine": machine(torch="2.15.0", cuda="13.2"),
        "memory": MEMORY,
        "paging": Paging(swap_bytes=8 * GIB, swap_used_bytes=0, huge_pages="madvise"),
        "pressure": Pressure(cpu=calm, memory=calm, io=calm),
        "throttling": Throttling(periods=10_000, throttled=20),
        "clock": Clock(
            governor="powersave",
            driver="intel_pstate",
            now_max_khz=3_800_000,
            hardware_max_khz=3_800_000,
            hardware_min_khz=800_000,
            turbo=True,
        ),
        "file_limit": FileLimit(soft=1024, hard=524_288, used=8),
        "others": OtherPrograms(share=0.02, seconds=1.0, busiest=()),
        "interpreter": Interpreter(
            version="3.12.4",
            implementation="CPython",
            debug_build=False,
            free_threaded=False,
            lock_enabled=True,
            development_mode=False,
            tracing_memory=False,
            traced=False,
        ),
        "installed": installed(PACKAGES),
        "namesakes": (),
        "pillow": PillowFacts(version="13.0.0", error=None, jpeg=True, turbo=True, turbo_version="3.2.0"),
        "simplejpeg_missing": None,
        "decode_times": DecodeTimes(pillow_s=0.0022, simplejpeg_s=0.001),
        "torch": TORCH,
        "visible_gpus": (GPU,),
        "gpu_loads": (GpuLoad(uuid="GPU-a", state=GPU, copy_gb_per_s=54.2),),
        "nvidia_devices": 1,
        "temporary": FolderFacts(path="/tmp", free_bytes=50 * GIB),
        "data": DATA,
    }


def several(count: int) -> dict[str, Any]:
    """Changes for some GPUs instead of one, all of which torch sees."""
    gpus = tuple(replace(GPU, index=number, uuid=f"GPU-{number}") for number in range(count))
    return {"visible_gpus": gpus, "torch": {"devices": tuple(replace(H100, uuid=str(gpu.index)) for gpu in gpus)}}


def made(*, environ: dict[str, str] | None = None, **changes: Any) -> Facts:
    """Return facts of the healthy machine, some of them replaced; a dict changes fields of one."""
    known = healthy()
    for name, change in changes.items():
        known[name] = replace(known[name], **change) if isinstance(change, dict) else change
    if "gpu_loads" not in changes:
        known["gpu_loads"] = tuple(
            GpuLoad(
                uuid=gpu.uuid,
                state=gpu,
                copy_gb_per_s=3.3875 * (gpu.pcie_width or 16) * 2.0 ** ((gpu.pcie_generation or 5) - 5),
            )
            for gpu in known["visible_gpus"]
        )
    return Facts(environ=environ or {}, known=known)
