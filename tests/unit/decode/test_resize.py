"""Windows are resized as torchvision does it, straight into their place in a batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from autotrain.decode.resize import KERNELS, resize_window

WINDOWS = [(0, 0, 60, 80), (5, 7, 40, 31), (59, 0, 1, 80), (10, 20, 1, 1), (3, 3, 16, 16)]
KINDS = {"PIL": lambda picture: picture, "array": np.asarray, "copied array": np.array}


def resized(pixels, window, size, kernel, channels=3):
    batch = np.full((3, size, size, channels), 7, dtype=np.uint8)
    resize_window(pixels, window, size, batch[1], kernel=kernel)
    assert (batch[[0, 2]] == 7).all()
    return batch[1]


def expected(picture, window, size):
    return np.asarray(F.resized_crop(picture, *window, [size, size], InterpolationMode.BILINEAR, antialias=True))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 16, 50])
@pytest.mark.parametrize("window", WINDOWS)
def test_pillows_kernel_is_torchvisions_resized_crop(photograph, window, size, kind):
    picture = photograph()
    assert np.array_equal(resized(KINDS[kind](picture), window, size, "pillow"), expected(picture, window, size))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 16, 50])
@pytest.mark.parametrize("window", WINDOWS)
def test_torchs_kernel_is_a_level_away_at_most(photograph, window, size, kind):
    picture = photograph()
    gap = resized(KINDS[kind](picture), window, size, "torch").astype(int) - expected(picture, window, size)
    assert np.abs(gap).max() <= 1


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("kind", KINDS)
def test_one_channel(photograph, kernel, kind):
    picture = photograph().convert("L")
    pixels = picture if kind == "PIL" else np.array(picture)[..., None]
    gap = resized(pixels, (5, 7, 40, 31), 16, kernel, channels=1)[..., 0].astype(int)
    assert np.abs(gap - expected(picture, (5, 7, 40, 31), 16)).max() <= 1


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_window_of_the_right_size_is_copied(photograph, kernel):
    pixels = np.asarray(photograph())
    assert np.array_equal(resized(pixels, (3, 4, 16, 16), 16, kernel), pixels[3:19, 4:20])
    assert np.array_equal(resized(photograph(16, 16), None, 16, kernel), np.asarray(photograph(16, 16)))


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_window_between_pixels_is_where_it_says(kernel):
    """A ramp shifted by a fraction of a pixel: the mean of the result tells where the window lay."""
    ramp = np.broadcast_to(np.arange(100, dtype=np.uint8)[None, :, None] * 2, (100, 100, 3))
    for left in (10.0, 10.5, 11.0, 11.5):
        out = resized(ramp, (3.5, left, 60.0, 60.0), 30, kernel)
        assert out.mean() == pytest.approx(2 * (left + 30 - 0.5), abs=0.1)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("edge", [20, 20.25])
def test_nothing_outside_the_window_is_seen(kernel, edge):
    pixels = np.zeros((60, 60, 3), dtype=np.uint8)
    pixels[:20] = pixels[:, :20] = 255
    pixels[41:] = pixels[:, 41:] = 255
    assert not resized(pixels, (edge, edge, 20.5, 20.5), 5, kernel).any()


def test_resizing_into_shared_memory(photograph):
    batch = torch.empty((2, 16, 16, 3), dtype=torch.uint8).share_memory_()
    for kernel in KERNELS:
        resize_window(photograph(), (5, 7, 40, 31), 16, batch.numpy()[0], kernel=kernel)
        assert np.abs(batch[0].numpy().astype(int) - expected(photograph(), (5, 7, 40, 31), 16)).max() <= 1


def test_a_picture_is_left_as_it_was(photograph):
    picture = photograph()
    before = np.array(picture)
    for kernel in KERNELS:
        resized(picture, (5, 7, 40, 31), 16, kernel)
    assert np.array_equal(np.asarray(picture), before)
    assert isinstance(picture, Image.Image)
