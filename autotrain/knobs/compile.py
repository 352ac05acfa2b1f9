"""Compile: torch.compile fuses the model's operators into kernels of its own, and may record them as CUDA graphs.

Ansel et al., "PyTorch 2: Faster Machine Learning Through Dynamic Python Bytecode Transformation and Graph
Compilation", ASPLOS 2024.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from autotrain.hardware.machine import Machine
from autotrain.knobs.base import Choices, Effect, Knob, Side
from autotrain.settings import Settings, Value
from autotrain.workload import Workload

RANKS = "what may crash is measured in a process of its own, which several ranks cannot share"
"""Why several ranks compile nothing yet."""

GRAPHS = ("reduce-overhead", "max-autotune")
"""Modes with CUDA graphs: a step's kernels are launched as one, into memory that the next step writes over."""

TRITON_CAPABILITY = 7
"""Oldest generation of CUDA devices that Triton makes kernels for."""


class Compile(Knob):
    """Costs seconds to minutes at the first step and pays with every other; a compiler may crash, or never end."""

    name, effect, side = "compile", Effect.NUMERICS, Side.COMPUTE
    known = ("none", "default", *GRAPHS)
    about = (
        "Whether torch.compile makes kernels of its own for the model; it costs seconds to minutes at the start and "
        "pays in long trainings."
    )
    meanings = {
        "none": "The model as it is, one kernel per operator.",
        "default": "Operators fused into fewer kernels; pays where many small ones read and write the same memory.",
        "reduce-overhead": (
            "The same, launched as one CUDA graph; pays where the GPU waits for launches, as with small models and "
            "batches."
        ),
        "max-autotune": "The same, each kernel chosen by timing; compiles for minutes, pays in the longest trainings.",
    }

    def risky(self, value: Value) -> bool:
        """Name every mode."""
        return value != "none"

    def choices(self, workload: Workload, machine: Machine) -> Choices:
        """Offer the modes of the device, where torch has what it compiles with."""
        del machine
        modes = self.known[1:]
        left_out = tuple((mode, why) for mode in modes if (why := _problem(mode, workload)) is not None)
        refused = {mode for mode, _ in left_out}
        return Choices(allowed=tuple(mode for mode in self.known if mode not in refused), left_out=left_out)

    def legal(self, settings: Settings, workload: Workload, machine: Machine) -> str | None:
        """Refuse what cannot be compiled here, and CUDA graphs that overwrite the gradients of the part before."""
        del machine
        if settings.compile == "none":
            return None
        if settings.compile in GRAPHS and settings.micro_batches > 1:
            return "a CUDA graph's second pass writes over the gradients of its first: no micro-batches"
        return _problem(settings.compile, workload)

    def compiler_options(self, value: Value, options: dict[str, Any]) -> None:
        """Name the mode."""
        if value != "none":
            options["mode"] = value


def _problem(mode: str, workload: Workload) -> str | None:
    """Return why a mode is not to be had for a task, or None; nothing is run for it, nor imported."""
    if workload.task.step is not None:
        return "a step of your own is given the model itself, not a compiled one"
    if not workload.team.alone:
        return RANKS
    if _compiled_already(workload.model):
        return "the model is compiled already"
    if sys.platform != "linux":
        return f"not tried on {sys.platform} yet"
    kind = workload.device.type
    if kind == "cpu":
        return _cpu_problem(mode)
    if kind == "cuda":
        return _cuda_problem(workload.device)
    return f"not tried on {kind} yet"


def _compiled_already(model: nn.Module) -> bool:
    return any(
        isinstance(module, torch.jit.ScriptModule)
        or module._compiled_call_impl is not None
        or type(module).__name__ == "OptimizedModule"
        for module in model.modules()
    )


def _cpu_problem(mode: str) -> str | None:
    if mode in GRAPHS:
        return "needs a CUDA device for its graphs"
    compiler = os.environ.get("CXX", "g++")  # where torch looks, unless told otherwise in its own configuration
    if shutil.which(compiler.split()[0] if compiler.strip() else "g++") is None:
        return f"there is no C++ compiler '{compiler}': install g++, or name another one in CXX"
    return _no_headers()


def _cuda_problem(device: torch.device) -> str | None:
    if find_spec("triton") is None:
        return "Triton is not installed, with which torch makes CUDA kernels: pip install triton"
    major, minor = torch.cuda.get_device_capability(device)
    if major < TRITON_CAPABILITY:
        return f"Triton makes no kernels for compute capability {major}.{minor}"
    named = os.environ.get("CC")
    if not any(shutil.which(name) for name in ([named.split()[0]] if named and named.strip() else ["gcc", "clang"])):
        return "there is no C compiler, with which Triton builds its launchers: install gcc"
    return _no_headers()


@cache
def _no_headers() -> str | None:
    """Return what to install where Python's headers are missing, which generated code includes."""
    if (Path(sysconfig.get_paths()["include"]) / "Python.h").is_file():
        return None
    return "Python's headers are not installed, which compiled code includes: install python3-dev"
