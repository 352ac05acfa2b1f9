"""Decoders of whole batches: DALI here, nvJPEG by its stand-in on the CPU; both fall back as single decoders do."""

from __future__ import annotations

import importlib.util
import io
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from autotrain.augment.geometry import crop_window
from autotrain.augment.policy import policy
from autotrain.decode.base import BatchError
from autotrain.decode.dali import BatchDecoder
from autotrain.decode.decoder import decoder
from autotrain.decode.nvjpeg import decode_on_device, groups, pack
from autotrain.decode.resize import resize_window

SIZE = 24
HAS_DALI = decoder("dali").unavailable() is None


class Dali:
    """Batches by DALI, closed at once."""

    def __call__(self, datas, choices, channels):
        out = np.empty((len(datas), SIZE, SIZE, channels), dtype=np.uint8)
        with BatchDecoder(channels=channels) as batches:
            batches.decode_batch(datas, choices, SIZE, out)
        return out


class NvJpeg:
    """Batches as nvJPEG has them, decoded on the CPU."""

    def __call__(self, datas, choices, channels):
        packed = pack(datas, choices, SIZE, channels=channels)
        assert len(packed) == len(datas)
        images = decode_on_device(packed, torch.device("cpu"))
        assert images.is_contiguous()
        return images.permute(0, 2, 3, 1).numpy()


BATCHES = [
    pytest.param(Dali(), id="dali", marks=pytest.mark.skipif(not HAS_DALI, reason="needs NVIDIA DALI")),
    pytest.param(NvJpeg(), id="nvjpeg"),
]


class Choices:
    """Windows drawn for each image; counts the calls."""

    def __init__(self, count):
        self.geometry = policy("crop").draw(0, 0, np.arange(count)).geometry
        self.calls = [[] for _ in range(count)]

    def __iter__(self):
        return iter([self._choice(place) for place in range(len(self.calls))])

    def _choice(self, place):
        def choose(height, width):
            self.calls[place].append((height, width))
            return crop_window(self.geometry[place], height, width)

        return choose


def one_by_one(datas, channels):
    out = np.empty((len(datas), SIZE, SIZE, channels), dtype=np.uint8)
    for data, choose, place in zip(datas, Choices(len(datas)), out, strict=True):
        decoded = decoder("pillow").decode(data, channels=channels, choose=choose)
        resize_window(decoded.pixels, decoded.window, SIZE, place, kernel="pillow")
    return out


@pytest.fixture
def mixed(photograph, encode):
    """A batch of several sizes and kinds."""
    exif = Image.Exif()
    exif[0x0112] = 6
    files = [encode(photograph(50 + 9 * place, 120 - 7 * place, seed=place)) for place in range(6)]
    files += [encode(photograph(31, 33), progressive=True), encode(photograph(40, 50).convert("L"))]
    files += [encode(photograph(), kind) for kind in ("PNG", "WEBP")]
    files += [encode(photograph().convert("CMYK")), encode(photograph(), keep_rgb=True)]
    return [*files, encode(photograph(50, 61), exif=exif), encode(photograph(9, 300)), encode(photograph(1, 1))]


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("batch", BATCHES)
def test_a_mixed_batch_is_what_pillow_gives_one_by_one(batch, mixed, channels):
    choices = Choices(len(mixed))
    images = batch(mixed, list(choices), channels)
    gap = np.abs(images.astype(int) - one_by_one(mixed, channels)).max(axis=(1, 2, 3))
    assert gap.max() <= 1, gap
    sizes = [Image.open(io.BytesIO(data)).size[::-1] for data in mixed]
    assert choices.calls == [[size] for size in sizes]


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("chosen", [slice(0, 6), slice(8, 10), slice(0, 0)], ids=["JPEG only", "others only", "none"])
def test_batches_of_one_kind(batch, mixed, chosen):
    files = mixed[chosen]
    images = batch(files, list(Choices(len(files))), 3)
    assert images.shape == (len(files), SIZE, SIZE, 3)
    assert np.abs(images.astype(int) - one_by_one(files, 3)).max(initial=0) <= 1


@pytest.mark.parametrize("batch", BATCHES)
def test_a_truncated_file_is_named(batch, mixed):
    mixed[3] = mixed[3][: len(mixed[3]) // 2]
    with pytest.raises(BatchError, match="truncated") as caught:
        batch(mixed, list(Choices(len(mixed))), 3)
    assert caught.value.place == 3


@pytest.mark.parametrize("batch", BATCHES)
def test_a_file_that_is_refused_leaves_the_others_to_be_decoded(batch, mixed):
    """Its tables are broken while its header and its end are whole: only decoding finds out."""
    place = mixed[3].index(b"\xff\xc4")
    mixed[3] = mixed[3][: place + 4] + b"\x77" + mixed[3][place + 5 :]
    with pytest.raises(BatchError) as caught:
        batch(mixed, list(Choices(len(mixed))), 3)
    assert caught.value.place == 3


@pytest.mark.skipif(not HAS_DALI, reason="needs NVIDIA DALI")
def test_a_decoder_of_batches_goes_on_after_an_error_and_grows(mixed):
    files = mixed[:6]
    broken = [*files[:2], files[2].replace(b"\xff\xc4", b"\xff\xc4\0\x13\x77", 1)]
    out = np.empty((6, SIZE, SIZE, 3), dtype=np.uint8)
    with BatchDecoder(channels=3) as batches:
        with pytest.raises(BatchError):
            batches.decode_batch(broken, list(Choices(3)), SIZE, out)
        for count in (2, 6, 4):
            batches.decode_batch(files[:count], list(Choices(count)), SIZE, out)
            assert np.abs(out[:count].astype(int) - one_by_one(files[:count], 3)).max() <= 1


@pytest.mark.skipif(not HAS_DALI, reason="needs NVIDIA DALI")
def test_a_decoder_of_batches_is_sent_without_its_pipeline(mixed):
    out = np.empty((2, SIZE, SIZE, 1), dtype=np.uint8)
    with BatchDecoder(channels=1, kernel="pillow", threads=2) as batches:
        batches.decode_batch(mixed[:2], list(Choices(2)), SIZE, out)
        with pickle.loads(pickle.dumps(batches)) as copy:
            again = np.empty_like(out)
            copy.decode_batch(mixed[:2], list(Choices(2)), SIZE, again)
    assert np.array_equal(out, again)


def test_what_is_missing_is_said(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "autotrain-torch[dali]" in decoder("dali").unavailable()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "CUDA" in decoder("nvjpeg").unavailable()


def test_groups_hold_every_window_once_and_pad_little():
    draws = np.random.default_rng(0)
    windows = [(0, 0, int(height), int(width)) for height, width in draws.integers(1, 900, (60, 2))]
    found = groups(windows)
    assert sorted(place for group in found for place in group) == list(range(60))
    for group in found:
        padded = max(windows[place][2] for place in group) * max(windows[place][3] for place in group) * len(group)
        assert padded <= 2 * sum(windows[place][2] * windows[place][3] for place in group)
    assert groups([(0, 0, 40, 50)] * 8) == [list(range(8))]
    assert groups([]) == []
