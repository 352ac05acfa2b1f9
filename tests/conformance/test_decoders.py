"""Every decoder gives the picture that Pillow gives: those called exact bit for bit, the others nearly."""

from __future__ import annotations

import io
import pickle
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageFile, features

from autotrain.augment.geometry import Window, crop_window
from autotrain.augment.policy import policy
from autotrain.decode.decoder import DECODERS, Decoder, decoder, full_name
from autotrain.decode.resize import resize_window
from autotrain.errors import SettingsError

HERE = [entry for entry in DECODERS if entry.unavailable() is None and entry.misplaced() is None]
"""Those that decode single images in this process."""

EXACT = [entry for entry in HERE if entry.exact]
SCALED = [entry for entry in HERE if entry.scaled]
SIDES = ((1, 1), (1, 7), (7, 1), (2, 3), (8, 8), (16, 17), (33, 31), (64, 1), (97, 131))


def named(entry: Decoder) -> str:
    return entry.name


def photograph(height: int, width: int, seed: int = 0) -> Image.Image:
    draws = np.random.default_rng(seed)
    coarse = Image.fromarray(draws.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    pixels = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(np.float64)
    pixels[height // 3 : height // 2] += 60
    pixels += draws.normal(0, 6, pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def encoded(picture: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def jpegs() -> Iterator[tuple[str, bytes]]:
    """Give JPEG files of all kinds that Pillow and simplejpeg write, by name."""
    for height, width in SIDES:
        picture = photograph(height, width, seed=height)
        size = f"{height}x{width}"
        for sampling in ("4:4:4", "4:2:2", "4:2:0"):
            for quality in (1, 50, 95, 100):
                yield f"{size} {sampling} q{quality}", encoded(picture, subsampling=sampling, quality=quality)
            for option in ({"progressive": True}, {"optimize": True}, {"restart_marker_blocks": 2}):
                yield f"{size} {sampling} {option}", encoded(picture, subsampling=sampling, **option)
        for sampling in ("411", "440", "gray"):
            yield f"{size} {sampling}", simplejpeg.encode_jpeg(np.asarray(picture), colorsubsampling=sampling)
        yield f"{size} grey", encoded(picture.convert("L"))
        yield f"{size} RGB", encoded(picture, keep_rgb=True)
        yield f"{size} CMYK", encoded(picture.convert("CMYK"))
    sideways = Image.Exif()
    sideways[0x0112] = 6
    picture = photograph(40, 56)
    yield "orientation", encoded(picture, exif=sideways)
    yield "ICC profile", encoded(picture, icc_profile=bytes(range(256)) * 300)
    yield "comment", encoded(picture, comment=b"\xff\xd9 not the end \xff\xc0")
    yield "trailing bytes", encoded(picture) + bytes(2000)
    yield "stray bytes", encoded(picture)[:-2] + b"\0\1\2\xff\xd9"
    yield "no end marker's last byte", encoded(picture)[:-1]
    yield "fill bytes", b"\xff\xd8\xff\xff" + encoded(picture)[2:]
    yield "large", encoded(photograph(400, 533), quality=90)


JPEGS = dict(jpegs())


def others() -> Iterator[tuple[str, bytes]]:
    picture = photograph(20, 28)
    for kind in ("PNG", "BMP", "GIF", "TIFF", *(["WEBP"] if features.check("webp") else [])):
        yield kind, encoded(picture, kind)
    yield "palette", encoded(picture.quantize(), "PNG")
    yield "transparency", encoded(picture.convert("RGBA"), "PNG")
    yield "16 bits", encoded(Image.fromarray(np.arange(560, dtype=np.uint16).reshape(20, 28)), "PNG")
    yield "1 bit", encoded(picture.convert("1"), "PNG")


OTHERS = dict(others())


def reference(data: bytes, channels: int = 3) -> np.ndarray[Any, Any]:
    """Do what torchvision's ImageFolder does."""
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB" if channels == 3 else "L"))


def outcome(read: Callable[[], Any]) -> Any:
    """Return pixels, or the kind of error."""
    try:
        pixels = np.asarray(read())
    except Exception as problem:
        return type(problem)
    return pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels


def assert_same(ours: Any, theirs: Any, name: str) -> None:
    if isinstance(theirs, type):
        assert ours is theirs, name
    else:
        assert not isinstance(ours, type), f"{name}: {ours}"
        assert np.array_equal(ours, theirs), name


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("entry", EXACT, ids=named)
def test_exact_decoders_give_pillows_bits(entry: Decoder, channels: int) -> None:
    for name, data in (JPEGS | OTHERS).items():
        theirs = outcome(lambda data=data: reference(data, channels))
        ours = outcome(lambda data=data: entry.decode(data, channels=channels).pixels)
        assert_same(ours, theirs, f"{name}, {channels} channels")


def test_plain_files_are_decoded_by_the_decoder_itself() -> None:
    for name in ("simplejpeg", "torchvision"):
        assert decoder(name).decode(JPEGS["large"], channels=3).by == name
        assert decoder(name).decode(OTHERS["PNG"], channels=3).by == "pillow"


@pytest.mark.parametrize("entry", HERE, ids=named)
def test_broken_files_fare_as_with_pillow(entry: Decoder) -> None:
    """Cut, damaged and truncated files: the same picture, or the same error."""
    draws = np.random.default_rng(5)
    bases = [encoded(photograph(60, 80), quality=q, progressive=p) for q in (50, 90) for p in (False, True)]
    for turn in range(160):
        data = bytearray(bases[turn % 4])
        place = int(draws.integers(2, len(data)))
        if turn % 3 == 0:
            del data[place:]
        elif turn % 3 == 1:
            data[place] = int(draws.integers(256))
        else:
            del data[max(place, 600) : max(place, 600) + int(draws.integers(1, 9))]
        theirs = outcome(lambda: reference(bytes(data)))  # noqa: B023 - called at once
        ours = outcome(lambda: entry.decode(bytes(data), channels=3).pixels)  # noqa: B023
        assert_same(ours, theirs, f"turn {turn}")


@pytest.mark.parametrize("entry", HERE, ids=named)
def test_truncated_files_are_errors_unless_pillow_is_told_otherwise(entry: Decoder, monkeypatch: Any) -> None:
    data = JPEGS["large"][: len(JPEGS["large"]) // 2]
    with pytest.raises(OSError, match="truncated"):
        entry.decode(data, channels=3)
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    assert np.array_equal(np.asarray(entry.decode(data, channels=3).pixels), reference(data))


@pytest.mark.parametrize("entry", HERE, ids=named)
@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff", b"no image at all", bytes(1000)])
def test_what_is_no_image_is_pillows_error(entry: Decoder, data: bytes) -> None:
    with pytest.raises(OSError, match="cannot identify"):
        entry.decode(data, channels=3, choose=lambda height, width: (0, 0, height, width), size=8)


@pytest.mark.parametrize("entry", HERE, ids=named)
def test_decompression_bombs_are_refused_as_by_pillow(entry: Decoder, monkeypatch: Any) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(Image.DecompressionBombError):
        entry.decode(JPEGS["large"], channels=3)


@pytest.mark.parametrize("entry", HERE, ids=named)
def test_the_window_is_chosen_once_from_the_whole_size(entry: Decoder) -> None:
    for name, data in (JPEGS | OTHERS).items():
        if isinstance(outcome(lambda data=data: reference(data)), type):
            continue
        calls: list[tuple[int, int]] = []

        def choose(height: int, width: int) -> Window:
            calls.append((height, width))  # noqa: B023 - called at once
            return 0, 0, height, width

        decoded = entry.decode(data, channels=3, choose=choose, size=4)
        assert calls == [reference(data).shape[:2]], name
        assert decoded.window is not None


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("entry", SCALED, ids=named)
def test_scaled_decoding_stays_near_the_full_decode(entry: Decoder, channels: int) -> None:
    """On average within 1.2 levels, every image within 3: the windows lie where they lay, only sharpness differs."""
    geometry = policy("crop").draw(0, 0, np.arange(24)).geometry
    gaps, factors = [], set()
    for place, row in enumerate(geometry):
        data = encoded(photograph(300 + 7 * place, 411 - 5 * place, seed=place), quality=90)

        def choose(height: int, width: int, row: Any = row) -> Window:
            return crop_window(row, height, width)

        results = []
        for used in (entry, decoder("pillow")):
            decoded = used.decode(data, channels=channels, choose=choose, size=32)
            out = np.empty((32, 32, channels), dtype=np.uint8)
            resize_window(decoded.pixels, decoded.window, 32, out, kernel="torch")
            results.append(out.astype(int))
            factors.add(decoded.factor)
        gaps.append(np.abs(results[0] - results[1]).mean())
    assert factors >= {1, 2, 4}
    assert np.mean(gaps) < 1.2
    assert max(gaps) < 3


@pytest.mark.parametrize("entry", SCALED, ids=named)
def test_scaled_decoders_decode_whole_where_no_pixel_is_to_spare(entry: Decoder) -> None:
    data = JPEGS["large"]
    decoded = entry.decode(data, channels=3, choose=lambda height, width: (3, 5, 240, 250), size=224)
    assert decoded.window == (3, 5, 240, 250)
    assert np.array_equal(np.asarray(decoded.pixels), reference(data))
    assert np.array_equal(np.asarray(entry.decode(data, channels=3).pixels), reference(data))


@pytest.mark.parametrize("entry", SCALED, ids=named)
@pytest.mark.parametrize("sides", [(1, 1), (3, 40), (17, 16), (401, 533)])
def test_odd_sides_are_reduced_too(entry: Decoder, sides: tuple[int, int]) -> None:
    data = encoded(photograph(*sides))
    decoded = entry.decode(data, channels=3, choose=lambda height, width: (0, 0, height, width), size=1)
    height, width = (-(-side // decoded.factor) for side in sides)
    assert np.asarray(decoded.pixels).shape == (height, width, 3)


@pytest.mark.parametrize("entry", DECODERS, ids=named)
def test_decoders_can_be_sent_to_workers(entry: Decoder) -> None:
    copy = pickle.loads(pickle.dumps(entry))
    assert (copy.name, type(copy)) == (entry.name, type(entry))


@pytest.mark.parametrize("entry", HERE, ids=named)
def test_decoders_work_in_several_threads_at_once(entry: Decoder) -> None:
    files = [JPEGS[name] for name in ("large", "97x131 4:2:0 q50", "97x131 grey", "33x31 CMYK")]
    expected = [reference(data) for data in files]
    wrong: list[str] = []

    def work() -> None:
        for _ in range(5):
            for data, pixels in zip(files, expected, strict=True):
                if not np.array_equal(np.asarray(entry.decode(data, channels=3).pixels), pixels):
                    wrong.append(entry.name)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_names_are_unique_and_unknown_ones_are_refused() -> None:
    names = [entry.name for entry in DECODERS]
    assert len(set(names)) == len(names)
    assert names[0] == "pillow"
    assert all(not decoder(full_name(name)).scaled for name in names)
    with pytest.raises(SettingsError, match="Did you mean 'simplejpeg'"):
        decoder("simplejpg")
