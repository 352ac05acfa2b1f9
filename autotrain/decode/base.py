"""What a decoder is: the bytes of an image file in, pixels and a window in them out."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from autotrain.augment.geometry import Window
from autotrain.decode.header import Header, jpeg_header
from autotrain.decode.reduce import Box, reduced_side, reduced_window, reduction

_TAIL_BYTES = 1024
"""How much may follow a JPEG's end marker."""

Choose: TypeAlias = Callable[[int, int], Window]
"""Takes height and width of the whole image, returns the window of it that is wanted."""

Pixels: TypeAlias = Image.Image | NDArray[np.uint8]
"""A PIL image, L or RGB, or an array (height, width, channels)."""


class BatchError(OSError):
    """An image of a batch cannot be read; its cause says why."""

    def __init__(self, place: int, problem: Exception) -> None:
        super().__init__(str(problem))
        self.place = place
        """Which image of the batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """Pixels of an image, whole or reduced."""

    pixels: Pixels
    """A PIL image, L or RGB, or a uint8 array ``(height, width, channels)``."""

    window: Box | None = None
    """The chosen window inside ``pixels``: whole numbers unless they are reduced. None where none was chosen."""

    factor: int = 1
    """By how much the pixels are reduced per axis: 1, 2, 4 or 8."""

    by: str = "pillow"
    """Name of the decoder that did it; ``pillow`` where another one left the file to Pillow."""


class Decoder:
    """A way of decoding; the base is Pillow's for every file. Subclasses state what they do with a plain JPEG.

    Decoders hold no state: they can be pickled, and used from several threads at once.
    """

    name = "pillow"
    """What settings and reports call it."""

    scaled = False
    """Whether it decodes at reduced size where the window has pixels to spare."""

    exact = True
    """Whether its pixels are Pillow's, bit for bit."""

    batched = False
    """Whether it decodes whole batches, by its own module's functions; ``decode`` then serves single images."""

    full = "pillow"
    """Name of the decoder that gives whole images and is otherwise nearest; its own where it does so itself."""

    def unavailable(self) -> str | None:
        """Return the reason why it cannot be used here, with the remedy; None where it can."""
        return None

    def misplaced(self) -> str | None:
        """Return the reason why it cannot be used in this process but in workers made for it; None where it can."""
        return None

    def plain(self, data: bytes, header: Header, *, channels: int, factor: int) -> Pixels | None:
        """Return the pixels of a JPEG for which ``header.plain`` holds; None leaves it to Pillow.

        Args:
            data: the file.
            header: what it is.
            channels: 1 for greyscale, 3 for RGB.
            factor: by how much to reduce it per axis: 1, 2, 4 or 8; 1 unless ``scaled``.
        """
        del data, header, channels, factor
        return None

    def decode(self, data: bytes, *, channels: int, choose: Choose | None = None, size: int | None = None) -> Decoded:
        """Decode an image file.

        Args:
            data: the file.
            channels: 1 for greyscale, 3 for RGB. EXIF orientation is not applied, transparency is dropped.
            choose: called exactly once for an image that is returned, with height and width of the whole image whatever
                the decoder, so that draws do not depend on it.
            size: side of the square that the window is going to be resized to; lets scaled decoders reduce.

        Raises:
            OSError: the file is broken or of no known format. Pillow's other errors pass through too: SyntaxError,
                ValueError, ``Image.DecompressionBombError``.
        """
        header = jpeg_header(data)
        if header is None or not header.plain or too_large(header):
            return _by_pillow(data, channels, choose)
        window, factor = None, 1
        if self.scaled and choose is not None and size is not None:
            window = choose(header.height, header.width)
            factor = reduction(window, size)
        pixels = self.plain(data, header, channels=channels, factor=factor)
        if pixels is None:
            return _by_pillow(data, channels, choose if window is None else _chosen(window, header))
        if shape(pixels) != (reduced_side(header.height, factor), reduced_side(header.width, factor)):
            raise OSError(f"{shape(pixels)} pixels decoded where its header promises {header.height, header.width}")
        if window is None and choose is not None:
            window = choose(header.height, header.width)
        box = None if window is None else reduced_window(window, factor)
        return Decoded(pixels=pixels, window=box, factor=factor, by=self.name)


def shape(pixels: Pixels) -> tuple[int, int]:
    """Return height and width."""
    return (pixels.height, pixels.width) if isinstance(pixels, Image.Image) else (pixels.shape[0], pixels.shape[1])


def complete(data: bytes) -> bool:
    """Return whether a JPEG has its end marker where one is expected; what reads on without is left to others."""
    return data.rfind(b"\xff\xd9", max(0, len(data) - _TAIL_BYTES)) >= 0


def pil_mode(channels: int) -> str:
    """Return Pillow's mode for a number of channels."""
    return "L" if channels == 1 else "RGB"


def to_channels(pixels: NDArray[np.uint8], channels: int) -> Pixels:
    """Return pixels with the channels asked for; of colours, grey is what Pillow makes of them (ITU-R 601-2)."""
    if pixels.shape[2] == channels:
        return pixels
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    return picture.convert(pil_mode(channels))


def _by_pillow(data: bytes, channels: int, choose: Choose | None) -> Decoded:
    """Decode with Pillow, the way torchvision's ``ImageFolder`` does."""
    with Image.open(io.BytesIO(data)) as picture:
        pixels = picture.convert(pil_mode(channels))
    return Decoded(pixels=pixels, window=None if choose is None else choose(pixels.height, pixels.width))


def _chosen(window: Window, header: Header) -> Choose:
    """Return a choice that was already made from the header."""

    def choose(height: int, width: int) -> Window:
        if (height, width) != (header.height, header.width):
            raise OSError(f"{height, width} pixels decoded where its header promises {header.height, header.width}")
        return window

    return choose


def too_large(header: Header) -> bool:
    """Return whether Pillow would warn of the image's size or refuse it."""
    limit: Any = Image.MAX_IMAGE_PIXELS
    return limit is not None and header.height * header.width > limit
