"""Images of a source in pixels: decoded, cropped and resized to the size that the model sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from autotrain import errors
from autotrain.augment.geometry import Window, center_window, crop_window, resize_batch
from autotrain.cache.cache import Cache
from autotrain.data.samples import Source, image_size, is_image_pair, read_sample
from autotrain.data.stream import seed_generators
from autotrain.decode.base import BatchError, Choose, Decoder, Pixels, pil_mode
from autotrain.decode.dali import BatchDecoder
from autotrain.decode.decoder import decoder
from autotrain.decode.nvjpeg import Packed, pack
from autotrain.decode.resize import resize_window
from autotrain.decode.simd import in_use
from autotrain.errors import first_line

UNREADABLE = (OSError, SyntaxError, TypeError, ValueError, Image.DecompressionBombError)
"""What decoders raise for files that are no images, or broken ones."""

OTHER_PILLOW = "pillow_simd"
"""What the names of decoders begin with that another Pillow runs."""


class ImageReader:
    """Puts images into buffers, whatever decodes them, whatever resizes them and wherever they are kept.

    Args:
        size: side of the images in pixels.
        channels: 1 keeps greyscale, 3 makes RGB.
        crops: whether every image gets a window of its own draws; otherwise the window of evaluation.
        decoder_name: what decodes the bytes of image files; samples that the dataset decodes itself pass it by.
        kernel: what resizes: ``pillow`` or ``torch``.
        cache: keeps decoded images, or finished ones where no window is drawn; None keeps nothing.
    """

    def __init__(
        self,
        *,
        size: int,
        channels: int,
        crops: bool,
        decoder_name: str = "pillow",
        kernel: str = "pillow",
        cache: Cache | None = None,
    ) -> None:
        self.size = size
        self.channels = channels
        self.crops = crops
        self.decoder = decoder(decoder_name)
        self.kernel = kernel
        self.cache = cache
        self._batches = BatchDecoder(channels=channels, kernel=kernel) if decoder_name == "dali" else None

    def close(self) -> None:
        """End what decodes whole batches, with its threads; the next batch would begin anew."""
        if self._batches is not None:
            self._batches.close()

    def fill(
        self,
        source: Source,
        indices: Sequence[int],
        draws: NDArray[np.float64],
        out: NDArray[np.uint8],
        *,
        seeds: Sequence[int] | None = None,
    ) -> list[Any]:
        """Put images into ``out``; return their labels.

        Args:
            source: gives samples, or the bytes of image files.
            indices: of the samples.
            draws: rows of ``Parameters.geometry``.
            out: uint8 (n, size, size, channels).
            seeds: for each sample of a dataset that may draw random numbers itself.

        Raises:
            DataError: an image cannot be read, or is unlike the others.
            CandidateError: the Pillow-SIMD that was asked for cannot read one.
        """
        if self._batches is not None:
            return self._fill_at_once(self._batches, source, indices, draws, out)
        labels = []
        for place, index in enumerate(indices):
            if seeds is not None:
                seed_generators(seeds[place])
            labels.append(self._read(source, index, self._choice(draws[place]), out[place]))
        return labels

    def pack(self, source: Source, indices: Sequence[int], draws: NDArray[np.float64]) -> tuple[Packed, list[Any]]:
        """Return files that the device is to decode, and their labels.

        Raises:
            DataError: an image cannot be read.
        """
        datas = [self._encoded(source, index) or b"" for index in indices]
        choices = [self._choice(row) for row in draws]
        try:
            packed = pack(datas, choices, self.size, channels=self.channels)
        except BatchError as problem:
            raise unreadable(source, indices[problem.place], problem, self.decoder) from problem
        return packed, [source.label(index) for index in indices]

    def _fill_at_once(
        self,
        batches: BatchDecoder,
        source: Source,
        indices: Sequence[int],
        draws: NDArray[np.float64],
        out: NDArray[np.uint8],
    ) -> list[Any]:
        datas = [self._encoded(source, index) or b"" for index in indices]
        try:
            batches.decode_batch(datas, [self._choice(row) for row in draws], self.size, out)
        except BatchError as problem:
            raise unreadable(source, indices[problem.place], problem, self.decoder) from problem
        return [source.label(index) for index in indices]

    def _choice(self, draws: NDArray[np.float64]) -> Choose:
        """Return what picks the window of an image once its size is known."""

        def choose(height: int, width: int) -> Window:
            if self.crops:
                return crop_window(draws, height, width)
            if (height, width) != (self.size, self.size):
                return center_window(height, width, self.size)
            return 0, 0, height, width

        return choose

    def _read(self, source: Source, index: int, choose: Choose, out: NDArray[np.uint8]) -> Any:
        if self.cache is not None:
            return self._from_cache(self.cache, source, index, choose, out)
        data = self._encoded(source, index)
        if data is None:
            return self._sample(source, index, choose, out)
        try:
            decoded = self.decoder.decode(data, channels=self.channels, choose=choose, size=self.size)
            resize_window(decoded.pixels, decoded.window, self.size, out, kernel=self.kernel)
        except UNREADABLE as problem:
            raise unreadable(source, index, problem, self.decoder) from problem
        return source.label(index)

    def _from_cache(self, cache: Cache, source: Source, index: int, choose: Choose, out: NDArray[np.uint8]) -> Any:
        """Take the image from the cache, and put it there first where it is not."""
        kept = cache.get(index)
        if kept is None:
            return self._into_cache(cache, source, index, choose, out)
        if self.crops:
            resize_window(kept[0], choose(*kept[0].shape[:2]), self.size, out, kernel=self.kernel)
        else:
            out[:] = kept[0]
        return int(kept[1]) if len(kept) > 1 else source.label(index)

    def _into_cache(self, cache: Cache, source: Source, index: int, choose: Choose, out: NDArray[np.uint8]) -> Any:
        """Make an image and keep it, with its class number where the source does not know that without the image."""
        try:
            data = self._encoded(source, index)
            if data is None:
                image, label = _pair(source, index)
                pixels = self._whole(picture_of(image, self.channels))
            else:
                label = source.label(index)
                pixels = self._whole(self.decoder.decode(data, channels=self.channels).pixels)
            resize_window(pixels, choose(*pixels.shape[:2]), self.size, out, kernel=self.kernel)
        except UNREADABLE as problem:
            raise unreadable(source, index, problem, self.decoder) from problem
        kept = pixels if self.crops else out
        if data is not None:
            cache.put(index, (kept,))
        elif isinstance(label, int) and not isinstance(label, bool):
            cache.put(index, (kept, np.asarray(label)))
        return label

    def _whole(self, picture: Pixels) -> NDArray[np.uint8]:
        """Return pixels as an array (height, width, channels)."""
        pixels: NDArray[np.uint8] = np.asarray(picture)
        return pixels.reshape(*pixels.shape[:2], self.channels)

    def _sample(self, source: Source, index: int, choose: Choose, out: NDArray[np.uint8]) -> Any:
        """Put an image that the dataset has decoded into ``out``; return its label."""
        image, label = _pair(source, index)
        window = choose(*image_size(image))
        if isinstance(image, torch.Tensor):
            if image.shape[0] != self.channels:
                raise errors.DataError(
                    f"{source.where(index)}: an image of {image.shape[0]} channels among images of {self.channels}. "
                    "Let the dataset give all images the same channels"
                )
            resized = resize_batch(image[None], np.asarray([window], dtype=np.int64), self.size)[0]
            out[:] = resized.permute(1, 2, 0).numpy()
            return label
        try:
            resize_window(picture_of(image, self.channels), window, self.size, out, kernel=self.kernel)
        except UNREADABLE as problem:
            raise unreadable(source, index, problem, self.decoder) from problem
        return label

    def _encoded(self, source: Source, index: int) -> bytes | None:
        try:
            return source.encoded(index)
        except OSError as problem:
            raise unreadable(source, index, problem, self.decoder) from problem


def picture_of(image: Any, channels: int) -> Image.Image:
    """Return a PIL image of 1 or 3 channels from one of any mode, or from an array (height, width[, channels])."""
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image)
    picture: Image.Image = image
    mode = pil_mode(channels)
    return picture if picture.mode == mode else picture.convert(mode)  # decodes what the dataset only opened


def unreadable(source: Source, index: int, problem: BaseException, by: Decoder) -> errors.AutotrainError:
    """Return the error for an image that cannot be read; by another Pillow, the candidate's failure."""
    unknown = isinstance(problem, UnidentifiedImageError) or isinstance(problem.__cause__, UnidentifiedImageError)
    reason = "of no known format" if unknown else first_line(problem)
    if by.name.startswith(OTHER_PILLOW):
        return errors.CandidateError(
            f"{source.where(index)}: {in_use()} cannot read it ({reason}). Take another decoder, or repair the file"
        )
    return errors.DataError(
        f"{source.where(index)}: cannot be read as an image ({reason}). Repair it or remove it from the dataset"
    )


def _pair(source: Source, index: int) -> tuple[Any, Any]:
    sample = read_sample(source, index)
    if not is_image_pair(sample):
        raise errors.DataError(
            f"{source.where(index)}: {type(sample).__name__} is not an (image, label) pair like the first sample. "
            "Repair it or remove it from the dataset"
        )
    return sample[0], sample[1]
