"""Micro-batches: a batch passes the model in parts, whose gradients add up to those of the whole batch."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn import functional

from autotrain.hardware.machine import Machine
from autotrain.knobs.base import Choices, Effect, Knob, Side
from autotrain.settings import Settings, Value
from autotrain.workload import Workload

OFFERED = (1, 2, 4)
"""Parts that a search tries."""

LEAST_IMAGES = 4
"""Images that a part must have to be worth a pass of its own."""

MEANS = (nn.CrossEntropyLoss, nn.NLLLoss, nn.BCEWithLogitsLoss, nn.BCELoss, nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss)
"""Losses of torch's that are a mean over images, where they are not weighted or told otherwise."""


class MicroBatches(Knob):
    """Takes less memory, and keeps a part in the caches; exact but for rounding where no image sees another one."""

    name, effect, side = "micro_batches", Effect.NUMERICS, Side.COMPUTE
    least = 1
    about = (
        "Parts that a batch passes the model in before one update; pays where memory is short, or where a part "
        "stays in the caches."
    )
    binding = False  # who fixes the number knows about batch statistics; what could never be divided ``legal`` refuses

    def choices(self, workload: Workload, machine: Machine) -> Choices:
        """Offer parts of equal size where the gradient of a batch is the mean of its parts' gradients."""
        del machine
        own = workload.task.settings.micro_batches
        reason = indivisible(workload)
        if reason is None and has_batch_statistics(workload.model):
            reason = "changes what is learned: batch statistics over fewer images"
        if reason is not None:
            left_out = tuple((parts, reason) for parts in OFFERED if parts != own)
            return Choices(allowed=(own,), left_out=left_out)
        small = tuple((parts, why) for parts in OFFERED if (why := _uneven(parts, workload.batch_size)) is not None)
        refused = {parts for parts, _ in small}
        return Choices(allowed=tuple(parts for parts in OFFERED if parts not in refused), left_out=small)

    def legal(self, settings: Settings, workload: Workload, machine: Machine) -> str | None:
        """Refuse what cannot be split; batch statistics are the user's to decide, who may give or fix the number."""
        del machine
        parts = settings.micro_batches
        if parts == 1:
            return None
        if parts > workload.batch_size:
            return f"a batch of {workload.batch_size} images has no {parts} parts"
        return indivisible(workload)

    def step_options(self, value: Value, options: dict[str, Any]) -> None:
        """Name the number of parts."""
        options["parts"] = int(value)


def has_batch_statistics(model: nn.Module) -> bool:
    """Tell whether a layer computes with, or keeps, statistics of the batch that it is given in training.

    Layers that a model's own ``train`` keeps in evaluation mode do not count.
    """
    keeps_modes = any(type(module).train is not nn.Module.train for module in model.modules())
    frozen = keeps_modes and model.training
    return any(
        _of_batch(module) and (module.training or not frozen or _always_of_batch(module)) for module in model.modules()
    )


def _of_batch(module: nn.Module) -> bool:
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return True
    return "num_batches_tracked" in module._buffers and module._buffers["num_batches_tracked"] is not None


def _always_of_batch(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._BatchNorm) and not module.track_running_stats


def indivisible(workload: Workload) -> str | None:
    """Return why a batch's gradient is not known to be the mean of its parts' gradients."""
    if workload.task.step is not None:
        return "a step of your own is given the whole batch"
    if workload.task.collate is not None:
        return "a collation of your own makes batches that autotrain cannot divide"
    return _no_mean(workload)


def _no_mean(workload: Workload) -> str | None:
    loss = workload.task.loss
    if loss is None or loss in (functional.cross_entropy, functional.mse_loss, functional.l1_loss):
        return None
    if type(loss) not in MEANS:
        return "nothing says that a loss of your own is a mean over the images of a batch"
    if getattr(loss, "reduction", None) != "mean":
        return f"the loss is no mean over images: its reduction is '{getattr(loss, 'reduction', None)}'"
    if getattr(loss, "weight", None) is not None or getattr(loss, "ignore_index", -100) >= 0:
        return "the loss is a weighted mean, whose weights would differ from part to part"
    return None


def _uneven(parts: int, batch_size: int) -> str | None:
    if batch_size % parts:
        return f"{batch_size} images cannot be divided into {parts} equal parts"
    if parts > 1 and batch_size // parts < LEAST_IMAGES:
        return f"parts of fewer than {LEAST_IMAGES} images"
    return None
