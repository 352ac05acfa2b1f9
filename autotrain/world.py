"""The ranks that train together: facts from torchrun's environment; one process when there is none."""

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from autotrain.errors import UnsupportedError

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
"""What torchrun sets in each process that it starts."""

_share: int | None = None
"""Cores that are this process's own part; None where the ranks have not told each other what they run on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """This process among all that train together; ``World()`` is one process alone."""

    rank: int = 0
    """Number of this process, from 0."""

    world_size: int = 1
    """Processes in all."""

    local_rank: int = 0
    """Number of this process on its machine, which is also its GPU's."""

    local_world_size: int = 1
    """Processes on this machine, among which its cores and memory are shared."""

    share: int | None = None
    """Cores that are this process's own part, where ranks may be bound to cores; None where that is not known."""

    @property
    def is_distributed(self) -> bool:
        """Whether there is more than one process."""
        return self.world_size > 1

    def cpu_budget(self, usable: int) -> int:
        """Return this process's share of the cores that it may use, at least 1."""
        return max(1, usable // self.local_world_size if self.share is None else min(usable, self.share))


def place() -> str:
    """Return host and process namespace, within which process numbers mean something."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = "-"
    return f"{platform.node()} {space}"


def affinity() -> frozenset[int] | None:
    """Return the cores that this process may run on; None where the system does not tell."""
    return frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def share_of(
    own: frozenset[int] | None, masks: Sequence[frozenset[int] | None], *, quota: float | None = None
) -> int | None:
    """Return how many cores are a rank's own part, each divided among those that may run on it; None if not known.

    Args:
        own: the cores that the rank may run on.
        masks: the same of all ranks on its machine, itself included.
        quota: cores' worth of time that the control group grants to all of them.
    """
    known = [mask for mask in masks if mask is not None]
    if own is None or len(known) < len(masks):
        return None
    part = sum((Fraction(1, max(1, sum(core in mask for mask in known))) for core in own), Fraction(0))
    if quota is not None:
        part = min(part, Fraction(quota) / len(known))
    return max(1, int(part))


def share_cores(share: int | None) -> None:
    """Keep, for as long as this process lives, how many cores are its own part."""
    global _share
    _share = share


def world(environ: Mapping[str, str] = os.environ) -> World:
    """Read the world from torchrun's variables; without RANK and WORLD_SIZE it is one process.

    Raises:
        UnsupportedError: a variable is missing beside the others, is no whole number, or contradicts another.
    """
    if "RANK" not in environ and "WORLD_SIZE" not in environ:
        return World()
    world_size = _number(environ, "WORLD_SIZE", low=1)
    alone = world_size == 1  # schedulers set RANK=0 and WORLD_SIZE=1 only
    rank = _number(environ, "RANK", high=world_size - 1, default=0 if alone else None)
    local_world_size = _number(environ, "LOCAL_WORLD_SIZE", low=1, high=world_size, default=1 if alone else None)
    local_rank = _number(environ, "LOCAL_RANK", high=local_world_size - 1, default=0 if alone else None)
    return World(
        rank=rank,
        world_size=world_size,
        local_rank=local_rank,
        local_world_size=local_world_size,
        share=None if alone else _share,
    )


def _number(
    environ: Mapping[str, str], name: str, *, low: int = 0, high: int | None = None, default: int | None = None
) -> int:
    """Return the variable as a number from ``low`` to ``high``, or ``default`` where it is not set."""
    text = environ.get(name)
    if text is None:
        if default is not None:
            return default
        present = ", ".join(f"{other}={environ[other]}" for other in VARIABLES if other in environ)
        raise UnsupportedError(f"environment: {name} is not set beside {present}. Start the ranks with torchrun")
    try:
        value = int(text)
    except ValueError:
        value = low - 1
    if value < low or (high is not None and value > high):
        wanted = f"from {low} to {high}" if high is not None else f"of at least {low}"
        message = f"environment: {name}={text!r} is not a whole number {wanted}"
        raise UnsupportedError(f"{message}. Start the ranks with torchrun, or unset {', '.join(VARIABLES)}")
    return value
