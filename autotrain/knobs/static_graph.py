"""Static graph: ranks need not look in every step which parameters took part."""

from __future__ import annotations

from typing import Any

from autotrain.hardware.machine import Machine
from autotrain.knobs.base import Choices, Effect, Knob, Side
from autotrain.knobs.gradients import ALONE
from autotrain.settings import Settings, Value
from autotrain.workload import Workload

OWN_STEP = "a step of your own may take another way through the model in each step"


class StaticGraph(Knob):
    """Saves the search for unused parameters; the same numbers, as long as every step takes the same way."""

    name, effect, side = "static_graph", Effect.EXACT, Side.COMPUTE
    known = (False, True)
    binding = False

    def choices(self, workload: Workload, machine: Machine) -> Choices:
        """Offer it to several ranks, but not for a step of the user's."""
        del machine
        reason = ALONE if workload.team.alone else OWN_STEP if workload.task.step is not None else None
        if reason is not None:
            return Choices(allowed=(False,), left_out=((True, reason),))
        return Choices(allowed=(False, True))

    def legal(self, settings: Settings, workload: Workload, machine: Machine) -> str | None:
        """Refuse micro-batches, whose first passes send nothing."""
        del workload, machine
        if settings.static_graph and settings.micro_batches > 1:
            return "not with micro-batches, of which only the last one sends gradients"
        return None

    def canonical(self, settings: Settings, workload: Workload) -> Settings:
        """Fold where nothing travels."""
        return self.fold(settings, when=workload.team.alone, to=False)

    def parallel_options(self, value: Value, options: dict[str, Any]) -> None:
        """Name it."""
        options["static_graph"] = bool(value)
