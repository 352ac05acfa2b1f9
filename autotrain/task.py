"""The task: what the user gave, as immutable data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotrain.settings import Settings

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.optim import Optimizer

DatasetLike = Any
"""An image folder's path, a map-style dataset (``__getitem__`` and ``__len__``), or a pair of tensors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A training job as the user describes it; everything but model and dataset has a sensible default."""

    model: nn.Module
    """The model to train, in fp32; it stays the user's own object."""

    dataset: DatasetLike
    """An image folder (``root/class/*.jpg``), a map-style dataset (torchvision's, Hugging Face's, your own), or
    ``(images, labels)`` of equal length, tensors or numpy arrays."""

    validation: DatasetLike | None = None
    """What to validate on after every epoch, of the same kinds as ``dataset``."""

    loss: Callable[[Any, Any], torch.Tensor] | None = None
    """``loss(outputs, labels)``; by the labels' type where None: class numbers give cross-entropy, rows of 0 and 1
    binary cross-entropy, other floats mean squared error."""

    optimizer: Optimizer | Callable[[Iterable[Any]], Optimizer] | None = None
    """An optimizer of the model's parameters, or a function that makes one from them; AdamW(lr=1e-3) where None."""

    label_smoothing: float = 0.0
    """Share of the cross-entropy's target that is spread over all classes, in training; validation is without."""

    no_decay: bool = False
    """Leave parameters of one dimension (biases, and scales of norms) without the optimizer's weight decay."""

    step: Callable[[nn.Module, Any], torch.Tensor] | None = None
    """``step(model, batch) -> loss`` in place of ``loss(model(images), labels)``, for other kinds of tasks."""

    batch_size: int | None = None
    """Images per optimizer step; 64 where None, or an eighth of a dataset too small for that."""

    image_size: int | None = None
    """Side of the square images that the model sees, in pixels; the images' own where they agree, else 224."""

    augmentation: str | None = None
    """Policy for training images (none, flip, crop, trivial, rand, autoaugment, augmix), or ``"auto"``: the strongest
    that costs at most ``allowance``. Where None, image folders get crop, every other dataset none."""

    allowance: float = 0.05
    """Share of the images/s without augmentation that ``"auto"`` may give up for a stronger policy."""

    color_jitter: Sequence[float] | None = None
    """Brightness, contrast, saturation and hue by which colours vary, such as ``(0.4, 0.4, 0.4, 0.1)``; None: not."""

    erasing: float = 0.0
    """Chance that a rectangle of a training image is filled with the mean colour."""

    mixup: float = 0.0
    """Alpha of the Beta distribution by which pairs of images, and their losses, are mixed; 0: not."""

    cutmix: float = 0.0
    """The same for rectangles of one image in the other; with both, each batch gets one of the two."""

    mean: Sequence[float] | None = None
    """Mean per channel of images scaled to 0..1; ImageNet's where None and there are three channels, else 0.5."""

    std: Sequence[float] | None = None
    """Standard deviation per channel, likewise."""

    sampler: Iterable[int] | None = None
    """Gives the indices of one epoch each time it is iterated (a torch sampler); a seeded shuffle where None."""

    collate: Callable[[list[Any]], Any] | None = None
    """Makes a batch from a list of samples, in the worker; the samples then stay as the dataset gives them."""

    duration: str = "10ep"
    """How long to train: epochs (``10ep``), steps (``5000step``), samples (``1000000sample``) or time (``30min``)."""

    stretch: float = 1.0
    """Factor by which the recipe is longer or shorter: its duration, and with it the schedule's milestones."""

    schedule: str | Any = "cosine"
    """Learning rate: ``cosine``, ``linear``, ``trapezoid`` (after a warm-up of 5%), ``constant``, ``onecycle``, a chain
    such as ``linear(5ep) > cosine``, or a Schedule."""

    seed: int = 0
    """Determines the order of the images and every random draw."""

    device: str | None = None
    """Where to train: ``cuda``, ``cuda:1``, ``cpu``, ``mps``; the first CUDA device where None and there is one."""

    cache_dir: str | Path | None = None
    """Folder in which decoded images may be kept for later trainings too; nothing is kept on disk where None."""

    settings: Settings = Settings()
    """How the job runs today; what the probe compares with. PyTorch's own defaults where not given."""
