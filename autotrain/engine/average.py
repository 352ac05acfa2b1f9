"""The moving average of a model: its weights over the steps of a training, recent ones counting most.

Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992; the exponential form is that of
Tarvainen and Valpola, "Mean teachers are better role models", NeurIPS 2017.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterator

import torch
from torch import nn


class Average(nn.Module):
    """A copy of a model whose numbers follow the model's: ``decay`` of what they were, the rest of what they are.

    Buffers follow too. Whole numbers and truth values, such as the indices of a position table, are the model's own at
    any time, and so are masks of infinities: parts of two of them would be nothing of the kind. States are those of
    torch's ``AveragedModel``.

    Args:
        model: what is averaged; it is copied.
        decay: per update, 0 to below 1.
    """

    n_averaged: torch.Tensor
    """Updates so far; in host memory, so that nobody waits for a device to read it."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__()
        self.module = copy.deepcopy(model)
        self.register_buffer("n_averaged", torch.tensor(0, dtype=torch.long, device="cpu"))
        self._decay = decay
        self._copied = {name for name, entry in self.module.named_buffers() if not _has_a_mean(entry)}

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Take the model's state of now into account; the first time it is all there is."""
        live = dict(_tensors(model))
        first = not int(self.n_averaged)
        groups: dict[tuple[torch.device, torch.dtype, bool], tuple[list[torch.Tensor], list[torch.Tensor]]]
        groups = defaultdict(lambda: ([], []))
        for name, own in _tensors(self.module):
            if name in live:
                averages, values = groups[own.device, own.dtype, name in self._copied]
                averages.append(own)
                values.append(live[name])
        for (_, _, copied), (averages, values) in groups.items():
            if first or copied:
                torch._foreach_copy_(averages, values, non_blocking=True)
            else:
                torch._foreach_lerp_(averages, values, 1 - self._decay)
        self.n_averaged += 1


def _has_a_mean(entry: torch.Tensor) -> bool:
    """Tell whether numbers between two states of a buffer mean something; infinity, as in masks, less itself is NaN."""
    return (entry.is_floating_point() or entry.is_complex()) and bool(torch.isfinite(entry).all())


def _tensors(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield parameters and buffers by name, detached; one that has several names once."""
    yield from ((name, entry.detach()) for name, entry in model.named_parameters())
    yield from ((name, entry.detach()) for name, entry in model.named_buffers())
