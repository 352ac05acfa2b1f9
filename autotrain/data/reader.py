"""The reader: turns a ticket into a batch in host memory, in a worker or in the training process."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset, get_worker_info

from autotrain import errors
from autotrain.augment.draws import sample_seeds
from autotrain.augment.geometry import center_window, crop_window, resize_batch
from autotrain.augment.policy import Parameters, Policy
from autotrain.augment.sample import apply_sample
from autotrain.data.source import Source, TensorSource, collate_samples, image_size, is_image_pair, read_sample
from autotrain.data.stream import Ticket, seed_generators, seeded


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
    """``(images, labels)`` for image sources: uint8, (n, channels, height, width); else what the collation gave."""

    parameters: Parameters | None = None
    """What remains to be done to the images on the device."""

    windows: np.ndarray[Any, np.dtype[np.int64]] | None = None
    """Crop windows (top, left, height, width) still to be cut on the device, shape (n, 4)."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What is done to the images between dataset and model; the same for every setting of speed."""

    seed: int
    """Keys all draws."""

    policy: Policy
    """Augmentation; ``none`` when evaluating."""

    image_size: int | None = None
    """Side of the images in pixels; None leaves samples as they are."""

    channels: int = 3
    """Channels that images are given: 1 keeps greyscale, 3 makes RGB."""

    collate: Any = None
    """The user's own collation, which also means that samples stay untouched."""


class Reader(Dataset[HostBatch | Failure]):
    """Loads whole batches: ``reader[ticket]``. Picklable when the dataset is.

    Args:
        source: where the samples come from.
        recipe: what is done to them.
        on_device: leave the policy's pixel work to the device.
    """

    def __init__(self, source: Source, recipe: Recipe, *, on_device: bool = False) -> None:
        self.source = source
        self.recipe = recipe
        self.on_device = on_device

    def __getitem__(self, ticket: Ticket) -> HostBatch | Failure:
        if get_worker_info() is None:
            if self.source.pure:
                return self.read(ticket)
            with seeded():
                return self.read(ticket)
        try:
            return self.read(ticket)
        except errors.AutotrainError as problem:
            return Failure(kind=type(problem).__name__, message=str(problem))

    def read(self, ticket: Ticket) -> HostBatch:
        """Load the batch of a ticket.

        Raises:
            DataError: a sample cannot be read or does not fit the others.
        """
        if self.recipe.collate is not None or not self.source.images:
            return self._foreign(ticket)
        parameters = self.recipe.policy.draw(self.recipe.seed, ticket.epoch, ticket.positions)
        if isinstance(self.source, TensorSource):
            return self._tensors(ticket, parameters)
        return self._images(ticket, parameters)

    def _foreign(self, ticket: Ticket) -> HostBatch:
        if isinstance(self.source, TensorSource) and self.recipe.collate is None:
            return _batch(ticket, self.source.batch(ticket.indices))
        return _batch(ticket, self._collated(self._samples(ticket)))

    def _collated(self, samples: list[Any]) -> Any:
        if self.recipe.collate is None:
            return collate_samples(samples)
        try:
            return self.recipe.collate(samples)
        except Exception as problem:
            line = str(problem).strip().splitlines() or ["no message"]
            raise errors.DataError(
                f"collate: the function raised {type(problem).__name__} for samples of {self.source.name}: {line[0]}"
            ) from problem

    def _samples(self, ticket: Ticket) -> list[Any]:
        if self.source.pure:
            return [read_sample(self.source, index) for index in ticket.indices.tolist()]
        samples = []
        seeds = sample_seeds(self.recipe.seed, ticket.epoch, ticket.positions).tolist()
        for index, seed in zip(ticket.indices.tolist(), seeds, strict=True):
            seed_generators(seed)
            samples.append(read_sample(self.source, index))
        return samples

    def _tensors(self, ticket: Ticket, parameters: Parameters) -> HostBatch:
        source = self.source
        assert isinstance(source, TensorSource)
        images, labels = source.batch(ticket.indices)
        windows = self._uniform_windows(images, parameters)
        if self.on_device:
            return _batch(ticket, (images, labels), parameters=parameters, windows=windows)
        if windows is not None:
            assert self.recipe.image_size is not None
            images = resize_batch(images, windows, self.recipe.image_size)
        for place in range(len(images)):
            images[place] = _augmented(images[place], parameters, place)
        return _batch(ticket, (images, labels))

    def _uniform_windows(
        self, images: torch.Tensor, parameters: Parameters
    ) -> np.ndarray[Any, np.dtype[np.int64]] | None:
        height, width = images.shape[-2:]
        size = self.recipe.image_size or height
        if self.recipe.policy.crops:
            rows = [crop_window(parameters.geometry[place], height, width) for place in range(len(images))]
        elif (height, width) != (size, size):
            rows = [center_window(height, width, size)] * len(images)
        else:
            return None
        return np.asarray(rows, dtype=np.int64)

    def _images(self, ticket: Ticket, parameters: Parameters) -> HostBatch:
        size, channels = self.recipe.image_size, self.recipe.channels
        assert size is not None
        buffer = _buffer((len(ticket.indices), size, size, channels))
        images = buffer.permute(0, 3, 1, 2)
        seeds = None
        if not self.source.pure:
            seeds = sample_seeds(self.recipe.seed, ticket.epoch, ticket.positions).tolist()
        labels = []
        for place, index in enumerate(ticket.indices.tolist()):
            if seeds is not None:
                seed_generators(seeds[place])
            image, label = self._pair(index)
            images[place] = self._sized(image, parameters, place, self.source.where(index))
            if not self.on_device:
                images[place] = _augmented(images[place], parameters, place)
            labels.append(label)
        left = parameters if self.on_device else None
        return _batch(ticket, (images, _labels(labels)), parameters=left)

    def _pair(self, index: int) -> tuple[Any, Any]:
        sample = read_sample(self.source, index)
        if not is_image_pair(sample):
            raise errors.DataError(
                f"{self.source.where(index)}: {type(sample).__name__} is not an (image, label) pair like the first "
                "sample. Repair it or remove it from the dataset"
            )
        return sample[0], sample[1]

    def _sized(self, image: Any, parameters: Parameters, place: int, where: str) -> torch.Tensor:
        size = self.recipe.image_size
        assert size is not None
        height, width = image_size(image)
        if self.recipe.policy.crops:
            window = crop_window(parameters.geometry[place], height, width)
        elif (height, width) != (size, size):
            window = center_window(height, width, size)
        else:
            window = (0, 0, height, width)
        if isinstance(image, torch.Tensor):
            if image.shape[0] != self.recipe.channels:
                raise errors.DataError(
                    f"{where}: an image of {image.shape[0]} channels among images of {self.recipe.channels}. "
                    "Let the dataset give all images the same channels"
                )
            return resize_batch(image[None], np.asarray([window], dtype=np.int64), size)[0]
        array = np.asarray(self._pil_sized(image, window, size, where))
        return torch.from_numpy(array.reshape(size, size, -1).copy()).permute(2, 0, 1)

    def _pil_sized(self, image: Any, window: tuple[int, int, int, int], size: int, where: str) -> Image.Image:
        mode = "L" if self.recipe.channels == 1 else "RGB"
        top, left, height, width = window
        try:
            picture = _picture(image)
            if picture.mode != mode:
                picture = picture.convert(mode)  # decodes what the dataset only opened
            if window != (0, 0, picture.height, picture.width):
                picture = picture.crop((left, top, left + width, top + height))
            if picture.size != (size, size):
                picture = picture.resize((size, size), Image.Resampling.BILINEAR)
        except (OSError, SyntaxError, TypeError, ValueError) as problem:
            raise errors.DataError(f"{where}: cannot be read as an image ({problem}). Repair or remove it") from problem
        return picture


def _picture(image: Any) -> Image.Image:
    """Return a PIL image; of an array (height, width) or (height, width, channels), one channel included."""
    if not isinstance(image, np.ndarray):
        picture: Image.Image = image
        return picture
    return Image.fromarray(image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image)


def _augmented(image: torch.Tensor, parameters: Parameters, place: int) -> torch.Tensor:
    return apply_sample(image, bool(parameters.flip[place]), parameters.operators[place], parameters.magnitudes[place])


def _labels(labels: list[Any]) -> torch.Tensor:
    if all(isinstance(label, int) for label in labels):
        return torch.tensor(labels, dtype=torch.int64)
    collated: torch.Tensor = collate_samples(labels)
    return collated


def _buffer(shape: tuple[int, ...]) -> torch.Tensor:
    """Return uninitialised bytes; in a worker they lie in shared memory, so that handing them over copies nothing."""
    if get_worker_info() is None:
        return torch.empty(shape, dtype=torch.uint8)
    storage = torch.UntypedStorage._new_shared(int(np.prod(shape)))
    buffer: torch.Tensor = torch.empty(0, dtype=torch.uint8).set_(storage)
    return buffer.view(shape)


def _batch(
    ticket: Ticket,
    content: Any,
    *,
    parameters: Parameters | None = None,
    windows: np.ndarray[Any, np.dtype[np.int64]] | None = None,
) -> HostBatch:
    return HostBatch(
        step=ticket.step,
        epoch=ticket.epoch,
        count=len(ticket.indices),
        content=content,
        parameters=parameters,
        windows=windows,
    )


def prepare_worker(number: int, *, parent: int | None = None) -> None:
    """Let the training process alone answer Ctrl-C; workers end with it.

    Args:
        number: the worker's, from torch's loader.
        parent: process number of the training process, where the worker may end with the thread that started it.
            A worker that is frozen when that process is killed would otherwise stay for good.
    """
    del number
    if os.name == "posix":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if parent is not None and sys.platform.startswith("linux"):
        getattr(torch.multiprocessing, "_prctl_pr_set_pdeathsig")(signal.SIGKILL)  # noqa: B009 - unknown to stubs
        if os.getppid() != parent:  # it died before that was set
            os._exit(1)
