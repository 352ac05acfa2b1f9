"""Restoring what training touches process-wide: random states, flags, the gradient mode."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch

from autotrain.data.stream import seeded


@contextmanager
def untouched(device: torch.device) -> Iterator[None]:
    """Leave random states, backend flags, thread count and gradient mode as they were, whatever happens inside."""
    threads = torch.get_num_threads()
    gradients = torch.is_grad_enabled()
    flags = _flags()
    cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    with seeded():
        try:
            yield
        finally:
            if torch.get_num_threads() != threads:
                torch.set_num_threads(threads)
            torch.set_grad_enabled(gradients)
            _set_flags(flags)
            if cuda is not None:
                torch.cuda.set_rng_state(cuda, device)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let Ctrl-C wait until the block is done; for blocks of microseconds that must not be left half-way."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[tuple[int, FrameType | None]] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: caught.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)
        if caught and callable(before):
            before(*caught[0])


def _conv() -> Any:
    return getattr(torch.backends.cudnn, "conv")  # noqa: B009 - torch's type stubs do not know it


def _flags() -> tuple[bool, bool, bool, str, str]:
    cudnn = torch.backends.cudnn
    return (
        cudnn.enabled,
        cudnn.benchmark,
        cudnn.deterministic,
        torch.backends.cuda.matmul.fp32_precision,
        _conv().fp32_precision,
    )


def _set_flags(flags: tuple[bool, bool, bool, str, str]) -> None:
    if _flags() == flags:
        return
    cudnn = torch.backends.cudnn
    cudnn.enabled, cudnn.benchmark, cudnn.deterministic = flags[:3]
    torch.backends.cuda.matmul.fp32_precision = flags[3]
    _conv().fp32_precision = flags[4]


def seed_everything(seed: int, device: torch.device) -> None:
    """Seed the generators that a model draws from (dropout), so that equal runs are equal."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
