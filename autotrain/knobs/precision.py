"""Precision: the arithmetic of forward and backward pass; weights and optimizer stay in fp32.

Mixed precision after Micikevicius et al., "Mixed Precision Training", ICLR 2018.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from autotrain.hardware.machine import Machine
from autotrain.knobs.base import Choices, Effect, Knob, Side
from autotrain.settings import Value
from autotrain.workload import Workload

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Precision(Knob):
    """fp32, TF32 (CUDA), bf16 autocast, fp16 autocast with a loss scaler (CUDA)."""

    name, effect, side = "precision", Effect.NUMERICS, Side.COMPUTE
    known = ("fp32", "tf32", "bf16", "fp16")
    about = (
        "The arithmetic of forward and backward pass; lower precision pays where the device computes it natively "
        "and training, not loading, is what a step waits for."
    )
    meanings = {
        "fp32": "32-bit floats, torch's own; the reference for the numerics of all others.",
        "tf32": (
            "Matrix products and convolutions on NVIDIA's tensor cores from Ampere on, with 10 bits of mantissa; "
            "pays where the model is large enough to fill them."
        ),
        "bf16": (
            "Autocast to bfloat16, with the range of fp32 and 7 bits of mantissa; pays on GPUs from Ampere on, and "
            "on CPUs that have AMX or AVX-512 BF16."
        ),
        "fp16": (
            "Autocast to float16 with a loss scaler; pays on tensor cores from Volta on, also where bfloat16 is "
            "missing."
        ),
    }

    def choices(self, workload: Workload, machine: Machine) -> Choices:
        """Offer what the device computes natively; emulated types are slower and left out."""
        del machine
        kind = workload.device.type
        if kind == "cuda":
            return _cuda_choices(workload.device)
        left_out = [("tf32", "a format of CUDA devices"), ("fp16", "needs a CUDA device to be faster")]
        onednn = kind == "cpu" and torch.backends.mkldnn.is_available()
        if onednn and torch.ops.mkldnn._is_mkldnn_bf16_supported():
            return Choices(allowed=("fp32", "bf16"), left_out=tuple(left_out))
        reason = "this CPU would emulate it" if kind == "cpu" else f"not supported on {kind} yet"
        return Choices(allowed=("fp32",), left_out=(*left_out, ("bf16", reason)))

    def flags(self, value: Value) -> AbstractContextManager[object]:
        """Turn TF32 on for matrix products and convolutions; fp32 leaves torch's flags as they are."""
        return _tf32() if value == "tf32" else nullcontext()

    def step_context(self, value: Value, device: torch.device) -> Callable[[], AbstractContextManager[object]] | None:
        """Return autocast for bf16 and fp16."""
        dtype = AUTOCAST.get(str(value))
        if dtype is None:
            return None
        return lambda: torch.autocast(device.type, dtype=dtype)

    def scaler(self, value: Value, device: torch.device) -> torch.amp.GradScaler | None:
        """Return a loss scaler for fp16, whose small gradients would vanish without."""
        return torch.amp.GradScaler(device.type) if value == "fp16" else None


def _cuda_choices(device: torch.device) -> Choices:
    major, _ = torch.cuda.get_device_capability(device)
    if major >= 8:
        return Choices(allowed=("fp32", "tf32", "bf16", "fp16"))
    reason = f"compute capability {major}.x has no hardware for it"
    allowed = ("fp32", "fp16") if major >= 7 else ("fp32",)
    left_out = [("tf32", reason), ("bf16", reason)] + ([] if major >= 7 else [("fp16", reason)])
    return Choices(allowed=allowed, left_out=tuple(left_out))


@contextmanager
def _tf32() -> Iterator[None]:
    """Turn TF32 on where it is off; what is on already stays untouched, since some of it could not be put back."""
    matmul, conv = torch.backends.cuda.matmul, getattr(torch.backends.cudnn, "conv")  # noqa: B009 - unknown to stubs
    changed = [(flags, flags.fp32_precision) for flags in (matmul, conv) if flags.fp32_precision != "tf32"]
    for flags, _ in changed:
        flags.fp32_precision = "tf32"
    try:
        yield
    finally:
        for flags, before in changed:
            flags.fp32_precision = before
