"""Augmentation strength: the policy that training images go through."""

from __future__ import annotations

from autotrain.augment.policy import POLICIES
from autotrain.hardware.machine import Machine
from autotrain.knobs.base import Choices, Effect, Knob, Side
from autotrain.workload import AUTO, Workload


class Augmentation(Knob):
    """The policy's name. It changes what is learned, so it moves only where the user leaves it open."""

    name, effect, side = "augmentation", Effect.RECIPE, Side.BOTH
    known = tuple(entry.name for entry in POLICIES)

    def choices(self, workload: Workload, machine: Machine) -> Choices:
        """Offer all policies under ``augmentation="auto"``, otherwise the task's own."""
        del machine
        if workload.task.augmentation == AUTO and workload.augmentable:
            return Choices(allowed=tuple(entry.name for entry in POLICIES))
        return Choices(allowed=(workload.augmentation,))
