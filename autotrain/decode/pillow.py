"""Pillow, and Pillow-SIMD in worker processes of its own: the same code on another module of the same name."""

from __future__ import annotations

import io

from PIL import Image

from autotrain.decode import simd
from autotrain.decode.base import Decoder, Pixels, pil_mode
from autotrain.decode.header import Header


class Pillow(Decoder):
    """The reference: what torchvision's ``ImageFolder`` does, for every file that Pillow reads."""


class PillowDraft(Decoder):
    """Pillow's draft mode: 1/2, 1/4 or 1/8 of the size where the window has pixels to spare."""

    name, full, scaled, exact = "pillow_draft", "pillow", True, False

    def plain(self, data: bytes, header: Header, *, channels: int, factor: int) -> Pixels | None:
        """Decode at reduced size."""
        if factor == 1:
            return None
        with Image.open(io.BytesIO(data)) as picture:
            # Draft mode takes the strongest reduction that leaves this many pixels.
            picture.draft(None, (max(1, header.width // factor), max(1, header.height // factor)))
            return picture.convert(pil_mode(channels))


class PillowSimd(Decoder):
    """Pillow's own code in a worker process whose Pillow is Pillow-SIMD."""

    # Its libjpeg is the system's, which may upsample chroma in another way than the one in Pillow's wheels.
    name, full, exact = "pillow_simd", "pillow_simd", False

    def unavailable(self) -> str | None:
        """Return None where ``autotrain simd`` has put Pillow-SIMD into its directory."""
        return simd.unavailable()

    def misplaced(self) -> str | None:
        """Return None in a process that was started with that directory first on its path."""
        return simd.misplaced()


class PillowSimdDraft(Decoder):
    """Draft mode in such a process."""

    name, full, scaled, exact = "pillow_simd_draft", "pillow_simd", True, False

    plain = PillowDraft.plain
    unavailable, misplaced = PillowSimd.unavailable, PillowSimd.misplaced
