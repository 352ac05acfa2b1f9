"""Restoring what training touches process-wide: random states, flags, the gradient mode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from autotrain.data.stream import seeded

PRECISIONS = (
    ("generic", "all"),
    ("cuda", "all"),
    ("mkldnn", "all"),
    *((backend, operator) for backend in ("cuda", "mkldnn") for operator in ("matmul", "conv", "rnn")),
)
"""Backend and operator of every precision of fp32, those that others inherit from first."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """Backend flags of a process that decide how fast and how exactly it computes."""

    enabled: bool
    """Whether cuDNN is used at all; the next two are cuDNN's too."""

    benchmark: bool
    deterministic: bool
    precisions: tuple[str, ...]
    """What each backend and operator computes fp32 in, in the order of ``PRECISIONS``."""


def read_flags() -> Flags:
    """Return the backend flags as they are."""
    cudnn = torch.backends.cudnn
    return Flags(
        enabled=cudnn.enabled,
        benchmark=cudnn.benchmark,
        deterministic=cudnn.deterministic,
        precisions=tuple(_precision(place) for place in PRECISIONS),
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
    for place, value in zip(PRECISIONS, flags.precisions, strict=True):
        if _precision(place) != value:
            _set_precision(place, "none")
        if _precision(place) != value:
            _set_precision(place, value)


def _precision(place: tuple[str, str]) -> str:
    return str(getattr(torch._C, "_get_fp32_precision_getter")(*place))  # noqa: B009 - unknown to stubs


def _set_precision(place: tuple[str, str], value: str) -> None:
    """Set what ``torch.backends`` sets; there, in 2.15, oneDNN's own sets that of all backends."""
    getattr(torch._C, "_set_fp32_precision_setter")(*place, value)  # noqa: B009 - unknown to stubs


def seed_everything(seed: int, device: torch.device) -> None:
    """Seed the generators that a model draws from (dropout), so that equal runs are equal."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
