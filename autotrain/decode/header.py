"""What an image file is, told from its first bytes: nothing is decoded."""

from __future__ import annotations

import io
from dataclasses import dataclass

from PIL import Image

_BITS = {"1": 1, "I": 32, "F": 32, "I;16": 16, "I;16B": 16, "I;16L": 16, "I;16N": 16}
_ORIENTATION = 0x0112
"""EXIF tag."""

_STANDALONE = frozenset([0x01, *range(0xD0, 0xD8)])
"""JPEG markers without a length: TEM and the restart markers."""

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""JPEG markers that begin a frame (SOF0 to SOF15); the three left out define tables or are reserved."""

_START_OF_SCAN, _END, _START, _JFIF, _ADOBE = 0xDA, 0xD9, 0xD8, 0xE0, 0xEE


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The facts that choose a decoder."""

    format: str
    """Pillow's name: JPEG, PNG, WEBP, GIF, ..."""

    height: int
    """Pixels, as stored."""

    width: int
    """Pixels, as stored."""

    components: int
    """Channels as stored: 1 for greyscale and palettes, 3 for colour, 4 for CMYK and with transparency."""

    bits: int = 8
    """Per component."""

    frame: int | None = None
    """JPEG: number of the SOF marker: 0 baseline, 1 extended, 2 progressive, from 9 on arithmetic coding."""

    sampling: tuple[tuple[int, int], ...] = ()
    """JPEG: horizontal and vertical sampling factors of each component."""

    rgb: bool = False
    """JPEG: whether the components are red, green and blue, not luma and chroma, by the rules of libjpeg."""

    @property
    def plain(self) -> bool:
        """Whether it is a JPEG of the kinds that libjpeg decodes alike through every interface."""
        return (
            self.format == "JPEG"
            and self.frame in (0, 1, 2)
            and self.bits == 8
            and self.components in (1, 3)
            and self.height > 0
            and self.width > 0
        )


def read_header(data: bytes) -> Header | None:
    """Return what an image file is; None where that cannot be told, which a decoder then says in an error.

    Args:
        data: the file, or enough of its beginning.
    """
    return jpeg_header(data) if data[:3] == b"\xff\xd8\xff" else _other_header(data)


def orientation(data: bytes) -> int:
    """Return the EXIF orientation, 1 (upright) to 8; 1 where the file has none.

    Decoders leave it unapplied, as torchvision's ``ImageFolder`` does; from 5 on the picture lies on its side.
    """
    try:
        with Image.open(io.BytesIO(data)) as picture:
            value = picture.getexif().get(_ORIENTATION, 1)
    except Exception:  # whatever a broken file makes Pillow raise
        return 1
    return value if value in range(1, 9) else 1


def jpeg_header(data: bytes) -> Header | None:
    """Return what the frame header of a JPEG says (ITU-T T.81, annex B); None for garbage, and for a second frame.

    Bytes between markers are skipped, as libjpeg does.
    """
    if data[:2] != b"\xff\xd8":
        return None
    place, size = 2, len(data)
    frame: tuple[int, bytes] | None = None
    jfif, adobe = False, None
    while True:
        place = data.find(b"\xff", place)
        if place < 0:
            return None
        while place < size and data[place] == 0xFF:  # fill bytes
            place += 1
        if place >= size:
            return None
        marker = data[place]
        place += 1
        if marker == 0 or marker in _STANDALONE:
            continue
        if marker == _START_OF_SCAN:
            return None if frame is None else _described(*frame, jfif, adobe)
        if marker in (_END, _START):
            return None
        length = int.from_bytes(data[place : place + 2])
        if length < 2 or place + length > size:
            return None
        if marker == _JFIF:
            jfif = jfif or data[place + 2 : place + 7] == b"JFIF\0"
        elif marker == _ADOBE and length >= 14 and data[place + 2 : place + 7] == b"Adobe":
            adobe = data[place + 13]
        elif marker in _FRAMES:
            if frame is not None:
                return None
            frame = marker - 0xC0, data[place + 2 : place + length]
        place += length


def _described(number: int, body: bytes, jfif: bool, adobe: int | None) -> Header | None:
    """Return what a frame header says; ``adobe`` is the colour transform of an Adobe marker."""
    if len(body) < 6 or len(body) < 6 + 3 * body[5]:
        return None
    end = 6 + 3 * body[5]
    return Header(
        format="JPEG",
        height=int.from_bytes(body[1:3]),
        width=int.from_bytes(body[3:5]),
        components=body[5],
        bits=body[0],
        frame=number,
        sampling=tuple([(factor >> 4, factor & 15) for factor in body[7:end:3]]),
        rgb=body[5] == 3 and not jfif and (body[6:end:3] == b"RGB" if adobe is None else adobe == 0),
    )


def _other_header(data: bytes) -> Header | None:
    try:
        with Image.open(io.BytesIO(data)) as picture:
            mode = picture.mode
            return Header(
                format=picture.format or "",
                height=picture.height,
                width=picture.width,
                components=len(picture.getbands()),
                bits=_BITS.get(mode, 8),
            )
    except Exception:  # whatever a broken file makes Pillow raise; its decoder says it better
        return None
