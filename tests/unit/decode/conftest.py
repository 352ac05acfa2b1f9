"""Files to decode: photograph-like pictures, made anew for every test from a fixed seed."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def photograph() -> Callable[..., Image.Image]:
    """A function that makes a picture with smooth areas, edges and noise."""

    def make(height: int = 60, width: int = 80, *, seed: int = 0) -> Image.Image:
        draws = np.random.default_rng(seed)
        coarse = Image.fromarray(draws.integers(0, 256, (5, 6, 3), dtype=np.uint8))
        pixels = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(np.float64)
        pixels[height // 3 : height // 2] += 60
        pixels += draws.normal(0, 6, pixels.shape)
        return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))

    return make


@pytest.fixture
def encode() -> Callable[..., bytes]:
    """A function that encodes a picture with Pillow."""

    def make(picture: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
        file = io.BytesIO()
        picture.save(file, kind, **options)
        return file.getvalue()

    return make
