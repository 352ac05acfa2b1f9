"""Gradient views: gradients lie in the buffers that travel between ranks, instead of being copied there and back."""

from __future__ import annotations

from typing import Any

from autotrain.knobs.base import Effect
from autotrain.knobs.gradients import OfRanks
from autotrain.settings import Value


class GradientViews(OfRanks):
    """Saves a copy and the memory of all gradients; the same numbers."""

    name, effect = "gradient_views", Effect.EXACT
    known = offered = (False, True)
    about = "Whether gradients lie in the buffers that travel between ranks."
    meanings = {
        False: "Gradients are copied into the buffers and back.",
        True: "Gradients lie in the buffers; saves a copy and the memory of all gradients.",
    }

    def parallel_options(self, value: Value, options: dict[str, Any]) -> None:
        """Name it."""
        options["gradient_as_bucket_view"] = bool(value)
