"""The CPU: its name, the cores that this process may really use, and the instructions that matter for training."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from autotrain.hardware.cgroup import legacy, read_int, read_text, unified

_X86 = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16")
_ARM = ("neon", "bf16", "sve")
FEATURES = _X86 + _ARM
"""Instruction sets that decide which precision or image decoder pays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuFacts:
    """What this process has of the CPU."""

    name: str
    """Model name as the CPU gives it, such as ``Intel(R) Xeon(R) Processor``."""

    logical: int
    """Logical cores of the machine."""

    usable: int
    """Cores to plan with: the affinity or the quota, whichever is smaller, rounded down, at least 1."""

    affinity: int
    """Cores that the scheduler may run this process on."""

    quota: float | None
    """Cores' worth of time that the control group grants; None without a quota."""

    features: tuple[str, ...]
    """Those of ``FEATURES`` that this CPU has."""


def cpu_facts(root: Path = Path("/")) -> CpuFacts:
    """Read the facts from the operating system; ``root`` is where ``proc`` and ``sys`` lie."""
    entries = _cpuinfo(root)
    logical = os.cpu_count() or 1
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else logical
    quota = cpu_quota(root)
    granted = affinity if quota is None else min(affinity, int(quota))
    return CpuFacts(
        name=_name(entries),
        logical=logical,
        usable=max(1, granted),
        affinity=affinity,
        quota=quota,
        features=_features(entries),
    )


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Return the smallest CPU quota, in cores, of this process's control group and all its parents, or None."""
    quotas = [_unified_quota(folder) for folder in unified(root)]
    quotas += [_legacy_quota(folder) for folder in legacy(root, "cpu")]
    return min((quota for quota in quotas if quota is not None), default=None)


def _unified_quota(folder: Path) -> float | None:
    """Read ``cpu.max``: ``<quota> <period>`` in microseconds, or ``max <period>``."""
    words = (read_text(folder / "cpu.max") or "").split()
    if len(words) != 2 or not (words[0].isdigit() and words[1].isdigit()) or int(words[1]) == 0:
        return None
    return int(words[0]) / int(words[1])


def _legacy_quota(folder: Path) -> float | None:
    """Read ``cpu.cfs_quota_us`` (-1: none) and ``cpu.cfs_period_us``."""
    quota, period = read_int(folder / "cpu.cfs_quota_us"), read_int(folder / "cpu.cfs_period_us")
    return None if not quota or not period or quota < 0 else quota / period


def _cpuinfo(root: Path) -> dict[str, str]:
    """Return names and values of the first core in ``/proc/cpuinfo``; empty where there is no such file."""
    entries: dict[str, str] = {}
    for line in (read_text(root / "proc/cpuinfo") or "").splitlines():
        name, colon, value = line.partition(":")
        if colon:
            entries.setdefault(name.strip(), value.strip())
    return entries


def _name(entries: dict[str, str]) -> str:
    """Return the model's name; Arm kernels give numbers only, so there it is architecture, implementer and part."""
    if named := entries.get("model name"):
        return named
    if "CPU part" in entries:
        return f"{platform.machine()} {entries.get('CPU implementer', '?')}/{entries['CPU part']}"
    return platform.processor() or platform.machine() or "unknown CPU"


def _features(entries: dict[str, str]) -> tuple[str, ...]:
    flags = set(entries.get("flags", entries.get("Features", "")).split())
    if "asimd" in flags or (not flags and platform.machine().lower() in ("arm64", "aarch64")):
        flags.add("neon")
    return tuple(feature for feature in FEATURES if feature in flags)
