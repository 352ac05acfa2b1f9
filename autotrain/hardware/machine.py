"""The machine as a whole: one frozen record that goes into sessions and plans."""

import hashlib
import importlib.metadata
import importlib.util
import json
import multiprocessing
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from platform import python_version
from typing import Any

from autotrain.hardware.cpu import CpuFacts, cpu_facts
from autotrain.hardware.gpu import GpuFacts, gpu_facts
from autotrain.hardware.memory import MemoryFacts, memory_facts

PACKAGES = ("torch", "torchvision", "numpy", "pillow", "pillow-simd", "kornia", "optuna", "timm")
"""Distributions whose versions a measurement depends on; those not installed are left out of the record."""

GIB = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Hardware, platform and versions that measurements were made with."""

    cpu: CpuFacts
    """Cores, quota and instruction sets."""

    memory: MemoryFacts
    """Memory, its limits and what was free when the record was made."""

    gpus: tuple[GpuFacts, ...]
    """GPUs that the driver shows, in NVML's order."""

    platform: str
    """``sys.platform``: linux, darwin or win32."""

    python: str
    """Version of Python."""

    versions: tuple[tuple[str, str], ...]
    """Name and version of the packages that matter, and of the CUDA that torch was built with."""

    start_methods: tuple[str, ...]
    """How loader workers can be started here, Python's default first."""

    @property
    def fingerprint(self) -> str:
        """Twelve hex digits that stay the same while CPU name, usable cores, GPU names and platform do."""
        parts = [self.cpu.name, self.cpu.usable, [gpu.name for gpu in self.gpus], self.platform]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]

    def as_dict(self) -> dict[str, Any]:
        """Return all facts and the fingerprint as plain values, for JSON and YAML."""
        facts = asdict(self)
        facts["cpu"]["features"] = list(self.cpu.features)
        facts["gpus"] = [asdict(gpu) for gpu in self.gpus]
        facts["versions"] = dict(self.versions)
        facts["start_methods"] = list(self.start_methods)
        return {**facts, "fingerprint": self.fingerprint}

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> "Machine":
        """Build the record from what ``as_dict`` gave; the fingerprint is computed anew."""
        return cls(
            cpu=CpuFacts(**{**facts["cpu"], "features": tuple(facts["cpu"]["features"])}),
            memory=MemoryFacts(**facts["memory"]),
            gpus=tuple(GpuFacts(**gpu) for gpu in facts["gpus"]),
            platform=facts["platform"],
            python=facts["python"],
            versions=tuple((name, version) for name, version in facts["versions"].items()),
            start_methods=tuple(facts["start_methods"]),
        )

    def describe(self) -> str:
        """Return one line such as ``Intel Xeon, 2 usable cores, 23.5 GiB, no GPU``; the memory is what limits leave."""
        memory = self.memory.total_bytes if self.memory.limit_bytes is None else self.memory.limit_bytes
        cores = "1 usable core" if self.cpu.usable == 1 else f"{self.cpu.usable} usable cores"
        return f"{_short(self.cpu.name)}, {cores}, {memory / GIB:.1f} GiB, {_gpu_words(self.gpus)}"


def machine_facts() -> Machine:
    """Gather the facts of this machine and this Python."""
    return Machine(
        cpu=cpu_facts(),
        memory=memory_facts(),
        gpus=gpu_facts(),
        platform=sys.platform,
        python=python_version(),
        versions=package_versions(),
        start_methods=tuple(multiprocessing.get_all_start_methods()),
    )


def package_versions() -> tuple[tuple[str, str], ...]:
    """Return names and versions of the installed ``PACKAGES`` and ``cuda``, importing none of them.

    ``pillow-simd`` is listed beside ``pillow`` where both are installed, although they overwrite each other's files.
    """
    found = []
    for name in PACKAGES:
        try:
            found.append((name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            continue
    cuda = _torch_cuda()
    return tuple([*found, ("cuda", cuda)] if cuda else found)


def _torch_cuda() -> str | None:
    """Return the CUDA version in ``torch/version.py``, which torch writes when it is built; None for a CPU build."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    try:
        text = (Path(spec.origin).parent / "version.py").read_text(encoding="utf-8")
    except OSError:
        return None
    match = re.search(r"^cuda\b[^=\n]*=\s*['\"]([\d.]+)['\"]", text, re.MULTILINE)
    return match[1] if match else None


def _short(name: str) -> str:
    """Leave out of a CPU's name what tells nothing: trademarks, the words CPU and Processor, the nominal clock."""
    name = re.sub(r"\((R|TM|C)\)|@.*$", " ", name, flags=re.IGNORECASE)
    name = re.sub(r"\b(CPU|Processor)\b", " ", name)
    return " ".join(name.split()) or "unknown CPU"


def _gpu_words(gpus: tuple[GpuFacts, ...]) -> str:
    counts: dict[str, int] = {}
    for gpu in gpus:
        counts[gpu.name] = counts.get(gpu.name, 0) + 1
    return " and ".join(name if n == 1 else f"{n} x {name}" for name, n in counts.items()) or "no GPU"
