"""What torch believes and does here: threads, bindings, devices, flags; some of it measured."""

from __future__ import annotations

import os
import re
import time
import warnings
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from autotrain.doctor.check import NotDone
from autotrain.errors import first_line

if TYPE_CHECKING:
    from types import ModuleType

IDLE_S = 0.1
"""How long the process does nothing while it is watched whether its threads do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A CUDA device that torch sees."""

    name: str
    """Product name."""

    uuid: str
    """Identity, without ``GPU-``; empty where torch does not tell."""

    capability: tuple[int, int]
    """Compute capability, such as (9, 0)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchFacts:
    """Facts of the imported torch."""

    version: str
    """Such as ``2.15.0+cpu``."""

    cuda: str | None
    """CUDA version that it was built with; None for a build without."""

    threads: int
    """Threads that one operation may use on the CPU."""

    affinity: int | None
    """Cores that the main thread may run on after the import; None where the system does not tell."""

    idle_cores: float
    """Cores that its threads keep busy while there is nothing to do, measured after an operation."""

    own_step_s: float
    """Seconds of a small block (convolution, batch norm, ReLU) with ``threads`` threads."""

    usable_step_s: float
    """The same with one thread per usable core."""

    cuda_works: bool
    """Whether it can use a CUDA device."""

    cuda_problem: str | None
    """What it says about that; None where it says nothing."""

    devices: tuple[Device, ...] = ()
    """The CUDA devices that it sees."""

    architectures: tuple[str, ...] = ()
    """Architectures that its kernels were compiled for, such as ``sm_90`` and ``compute_90``."""

    cudnn_version: int | None = None
    """cuDNN's version as a number; None where it is not there."""

    cudnn_enabled: bool = True
    """Whether cuDNN may be used."""

    cudnn_flags: tuple[str, ...] = ()
    """Flags of cuDNN that are set at the start: ``benchmark``, ``deterministic``."""

    matmul_precision: str = "highest"
    """Of fp32 matrix products: ``highest`` is fp32 itself."""

    convolutions_tf32: bool = True
    """Whether convolutions may round to TF32."""

    onednn: str | None = None
    """Version of oneDNN, which convolves on the CPU."""


def torch_facts(usable: int) -> TorchFacts:
    """Import torch and look.

    Args:
        usable: cores to plan with, known before the import.

    Raises:
        NotDone: torch cannot be imported; the check of requirements says so too.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import torch
    except Exception as error:
        raise NotDone(f"torch cannot be imported: {first_line(error)}") from error
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    threads = torch.get_num_threads()
    idle_cores = _idle_cores(torch)
    own_s, usable_s = _steps(torch, threads, usable)
    works, problem = _cuda(torch)
    cudnn = torch.backends.cudnn
    found = re.search(r"MKL-DNN v([\d.]+)", torch.__config__.show())
    return TorchFacts(
        version=torch.__version__,
        cuda=torch.version.cuda,
        threads=threads,
        affinity=affinity,
        idle_cores=idle_cores,
        own_step_s=own_s,
        usable_step_s=usable_s,
        cuda_works=works,
        cuda_problem=problem,
        devices=_devices(torch) if works else (),
        architectures=tuple(torch.cuda.get_arch_list()) if works else (),
        cudnn_version=cudnn.version() if cudnn.is_available() else None,
        cudnn_enabled=bool(cudnn.enabled),
        cudnn_flags=tuple(name for name in ("benchmark", "deterministic") if getattr(cudnn, name)),
        matmul_precision=torch.get_float32_matmul_precision(),
        convolutions_tf32=bool(cudnn.allow_tf32),
        onednn=found[1] if found else None,
    )


def _idle_cores(torch: ModuleType) -> float:
    """Return the cores that stay busy after an operation on several threads."""
    torch.nn.functional.relu(torch.ones(4, 64, 64, 64))
    time.sleep(0.01)  # threads wait actively for some milliseconds by default
    used, since = time.process_time(), time.perf_counter()
    time.sleep(IDLE_S)
    return (time.process_time() - used) / (time.perf_counter() - since)


def _steps(torch: ModuleType, threads: int, usable: int) -> tuple[float, float]:
    """Return the seconds of a small block with torch's own threads and with one per usable core, in turns."""
    functional = torch.nn.functional
    images, weights, scale = torch.ones(16, 16, 28, 28), torch.ones(16, 16, 3, 3), torch.ones(16)
    taken: dict[int, list[float]] = {threads: [], usable: []}
    try:
        for _ in range(6):
            for count, seconds in taken.items():
                torch.set_num_threads(count)
                since, values = time.perf_counter(), images
                for _ in range(6):  # many short operations, as in training: at the end of each, all threads meet
                    values = functional.conv2d(values, weights, padding=1)
                    values = functional.relu(functional.batch_norm(values, None, None, scale, scale, training=True))
                seconds.append((time.perf_counter() - since) / 6)
    finally:
        torch.set_num_threads(threads)
    return median(taken[threads][1:]), median(taken[usable][1:])


def _cuda(torch: ModuleType) -> tuple[bool, str | None]:
    """Return whether CUDA can be used, and what torch warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        works = bool(torch.cuda.is_available())
    words = [" ".join(str(entry.message).split()) for entry in caught]
    return works, words[0] if words else None


def _devices(torch: ModuleType) -> tuple[Device, ...]:
    found = (torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count()))
    return tuple(
        Device(name=entry.name, uuid=str(getattr(entry, "uuid", "")), capability=(entry.major, entry.minor))
        for entry in found
    )
