"""Gradient precision: gradients travel between ranks in half as many bytes."""

from __future__ import annotations

from typing import Any

from autotrain.knobs.base import Effect
from autotrain.knobs.gradients import OfRanks
from autotrain.settings import Value


class GradientPrecision(OfRanks):
    """Sums of gradients are rounded to bfloat16 on their way; weights and updates stay in fp32."""

    name, effect = "gradient_precision", Effect.NUMERICS
    known = offered = ("fp32", "bf16")
    about = "In what gradients travel between ranks."
    meanings = {
        "fp32": "As they are.",
        "bf16": "In half as many bytes, rounded on the way; pays where ranks wait for the network.",
    }
    of_copies = False

    def parallel_options(self, value: Value, options: dict[str, Any]) -> None:
        """Name the type."""
        options["compressed"] = value == "bf16"
