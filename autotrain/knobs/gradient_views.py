"""Gradient views: gradients lie in the buffers that travel between ranks, instead of being copied there and back."""

from __future__ import annotations

from typing import Any

from autotrain.hardware.machine import Machine
from autotrain.knobs.base import Choices, Effect, Knob, Side
from autotrain.knobs.gradients import ALONE
from autotrain.settings import Settings, Value
from autotrain.workload import Workload


class GradientViews(Knob):
    """Saves a copy and the memory of all gradients; the same numbers."""

    name, effect, side = "gradient_views", Effect.EXACT, Side.COMPUTE
    known = (False, True)
    binding = False

    def choices(self, workload: Workload, machine: Machine) -> Choices:
        """Offer it to several ranks."""
        del machine
        if workload.team.alone:
            return Choices(allowed=(False,), left_out=((True, ALONE),))
        return Choices(allowed=(False, True))

    def canonical(self, settings: Settings, workload: Workload) -> Settings:
        """Fold where nothing travels."""
        return self.fold(settings, when=workload.team.alone, to=False)

    def parallel_options(self, value: Value, options: dict[str, Any]) -> None:
        """Name it."""
        options["gradient_as_bucket_view"] = bool(value)
