"""Augmentation placement: the same pixel work per image in a worker, or per batch on the device."""

from __future__ import annotations

from typing import Any

from autotrain.augment.policy import policy
from autotrain.hardware.machine import Machine
from autotrain.knobs.base import Choices, Effect, Knob, Side
from autotrain.settings import Settings, Value
from autotrain.workload import AUTO, Workload


class Placement(Knob):
    """Where flips and operators run; crops move too where all images have one size.

    Of a dataset's own transforms, what is understood at the end of the chain moves, with the same draws.
    """

    name, effect, side = "placement", Effect.NUMERICS, Side.BOTH
    known = ("worker", "device")
    about = "Where flips, colours and operators are computed."
    meanings = {
        "worker": "Per image where images are loaded; pays where cores are idle.",
        "device": "Per batch on the training device; pays where workers cannot keep up and the device has time left.",
    }

    def choices(self, workload: Workload, machine: Machine) -> Choices:
        """Offer the device where there is pixel work to move."""
        del machine
        opened = workload.task.augmentation == AUTO and workload.augmentable
        if opened or _movable(workload.augmentation, workload):
            return Choices(allowed=self.known)
        return Choices(allowed=("worker",), left_out=(("device", _reason(workload)),))

    def legal(self, settings: Settings, workload: Workload, machine: Machine) -> str | None:
        """Refuse the device where samples are not images that a policy applies to."""
        del machine
        if settings.placement == "device" and not (workload.augmentable or workload.movable):
            return "the samples are transformed by the dataset itself"
        return None

    def canonical(self, settings: Settings, workload: Workload) -> Settings:
        """Fold to the worker where nothing would move."""
        return self.fold(settings, when=not _movable(settings.augmentation, workload), to="worker")

    def reader_options(self, value: Value, options: dict[str, Any]) -> None:
        """Leave the pixel work to the device."""
        options["on_device"] = value == "device"


def _movable(augmentation: str, workload: Workload) -> bool:
    if workload.movable:
        return True
    chosen = policy(augmentation)
    pixels = chosen.depth > 0 or workload.extras.per_sample or workload.extras.mixes
    return workload.augmentable and (pixels or (chosen.crops and workload.uniform))


def _reason(workload: Workload) -> str:
    if workload.pipeline is not None:
        return f"of the dataset's transforms {workload.pipeline.describe()}"
    if not workload.augmentable:
        return "the samples are transformed by the dataset itself"
    return f"policy '{workload.augmentation}' has no pixel work worth moving"
