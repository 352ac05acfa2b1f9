"""Sharded: each rank keeps a part of weights, gradients and optimizer state, and borrows the others' for a moment.

PyTorch's FSDP2. Rajbhandari et al., "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models", SC 2020;
Zhao et al., "PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel", VLDB 2023.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from autotrain.errors import CandidateError, first_line
from autotrain.team import Team

UNIT = 1 << 20
"""Weights that a block has at least to be gathered, and let go of, by itself."""

CAREFUL = 2
"""Batches that ranks train on such that all know of a failure: the optimizer has its state after the first one."""

CONTAINERS = (nn.Sequential, nn.ModuleList)
"""Modules whose children are called as they are, one by one."""


class Sharded:
    """The loss of a batch whose gradients are averaged over the ranks, each of which keeps its part of them.

    All ranks have to be called at the same time, for evaluations too. Memory that runs out on one rank alone, in the
    midst of a pass, leaves the others to wait until they lose patience; parts are of one size, so that all run out.

    Args:
        team: the ranks.
        loss: of a batch, by a model that ``sharded_copy`` gave.
    """

    def __init__(self, team: Team, loss: Callable[[Any], torch.Tensor]) -> None:
        self._team = team
        self._loss = loss
        self._left = CAREFUL

    @property
    def careful(self) -> bool:
        """Whether the next batch is one of the first."""
        return self._left > 0

    def begin(self) -> None:
        """Wait for the others.

        Raises:
            CandidateError: a rank has failed before.
        """
        self._team.gather()

    def __call__(self, content: Any) -> torch.Tensor:
        """Return the loss; its backward pass averages the gradients."""
        return self._loss(content)

    def apart(self) -> AbstractContextManager[None]:
        """Return a context for a part of a batch; its gradients travel too, since whole ones are not kept."""
        return nullcontext()

    def carefully(self, backward: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Run a whole batch's passes; where they fail on all ranks, all know, and may try again.

        Raises:
            CandidateError: it failed on another rank.
        """
        return self._team.together(backward)

    def settle(self, *, divided: bool) -> None:
        """Note that a careful batch has passed; its gradients have travelled."""
        del divided
        self._left -= 1


def sharded_copy(
    model: nn.Module,
    team: Team,
    device: torch.device,
    *,
    compressed: bool = False,
    group: dist.ProcessGroup | None = None,
) -> nn.Module:
    """Return a copy of a model in training mode whose weights, rank 0's, lie in parts on the ranks' devices.

    The model stays as it is; in host memory it may be larger than a device.

    Args:
        model: the user's model.
        team: the ranks.
        device: of this rank.
        compressed: have gradients travel as bfloat16.
        group: what weights and gradients travel by; None for what all of the process's do.

    Raises:
        CandidateError: the model cannot be copied, or torch cannot shard it.
    """
    live = team.together(lambda: _copied(model))
    equalize(live, group)
    if group is None:
        mesh = init_device_mesh(device.type, (team.world.world_size,))
    else:
        # torch keeps what it knows of a mesh for equal ones, which would then go on with this group when it is gone
        mesh = DeviceMesh.from_group(group, device.type, mesh_dim_names=(f"of {group.group_name}",))
    policy = MixedPrecisionPolicy(reduce_dtype=torch.bfloat16 if compressed else None)
    try:
        for unit in (*units(live), live):
            fully_shard(unit, mesh=mesh, mp_policy=policy)
    except (RuntimeError, ValueError, NotImplementedError, AssertionError) as problem:
        raise CandidateError(f"torch cannot shard this model: {first_line(problem)}") from problem
    live.train()
    return live


def equalize(model: nn.Module, group: dist.ProcessGroup | None = None) -> None:
    """Make rank 0's weights and buffers everybody's."""
    spread([*model.parameters(), *model.buffers()], group)


def spread(tensors: Iterable[torch.Tensor], group: dist.ProcessGroup | None = None) -> None:
    """Make rank 0's values everybody's."""
    with torch.no_grad():
        for tensor in tensors:
            value = tensor.detach().contiguous()
            dist.broadcast(value, 0, group=group)
            tensor.copy_(value)


def units(model: nn.Module) -> list[nn.Module]:
    """Return the blocks that are gathered by themselves: large children of containers, the inner ones first.

    Where modules share weights it is an empty list: all belong to the whole.
    """
    names = dict(model.named_parameters(remove_duplicate=False))
    if len(names) != len(set(map(id, names.values()))):
        return []
    return list(_large(model))


def _large(model: nn.Module) -> Iterator[nn.Module]:
    for child in model.children():
        yield from _large(child)
        if isinstance(model, CONTAINERS) and not isinstance(child, CONTAINERS) and _weights(child) >= UNIT:
            yield child


def _weights(module: nn.Module) -> int:
    return sum(entry.numel() for entry in module.parameters())


def _copied(model: nn.Module) -> nn.Module:
    try:
        live = copy.deepcopy(model)
    except Exception as problem:
        raise CandidateError(f"the model cannot be copied, to be sharded: {first_line(problem)}") from problem
    for entry in live.parameters():
        entry.grad = None
        entry.data = entry.data.contiguous()
    return live


def collect(live: nn.Module, model: nn.Module) -> None:
    """Write the weights and buffers of a sharded copy into the model that it was made of; all ranks do it together."""
    with torch.no_grad():
        for own, entry in zip(model.parameters(), live.parameters(), strict=True):
            own.copy_(whole(entry.detach()))
        for kept, buffer in zip(model.buffers(), live.buffers(), strict=True):
            kept.copy_(buffer)


def whole(thing: Any, *, keep: bool = True) -> Any:
    """Return nested lists and dicts with tensors in parts made whole, in host memory; all ranks do it together.

    Args:
        thing: such as a state_dict.
        keep: False lets go of what is made whole at once, on ranks that do not need it.
    """
    if isinstance(thing, DTensor):
        full = thing.full_tensor()
        return full.cpu() if keep else None
    if isinstance(thing, dict):
        return type(thing)((name, whole(entry, keep=keep)) for name, entry in thing.items())
    if isinstance(thing, list | tuple):
        return type(thing)(whole(entry, keep=keep) for entry in thing)
    return thing


def in_parts(value: Any, like: torch.Tensor) -> Any:
    """Return this rank's part of a tensor that all ranks have, where another one of its shape lies in parts."""
    if not isinstance(like, DTensor) or not isinstance(value, torch.Tensor) or value.shape != like.shape:
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
