"""Sharding: whether every rank keeps the whole model, or each a part of it."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Optimizer

from autotrain.hardware.machine import Machine
from autotrain.knobs.base import Choices, Effect
from autotrain.knobs.gradients import ALONE, FULL, OfRanks, least_part
from autotrain.settings import Settings, Value
from autotrain.workload import Workload

FITS = "sends more than copies do, and the model fits on a device"

STATE_BYTES = 16
"""Of each trained weight: itself, its gradient and two moments of Adam, in fp32."""

ROOM = 0.8
"""Share of a device's memory that these may take, so that activations have some too."""


class Sharding(OfRanks):
    """Takes a model that no device can hold, at the price of sending its weights too; sums in another order."""

    name, effect = "sharding", Effect.NUMERICS
    known = offered = ("none", FULL)
    about = "What ranks keep of weights, gradients and optimizer state; for models that no device can hold."
    meanings = {
        "none": "Every rank keeps all of it, and sends gradients only.",
        FULL: "Every rank keeps a part (FSDP); takes memory off each device, and costs the sending of weights too.",
    }

    def choices(self, workload: Workload, machine: Machine) -> Choices:
        """Offer nothing to a search: it is needed, or it costs."""
        del machine
        return Choices(allowed=("none",), left_out=((FULL, ALONE if workload.team.alone else FITS),))

    def canonical(self, settings: Settings, workload: Workload) -> Settings:
        """Fold for one process."""
        return self.fold(settings, when=workload.team.alone, to="none")

    def legal(self, settings: Settings, workload: Workload, machine: Machine) -> str | None:
        """Refuse what needs whole weights."""
        del machine
        if settings.sharding != FULL or workload.team.alone:
            return None
        if isinstance(workload.task.optimizer, Optimizer):
            return "the optimizer exists already, for whole weights: give a function of parameters that makes it"
        if settings.precision == "fp16":
            return "a loss scaler looks at whole gradients: take bf16"
        if settings.optimizer_kernel == "fused" and workload.device.type == "cpu":
            return "torch's fused optimizers on CPUs take whole weights"
        parts = settings.micro_batches
        if parts > 1 and parts > (least := least_part(workload)):
            return f"every rank passes a batch in as many parts, and one has {least} of its images: no {parts} parts"
        return None

    def step_options(self, value: Value, options: dict[str, Any]) -> None:
        """Name it."""
        options["sharded"] = value == FULL


def needs_sharding(workload: Workload, *, memory_bytes: int | None = None) -> str | None:
    """Return why a model cannot be trained in whole copies, or None; an estimate by the number of weights.

    Args:
        workload: on several ranks; None for one process.
        memory_bytes: of a rank's device; None asks CUDA, and takes host memory to be enough.
    """
    if workload.team.alone or isinstance(workload.task.optimizer, Optimizer):
        return None
    if memory_bytes is None:
        if workload.device.type != "cuda":
            return None
        memory_bytes = int(torch.cuda.get_device_properties(workload.device).total_memory)
    needed = sum(
        entry.numel() * (STATE_BYTES if entry.requires_grad else entry.element_size())
        for entry in workload.model.parameters()
    )
    if needed <= ROOM * memory_bytes:
        return None
    return (
        f"weights, gradients and optimizer state take {needed / 2**30:.1f} GiB and a device has "
        f"{memory_bytes / 2**30:.1f} GiB: every rank keeps a part of them (sharding = {FULL})"
    )
