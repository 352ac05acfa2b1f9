"""What the knobs of several ranks share: they have nothing to offer to one, and how much travels counts."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from autotrain.data.stream import Stream
from autotrain.hardware.machine import Machine
from autotrain.knobs.base import Choices, Knob, Side
from autotrain.settings import Settings, Value
from autotrain.workload import Workload

FULL = "full"
"""Value of the setting sharding under which every rank keeps a part of the model."""

ALONE = "there is one process only"
"""Why a knob of several ranks has nothing to offer."""


class OfRanks(Knob):
    """A knob that acts on gradients on their way between ranks; its first offer is what torch does by itself."""

    side = Side.COMPUTE
    binding = False
    offered: ClassVar[tuple[Value, ...]]
    """What a search tries."""

    of_copies: ClassVar[bool] = True
    """Whether it concerns ranks that keep whole copies of the model only."""

    def choices(self, workload: Workload, machine: Machine) -> Choices:
        """Offer it to several ranks."""
        del machine
        if workload.team.alone:
            return Choices(allowed=self.offered[:1], left_out=tuple((value, ALONE) for value in self.offered[1:]))
        return Choices(allowed=self.offered)

    def canonical(self, settings: Settings, workload: Workload) -> Settings:
        """Fold where nothing travels."""
        return self.fold(settings, when=self.inert(settings, workload), to=self.offered[0])

    def inert(self, settings: Settings, workload: Workload) -> bool:
        """Tell whether it has no effect: nothing travels, or not as it would say."""
        return workload.team.alone or (self.of_copies and settings.sharding == FULL)


def least_part(workload: Workload) -> int:
    """Return the images of a batch that the rank with the fewest of them has."""
    ranks, size = workload.team.world.world_size, workload.batch_size
    weights = (Stream(size, size, seed=0, rank=rank, world_size=ranks).weight for rank in range(ranks))
    return round(min(weights) * size / ranks)


def gradient_bytes(model: nn.Module) -> int:
    """Return the bytes of all gradients of a model."""
    return sum(entry.numel() * entry.element_size() for entry in model.parameters() if entry.requires_grad)
