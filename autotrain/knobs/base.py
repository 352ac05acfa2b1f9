"""The base of all knobs: hooks that do nothing, so that a knob states only what it changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from enum import Enum
from types import MappingProxyType
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from autotrain.hardware.machine import Machine
from autotrain.settings import Settings, Value
from autotrain.workload import Workload


class Effect(Enum):
    """What a knob does to learning."""

    EXACT = "exact"
    """The model sees the same bits."""

    NUMERICS = "numerics"
    """Same recipe, other rounding."""

    RECIPE = "recipe"
    """Changes what is learned; moved only when the user leaves it open."""


class Side(Enum):
    """Which half of a step a knob acts on; decides what a component measurement depends on."""

    INPUT = "input"
    COMPUTE = "compute"
    BOTH = "both"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What a knob can be set to here."""

    allowed: tuple[Value, ...]
    """Values that the search may take."""

    left_out: tuple[tuple[Value, str], ...] = ()
    """Values that it may not take here, each with the reason, for people."""


class Knob:
    """One thing that can be set. A subclass states its facts and overrides the hooks that it needs."""

    name: str
    """The setting's name."""

    effect: Effect
    """What it does to learning."""

    side: Side
    """Which half of a step it acts on."""

    about: str
    """What it sets and when that pays, in a sentence."""

    meanings: Mapping[Value, str] = MappingProxyType({})
    """What each value is and when it pays, a sentence each; empty for knobs without a closed set."""

    known: tuple[Value, ...] | None = None
    """The closed set of values, None where any number from ``least`` on is one."""

    binding: bool = True
    """Whether a plan cannot run where its value is not among the choices; otherwise it runs, with a warning."""

    least: int = 0
    """Smallest number, for knobs without a closed set."""

    def effect_of(self, value: Value) -> Effect:
        """Return what one value does to learning, for knobs whose values differ in that."""
        del value
        return self.effect

    def side_of(self, value: Value) -> Side:
        """Return which half of a step one value acts on, for knobs whose values differ in that."""
        del value
        return self.side

    def risky(self, value: Value) -> bool:
        """Tell whether a value can take the process down, so that it is measured in a child process."""
        del value
        return False

    def choices(self, workload: Workload, machine: Machine) -> Choices:
        """Return what the search may try for this task on this machine."""
        raise NotImplementedError

    def legal(self, settings: Settings, workload: Workload, machine: Machine) -> str | None:
        """Return why a combination is not possible, or None; a COMPUTE knob looks at such knobs' settings alone."""
        del settings, workload, machine
        return None

    def canonical(self, settings: Settings, workload: Workload) -> Settings:
        """Return settings that mean the same, with what has no effect at its default; likewise of its own side."""
        del workload
        return settings

    def check(self, value: Value) -> str | None:
        """Return what is wrong with a value that somebody wrote down, or None."""
        if self.known is not None:
            if value in self.known and type(value) is type(self.known[0]):
                return None
            return f"{value!r} is not one of {', '.join(str(entry) for entry in self.known)}"
        if isinstance(value, bool) or not isinstance(value, int) or value < self.least:
            return f"{value!r} is not a whole number of at least {self.least}"
        return None

    def flags(self, value: Value) -> AbstractContextManager[object]:
        """Return a context in which process-wide flags are set; it restores them."""
        del value
        return nullcontext()

    def model(self, model: nn.Module, value: Value) -> None:
        """Change the live model in place."""

    def optimizer(self, optimizer: Optimizer, value: Value) -> None:
        """Change the live optimizer in place; a user's own is lent, or put back after training."""

    def step_options(self, value: Value, options: dict[str, Any]) -> None:
        """Fill in keyword arguments of the Step."""

    def parallel_options(self, value: Value, options: dict[str, Any]) -> None:
        """Fill in how gradients travel between ranks: keyword arguments of Parallel."""

    def compiler_options(self, value: Value, options: dict[str, Any]) -> None:
        """Fill in keyword arguments of the compiled forward pass; with none of them there is no compiler."""

    def step_context(self, value: Value, device: torch.device) -> Callable[[], AbstractContextManager[object]] | None:
        """Return what makes the context for forward pass and loss, or None."""
        del value, device
        return None

    def scaler(self, value: Value, device: torch.device) -> torch.amp.GradScaler | None:
        """Return a loss scaler where the arithmetic needs one."""
        del value, device
        return None

    def reader_options(self, value: Value, options: dict[str, Any]) -> None:
        """Fill in keyword arguments of the Reader."""

    def loader_options(self, value: Value, options: dict[str, Any]) -> None:
        """Fill in fields of the LoaderOptions."""

    def transfer_options(self, value: Value, options: dict[str, Any]) -> None:
        """Fill in keyword arguments of the Transfer."""

    def fold(self, settings: Settings, *, when: bool, to: Value) -> Settings:
        """Return the settings with this knob at ``to`` when it has no effect."""
        if not when or getattr(settings, self.name) == to:
            return settings
        return replace(settings, **{self.name: to})  # type: ignore[arg-type]
