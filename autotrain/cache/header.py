"""The header of a cache's file, which tells what the file is, and how an empty one is made.

The file's parts, by their first byte::

    0        magic, version, size of the table, token, checksum of these; then what changes: end of the entries, slots
             given out, whether writing has stopped, and the boot in which a loss was last told
    4096     tags: what each slot is for, 8 bytes each
             offsets: where each slot's entry lies, 8 bytes each, 0 while there is none
             entries
"""

from __future__ import annotations

import os
import struct
import zlib

import numpy as np
from numpy.typing import NDArray

VERSION = 1

FILE_MAGIC = b"ATCACHE\x00"
FIXED = struct.Struct("<8sIIQ16s")
"""Magic, version, zero, slots in the table, token; the CRC-32 of these follows."""

END_AT, COUNT_AT, STOPPED_AT, LOSS_AT, TABLE_AT = 128, 136, 144, 152, 4096
WORD = struct.Struct("<Q")
ENTRY_STEP = 64
"""Entries begin at multiples of this many bytes."""


class FormatError(Exception):
    """The file is not a cache of this version, or not the one that was meant."""


class TableFullError(FormatError):
    """The dataset has more new samples than the file has slots left."""


class ForeignError(FormatError):
    """The file is something else altogether, perhaps of value to somebody."""


def data_at(table: int) -> int:
    """Return where entries begin behind a table of that many slots."""
    return -(-(TABLE_AT + 16 * table) // 4096) * 4096


def initialise(number: int, table: int, tags: NDArray[np.uint64]) -> bytes:
    """Make an empty cache of an empty file, whose first slots are given out to ``tags``; return its token."""
    token = os.urandom(16)
    fixed = FIXED.pack(FILE_MAGIC, VERSION, 0, table, token)
    header = bytearray(TABLE_AT)
    header[: len(fixed) + 4] = fixed + struct.pack("<I", zlib.crc32(fixed))
    WORD.pack_into(header, END_AT, data_at(table))
    WORD.pack_into(header, COUNT_AT, len(tags))
    write_all(number, memoryview(header), 0)
    write_all(number, memoryview(tags.tobytes()), TABLE_AT)
    os.ftruncate(number, data_at(table))
    return token


def write_all(number: int, content: memoryview, offset: int) -> None:
    """Write bytes at a place, in as many calls as the system wants."""
    done = 0
    while done < len(content):
        done += os.pwrite(number, content[done:], offset + done)


def read_header(number: int) -> tuple[int, bytes]:
    """Return the size of the table and the token of a cache's file.

    Raises:
        ForeignError: it is no cache.
        FormatError: it is one of another version, or damaged.
    """
    header = os.pread(number, FIXED.size + 4, 0)
    if header[: len(FILE_MAGIC)] != FILE_MAGIC:
        if not header.strip(b"\0"):
            raise FormatError("it is empty")
        raise ForeignError("it is not a cache of autotrain's")
    if len(header) < FIXED.size + 4:
        raise FormatError("it is damaged")
    _, version, _, table, token = FIXED.unpack_from(header)
    if version != VERSION:
        raise FormatError(f"it has format {version}, and this autotrain writes format {VERSION}")
    if zlib.crc32(header[: FIXED.size]) != struct.unpack_from("<I", header, FIXED.size)[0]:
        raise FormatError("it is damaged")
    return table, token


def count_entries(number: int) -> int:
    """Return how many entries a cache's file has.

    Raises:
        FormatError: it is not a cache of this version.
    """
    table, _ = read_header(number)
    given_out = int.from_bytes(os.pread(number, 8, COUNT_AT), "little")
    offsets = os.pread(number, 8 * min(table, given_out), TABLE_AT + 8 * table)
    return int(np.count_nonzero(np.frombuffer(offsets[: len(offsets) // 8 * 8], dtype=np.uint64)))
