"""The transfer: a host batch becomes a batch on the device, augmented, scaled and normalised there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from autotrain.augment.batch import apply_batch
from autotrain.augment.geometry import resize_batch
from autotrain.augment.mixing import Mixing, mix
from autotrain.augment.policy import Parameters
from autotrain.data.batch import HostBatch
from autotrain.decode.base import BatchError
from autotrain.decode.nvjpeg import Packed, decode_on_device
from autotrain.errors import DataError
from autotrain.transforms.suffix import erase


@dataclass(slots=True, kw_only=True)
class DeviceBatch:
    """A batch on the device, before the device's share of the work is done."""

    step: int
    epoch: int
    count: int
    content: Any
    parameters: Parameters | None = None
    windows: np.ndarray[Any, np.dtype[np.int64]] | None = None
    erased: np.ndarray[Any, np.dtype[np.int64]] | None = None
    mixing: Mixing | None = None


class Transfer:
    """Moves batches to the device and finishes them there.

    Args:
        device: where to.
        mean: per channel, of images scaled to 0..1; empty where batches stay as the user's collation makes them.
        std: per channel, likewise.
        image_size: side in pixels that crop windows are resized to.
        memory_format: of the float images.
        fill: levels per channel that erased parts of images in bytes get.
        erased_values: per channel, or one for all: what a dataset's own transforms erase with after normalising.

    On CUDA the copy runs on a stream of its own, beside the step before.
    """

    def __init__(
        self,
        device: torch.device,
        *,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        image_size: int | None,
        memory_format: torch.memory_format = torch.contiguous_format,
        fill: tuple[int, ...] | None = None,
        erased_values: tuple[float, ...] = (),
    ) -> None:
        self.device = device
        self._fill = fill
        self._erased_values = torch.tensor(erased_values, dtype=torch.float32).to(device).view(-1, 1, 1)
        self._image_size = image_size
        self._memory_format = memory_format
        self._normalizes = len(mean) > 0
        deviation = torch.tensor(std, dtype=torch.float32)
        self._scale = (1.0 / (255.0 * deviation)).to(device).view(1, -1, 1, 1)
        self._shift = (-torch.tensor(mean, dtype=torch.float32) / deviation).to(device).view(1, -1, 1, 1)
        self._side = torch.cuda.Stream(device) if device.type == "cuda" else None

    def move(self, batch: HostBatch, *, events: tuple[torch.cuda.Event, torch.cuda.Event] | None = None) -> DeviceBatch:
        """Copy to the device; on CUDA asynchronously where the memory is page-locked.

        ``events`` are recorded before and after the copy, on its stream.
        """
        if self._side is None or _opaque(batch.content):
            content = self._copied(batch.content, events)
        else:
            with torch.cuda.stream(self._side):
                content = self._copied(batch.content, events)
            current = torch.cuda.current_stream(self.device)
            current.wait_stream(self._side)
            _record(content, current)
        return DeviceBatch(
            step=batch.step,
            epoch=batch.epoch,
            count=batch.count,
            content=content,
            parameters=batch.parameters,
            windows=batch.windows,
            erased=batch.erased,
            mixing=batch.mixing,
        )

    def _copied(self, content: Any, events: tuple[torch.cuda.Event, torch.cuda.Event] | None) -> Any:
        """Copy on the current stream; ``events`` are recorded before and after."""
        if events:
            events[0].record()
        copied = to_device(content, self.device)
        if events:
            events[1].record()
        return copied

    def finish(self, batch: DeviceBatch) -> Any:
        """Do the device's share: decode, crop, policy, mixing, scaling, normalising; return what the step is given."""
        content = batch.content
        if not (isinstance(content, tuple | list) and content):
            return content
        images = content[0]
        if isinstance(images, Packed):
            images = self._decoded(images, batch.step)
        elif not (is_raw(images) and self._normalizes):
            return _with_first(content, self._laid_out(images))
        if batch.windows is not None:
            assert self._image_size is not None
            images = resize_batch(images, batch.windows, self._image_size)
        if batch.parameters is not None:
            images = apply_batch(images, batch.parameters, fill=self._fill)
        if batch.mixing is not None:
            images = mix(images, batch.mixing)
        floats = self.normalize(images)
        if batch.erased is not None:
            floats = erase(floats, batch.erased, self._erased_values)
        return _with_first(content, floats)

    def _decoded(self, packed: Packed, step: int) -> torch.Tensor:
        try:
            return decode_on_device(packed, self.device)
        except BatchError as problem:
            raise DataError(
                f"image {problem.place} of the batch of step {step}: cannot be read as an image ({problem}). "
                "Repair it or remove it from the dataset; any other decoder names its file"
            ) from problem

    def normalize(self, images: torch.Tensor) -> torch.Tensor:
        """Return uint8 images (n, channels, height, width) as normalised float32 in the memory format.

        On CUDA that is one kernel, which reads bytes and writes floats in their new order; elsewhere a
        conversion followed by one pass in place is faster.
        """
        floats = torch.empty(images.shape, dtype=torch.float32, device=self.device, memory_format=self._memory_format)
        if self.device.type != "cuda":
            return torch.addcmul(self._shift, floats.copy_(images), self._scale, out=floats)
        return torch.addcmul(self._shift, images, self._scale, out=floats)

    def _laid_out(self, images: Any) -> Any:
        if isinstance(images, torch.Tensor) and images.is_floating_point() and images.ndim == 4:
            return images.contiguous(memory_format=self._memory_format)
        return images


def to_device(content: Any, device: torch.device) -> Any:
    """Return the content with every tensor in it on the device; containers keep their kind."""
    if isinstance(content, torch.Tensor):
        return content.to(device, non_blocking=True)
    if isinstance(content, dict):
        return {key: to_device(entry, device) for key, entry in content.items()}
    if isinstance(content, tuple) and hasattr(content, "_fields"):
        return type(content)(*(to_device(entry, device) for entry in content))
    if isinstance(content, tuple | list):
        return type(content)(to_device(entry, device) for entry in content)
    return content.to(device) if hasattr(content, "to") else content


def _with_first(content: Any, first: Any) -> Any:
    """Return a batch with another first entry; a list, a tuple or a named tuple stays what it is."""
    if first is content[0]:
        return content
    if hasattr(content, "_fields"):
        return type(content)(first, *content[1:])
    return type(content)((first, *content[1:]))


def tensors_in(content: Any) -> list[torch.Tensor]:
    """Return all tensors in a batch's content."""
    if isinstance(content, torch.Tensor):
        return [content]
    if isinstance(content, dict):
        return [tensor for entry in content.values() for tensor in tensors_in(entry)]
    if isinstance(content, tuple | list):
        return [tensor for entry in content for tensor in tensors_in(entry)]
    return []


def _opaque(content: Any) -> bool:
    """Tell whether there are tensors in objects of the user's own, which a side stream cannot keep alive."""
    if isinstance(content, torch.Tensor):
        return False
    if isinstance(content, dict):
        return any(_opaque(entry) for entry in content.values())
    if isinstance(content, tuple | list):
        return any(_opaque(entry) for entry in content)
    return hasattr(content, "to")


def is_raw(images: Any) -> bool:
    """Tell whether these are images still in bytes: uint8, (n, channels, height, width)."""
    return isinstance(images, torch.Tensor) and images.dtype == torch.uint8 and images.ndim == 4


def _record(content: Any, stream: torch.cuda.Stream) -> None:
    for tensor in tensors_in(content):
        tensor.record_stream(stream)
