"""Data parallel: every rank trains a copy of the model on its part of each batch, the gradients are averaged."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook
from torch.nn.parallel import DistributedDataParallel

from autotrain.engine.sharded import CAREFUL, equalize, spread
from autotrain.errors import CandidateError, first_line
from autotrain.knobs.micro_batches import has_batch_statistics
from autotrain.team import Team
from autotrain.workload import Workload

log = logging.getLogger(__name__)

WAIT_S = 30.0
"""Seconds that a rank waits for the gradients of another one while candidates are tried."""


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

    The first two batches are trained on carefully: without messages until every rank has its gradients, so that a rank
    which runs out of memory takes the others along instead of leaving them to wait. The second one meets the state that
    the optimizer has made after the first, and both have room set aside for the buffers that gradients travel in: what
    fits then fits later on, but for what the sending itself takes.

    Args:
        team: the ranks.
        model: the live model, on its device.
        loss: of a batch, with the precision of training.
        compressed: have gradients travel as bfloat16.
        group: what gradients travel by; None for what all of the process's do.
        options: of DistributedDataParallel.
    """

    def __init__(
        self,
        team: Team,
        model: nn.Module,
        loss: Callable[[Any], torch.Tensor],
        *,
        compressed: bool = False,
        group: dist.ProcessGroup | None = None,
        **options: Any,
    ) -> None:
        self._team = team
        self._compressed = compressed
        self._group = group
        self._options = options
        self._whole = Whole(model, loss)
        self._parallel: DistributedDataParallel | None = None
        self._trained = [entry for entry in self._whole.parameters() if entry.requires_grad]
        self._left = CAREFUL

    @property
    def careful(self) -> bool:
        """Whether the next batch is one of the first."""
        return self._left > 0

    def begin(self) -> None:
        """Make rank 0's weights and buffers everybody's.

        Raises:
            CandidateError: a rank has failed before.
        """
        self._team.gather()
        equalize(self._whole, self._group)

    def __call__(self, content: Any) -> torch.Tensor:
        """Return the loss; its backward pass averages the gradients, unless in ``apart``."""
        loss: torch.Tensor = (self._parallel or self._whole)(content)
        return loss

    def apart(self) -> AbstractContextManager[None]:
        """Have backward passes add to this rank's own gradients alone."""
        return nullcontext() if self._parallel is None else self._parallel.no_sync()

    def carefully(self, backward: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Run a whole batch's passes without messages; return what they gave.

        Raises:
            CandidateError: it failed on another rank.
        """

        def passes() -> torch.Tensor:
            room = [torch.empty_like(entry) for entry in self._trained]  # what buckets will take
            result = backward()
            del room
            return result

        return self._team.together(passes)

    def settle(self, *, divided: bool) -> None:
        """Average the gradients of a batch's careful passes; after the last of them, have torch do it from here on.

        Rank 0's buffers become everybody's, as before each of torch's steps.

        Args:
            divided: whether batches pass in parts, of which all but the last send nothing; no graph is static then.
        """
        unused = self._unused()
        self._average([entry for place, entry in enumerate(self._trained) if place not in (unused or ())])
        self._left -= 1
        if self._left:
            spread(self._whole.buffers(), self._group)
            return
        options = {**self._options, "static_graph": self._options.get("static_graph", False) and not divided}
        self._parallel = DistributedDataParallel(
            self._whole, find_unused_parameters=unused is not None, process_group=self._group, **options
        )
        if self._compressed:
            self._parallel.register_comm_hook(self._group, bf16_compress_hook)

    def _unused(self) -> set[int] | None:
        """Return which parameters no rank has a gradient for; None where every rank has all."""
        absent = {place for place, entry in enumerate(self._trained) if entry.grad is None}
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
            dist.all_reduce(flat, group=self._group)
            for gradient, mean in zip(own, flat.split([entry.numel() for entry in own]), strict=True):
                gradient.copy_(mean.view(gradient.shape))


def own_group(team: Team, device: torch.device) -> dist.ProcessGroup | None:
    """Return connections that a candidate's gradients may break, those of the process staying whole.

    A rank that fails in the midst of a step leaves the others to wait for its gradients, in what is of no use any more
    once they have waited too long. On CUDA it is None: there torch ends the process of a rank that waits too long.

    Raises:
        CandidateError: a rank has failed before.
    """
    if team.alone or device.type != "cpu" or "gloo" not in dist.get_backend_config():
        return None
    team.gather()
    group = dist.new_group(backend="gloo", timeout=timedelta(seconds=WAIT_S))
    assert isinstance(group, dist.ProcessGroup)
    return group


def waited(team: Team, problem: RuntimeError) -> CandidateError:
    """Return what has become of a candidate whose rank has waited for another one in vain.

    Raises:
        CandidateError: the other one has failed, and says at what.
    """
    team.gather()
    return CandidateError(f"ranks have waited for each other in vain: {first_line(problem)}")


def tell_of_statistics(workload: Workload, *, parts: int) -> None:
    """Say that each rank's batch statistics are those of its own images, where they are.

    Args:
        workload: of several ranks.
        parts: micro-batches.
    """
    norms = [entry for entry in workload.model.modules() if isinstance(entry, nn.modules.batchnorm._BatchNorm)]
    shared = all(isinstance(entry, nn.SyncBatchNorm) for entry in norms)
    if shared or not workload.team.leads or not has_batch_statistics(workload.model):
        return
    log.warning(
        "batch norm: each layer's statistics are of %d images, a rank's own, and not of all %d of a batch. On GPUs "
        "torch.nn.SyncBatchNorm.convert_sync_batchnorm(model) makes them those of all",
        workload.batch_size // (workload.team.world.world_size * parts),
        workload.batch_size,
    )


def rounded(parameters: Iterable[nn.Parameter]) -> None:
    """Round gradients as if they had travelled as bfloat16."""
    for entry in parameters:
        if entry.grad is not None:
            entry.grad.copy_(entry.grad.to(torch.bfloat16))
