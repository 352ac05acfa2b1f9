"""Buckets: how large the parts are in which gradients travel between ranks."""

from __future__ import annotations

from typing import Any

from autotrain.hardware.machine import Machine
from autotrain.knobs.base import Choices, Effect
from autotrain.knobs.gradients import OfRanks, gradient_bytes
from autotrain.settings import Settings, Value
from autotrain.workload import Workload

OFFERED = (25, 5, 100)
"""MiB that a search tries; the first is torch's own."""

FIRST_MIB = 1
"""What DistributedDataParallel makes the first bucket, so that it leaves early."""


class Buckets(OfRanks):
    """Small ones leave earlier under the backward pass, large ones cost fewer messages; sums in another order."""

    name, effect = "bucket_mib", Effect.NUMERICS
    least = 1
    about = (
        "MiB of gradients that travel between ranks at a time: small parts leave earlier under the backward pass, "
        "large ones cost fewer messages."
    )
    offered = OFFERED

    def choices(self, workload: Workload, machine: Machine) -> Choices:
        """Offer sizes that the model's gradients do not all fit into."""
        if workload.team.alone:
            return super().choices(workload, machine)
        held = gradient_bytes(workload.model)
        whole = [size for size in sorted(OFFERED) if held <= (size + FIRST_MIB) * 2**20]
        refused = [size for size in whole[1:] if size != OFFERED[0]]
        reason = f"all {held / 2**20:.1f} MiB of gradients fit into smaller ones"
        return Choices(
            allowed=tuple(size for size in OFFERED if size not in refused),
            left_out=tuple((size, reason) for size in refused),
        )

    def canonical(self, settings: Settings, workload: Workload) -> Settings:
        """Fold where nothing travels, and sizes that hold all gradients alike."""
        held = gradient_bytes(workload.model)
        fits = min(settings.bucket_mib, OFFERED[0]) * 2**20 + FIRST_MIB * 2**20 >= held
        return self.fold(settings, when=fits or self.inert(settings, workload), to=OFFERED[0])

    def parallel_options(self, value: Value, options: dict[str, Any]) -> None:
        """Name the size."""
        options["bucket_cap_mb"] = int(value)
