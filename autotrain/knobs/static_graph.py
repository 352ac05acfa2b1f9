"""Static graph: ranks need not look in every step which parameters took part."""

from __future__ import annotations

from typing import Any

from autotrain.hardware.machine import Machine
from autotrain.knobs.base import Choices, Effect
from autotrain.knobs.gradients import OfRanks
from autotrain.settings import Settings, Value
from autotrain.workload import Workload

OWN_STEP = "a step of your own may take another way through the model in each step"


class StaticGraph(OfRanks):
    """Saves the search for unused parameters; the same numbers, as long as every step takes the same way."""

    name, effect = "static_graph", Effect.EXACT
    known = offered = (False, True)
    about = "Whether all steps are promised to take the same way through the model."
    meanings = {
        False: "In every step ranks look which parameters took part.",
        True: "Ranks look once; pays a little where the model has many parameters.",
    }

    def choices(self, workload: Workload, machine: Machine) -> Choices:
        """Offer it to several ranks, but not for a step of the user's."""
        if workload.task.step is not None and not workload.team.alone:
            return Choices(allowed=(False,), left_out=((True, OWN_STEP),))
        return super().choices(workload, machine)

    def legal(self, settings: Settings, workload: Workload, machine: Machine) -> str | None:
        """Refuse micro-batches, whose first passes send nothing."""
        del workload, machine
        if settings.static_graph and settings.micro_batches > 1:
            return "not with micro-batches, of which only the last one sends gradients"
        return None

    def parallel_options(self, value: Value, options: dict[str, Any]) -> None:
        """Name it."""
        options["static_graph"] = bool(value)
