"""A trial: a short training under a lens, its first step in full and the others by what they come to."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from autotrain.data.batch import HostBatch
from autotrain.engine.restore import seed_everything
from autotrain.engine.rig import Rig
from autotrain.errors import DataError

Excerpts = dict[str, torch.Tensor]
"""By name: elements of a tensor in host memory, float32, one dimension."""

EXCERPT = 1 << 16
"""Most elements of one tensor that are looked at, evenly spread over it."""

MOST_TRIES = 16
"""Times that the first batch may be skipped while the loss scaler finds its scale: from 65,536 down to 1."""

_RANDOM_LAYERS = ("drop", "stochasticdepth")


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstStep:
    """The first step of a trial; every trial of a workload begins with the same weights."""

    loss: float
    gradients: Excerpts
    """Of the parameters, as the optimizer takes them, without the loss scale."""

    updates: Excerpts
    """What was added to the parameters."""

    states: Excerpts
    """What the optimizer keeps per parameter, as ``parameter: name``."""

    statistics: Excerpts
    """What was added to the model's buffers."""

    calibration: int
    """Times that the loss scaler skipped the batch before it had its scale."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a whole trial came to."""

    losses: tuple[float, ...]
    skipped: int
    """Steps after the first that the loss scaler left out."""

    moved: dict[str, float]
    """Norm of the change of each parameter after the first step."""

    statistics: Excerpts
    """What was added to the model's buffers after the first step."""

    evaluation: float
    """Loss on a batch not trained on, in evaluation mode."""


class Trial:
    """Trains on a rig, which must be active meanwhile.

    Layers that draw at random let everything through: what they draw depends on the memory format and the kernel.
    """

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.first_batch: HostBatch | None = None
        """Kept, so that other rigs can take the same step."""

        self.held_batch: HostBatch | None = None
        """Kept likewise: what the trial was evaluated on."""

        self.model = rig.step.model
        """The live model."""

        self._losses: list[torch.Tensor] = []
        self._gradients: Excerpts = {}
        self._names = {id(entry): name for name, entry in self.model.named_parameters()}
        silence(self.model)
        self._parameters, self._buffers = self._read(), self._read_buffers()

    def first_step(self, batch: HostBatch | None = None) -> FirstStep:
        """Train on the stream's first batch, or on a given one, until the loss scaler lets the step happen."""
        rig = self.rig
        self.first_batch = batch or next_batch(rig)
        seed_everything(rig.workload.seed, rig.device)
        moved = rig.move(self.first_batch)
        buffers = {name: entry.clone() for name, entry in self.model.named_buffers()}
        calibration = 0
        with self._watching():
            while True:
                self._gradients = {}
                loss, skipped = self._train(moved)
                if not skipped or calibration == MOST_TRIES:
                    break
                calibration += 1
                for name, entry in self.model.named_buffers():
                    if name in buffers:
                        entry.copy_(buffers[name])
        loss = self._mean(loss)
        self._losses.append(loss)
        before = self._parameters, self._buffers
        self._parameters, self._buffers = self._read(), self._read_buffers()
        return FirstStep(
            loss=float(loss),
            gradients=self._gradients,
            updates=_difference(self._parameters, before[0]),
            states=self._states(),
            statistics=_difference(self._buffers, before[1]),
            calibration=calibration,
        )

    def others(self, steps: int, *, parts: int = 1, held: HostBatch | None = None) -> Outcome:
        """Train on until there were ``steps`` steps; then evaluate on one more batch if the loss is still a number.

        Args:
            steps: all of them, the first one counted.
            parts: train on the first of so many parts of each batch.
            held: what to evaluate on; the stream's next batch where None.
        """
        skips = 0
        for _ in range(steps - len(self._losses)):
            loss, skipped = self._train(self.rig.move(next_batch(self.rig)), parts)
            self._losses.append(self._mean(loss))
            skips += skipped
        losses = tuple(torch.stack([loss.float() for loss in self._losses]).tolist())
        moved = _difference(self._read(), self._parameters)
        statistics = _difference(self._read_buffers(), self._buffers)
        evaluation = math.nan
        if math.isfinite(losses[-1]):
            self.held_batch = held or next_batch(self.rig)
            evaluation = float(self._mean(torch.tensor(self._evaluate(self.held_batch))))
        return Outcome(
            losses=losses,
            skipped=skips,
            moved={name: float(entry.norm()) for name, entry in moved.items()},
            statistics=statistics,
            evaluation=evaluation,
        )

    def _train(self, batch: Any, parts: int = 1) -> tuple[torch.Tensor, bool]:
        scaler = self.rig.step.scaler
        before = 0.0 if scaler is None else scaler.get_scale()
        loss = self.rig.train(batch, parts=parts)
        return loss, scaler is not None and scaler.get_scale() < before

    def _mean(self, loss: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of all ranks, which decide alike by it whether they go on."""
        team = self.rig.workload.team
        return loss if team.alone else torch.tensor(team.total(float(loss))[0] / team.world.world_size)

    @contextmanager
    def _watching(self) -> Iterator[None]:
        """Read the gradients whenever the optimizer is about to take them."""
        handle = self.rig.optimizer.register_step_pre_hook(self._watch)
        try:
            yield
        finally:
            handle.remove()

    def _watch(self, optimizer: Optimizer, *options: Any) -> None:
        del options
        if self._gradients:
            return  # an optimizer may call another one's step, having changed the gradients
        scale = getattr(optimizer, "grad_scale", None)  # kernels that unscale are handed gradients with the scale in
        scale = 1.0 if scale is None else float(scale)
        self._gradients = {
            name: excerpt(entry.grad) / scale
            for name, entry in self.model.named_parameters()
            if entry.grad is not None and entry.grad.is_floating_point()
        }

    def _read(self) -> Excerpts:
        return {
            name: excerpt(entry)
            for name, entry in self.model.named_parameters()
            if entry.requires_grad and entry.is_floating_point()
        }

    def _read_buffers(self) -> Excerpts:
        return {name: excerpt(entry) for name, entry in self.model.named_buffers() if entry.is_floating_point()}

    def _states(self) -> Excerpts:
        return {
            f"{self._names[id(parameter)]}: {key}": excerpt(value)
            for parameter, entries in self.rig.optimizer.state.items()
            if id(parameter) in self._names
            for key, value in entries.items()
            if key != "step" and isinstance(value, torch.Tensor) and value.shape == parameter.shape
        }

    def _evaluate(self, batch: HostBatch) -> float:
        model, rig = self.model, self.rig
        content = rig.transfer.finish(rig.move(batch))
        modes = [(module, module.training) for module in model.modules()]
        model.eval()
        try:
            with torch.no_grad(), rig.step.context():
                if rig.workload.task.step is not None:
                    return float(rig.step.loss(content))
                return float(rig.workload.loss_of(model(content[0]), content[1]))  # as an evaluation does, not compiled
        finally:
            for module, mode in modes:
                module.training = mode


def silence(model: nn.Module) -> None:
    """Set every chance to drop something to zero; the lease of the model knows the values that were there."""
    for module in model.modules():
        by_name = any(part in type(module).__name__.lower() for part in _RANDOM_LAYERS)
        for name, value in vars(module).items():
            if type(value) is float and 0 < value <= 1 and ("drop" in name or (by_name and name == "p")):
                setattr(module, name, 0.0)


def excerpt(tensor: torch.Tensor) -> torch.Tensor:
    """Return a copy of at most ``EXCERPT`` elements in host memory, the same ones whatever the memory format.

    Of a tensor that lies in parts on the ranks it is that of the whole, for which all of them have to ask.
    """
    tensor = tensor.detach()
    if isinstance(tensor, DTensor):
        tensor = whole(tensor)
    dense = tensor if tensor.layout is torch.strided else tensor.to_dense()
    stride = -(-dense.numel() // EXCERPT) | 1  # odd, so that it meets every channel of the usual even numbers
    return dense.reshape(-1)[::stride].to("cpu", torch.float32, copy=True)


def whole(tensor: DTensor) -> torch.Tensor:
    """Return all of a tensor whose rows lie on the ranks as ``torch.chunk`` deals them; all ranks do it together.

    Not by the tensor's own mesh: torch remembers that of an equal one before, whose group may be gone.
    """
    own, rows = tensor.to_local(), -(-tensor.shape[0] // dist.get_world_size())
    part = own.new_zeros((rows, *tensor.shape[1:]))
    part[: len(own)] = own
    parts = [torch.empty_like(part) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, part)
    return torch.cat(parts)[: tensor.shape[0]]


def next_batch(rig: Rig) -> HostBatch:
    """Return the next batch of the rig's stream.

    Raises:
        DataError: there is none.
    """
    try:
        return rig.input.next()
    except StopIteration as problem:
        raise DataError("the stream of batches ended in the numerics guard: the sampler gives too few") from problem


def _difference(after: Excerpts, before: Excerpts) -> Excerpts:
    return {name: after[name] - entry for name, entry in before.items() if name in after}
