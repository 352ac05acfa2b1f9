"""Data parallel: every rank trains a copy of the model on its part of each batch, the gradients are averaged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook
from torch.nn.parallel import DistributedDataParallel

from autotrain.engine.sharded import equalize
from autotrain.team import Team


class Whole(nn.Module):
    """A model with its loss, so that what DistributedDataParallel wraps gives a loss and the model stays as it is."""

    def __init__(self, model: nn.Module, loss: Callable[[Any], torch.Tensor]) -> None:
        super().__init__()
        self.model = model
        self._loss = loss

    def forward(self, content: Any) -> torch.Tensor:
        """Return the loss of a batch."""
        return self._loss(content)


class Parallel:
    """The loss of a batch whose gradients are averaged over the ranks while the backward pass runs.

    The first batch is trained on carefully: without messages until every rank has its gradients, so that a rank which
    runs out of memory takes the others along instead of leaving them to wait.

    Args:
        team: the ranks.
        model: the live model, on its device.
        loss: of a batch, with the precision of training.
        compressed: have gradients travel as bfloat16.
        options: of DistributedDataParallel.
    """

    def __init__(
        self,
        team: Team,
        model: nn.Module,
        loss: Callable[[Any], torch.Tensor],
        *,
        compressed: bool = False,
        **options: Any,
    ) -> None:
        self._team = team
        self._compressed = compressed
        self._options = options
        self._whole = Whole(model, loss)
        self._parallel: DistributedDataParallel | None = None
        self.careful = True
        """Whether the next batch is the first one, or one after a failure."""

    def begin(self) -> None:
        """Make rank 0's weights and buffers everybody's.

        Raises:
            CandidateError: a rank has failed before.
        """
        self._team.gather()
        equalize(self._whole)

    def __call__(self, content: Any) -> torch.Tensor:
        """Return the loss; its backward pass averages the gradients, unless in ``apart``."""
        loss: torch.Tensor = (self._parallel or self._whole)(content)
        return loss

    def apart(self) -> AbstractContextManager[None]:
        """Have backward passes add to this rank's own gradients alone."""
        return nullcontext() if self._parallel is None else self._parallel.no_sync()

    def carefully(self, backward: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Run a whole batch's passes without messages, then average the gradients; return what the passes gave.

        Raises:
            CandidateError: it failed on another rank.
        """
        self._parallel = None
        result = self._team.together(backward)
        trained = [entry for entry in self._whole.parameters() if entry.requires_grad]
        unused = self._unused(trained)
        self._average([entry for place, entry in enumerate(trained) if place not in (unused or ())])
        self._parallel = DistributedDataParallel(
            self._whole, find_unused_parameters=unused is not None, **self._options
        )
        if self._compressed:
            self._parallel.register_comm_hook(None, bf16_compress_hook)
        self.careful = False
        return result

    def _unused(self, trained: Sequence[nn.Parameter]) -> set[int] | None:
        """Return which parameters no rank has a gradient for; None where every rank has all."""
        absent = {place for place, entry in enumerate(trained) if entry.grad is None}
        if not self._team.largest(len(absent)):
            return None
        return set.intersection(*self._team.everyone(absent))

    def _average(self, parameters: Sequence[nn.Parameter]) -> None:
        """Average gradients over the ranks; one that is missing here counts as zero."""
        for entry in parameters:
            if entry.grad is None:
                entry.grad = torch.zeros_like(entry)
        gradients = [entry.grad for entry in parameters if entry.grad is not None]
        for alike in dict.fromkeys((entry.dtype, entry.device) for entry in gradients):
            own = [entry for entry in gradients if (entry.dtype, entry.device) == alike]
            flat = torch.cat([entry.reshape(-1) for entry in own])
            flat /= self._team.world.world_size
            if self._compressed:
                flat = flat.to(torch.bfloat16)
            dist.all_reduce(flat)
            for gradient, mean in zip(own, flat.split([entry.numel() for entry in own]), strict=True):
                gradient.copy_(mean.view(gradient.shape))


def rounded(parameters: Iterable[nn.Parameter]) -> None:
    """Round gradients as if they had travelled as bfloat16."""
    for entry in parameters:
        if entry.grad is not None:
            entry.grad.copy_(entry.grad.to(torch.bfloat16))
