"""simplejpeg: libjpeg-turbo by its TurboJPEG interface, straight into an array."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from autotrain.decode.base import Decoder, Pixels, to_channels
from autotrain.decode.header import Header
from autotrain.decode.reduce import reduced_side


class Simplejpeg(Decoder):
    """Whole images, with the accurate inverse DCT and the smooth upsampling of chroma that Pillow has too."""

    name, full, exact = "simplejpeg", "simplejpeg", True

    def plain(self, data: bytes, header: Header, *, channels: int, factor: int) -> Pixels | None:
        """Decode; what libjpeg merely warns of is left to Pillow, which knows what is truncated."""
        import simplejpeg

        try:
            pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
                data,
                colorspace="GRAY" if header.components == 1 and channels == 1 else "RGB",
                fastdct=False,
                fastupsample=False,
                min_height=reduced_side(header.height, factor) if factor > 1 else 0,
                min_width=reduced_side(header.width, factor) if factor > 1 else 0,
                min_factor=factor,
            )
        except ValueError:
            return None
        return to_channels(pixels, channels)


class SimplejpegScaled(Decoder):
    """The same at 1/2, 1/4 or 1/8 of the size where the window has pixels to spare."""

    name, full, scaled, exact = "simplejpeg_scaled", "simplejpeg", True, False

    plain = Simplejpeg.plain
