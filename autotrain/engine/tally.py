"""Sums over some steps of a training."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch


@dataclass(slots=True)
class Tally:
    """Sums since some moment; the loss stays on the device."""

    loss: torch.Tensor
    started: float
    steps: int = 0
    images: int = 0
    wait_s: float = 0.0

    def add(self, loss: torch.Tensor, images: int, wait_s: float) -> None:
        """Add a step."""
        self.loss += loss
        self.steps += 1
        self.images += images
        self.wait_s += wait_s

    def as_dict(self) -> dict[str, Any]:
        """Return plain values and the loss, with the seconds since the begin."""
        return {
            "loss": self.loss,
            "seconds": perf_counter() - self.started,
            "steps": self.steps,
            "images": self.images,
            "wait_s": self.wait_s,
        }
