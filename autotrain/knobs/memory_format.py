"""Memory format: channels-last keeps the channels of a pixel together, as fast convolutions like them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from autotrain.hardware.machine import Machine
from autotrain.knobs.base import Choices, Effect, Knob, Side
from autotrain.settings import Value
from autotrain.workload import Workload

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


class MemoryFormat(Knob):
    """Contiguous (NCHW) or channels-last (NHWC); it can lose in fp32 and win under autocast."""

    name, effect, side = "memory_format", Effect.NUMERICS, Side.COMPUTE
    known = tuple(FORMATS)
    about = "How images and weights lie in memory; it matters to convolutions alone."
    meanings = {
        "contiguous": "One plane per channel (NCHW), torch's own.",
        "channels_last": (
            "All channels of a pixel side by side (NHWC), as tensor cores and oneDNN like them; pays for "
            "convolutions, most of all under autocast, and costs where layers in between convert back."
        ),
    }

    def choices(self, workload: Workload, machine: Machine) -> Choices:
        """Offer channels-last where there is a two-dimensional convolution."""
        del machine
        if any(isinstance(module, nn.Conv2d | nn.ConvTranspose2d) for module in workload.model.modules()):
            return Choices(allowed=("contiguous", "channels_last"))
        return Choices(allowed=("contiguous",), left_out=(("channels_last", "the model has no 2-D convolution"),))

    def model(self, model: nn.Module, value: Value) -> None:
        """Lay the four-dimensional weights out; contiguous leaves them as the user made them."""
        if value == "channels_last":
            model.to(memory_format=torch.channels_last)

    def transfer_options(self, value: Value, options: dict[str, Any]) -> None:
        """Let normalising write the images in this format."""
        options["memory_format"] = FORMATS[str(value)]
