"""Prepared: what a training loop of the user's own is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import MappingProxyType, TracebackType
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from autotrain.engine.batches import Batches, HeldOutBatches
from autotrain.engine.evaluate import Score
from autotrain.engine.own_loop import OwnLoop
from autotrain.measure.session import Session
from autotrain.plan.plan import Plan
from autotrain.settings import Settings
from autotrain.workload import Workload


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Prepared:
    """The parts of a training that is tuned, for a loop of one's own; ``autotrain.prepare`` makes it.

    Until it is closed, by leaving its ``with`` or by ``close``, the model lies on the device in the plan's memory
    format, and the process has the plan's flags and threads and the task's seed. Closed, workers have ended, and flags,
    threads, random states, strides and training modes are as before; the model keeps its trained weights, the optimizer
    its state. What is never closed is closed when the process ends.
    """

    model: nn.Module
    """The user's own object under its own names, on the device; where the plan compiles, calls in training are
    compiled, and those in evaluation mode or without gradients are not."""

    loader: Batches
    """The training batches on the device, an epoch per iteration; ``len(loader)`` steps, the short last one left out.
    ``loader.step`` and ``loader.epoch`` tell how far it is."""

    validation: HeldOutBatches | None
    """The validation batches on the device, in order, the short last one included; None without a validation set."""

    optimizer: Optimizer
    """The live optimizer, for schedulers of ``torch.optim.lr_scheduler`` too; the learning rate is the user's."""

    loss: Callable[[Any, Any], torch.Tensor]
    """``loss(outputs, labels)`` as ``step`` computes it, with label smoothing, and of mixed images the mixed loss."""

    plan: Plan
    """The settings that all of this runs with."""

    session: Session | None
    """The probe's measurements; None where a plan was given."""

    _loop: OwnLoop

    def step(self, *batch: Any) -> torch.Tensor:
        """Train on a batch: forward and loss in autocast, backward, loss scaler, clipping, update, gradients dropped.

        Micro-batches pass one after the other, and of several processes the gradients are averaged. The learning rate
        stays as it is.

        Args:
            batch: what the loader gave: ``step(images, labels)``, or the batch as one argument.

        Returns:
            The loss, shape (), detached and on the device; of several processes, what the mean over all is made of.

        Raises:
            TaskError: model, labels or loss do not fit each other, or the first loss is not a number.
            CandidateError: memory ran out.
        """
        return self._loop.step(batch[0] if len(batch) == 1 else batch)

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context for a forward pass and loss of one's own; then come ``backward`` and ``update``.

        Raises:
            UnsupportedError: several processes train, whose gradients ``step`` alone averages.
        """
        return self._loop.autocast()

    def backward(self, loss: torch.Tensor) -> None:
        """Add a loss's gradient to the parameters', scaled where fp16 needs that; the batch passes whole.

        Raises:
            TaskError: it is not one number, or does not depend on the model.
            UnsupportedError: as for ``autocast``.
        """
        self._loop.backward(loss)

    def update(self) -> None:
        """Clip the gradients where wanted, take the optimizer's step by way of the loss scaler, and drop them.

        Raises:
            UnsupportedError: as for ``autocast``.
        """
        self._loop.update()

    def evaluate(self, model: nn.Module | None = None, *, metrics: Mapping[str, Any] = MappingProxyType({})) -> Score:
        """Return loss, accuracy and metrics over the validation set; modes are as before afterwards.

        Args:
            model: another one like the prepared one, such as a moving average of it.
            metrics: by name, as ``Training`` has them.

        Raises:
            TaskError: there is no validation set.
        """
        return self._loop.evaluate(model, metrics)

    def state_dict(self) -> dict[str, Any]:
        """Return model, optimizer, loss scaler, random states and the place in the data, to be saved.

        The tensors are live ones, as those of a model's ``state_dict`` are; ``torch.load(..., weights_only=True)``
        reads what ``torch.save`` writes of it.
        """
        return self._loop.state()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state: the loader's next iteration gives the rest of that epoch, with the same draws.

        Raises:
            CheckpointError: it is no such state, or fits another model or optimizer.
        """
        self._loop.go_on(state)

    def close(self) -> None:
        """End the workers and undo what ``prepare`` did, trained weights apart; once more does nothing."""
        self._loop.close()

    def __repr__(self) -> str:
        changes = self.plan.settings.changes(Settings())
        words = ", ".join(f"{name}={value}" for name, value in changes.items()) or "PyTorch's own settings"
        state = "closed" if self._loop.closed else f"{len(self.loader)} steps per epoch"
        return f"<Prepared {type(self.model).__name__}: {state}; {words}>"

    def __enter__(self) -> Prepared:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def make_live(workload: Workload, plan: Plan, session: Session | None, *, clip_norm: float | None) -> Prepared:
    """Make a workload live under a plan, for a loop of the user's own.

    Raises:
        AutotrainError: it cannot be; the message says what to do.
    """
    loop = OwnLoop(workload, plan.settings, clip_norm=clip_norm)
    return Prepared(
        model=workload.model,
        loader=Batches(loop),
        validation=None if workload.validation is None else HeldOutBatches(loop),
        optimizer=loop.rig.optimizer,
        loss=workload.loss_of,
        plan=plan,
        session=session,
        _loop=loop,
    )
