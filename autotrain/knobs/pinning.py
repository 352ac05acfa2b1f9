"""Pinning: page-locked host memory, from which a CUDA device copies while the host goes on."""

from __future__ import annotations

from typing import Any

from autotrain.hardware.machine import Machine
from autotrain.knobs.base import Choices, Effect, Knob, Side
from autotrain.settings import Settings, Value
from autotrain.workload import Workload


class Pinning(Knob):
    """On CUDA only; elsewhere there is nothing to copy to."""

    name, effect, side = "pinning", Effect.EXACT, Side.INPUT
    known = (False, True)
    about = "Whether batches lie in page-locked memory on their way to a CUDA device."
    meanings = {
        False: "Ordinary memory; copies wait for the host.",
        True: "Page-locked memory; copies to the GPU overlap with its work, for some of the host's memory and time.",
    }

    def choices(self, workload: Workload, machine: Machine) -> Choices:
        """Offer it on CUDA."""
        del machine
        if workload.device.type == "cuda":
            return Choices(allowed=self.known)
        return Choices(allowed=(False,), left_out=((True, "there is no CUDA device to copy to"),))

    def canonical(self, settings: Settings, workload: Workload) -> Settings:
        """Fold where there is no CUDA device."""
        return self.fold(settings, when=workload.device.type != "cuda", to=False)

    def loader_options(self, value: Value, options: dict[str, Any]) -> None:
        """Pin batches in the loader."""
        options["pin"] = value
