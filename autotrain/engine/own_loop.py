"""A loop of the user's own: a rig that stays live around it, and the pieces of a step."""

from __future__ import annotations

import atexit
import logging
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from autotrain.data.batch import HostBatch
from autotrain.data.transfer import DeviceBatch
from autotrain.engine.evaluate import Score, evaluate
from autotrain.engine.held_out import HeldOut
from autotrain.engine.rig import Rig
from autotrain.engine.state import bring_back, bring_back_random, live_state
from autotrain.engine.step import check_loss
from autotrain.errors import CandidateError, CheckpointError, TaskError, UnsupportedError
from autotrain.settings import Settings
from autotrain.workload import Workload

log = logging.getLogger("autotrain")

CLOSED = "prepare: this job is closed, and its workers have ended. Close it later, or prepare it again"

APART = (
    "{what}: with several processes, gradients are averaged by job.step(...) alone. Call that, and give prepare loss= "
    "or step= where the loss is your own"
)


@dataclass(slots=True, kw_only=True)
class Place:
    """How far a loop is."""

    step: int = 0
    """Batches given so far, those of earlier runs included."""

    begun: bool = False
    """Whether the epoch of that step was begun by an iteration, so that the next one begins the next."""

    iteration: int = 0
    """Counts what has begun, so that an iteration sees when another one takes its place."""


_open: weakref.ref[OwnLoop] | None = None
"""The loop that is live; flags of the process can be those of one alone."""


class OwnLoop:
    """A live rig on the user's own model, until ``close``, until nothing refers to it, or until the process ends.

    Args:
        workload: what is trained.
        settings: how.
        clip_norm: largest norm of the gradient; None leaves it.

    Raises:
        UnsupportedError: the settings train another object than the user's model.
    """

    def __init__(self, workload: Workload, settings: Settings, *, clip_norm: float | None = None) -> None:
        global _open
        before = None if _open is None else _open()
        if before is not None and not before.closed:
            log.warning("prepare: the job that was prepared before is still open, and is closed now: one at a time")
            before.close()
        with ExitStack() as stack:
            stack.enter_context(_modes_kept(workload.model))
            self._rig = stack.enter_context(Rig(workload, settings, clip_norm=clip_norm, borrow=False))
            stack.enter_context(self._rig.active())
            if self._rig.step.model is not workload.model:
                raise UnsupportedError(
                    "prepare: the model would lie in parts on several processes, which only fit trains. Call fit, or "
                    "prepare it with whole copies"
                )
            stack.enter_context(_called_compiled(self._rig))
            self.held_out = HeldOut(self._rig) if workload.validation is not None else None
            """What brings the validation set, where there is one."""

            self.place = Place()
            self._checked = self._warned = False
            self._end = weakref.finalize(self, stack.pop_all().close)
        atexit.register(self._end)  # before the ranks part, which happens at exit too
        _open = weakref.ref(self)

    @property
    def closed(self) -> bool:
        """Whether all is put back."""
        return not self._end.alive

    @property
    def rig(self) -> Rig:
        """The live rig.

        Raises:
            TaskError: it is closed.
        """
        if self.closed:
            raise TaskError(CLOSED)
        return self._rig

    def close(self) -> None:
        """End the workers, and put back what is to be as before; the trained weights stay."""
        self._end()
        atexit.unregister(self._end)

    def step(self, content: Any) -> torch.Tensor:
        """Train on a batch; return its loss, detached and on the device.

        Raises:
            TaskError: model, labels or loss do not fit, or the first loss is not a number.
            CandidateError: memory ran out.
        """
        rig, step, count = self.rig, max(0, self.place.step - 1), _length(content)
        if not self._checked:
            with _modes_kept(rig.step.model):
                rig.check(HostBatch(step=step, epoch=0, count=count, content=content))
        try:
            loss = rig.train(DeviceBatch(step=step, epoch=0, count=count, content=content))
        except CandidateError as problem:
            raise CandidateError(f"step {step}: {problem}. Take a smaller batch") from problem
        if not self._checked and bool(loss.isnan()):
            raise TaskError("the loss of the first step is not a number: check the images' values and the loss")
        self._checked = True
        return loss

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context of forward pass and loss.

        Raises:
            UnsupportedError: several processes train, whose gradients would stay apart.
        """
        rig = self.rig
        if torch.is_grad_enabled():
            self._check_own("autocast")
        return rig.step.context()

    def backward(self, loss: torch.Tensor) -> None:
        """Add a loss's gradient, scaled where fp16 needs that.

        Raises:
            TaskError: it is not one number, or does not depend on the model.
            UnsupportedError: several processes train, whose gradients would stay apart.
        """
        rig = self.rig
        self._check_own("backward")
        check_loss(loss)
        rig.step.backward(loss)

    def update(self) -> None:
        """Clip, update and drop the gradients.

        Raises:
            UnsupportedError: several processes train, whose gradients would stay apart.
        """
        rig = self.rig
        self._check_own("update")
        rig.step.update()

    def evaluate(self, model: nn.Module | None, metrics: Mapping[str, Any] = MappingProxyType({})) -> Score:
        """Evaluate the model, or another one like it, on the validation set.

        Raises:
            TaskError: there is none.
        """
        rig = self.rig
        if self.held_out is None:
            raise TaskError("evaluate: there is no validation set: give prepare validation='photos/val'")
        return evaluate(rig, held_out=self.held_out, model=model, metrics=metrics)

    def state(self) -> dict[str, Any]:
        """Return everything that training goes on from; the tensors are live ones."""
        return {**live_state(self.rig), "step": self.place.step}

    def go_on(self, contents: Any) -> None:
        """Put back what ``state`` returned; the next iteration goes on within its epoch.

        Raises:
            CheckpointError: it is something else, or fits another model or optimizer.
        """
        rig, where = self.rig, "load_state_dict"
        wanted = {"model", "buffers", "optimizer", "scaler", "random", "step"}
        if not isinstance(contents, Mapping) or not wanted <= contents.keys():
            raise CheckpointError(f"{where}: no state of a prepared job; give what its state_dict() returned")
        bring_back(rig, dict(contents), where=where)
        world = rig.workload.team.world
        if world.rank:
            bring_back_random(rig, dict(contents), rank=world.rank, ranks=world.world_size)
        self.place = Place(step=int(contents["step"]), iteration=self.place.iteration + 1)

    def _check_own(self, what: str) -> None:
        """Refuse a step of the user's own where it would be wrong, and say once what it leaves out."""
        rig = self._rig
        if not rig.workload.team.alone:
            raise UnsupportedError(APART.format(what=what))
        if rig.step.parts > 1 and not self._warned:
            self._warned = True
            log.warning("micro_batches = %d: only job.step(...) divides a batch; yours passes whole", rig.step.parts)


@contextmanager
def _modes_kept(model: nn.Module) -> Iterator[None]:
    """Put every module back into the mode that it had, training or evaluation."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def _called_compiled(rig: Rig) -> Iterator[None]:
    """Have calls of the model in training lead to its compiled form, where the rig has one; its names stay."""
    model, step = rig.step.model, rig.step
    if not rig.compiled:
        yield
        return
    plain: Callable[..., Any] = model._call_impl

    def call(*images: Any, **options: Any) -> Any:
        if len(images) != 1 or options or not model.training or not torch.is_grad_enabled():
            return plain(*images, **options)
        return step.forward(images[0])

    model._compiled_call_impl = call
    try:
        yield
    finally:
        del model._compiled_call_impl


def _length(content: Any) -> int:
    """Return how many images a batch has, 0 where it is of another kind."""
    images = content[0] if isinstance(content, tuple | list) and content else content
    return len(images) if isinstance(images, torch.Tensor) and images.ndim else 0
