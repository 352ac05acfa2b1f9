"""Entries: a sample's arrays as bytes and back, without copying and without code from data."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotrain.errors import UnsupportedError

HEAD = struct.Struct("<QIIQQII")
"""Boot stamp, checksum (of all that follows it), magic, tag, size in bytes, number of arrays, zero."""

ARRAY = struct.Struct("<BBxxIIII")
"""Code of the dtype, dimensions, shape."""

MAGIC = 0x59525441
"""``ATRY`` as it lies in the file."""

CHECKED_FROM = 12
"""Where the bytes begin that the checksum covers; the stamp before them is renewed after a check."""

ALIGNMENT = 16
"""Of each array; entries themselves begin at multiples of 64."""

MAX_ARRAYS, MAX_DIMENSIONS = 64, 4

DTYPES: tuple[np.dtype[Any], ...] = tuple(
    np.dtype(name) for name in ("u1", "i1", "?", "<u2", "<i2", "<f2", "<u4", "<i4", "<f4", "<u8", "<i8", "<f8")
)
"""Known dtypes; the place in this tuple is the code, so only the end of it may grow."""

CODES = {dtype: code for code, dtype in enumerate(DTYPES)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where the arrays of an entry lie, relative to its beginning."""

    arrays: tuple[tuple[tuple[int, ...], np.dtype[Any], int], ...]
    """Shape, dtype and first byte of each."""

    size: int
    """Bytes in all."""


def _round_up(value: int, step: int = ALIGNMENT) -> int:
    return -(-value // step) * step


def lay_out(shapes: Sequence[tuple[tuple[int, ...], np.dtype[Any]]]) -> Layout:
    """Return where arrays of these shapes and dtypes lie."""
    place, arrays = HEAD.size + ARRAY.size * len(shapes), []
    for shape, dtype in shapes:
        place = _round_up(place)
        arrays.append((shape, dtype, place))
        place += math.prod(shape) * dtype.itemsize
    return Layout(arrays=tuple(arrays), size=place)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """A sample made ready for writing."""

    arrays: tuple[NDArray[Any], ...]
    """Contiguous, in little-endian order."""

    layout: Layout

    def parts(self, tag: int, stamp: int, *, checked: bool) -> list[Any]:
        """Return the bytes in order, as buffers of which the arrays' are not copied."""
        lines = b"".join(
            ARRAY.pack(CODES[array.dtype], array.ndim, *array.shape, *(0,) * (MAX_DIMENSIONS - array.ndim))
            for array in self.arrays
        )
        head = bytearray(HEAD.pack(stamp, 0, MAGIC, tag, self.layout.size, len(self.arrays), 0) + lines)
        parts: list[Any] = [head]
        place = len(head)
        for array, (_, _, start) in zip(self.arrays, self.layout.arrays, strict=True):
            if start > place:
                parts.append(bytes(start - place))
            if array.size:
                parts.append(array.reshape(-1).view(np.uint8))
            place = start + array.nbytes
        if checked:
            checksum = zlib.crc32(memoryview(head)[CHECKED_FROM:])
            for part in parts[1:]:
                checksum = zlib.crc32(part, checksum)
            struct.pack_into("<I", head, 8, checksum)
        return parts


def sheet(arrays: Sequence[NDArray[Any]]) -> Sheet:
    """Make arrays ready for writing.

    Raises:
        UnsupportedError: a dtype is not one of the known ones, an array has more than 4 dimensions, or there are more
            than 64 arrays.
    """
    if len(arrays) > MAX_ARRAYS:
        raise UnsupportedError(f"cache: {len(arrays)} arrays in one sample, and {MAX_ARRAYS} is the most")
    ready = []
    for array in arrays:
        dtype = array.dtype.newbyteorder("<")
        if dtype not in CODES or array.ndim > MAX_DIMENSIONS:
            raise UnsupportedError(
                f"cache: an array of {array.dtype} with {array.ndim} dimensions cannot be kept. "
                f"Known: up to {MAX_DIMENSIONS} dimensions of {', '.join(str(known) for known in DTYPES)}"
            )
        ready.append(np.asarray(array, dtype=dtype, order="C"))
    return Sheet(arrays=tuple(ready), layout=lay_out([(array.shape, array.dtype) for array in ready]))


def read_layout(lines: bytes) -> Layout | None:
    """Return the layout that an entry's lines describe, or None where they make no sense."""
    shapes = []
    for code, dimensions, *shape in ARRAY.iter_unpack(lines):
        if code >= len(DTYPES) or dimensions > MAX_DIMENSIONS:
            return None
        shapes.append((tuple(shape[:dimensions]), DTYPES[code]))
    return lay_out(shapes)
