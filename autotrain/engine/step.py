"""One training step: forward, loss, backward, update. Everything else is somebody else's business."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from autotrain.engine.micro_batches import split
from autotrain.engine.parallel import Parallel, rounded, waited
from autotrain.engine.sharded import Sharded
from autotrain.errors import CandidateError, TaskError
from autotrain.knobs.gradients import least_part
from autotrain.team import loss_of_ranks
from autotrain.workload import Workload

MEMORY_WORDS = (
    "out of memory",
    "out_of_memory",
    "alloc_failed",  # cuBLAS's and cuDNN's, of their workspaces
    "allocation_failed",
    "can't allocate memory",  # torch's, on CPUs
    "not enough memory",
)
"""What errors say that tell of memory, beside ``torch.OutOfMemoryError``."""


class Step:
    """``step(content) -> loss``, where ``content`` is what the transfer finished; the loss stays on the device.

    Args:
        workload: gives the loss, or a step of the user's own.
        model: the live model.
        optimizer: the live optimizer.
        contexts: entered around forward pass and loss, such as autocast.
        scaler: loss scaler, for fp16.
        clip_norm: largest norm of the gradient; None leaves it.
        forward: the model's forward pass, where it is another callable than the model itself.
        parts: micro-batches that a batch passes the model in; the update is that of the whole batch.
        sharded: whether the model of several ranks lies in parts on them.
        parallel: how gradients travel between ranks, options of Parallel; one process alone rounds them likewise.

    Under several ranks each is handed its part of the batch, and the update is that of the whole batch too.
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
        forward: Callable[[Any], Any] | None = None,
        parts: int = 1,
        sharded: bool = False,
        parallel: Mapping[str, Any] | None = None,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.scaler = scaler
        self._workload = workload
        self._contexts = tuple(contexts)
        self._clip_norm = clip_norm
        self._forward = forward if forward is not None else model
        self.parts = parts
        """Micro-batches that a batch passes the model in."""

        self._silent = self._passing = self._updating = False
        self._parallel: Parallel | Sharded | None = None
        owned = {id(entry) for group in optimizer.param_groups for entry in group["params"]}
        self._others = [entry for entry in model.parameters() if id(entry) not in owned]
        """What gets gradients that the optimizer does not know of: unfrozen, but not given to it."""

        self._weight = 1.0
        """What this rank's loss counts for in the mean of all."""

        self._rounds = workload.team.alone and bool(parallel and parallel.get("compressed"))
        """Whether this process stands for one of several, whose gradients are rounded on their way."""

        self._breakable = (parallel or {}).get("group") is not None
        """Whether others of its kind go on where ranks wait for each other in vain."""

        self._most = least_part(workload) if sharded and not workload.team.alone else None
        """Parts that a batch has at most where a model lies in parts, which all ranks pass equally often."""

        if not workload.team.alone:
            self._parallel = (
                Sharded(workload.team, self.loss)
                if sharded
                else Parallel(workload.team, model, self.loss, **(parallel or {}))
            )
            self._parallel.begin()
            self._weight = workload.stream().weight

    @property
    def compiled(self) -> bool:
        """Whether the forward pass goes through a compiler, which the first step waits for."""
        return self._forward is not self.model

    def loss(self, content: Any) -> torch.Tensor:
        """Return the loss of a batch, with the precision of training."""
        with self.context():
            if self._workload.task.step is not None:
                return self._workload.task.step(self.model, content)
            images, labels = content
            return self._workload.loss_of(self.forward(images), labels)

    def forward(self, images: Any) -> Any:
        """Return the model's outputs, from its compiled form where there is one."""
        return self._forward(images)

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
        self._passing, self._updating = True, False
        self._drop_others()
        careful = self._parallel is not None and self._parallel.careful
        loss = self._carefully(content) if careful else self._passes(content)
        self._passing, self._updating = False, True
        if self._parallel is not None and careful:
            self._parallel.settle(divided=self.parts > 1)
        if self._rounds:
            rounded(self.model.parameters())
        self.update()
        return loss

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Have ranks train apart within: nothing is sent, and each updates by its own gradients."""
        self._silent = True
        try:
            yield
        finally:
            self._silent = False

    @property
    def repeatable(self) -> bool:
        """Whether a batch that did not fit can be trained on again: no weight has moved, and all ranks stopped."""
        if self._parallel is None:
            return not self._updating
        return self._passing and self._parallel.careful

    @property
    def updating(self) -> bool:
        """Whether the update has begun and has not come to its end, so that some weights may have moved."""
        return self._updating

    def again(self) -> None:
        """Forget what a batch that did not fit into memory has left, before it is trained on in more parts."""
        self._passing = False
        self.optimizer.zero_grad(set_to_none=True)
        self._drop_others()

    def close(self) -> None:
        """Let go of the other ranks, and of what refers back to this step."""
        self._parallel = None

    def _carefully(self, content: Any) -> torch.Tensor:
        """Pass a batch such that all ranks know of memory that runs out on one."""
        assert self._parallel is not None

        def passes() -> torch.Tensor:
            try:
                return self._passes(content)
            except RuntimeError as problem:
                if ran_out(problem):  # in words that mean the same to the others
                    raise CandidateError(f"out of memory on {self._workload.device}") from problem
                if self._breakable and loss_of_ranks(problem):
                    raise waited(self._workload.team, problem) from problem
                raise

        return self._parallel.carefully(passes)

    def _passes(self, content: Any) -> torch.Tensor:
        """Pass a batch forward and backward; return its loss."""
        if self.parts == 1:
            with self._apart(when=False):
                return self._backward(content, self._weight)
        if self._most is not None and self.parts > self._most:
            raise CandidateError(
                f"a batch would have to pass the model in {self.parts} parts, and a rank has {self._most} of its "
                "images. Take a smaller batch"
            )
        parts = split(content, self.parts)
        losses: list[torch.Tensor] = []
        for part, share in parts:
            last = len(losses) == len(parts) - 1
            with self._apart(when=not last):
                losses.append(self._backward(part, share * self._weight))
        return torch.stack(losses).sum()

    def _apart(self, *, when: bool) -> AbstractContextManager[None]:
        """Return a context in which gradients stay on this rank, on a condition or while nothing is to be sent."""
        if self._parallel is None or not (when or self._silent):
            return nullcontext()
        return self._parallel.apart()

    def _backward(self, content: Any, share: float) -> torch.Tensor:
        """Add the gradient of images that are a share of the batch; return their share of its loss, detached."""
        loss = self.loss(content) if self._parallel is None else self._parallel(content)
        check_loss(loss)
        if share != 1.0:
            loss = loss * share
        self.backward(loss)
        detached = loss.detach().reshape(())
        return detached.clone() if self.compiled else detached  # a CUDA graph's next run writes over what it gave

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradient of a loss, scaled where there is a scaler, to that of the parameters."""
        if not loss.requires_grad:
            raise TaskError(
                "the loss does not depend on the model's parameters: compute it from the model's outputs, without "
                "detaching them"
            )
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()

    def update(self) -> None:
        """Clip the gradients, take the optimizer's step with them, and drop them."""
        scaler, optimizer = self.scaler, self.optimizer
        self._updating = True
        if scaler is None:
            self._clip()
            optimizer.step()
        else:
            if self._clip_norm is not None:
                scaler.unscale_(optimizer)
                self._clip()
            scaler.step(optimizer)
            scaler.update()
        optimizer.zero_grad(set_to_none=True)
        self._updating = False

    def _drop_others(self) -> None:
        """Drop the gradients that this optimizer does not take, which would add up; another one has had its time."""
        for entry in self._others:
            entry.grad = None

    def _clip(self) -> None:
        """Clip the gradients that the optimizer takes."""
        if self._clip_norm is None:
            return
        taken = {id(entry): entry for group in self.optimizer.param_groups for entry in group["params"]}
        ordered = [entry for entry in self.model.parameters() if taken.pop(id(entry), None) is not None]
        nn.utils.clip_grad_norm_([*ordered, *taken.values()], self._clip_norm)


def ran_out(problem: BaseException) -> bool:
    """Tell whether an error says that memory ran out, in torch's words or in those of the libraries beneath it."""
    if isinstance(problem, torch.OutOfMemoryError):
        return True
    said = str(problem).lower()
    return isinstance(problem, RuntimeError) and any(words in said for words in MEMORY_WORDS)


def check_loss(loss: Any) -> None:
    """Check that a loss is a tensor of one number.

    Raises:
        TaskError: it is something else.
    """
    if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
        raise TaskError(f"the loss must be one number, got {_shape(loss)}: reduce it, for instance by .mean()")


def _shape(loss: Any) -> str:
    return f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else type(loss).__name__
