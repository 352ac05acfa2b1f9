"""What a file is, from its first bytes; nothing makes the parser raise."""

from __future__ import annotations

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from autotrain.decode.header import jpeg_header, orientation, read_header


@pytest.mark.parametrize(
    ("options", "frame", "sampling"),
    [
        ({"subsampling": "4:4:4"}, 0, ((1, 1), (1, 1), (1, 1))),
        ({"subsampling": "4:2:2"}, 0, ((2, 1), (1, 1), (1, 1))),
        ({"subsampling": "4:2:0", "progressive": True}, 2, ((2, 2), (1, 1), (1, 1))),
    ],
)
def test_a_jpeg_is_described(photograph, encode, options, frame, sampling):
    header = read_header(encode(photograph(31, 45), **options))
    assert (header.format, header.height, header.width, header.components, header.bits) == ("JPEG", 31, 45, 3, 8)
    assert (header.frame, header.sampling) == (frame, sampling)
    assert header.plain
    assert not header.rgb


def test_its_size_is_found_behind_long_segments(photograph, encode):
    data = encode(photograph(31, 45), icc_profile=bytes(150_000), comment=b"\xff\xc0\0\x11\x08\0\1\0\1")
    assert (jpeg_header(data).height, jpeg_header(data).width) == (31, 45)


@pytest.mark.parametrize(("mode", "components", "plain"), [("L", 1, True), ("RGB", 3, True), ("CMYK", 4, False)])
def test_components(photograph, encode, mode, components, plain):
    header = jpeg_header(encode(photograph().convert(mode)))
    assert (header.components, header.plain) == (components, plain)


def test_colours_stored_as_rgb_are_told_from_luma_and_chroma(photograph, encode):
    assert jpeg_header(encode(photograph(), keep_rgb=True)).rgb
    assert not jpeg_header(encode(photograph().convert("L"))).rgb
    assert not jpeg_header(simplejpeg.encode_jpeg(np.asarray(photograph()))).rgb


@pytest.mark.parametrize(
    ("kind", "mode", "components", "bits"),
    [("PNG", "RGB", 3, 8), ("PNG", "RGBA", 4, 8), ("PNG", "I;16", 1, 16), ("PNG", "1", 1, 1), ("GIF", "P", 1, 8)],
)
def test_other_formats_are_described_by_pillow(encode, kind, mode, components, bits):
    header = read_header(encode(Image.new(mode, (9, 7)), kind))
    assert (header.format, header.height, header.width) == (kind, 7, 9)
    assert (header.components, header.bits) == (components, bits)
    assert not header.plain


def test_cut_and_garbled_files_are_none_or_described_but_never_raise(photograph, encode):
    data = encode(photograph(31, 45), exif=b"Exif\0\0" + bytes(40), progressive=True)
    start = data.index(b"\xff\xda")
    draws = np.random.default_rng(0)
    for end in range(start):
        assert read_header(data[:end]) is None
    for _ in range(2000):
        garbled = bytearray(data)
        garbled[int(draws.integers(start))] = int(draws.integers(256))
        read_header(bytes(garbled))
        read_header(b"\xff\xd8\xff" + draws.bytes(60))
    assert read_header(b"") is None
    assert read_header(b"text") is None


def test_a_second_frame_is_no_header(photograph, encode):
    data = encode(photograph(31, 45))
    frame = data.index(b"\xff\xc0")
    length = 2 + int.from_bytes(data[frame + 2 : frame + 4])
    assert jpeg_header(data[:frame] + data[frame : frame + length] + data[frame:]) is None


def test_orientation_is_read_and_upright_without_one(photograph, encode):
    exif = Image.Exif()
    exif[0x0112] = 6
    assert orientation(encode(photograph(), exif=exif)) == 6
    assert orientation(encode(photograph())) == 1
    assert orientation(b"no image") == 1
