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
    any time: parts of two of them would be no index of anything. States are those of torch's ``AveragedModel``.

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

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Take the model's state of now into account; the first time it is all there is."""
        live = dict(_tensors(model))
        pairs = [(own, live[name]) for name, own in _tensors(self.module) if name in live]
        first = not int(self.n_averaged)
        groups: dict[tuple[torch.device, torch.dtype], tuple[list[torch.Tensor], list[torch.Tensor]]]
        groups = defaultdict(lambda: ([], []))
        for own, now in pairs:
            averages, values = groups[own.device, own.dtype]
            averages.append(own)
            values.append(now)
        for (_, dtype), (averages, values) in groups.items():
            if first or not (dtype.is_floating_point or dtype.is_complex):
                torch._foreach_copy_(averages, values, non_blocking=True)
            else:
                torch._foreach_lerp_(averages, values, 1 - self._decay)
        self.n_averaged += 1


def _tensors(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield parameters and buffers by name, detached; one that has several names once."""
    yield from ((name, entry.detach()) for name, entry in model.named_parameters())
    yield from ((name, entry.detach()) for name, entry in model.named_buffers())
