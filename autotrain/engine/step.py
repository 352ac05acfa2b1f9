"""One training step: forward, loss, backward, update. Everything else is somebody else's business."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from autotrain.errors import TaskError
from autotrain.workload import Workload


class Step:
    """``step(content) -> loss``, where ``content`` is what the transfer finished; the loss stays on the device.

    Args:
        workload: gives the loss, or a step of the user's own.
        model: the live model.
        optimizer: the live optimizer.
        contexts: entered around forward pass and loss, such as autocast.
        scaler: loss scaler, for fp16.
        clip_norm: largest norm of the gradient; None leaves it.
    """

    def __init__(
        self,
        workload: Workload,
        model: nn.Module,
        optimizer: Optimizer,
        *,
        contexts: Sequence[Callable[[], AbstractContextManager[object]]] = (),
        scaler: torch.amp.GradScaler | None = None,
        clip_norm: float | None = None,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.scaler = scaler
        self._workload = workload
        self._contexts = tuple(contexts)
        self._clip_norm = clip_norm

    def loss(self, content: Any) -> torch.Tensor:
        """Return the loss of a batch, with the precision of training."""
        with self.context():
            if self._workload.task.step is not None:
                return self._workload.task.step(self.model, content)
            images, labels = content
            return self._workload.loss_of(self.model(images), labels)

    def context(self) -> AbstractContextManager[object]:
        """Return the context of forward passes."""
        if len(self._contexts) == 1:
            return self._contexts[0]()
        stack = ExitStack()
        for make in self._contexts:
            stack.enter_context(make())
        return stack

    def __call__(self, content: Any) -> torch.Tensor:
        """Train on a batch; return its loss, detached and on the device."""
        loss = self.loss(content)
        check_loss(loss)
        if not loss.requires_grad:
            raise TaskError(
                "the loss does not depend on the model's parameters: compute it from the model's outputs, without "
                "detaching them"
            )
        self._update(loss)
        return loss.detach().reshape(())

    def _update(self, loss: torch.Tensor) -> None:
        scaler, optimizer = self.scaler, self.optimizer
        if scaler is None:
            loss.backward()
            self._clip()
            optimizer.step()
        else:
            scaler.scale(loss).backward()
            if self._clip_norm is not None:
                scaler.unscale_(optimizer)
                self._clip()
            scaler.step(optimizer)
            scaler.update()
        optimizer.zero_grad(set_to_none=True)

    def _clip(self) -> None:
        if self._clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self._clip_norm)


def check_loss(loss: Any) -> None:
    """Check that a loss is a tensor of one number.

    Raises:
        TaskError: it is something else.
    """
    if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
        raise TaskError(f"the loss must be one number, got {_shape(loss)}: reduce it, for instance by .mean()")


def _shape(loss: Any) -> str:
    return f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else type(loss).__name__
