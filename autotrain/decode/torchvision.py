"""torchvision: libjpeg-turbo straight into a tensor."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotrain.decode.base import Decoder, Pixels, to_channels
from autotrain.decode.header import Header


class Torchvision(Decoder):
    """Whole images by torchvision's operator ``decode_jpeg``."""

    name, full, exact = "torchvision", "torchvision", True

    def unavailable(self) -> str | None:
        """Return None where this torchvision still has its decoders: since 0.29 they are deprecated."""
        if hasattr(image_operators(), "decode_jpeg"):
            return None
        return "this torchvision was built without image decoders, or has them no more"

    def plain(self, data: bytes, header: Header, *, channels: int, factor: int) -> Pixels | None:
        """Decode; what it refuses is left to Pillow."""
        del factor
        import torch

        mode = _GRAY if header.components == 1 and channels == 1 else RGB
        try:
            # Torch warns of memory that cannot be written, so the file is copied.
            planes = image_operators().decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8), mode, False)
        except RuntimeError:
            return None
        pixels: NDArray[np.uint8] = planes.permute(1, 2, 0).numpy()
        return to_channels(pixels, channels)


_GRAY, RGB = 1, 3
"""Values of ``torchvision.io.ImageReadMode``."""


def image_operators() -> Any:
    """Return torchvision's operators, which its functions call; the functions warn at every image since 0.29."""
    import torch
    import torchvision.io  # noqa: F401 - loads the operators

    return torch.ops.image
