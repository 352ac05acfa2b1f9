"""Restoring what training touches process-wide: random states, flags, the gradient mode."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch

from autotrain.data.stream import seeded


@contextmanager
def untouched(device: torch.device) -> Iterator[None]:
    """Leave random states, backend flags, thread count and gradient mode as they were, whatever happens inside."""
    threads = torch.get_num_threads()
    gradients = torch.is_grad_enabled()
    flags = read_flags()
    cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    with seeded():
        try:
            yield
        finally:
            if torch.get_num_threads() != threads:
                torch.set_num_threads(threads)
            torch.set_grad_enabled(gradients)
            write_flags(flags)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """Backend flags of a process that decide how fast and how exactly it computes."""

    enabled: bool
    """Whether cuDNN is used at all; the next two are cuDNN's too."""

    benchmark: bool
    deterministic: bool
    precisions: tuple[str, ...]
    """What each backend and operator computes fp32 in, in the order of ``_precisions``."""


def read_flags() -> Flags:
    """Return the backend flags as they are."""
    cudnn = torch.backends.cudnn
    return Flags(
        enabled=cudnn.enabled,
        benchmark=cudnn.benchmark,
        deterministic=cudnn.deterministic,
        precisions=tuple(holder.fp32_precision for holder in _precisions()),
    )


def write_flags(flags: Flags) -> None:
    """Set the backend flags that differ.

    A precision reads as that of its backend, or of all backends, where it has no value of its own ("none"): so those
    above come first, and a value of its own is given to those below only where inheriting does not do.
    """
    cudnn = torch.backends.cudnn
    for name in ("enabled", "benchmark", "deterministic"):
        if getattr(cudnn, name) != getattr(flags, name):
            setattr(cudnn, name, getattr(flags, name))
    for holder, value in zip(_precisions(), flags.precisions, strict=True):
        if holder.fp32_precision != value:
            holder.fp32_precision = "none"
        if holder.fp32_precision != value:
            holder.fp32_precision = value


def _precisions() -> tuple[Any, ...]:
    """Return what has an ``fp32_precision``, those that others inherit from first."""
    backends: Any = torch.backends
    cudnn, mkldnn = backends.cudnn, backends.mkldnn
    return (
        backends,
        cudnn,
        mkldnn,
        backends.cuda.matmul,
        cudnn.conv,
        cudnn.rnn,
        mkldnn.matmul,
        mkldnn.conv,
        mkldnn.rnn,
    )


def seed_everything(seed: int, device: torch.device) -> None:
    """Seed the generators that a model draws from (dropout), so that equal runs are equal."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
