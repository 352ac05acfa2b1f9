"""Which GPUs this process may use, of those that the driver shows: NVML shows all, whatever hides them from CUDA."""

from __future__ import annotations

import re
from collections.abc import Sequence

from autotrain.doctor.torch_facts import Device
from autotrain.hardware.gpu_health import GpuHealth

VARIABLE = "CUDA_VISIBLE_DEVICES"
"""Names the GPUs that CUDA shows to a process; all where it is not set."""


def own_gpus(gpus: Sequence[GpuHealth], devices: Sequence[Device], variable: str | None) -> tuple[GpuHealth, ...]:
    """Return the GPUs that torch sees; those that the variable leaves where torch does not tell.

    Args:
        gpus: those that the driver shows.
        devices: those that torch sees; empty where it was not imported or cannot use any.
        variable: the value of ``CUDA_VISIBLE_DEVICES``; None where it is not set.
    """
    uuids = {f"GPU-{device.uuid}" for device in devices if device.uuid}
    return tuple(gpu for gpu in gpus if gpu.uuid in uuids) or named(gpus, variable)


def named(gpus: Sequence[GpuHealth], variable: str | None) -> tuple[GpuHealth, ...]:
    """Return the GPUs that a value of ``CUDA_VISIBLE_DEVICES`` leaves (CUDA programming guide).

    Whatever names none, such as -1, ends the list, and what comes twice empties it. A part of a GPU (MIG) is none.
    Numbers are taken for those of the bus: CUDA puts faster GPUs first, but most machines have several of one kind.
    """
    if variable is None:
        return tuple(gpus)
    entries, found = [entry.strip() for entry in variable.split(",")], []
    for entry in entries:
        gpu = _named(gpus, entry)
        if gpu is None:
            break
        if gpu in found:
            return ()
        found.append(gpu)
    return tuple(found)


def _named(gpus: Sequence[GpuHealth], entry: str) -> GpuHealth | None:
    if entry.startswith("GPU-"):
        matching = [gpu for gpu in gpus if gpu.uuid.startswith(entry)]
        return matching[0] if len(matching) == 1 else None
    digits = re.match(r"\+?\d+", entry)
    return next((gpu for gpu in gpus if digits and gpu.index == int(digits[0])), None)
