"""Resize: what brings crops to the size that the model sees."""

from __future__ import annotations

from typing import Any

from autotrain.hardware.machine import Machine
from autotrain.knobs.base import Choices, Effect, Knob, Side
from autotrain.settings import Settings, Value
from autotrain.workload import Workload


class Resize(Knob):
    """Both kernels are bilinear and antialiased, and at most one level apart."""

    name, effect, side = "resize", Effect.NUMERICS, Side.INPUT
    known = ("pillow", "torch")
    about = (
        "What brings crops to the size that the model sees; both are bilinear and antialiased, at most one level apart."
    )
    meanings = {
        "pillow": "Pillow's kernel.",
        "torch": "torch's kernel on bytes; pays where it is vectorised and images come as tensors.",
    }

    def choices(self, workload: Workload, machine: Machine) -> Choices:
        """Offer both where images are resized here."""
        del machine
        windows = workload.takes_windows(Settings(placement="device")) or workload.takes_windows(Settings())
        if windows:
            return Choices(allowed=self.known)
        return Choices(allowed=("pillow",), left_out=(("torch", "the dataset resizes its images itself"),))

    def canonical(self, settings: Settings, workload: Workload) -> Settings:
        """Fold where nothing is resized here."""
        pixels = workload.augmentable and not workload.uniform  # a cache of whole images is resized from, too
        idle = settings.decoder == "nvjpeg" or not (pixels or workload.takes_windows(settings))
        return self.fold(settings, when=idle, to=Settings().resize)

    def reader_options(self, value: Value, options: dict[str, Any]) -> None:
        """Name the kernel."""
        options["kernel"] = value
