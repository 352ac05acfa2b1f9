"""nvJPEG gives the pictures that Pillow gives, within the rounding of its inverse DCT and upsampling."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from autotrain.augment.geometry import Window, crop_window
from autotrain.augment.policy import policy
from autotrain.decode.base import BatchError
from autotrain.decode.decoder import decoder
from autotrain.decode.nvjpeg import decode_on_device, pack
from autotrain.decode.resize import resize_window

pytestmark = pytest.mark.gpu

SIZE = 48
CUDA = torch.device("cuda")


def encoded(place: int, kind: str = "JPEG", **options: Any) -> bytes:
    draws = np.random.default_rng(place)
    coarse = Image.fromarray(draws.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    picture = coarse.resize((210 - 7 * place, 150 + 9 * place), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def choices(count: int) -> list[Callable[[int, int], Window]]:
    geometry = policy("crop").draw(0, 0, np.arange(count)).geometry
    return [lambda height, width, row=row: crop_window(row, height, width) for row in geometry]


def one_by_one(files: list[bytes], channels: int) -> torch.Tensor:
    out = np.empty((len(files), SIZE, SIZE, channels), dtype=np.uint8)
    for data, choose, place in zip(files, choices(len(files)), out, strict=True):
        decoded = decoder("pillow").decode(data, channels=channels, choose=choose)
        resize_window(decoded.pixels, decoded.window, SIZE, place, kernel="torch")
    return torch.from_numpy(out).permute(0, 3, 1, 2)


def test_nvjpeg_is_there() -> None:
    assert decoder("nvjpeg").unavailable() is None


@pytest.mark.parametrize("channels", [3, 1])
def test_a_mixed_batch_is_what_pillow_gives(channels: int) -> None:
    files = [encoded(place, subsampling=sampling) for place, sampling in enumerate(("4:4:4", "4:2:2", "4:2:0") * 3)]
    files += [encoded(9, progressive=True), encoded(10, "PNG"), encoded(11, keep_rgb=True), encoded(12, quality=30)]
    packed = pack(files, choices(len(files)), SIZE, channels=channels).pin_memory()
    images = decode_on_device(packed, CUDA)
    assert (images.device.type, images.dtype, tuple(images.shape)) == (
        "cuda",
        torch.uint8,
        (len(files), channels, SIZE, SIZE),
    )
    gap = (images.cpu().to(torch.int16) - one_by_one(files, channels)).abs().double()
    assert float(gap.mean()) < 1
    assert float(gap.mean(dim=(1, 2, 3)).max()) < 2


def test_a_broken_file_is_named_and_the_next_batch_is_decoded() -> None:
    files = [encoded(place) for place in range(4)]
    broken = list(files)
    tables = broken[2].index(b"\xff\xc4")
    broken[2] = broken[2][: tables + 4] + b"\x77" + broken[2][tables + 5 :]
    with pytest.raises(BatchError) as caught:
        decode_on_device(pack(broken, choices(4), SIZE, channels=3), CUDA)
    assert caught.value.place == 2
    images = decode_on_device(pack(files, choices(4), SIZE, channels=3), CUDA)
    assert float((images.cpu().to(torch.int16) - one_by_one(files, 3)).abs().double().mean()) < 1
