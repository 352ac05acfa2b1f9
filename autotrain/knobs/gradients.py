"""What the knobs of several ranks share: how much travels between them."""

from __future__ import annotations

from torch import nn

ALONE = "there is one process only"
"""Why a knob of several ranks has nothing to offer."""


def gradient_bytes(model: nn.Module) -> int:
    """Return the bytes of all gradients of a model."""
    return sum(entry.numel() * entry.element_size() for entry in model.parameters() if entry.requires_grad)
