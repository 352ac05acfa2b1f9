"""Gradient precision: gradients travel between ranks in half as many bytes."""

from __future__ import annotations

from typing import Any

from autotrain.hardware.machine import Machine
from autotrain.knobs.base import Choices, Effect, Knob, Side
from autotrain.knobs.gradients import ALONE
from autotrain.settings import Settings, Value
from autotrain.workload import Workload


class GradientPrecision(Knob):
    """Sums of gradients are rounded to bfloat16 on their way; weights and updates stay in fp32."""

    name, effect, side = "gradient_precision", Effect.NUMERICS, Side.COMPUTE
    known = ("fp32", "bf16")
    binding = False

    def choices(self, workload: Workload, machine: Machine) -> Choices:
        """Offer it to several ranks."""
        del machine
        if workload.team.alone:
            return Choices(allowed=("fp32",), left_out=(("bf16", ALONE),))
        return Choices(allowed=self.known)

    def canonical(self, settings: Settings, workload: Workload) -> Settings:
        """Fold where nothing travels."""
        return self.fold(settings, when=workload.team.alone, to="fp32")

    def parallel_options(self, value: Value, options: dict[str, Any]) -> None:
        """Name the type."""
        options["compressed"] = value == "bf16"
