"""GPUs at work: a short load, during which the driver is asked for their state, and copies to the device are timed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from autotrain.doctor.torch_facts import Device
from autotrain.hardware.gpu_health import GpuHealth, gpu_health

LOAD_S = 0.6
"""How long each GPU computes; clocks have risen by then."""

SIDE = 4096
"""Rows and columns of the matrices that are multiplied."""

COPY_BYTES, COPIES = 64 << 20, 4
"""Size and number of the copies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuLoad:
    """What one GPU did under load."""

    uuid: str
    """Which it was, as in ``GpuHealth``."""

    state: GpuHealth | None
    """Its state in the middle of the load; None where the driver did not list it then."""

    copy_gb_per_s: float | None
    """Rate of copies from pinned memory; None where that failed."""


def gpu_loads(devices: Sequence[Device]) -> tuple[GpuLoad, ...]:
    """Load each CUDA device that torch sees, one after the other; one that refuses (no memory) is passed over."""
    import torch

    found = []
    for number, device in enumerate(devices):
        place = torch.device("cuda", number)
        try:
            state = load(place, partial(_state, device.uuid))
            rate = copy_rate(place)
        except RuntimeError:  # out of memory is one of them
            continue
        finally:
            torch.cuda.empty_cache()
        found.append(GpuLoad(uuid=f"GPU-{device.uuid}", state=state, copy_gb_per_s=rate))
    return tuple(found)


def _state(uuid: str) -> GpuHealth | None:
    return next((gpu for gpu in gpu_health() if gpu.uuid.removeprefix("GPU-") == uuid), None)


def load(
    device: Any, ask: Callable[[], GpuHealth | None], *, seconds: float = LOAD_S, side: int = SIDE
) -> GpuHealth | None:
    """Multiply matrices on a device for some seconds; return what ``ask`` gave while work was queued at the end."""
    import torch

    left, right = (torch.ones(side, side, device=device) for _ in range(2))
    out = torch.empty(side, side, device=device)
    until, done = time.perf_counter() + seconds, 0
    while time.perf_counter() < until:
        for _ in range(4):
            torch.mm(left, right, out=out)
        _wait(device)
        done += 4
    for _ in range(max(8, done // 4)):  # outlasts the question: with many GPUs the driver takes some time to answer
        torch.mm(left, right, out=out)
    state = ask()
    _wait(device)
    return state


def copy_rate(device: Any, *, size: int = COPY_BYTES) -> float | None:
    """Return the rate, in GB/s, of copies from pinned memory; of ordinary memory where the device is none of CUDA's."""
    import torch

    source = torch.empty(size, dtype=torch.uint8, pin_memory=device.type == "cuda")
    target = torch.empty(size, dtype=torch.uint8, device=device)
    target.copy_(source, non_blocking=True)
    _wait(device)
    since = time.perf_counter()
    for _ in range(COPIES):
        target.copy_(source, non_blocking=True)
    _wait(device)
    taken = time.perf_counter() - since
    return COPIES * size / taken / 1e9 if taken > 0 else None


def _wait(device: Any) -> None:
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)
