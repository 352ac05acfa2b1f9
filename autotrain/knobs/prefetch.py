"""Prefetch: batches that each worker keeps ready."""

from __future__ import annotations

from typing import Any

from autotrain.hardware.machine import Machine
from autotrain.knobs.base import Choices, Effect, Knob, Side
from autotrain.settings import Settings, Value
from autotrain.workload import Workload


class Prefetch(Knob):
    """A deeper stock rides out uneven batches and takes memory; without workers it means nothing."""

    name, effect, side = "prefetch", Effect.EXACT, Side.INPUT
    least = 1
    about = "Batches that each worker keeps ready; more of them ride out uneven batches, and take memory."

    def choices(self, workload: Workload, machine: Machine) -> Choices:
        """Offer torch's own 2, and 4."""
        del workload, machine
        return Choices(allowed=(2, 4))

    def canonical(self, settings: Settings, workload: Workload) -> Settings:
        """Fold at 0 workers."""
        del workload
        return self.fold(settings, when=settings.workers == 0, to=Settings().prefetch)

    def loader_options(self, value: Value, options: dict[str, Any]) -> None:
        """Set the stock per worker."""
        options["prefetch"] = value
