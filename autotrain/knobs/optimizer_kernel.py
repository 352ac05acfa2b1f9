"""Optimizer kernel: the same update one tensor at a time, over lists of tensors, or in one kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.optim import Optimizer

from autotrain.errors import SettingsError, TaskError
from autotrain.hardware.machine import Machine
from autotrain.knobs.base import Choices, Effect, Knob, Side
from autotrain.settings import Settings, Value
from autotrain.workload import Workload

FLAGS = ("foreach", "fused")
"""Options of torch's optimizers, of which at most one is on; with neither set, torch takes foreach on CUDA."""

_made: WeakKeyDictionary[Callable[..., Any], _Kind] = WeakKeyDictionary()
"""What the user's functions make; kept, since telling takes making an optimizer."""


class OptimizerKernel(Knob):
    """Fewer launches and passes over memory for the same arithmetic, in another order."""

    name, effect, side = "optimizer_kernel", Effect.NUMERICS, Side.COMPUTE
    known = ("own", *FLAGS)
    about = (
        "How the optimizer updates the weights: the same arithmetic in fewer passes; pays where the model has many "
        "small tensors."
    )
    meanings = {
        "own": "As the optimizer was set up.",
        "foreach": "Lists of tensors at once; fewer launches than one tensor at a time, and more memory.",
        "fused": "One kernel for the whole update; reads and writes each weight once.",
    }

    def choices(self, workload: Workload, machine: Machine) -> Choices:
        """Offer what the optimizer has beside what it does by itself."""
        del machine
        left_out = tuple((name, why) for name in FLAGS if (why := _problem(name, workload)) is not None)
        refused = {name for name, _ in left_out}
        return Choices(allowed=tuple(name for name in self.known if name not in refused), left_out=left_out)

    def legal(self, settings: Settings, workload: Workload, machine: Machine) -> str | None:
        """Refuse what the optimizer does not have."""
        del machine
        name = settings.optimizer_kernel
        return None if name == "own" else _kind(workload).missing(name, workload.device)

    def canonical(self, settings: Settings, workload: Workload) -> Settings:
        """Fold what the optimizer does by itself."""
        name = settings.optimizer_kernel
        same = name != "own" and _kind(workload).active(workload.device) == name
        return self.fold(settings, when=same, to="own")

    def optimizer(self, optimizer: Optimizer, value: Value) -> None:
        """Set the flags, and move the step counters to where the kernel wants them."""
        if value != "own":
            set_kernel(optimizer, str(value))


class _Kind:
    """What an optimizer can do, as far as the choice of a kernel goes."""

    def __init__(self, optimizer: Optimizer) -> None:
        groups = optimizer.param_groups
        self.name = type(optimizer).__name__
        self.is_torchs = type(optimizer).__module__.startswith("torch.optim")
        self.has = {flag for flag in FLAGS if all(flag in group for group in groups)}
        self.set_to = {flag: {group.get(flag) for group in groups} for flag in FLAGS}
        self.is_differentiable = any(group.get("differentiable") for group in groups)
        self.is_plain = all(
            type(entry) in (nn.Parameter, torch.Tensor) and entry.is_floating_point()
            for group in groups
            for entry in group["params"]
        )
        self.has_tensors = any(isinstance(group.get("lr"), torch.Tensor) for group in groups)

    def active(self, device: torch.device) -> str:
        """Return the kernel that the optimizer takes by itself: ``foreach``, ``fused``, or neither."""
        for flag in FLAGS:
            if self.set_to[flag] == {True}:
                return flag
        automatic = self.is_torchs and self.is_plain and "foreach" in self.has and self.set_to["foreach"] == {None}
        unset = automatic and not self.is_differentiable and self.set_to["fused"] <= {None, False}
        return "foreach" if unset and device.type == "cuda" else "neither"

    def missing(self, name: str, device: torch.device) -> str | None:
        """Return why the optimizer cannot have a kernel on a device, or None."""
        if not self.is_torchs or name not in self.has:
            return f"{self.name} has no such kernel"
        if self.is_differentiable:
            return "the optimizer is set to be differentiable"
        if not self.is_plain or (name == "foreach" and self.has_tensors):
            return f"{self.name} has parameters or a learning rate of another kind than it takes"
        if device.type not in ("cpu", "cuda"):
            return f"not tried on {device.type} yet"
        return None


def set_kernel(optimizer: Optimizer, name: str) -> None:
    """Switch a live optimizer to ``foreach`` or ``fused``.

    Raises:
        SettingsError: it has no such kernel.
    """
    if not all(name in group for group in optimizer.param_groups):
        raise SettingsError(f"optimizer_kernel: {type(optimizer).__name__} has no {name} kernel. Leave it at own")
    for group in optimizer.param_groups:
        group.update({flag: flag == name for flag in FLAGS if flag in group})
    # What torch's constructors set beside the flag: fused kernels skip steps that overflow in fp16 by themselves.
    optimizer._step_supports_amp_scaling = name == "fused"  # type: ignore[attr-defined]
    place_counters(optimizer)


def place_counters(optimizer: Optimizer) -> None:
    """Move the step counters to where the flags want them: fused kernels read them on the parameters' device.

    The others count in host memory, where reading a counter does not wait for the device.
    """
    for group in optimizer.param_groups:
        on_device = bool(group.get("capturable") or group.get("fused"))
        for parameter in group["params"]:
            state = optimizer.state.get(parameter, {})
            count = state.get("step")
            if isinstance(count, torch.Tensor):
                state["step"] = count.to(parameter.device if on_device else "cpu")


def _problem(name: str, workload: Workload) -> str | None:
    try:
        kind = _kind(workload)
    except TaskError as problem:
        return str(problem)
    if kind.active(workload.device) == name:
        return f"{kind.name} takes it by itself here"
    return kind.missing(name, workload.device)


def _kind(workload: Workload) -> _Kind:
    wanted = workload.task.optimizer
    if isinstance(wanted, Optimizer):
        return _Kind(wanted)
    maker = wanted or Workload.make_optimizer
    try:
        known = _made.get(maker)
    except TypeError:  # an object that cannot be hashed or referred to weakly
        return _Kind(workload.make_optimizer(_trained(workload)))
    if known is None:
        known = _made[maker] = _Kind(workload.make_optimizer(_trained(workload)))
    return known


def _trained(workload: Workload) -> list[nn.Parameter]:
    return [entry for entry in workload.model.parameters() if entry.requires_grad]
