"""Batches in host memory, as a reader makes them and the transfer takes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from autotrain import errors
from autotrain.augment.mixing import Mixing
from autotrain.augment.policy import Parameters


class MixedLabels(NamedTuple):
    """The labels of a batch whose images are mixtures of two; the loss is mixed by the same shares."""

    labels: Any
    """Of the images themselves."""

    others: Any
    """Of the images that were mixed in."""

    share: float
    """Part of each image that is its own, 0 to 1."""


@dataclass(slots=True, kw_only=True)
class HostBatch:
    """One batch in host memory, on its way to the device."""

    step: int
    """The step that it is for."""

    epoch: int
    """The epoch of that step."""

    count: int
    """Samples in it."""

    content: Any
    """``(images, labels)`` for image sources: uint8, (n, channels, height, width), or files that the device decodes
    (``decode.nvjpeg.Packed``); else what the collation gave."""

    parameters: Parameters | None = None
    """What remains to be done to the images on the device."""

    windows: NDArray[np.int64] | None = None
    """Crop windows (top, left, height, width) still to be cut on the device, shape (n, 4)."""

    erased: NDArray[np.int64] | None = None
    """Windows likewise of what the dataset's own transforms erase after normalising; zeros where nothing is."""

    mixing: Mixing | None = None
    """How the images are still to be mixed on the device; the labels are mixed already."""

    def pin_memory(self) -> HostBatch:
        """Move the content to page-locked memory; called by torch's loader."""
        from torch.utils.data._utils.pin_memory import pin_memory

        self.content = pin_memory(self.content)
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An error of autotrain's on its way from a worker to the training process, without a worker's traceback."""

    kind: str
    message: str

    def error(self) -> errors.AutotrainError:
        """Return the error that the worker met."""
        kind: type[errors.AutotrainError] = getattr(errors, self.kind)
        return kind(self.message)


def mixed_labels(labels: Any, partners: Tensor, share: float) -> MixedLabels:
    """Return labels of mixed images; ``labels`` is a tensor or a container of tensors of length n."""
    return MixedLabels(labels, _chosen(labels, partners), share)


def _chosen(labels: Any, places: Tensor) -> Any:
    if isinstance(labels, Tensor):
        return labels[places]
    if isinstance(labels, dict):
        return {name: _chosen(entry, places) for name, entry in labels.items()}
    return type(labels)(_chosen(entry, places) for entry in labels)
