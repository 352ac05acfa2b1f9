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
    about = (
        "The policy that training images go through: it decides what is learned, so it is chosen by the task and "
        "not for speed, unless the task leaves it open."
    )
    meanings = {
        "none": "Images are resized and nothing else.",
        "flip": "Half of the images are mirrored.",
        "crop": "A random window of each image, resized, and half of them mirrored.",
        "trivial": "Crop, and one random operator of random strength (TrivialAugmentWide).",
        "rand": "Crop, and two random operators of strength 9 (RandAugment).",
        "autoaugment": "Crop, and one of 25 learned pairs of operators (AutoAugment's ImageNet policy).",
        "augmix": "Crop, and a blend of three random chains of operators (AugMix).",
    }

    def choices(self, workload: Workload, machine: Machine) -> Choices:
        """Offer all policies under ``augmentation="auto"``, otherwise the task's own."""
        del machine
        if workload.task.augmentation == AUTO and workload.augmentable:
            return Choices(allowed=tuple(entry.name for entry in POLICIES))
        return Choices(allowed=(workload.augmentation,))
