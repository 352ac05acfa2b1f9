"""The list of all checks, in the order in which they are done."""

from __future__ import annotations

from autotrain.doctor import cpu, gpu, gpu_state, memory, packages, storage, switches, threads, versions
from autotrain.doctor.check import Check

CHECKS: tuple[Check, ...] = (
    *cpu.CHECKS,  # first: what the doctor itself does must not show in the pressure and among the programs
    *memory.CHECKS,
    *packages.CHECKS,
    *switches.CHECKS,
    *threads.CHECKS,
    *versions.CHECKS,
    *gpu.CHECKS,
    *gpu_state.CHECKS,
    *storage.CHECKS,
)
