"""The reader: turns a ticket into a batch in host memory, in a worker or in the training process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, get_worker_info

from autotrain import errors
from autotrain.augment.draws import sample_seeds
from autotrain.augment.extras import Extras
from autotrain.augment.geometry import center_window, crop_window, resize_batch
from autotrain.augment.mixing import Mixing, draw_mixing, mix, partners
from autotrain.augment.policy import Parameters, Policy
from autotrain.augment.sample import apply_sample
from autotrain.cache.cache import Cache
from autotrain.data.batch import Failure, HostBatch, mixed_labels
from autotrain.data.images import ImageReader
from autotrain.data.source import Source, TensorSource, collate_samples, read_sample
from autotrain.data.stages import Over, Stage, watched
from autotrain.data.stream import Ticket, seed_generators, seeded
from autotrain.data.transformed import StagedReader, TransformedSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What is done to the images between dataset and model; the same for every setting of speed."""

    seed: int
    """Keys all draws."""

    policy: Policy
    """Augmentation; ``none`` when evaluating."""

    extras: Extras = Extras()
    """Jitter, erasing and mixing beside the policy."""

    image_size: int | None = None
    """Side of the images in pixels; None leaves samples as they are."""

    channels: int = 3
    """Channels that images are given: 1 keeps greyscale, 3 makes RGB."""

    fill: tuple[int, ...] = ()
    """Levels per channel that erased parts are filled with."""

    collate: Any = None
    """The user's own collation, which also means that samples stay untouched."""

    def draw(self, ticket: Ticket) -> Parameters:
        """Return what is done to each sample of a ticket."""
        drawn = self.policy.draw(self.seed, ticket.epoch, ticket.positions)
        if not self.extras.per_sample:
            return drawn
        return self.extras.extend(drawn, seed=self.seed, epoch=ticket.epoch, positions=ticket.positions)

    def draw_mixing(self, ticket: Ticket) -> Mixing | None:
        """Return how the images of a ticket are mixed with each other, None where they are not."""
        return draw_mixing(self.extras, seed=self.seed, epoch=ticket.epoch, step=ticket.step)


ON_DEVICE = "nvjpeg"
"""The decoder that needs the files on the device, and leaves all pixel work there."""


class Reader(Dataset[HostBatch | Failure]):
    """Loads whole batches: ``reader[ticket]``. Picklable when the dataset is.

    Args:
        source: where the samples come from.
        recipe: what is done to them.
        on_device: leave the policy's pixel work to the device.
        decoder: name of what decodes image files.
        kernel: what resizes crops: ``pillow`` or ``torch``.
        cache: keeps what does not depend on chance; None keeps nothing.
    """

    def __init__(
        self,
        source: Source,
        recipe: Recipe,
        *,
        on_device: bool = False,
        decoder: str = "pillow",
        kernel: str = "pillow",
        cache: Cache | None = None,
    ) -> None:
        self.source = source
        self.recipe = recipe
        self.on_device = on_device or decoder == ON_DEVICE
        self._packs = decoder == ON_DEVICE
        self._images: ImageReader | None = None
        self._staged = StagedReader(on_device=on_device, decoder_name=decoder, kernel=kernel, cache=cache)
        if source.images and recipe.collate is None and recipe.image_size is not None:
            self._images = ImageReader(
                size=recipe.image_size,
                channels=recipe.channels,
                crops=recipe.policy.crops,
                decoder_name=decoder,
                kernel=kernel,
                cache=cache,
            )

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

    def close(self) -> None:
        """End the threads of decoders in this process."""
        if self._images is not None:
            self._images.close()

    def watch(self, over: Over) -> None:
        """Lay a stopwatch over all stages of this reader, for good; its source stays as it is for others."""
        self.source = watched(self.source, over)
        self._staged.watch(over)
        self.__dict__["read"] = over(self.read, Stage.COLLATING)
        self.__dict__["_augmented"] = over(self._augmented, Stage.AUGMENTING)
        self.__dict__["_tensors"] = over(self._tensors, Stage.DECODING)
        if self._images is not None:
            self._images.__dict__["fill"] = over(self._images.fill, Stage.DECODING)
            self._images.__dict__["pack"] = over(self._images.pack, Stage.DECODING)

    def read(self, ticket: Ticket) -> HostBatch:
        """Load the batch of a ticket.

        Raises:
            DataError: a sample cannot be read or does not fit the others.
        """
        if self.recipe.collate is not None or not self.source.images:
            if isinstance(self.source, TransformedSource) and not self._staged.idle:
                return self._in_stages(self.source, ticket)
            return self._foreign(ticket)
        parameters = self.recipe.draw(ticket)
        if isinstance(self.source, TensorSource):
            return self._tensors(ticket, parameters)
        return self._pictures(ticket, parameters)

    def _foreign(self, ticket: Ticket) -> HostBatch:
        if isinstance(self.source, TensorSource) and self.recipe.collate is None:
            return _batch(ticket, self.source.batch(ticket.indices))
        return _batch(ticket, self._collated(self._samples(ticket)))

    def _in_stages(self, source: TransformedSource, ticket: Ticket) -> HostBatch:
        """Load samples of a dataset with transforms that are understood, the tail of them left to the device or not."""
        samples: list[Any] = []
        for index, seed in zip(ticket.indices.tolist(), self._seeds(ticket) or (), strict=True):
            make = self._staged.head if self.on_device else self._staged.whole
            samples.append(make(source, index, seed))
        if not self.on_device:
            return _batch(ticket, self._collated(samples))
        suffix = source.pipeline.suffix
        assert suffix is not None
        rows = [row for _, _, row in samples]
        images = _stacked([levels for levels, _, _ in samples], source)
        labels = _labels([label for _, label, _ in samples])
        return _batch(ticket, [images, labels], parameters=suffix.stack(rows), erased=suffix.erased(rows))

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
        seeds = self._seeds(ticket)
        samples = []
        for place, index in enumerate(ticket.indices.tolist()):
            if seeds is not None:
                seed_generators(seeds[place])
            samples.append(read_sample(self.source, index))
        return samples

    def _seeds(self, ticket: Ticket) -> list[int] | None:
        """Return a seed per sample for datasets that may draw random numbers, else None."""
        if self.source.pure:
            return None
        seeds: list[int] = sample_seeds(self.recipe.seed, ticket.epoch, ticket.positions).tolist()
        return seeds

    def _tensors(self, ticket: Ticket, parameters: Parameters) -> HostBatch:
        source = self.source
        assert isinstance(source, TensorSource)
        images, labels = source.batch(ticket.indices)
        windows = self._uniform_windows(images, parameters)
        if self.on_device:
            return self._finished(ticket, images, labels, parameters=parameters, windows=windows)
        if windows is not None:
            assert self.recipe.image_size is not None
            images = resize_batch(images, windows, self.recipe.image_size)
        for place in range(len(images)):
            images[place] = self._augmented(images[place], parameters, place)
        return self._finished(ticket, images, labels)

    def _uniform_windows(self, images: torch.Tensor, parameters: Parameters) -> NDArray[np.int64] | None:
        height, width = images.shape[-2:]
        size = self.recipe.image_size or height
        if self.recipe.policy.crops:
            rows = [crop_window(parameters.geometry[place], height, width) for place in range(len(images))]
        elif (height, width) != (size, size):
            rows = [center_window(height, width, size)] * len(images)
        else:
            return None
        return np.asarray(rows, dtype=np.int64)

    def _pictures(self, ticket: Ticket, parameters: Parameters) -> HostBatch:
        assert self._images is not None
        indices = ticket.indices.tolist()
        if self._packs:
            packed, labels = self._images.pack(self.source, indices, parameters.geometry)
            return self._finished(ticket, packed, _labels(labels), parameters=parameters)
        size, channels = self._images.size, self._images.channels
        buffer = _buffer((len(indices), size, size, channels))
        images = buffer.permute(0, 3, 1, 2)
        labels = self._images.fill(self.source, indices, parameters.geometry, buffer.numpy(), seeds=self._seeds(ticket))
        if not self.on_device:
            for place in range(len(images)):
                images[place] = self._augmented(images[place], parameters, place)
        return self._finished(ticket, images, _labels(labels), parameters=parameters if self.on_device else None)

    def _augmented(self, image: torch.Tensor, parameters: Parameters, place: int) -> torch.Tensor:
        return apply_sample(image, parameters, place, fill=self.recipe.fill)

    def _finished(
        self,
        ticket: Ticket,
        images: Any,
        labels: Any,
        *,
        parameters: Parameters | None = None,
        windows: NDArray[np.int64] | None = None,
    ) -> HostBatch:
        """Return the batch, its images mixed here unless the device does it; the labels are mixed in either case."""
        mixing = self.recipe.draw_mixing(ticket)
        if mixing is None:
            return _batch(ticket, (images, labels), parameters=parameters, windows=windows)
        size = self.recipe.image_size or images.shape[-1]
        labels = mixed_labels(labels, partners(len(ticket.indices)), mixing.share(size, size))
        if not self.on_device:
            images.copy_(mix(images, mixing))
            mixing = None
        return _batch(ticket, (images, labels), parameters=parameters, windows=windows, mixing=mixing)


def _labels(labels: list[Any]) -> torch.Tensor:
    if all(isinstance(label, int) for label in labels):
        return torch.tensor(labels, dtype=torch.int64)
    collated: torch.Tensor = collate_samples(labels)
    return collated


def _stacked(images: list[torch.Tensor], source: Source) -> torch.Tensor:
    """Return images in one buffer, (n, channels, height, width) with the channels last in memory.

    Raises:
        DataError: they differ in size.
    """
    shapes = {tuple(image.shape) for image in images}
    if len(shapes) > 1:
        raise errors.DataError(
            f"{source.name}: images of different sizes in one batch ({', '.join(map(str, sorted(shapes)[:2]))}). "
            "Let the dataset resize its images to one size"
        )
    channels, height, width = shapes.pop()
    batch = _buffer((len(images), height, width, channels)).permute(0, 3, 1, 2)
    for place, image in enumerate(images):
        batch[place] = image
    return batch


def _buffer(shape: tuple[int, ...]) -> torch.Tensor:
    """Return uninitialised bytes; in a worker they lie in shared memory, so that handing them over copies nothing."""
    if get_worker_info() is None:
        return torch.empty(shape, dtype=torch.uint8)
    storage = torch.UntypedStorage._new_shared(int(np.prod(shape)))
    buffer: torch.Tensor = torch.empty(0, dtype=torch.uint8).set_(storage)
    return buffer.view(shape)


def _batch(ticket: Ticket, content: Any, **left: Any) -> HostBatch:
    return HostBatch(step=ticket.step, epoch=ticket.epoch, count=len(ticket.indices), content=content, **left)
