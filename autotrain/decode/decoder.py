"""The decoders there are, by name."""

from __future__ import annotations

from autotrain.decode.base import Choose, Decoded, Decoder, Pixels
from autotrain.decode.dali import Dali
from autotrain.decode.nvjpeg import NvJpeg
from autotrain.decode.pillow import Pillow, PillowDraft, PillowSimd, PillowSimdDraft
from autotrain.decode.simplejpeg import Simplejpeg, SimplejpegScaled
from autotrain.decode.torchvision import Torchvision
from autotrain.errors import SettingsError, unknown

DECODERS: tuple[Decoder, ...] = (
    Pillow(),
    Simplejpeg(),
    Torchvision(),
    PillowDraft(),
    SimplejpegScaled(),
    PillowSimd(),
    PillowSimdDraft(),
    Dali(),
    NvJpeg(),
)
"""All of them, the reference first."""

_BY_NAME = {entry.name: entry for entry in DECODERS}


def decoder(name: str) -> Decoder:
    """Return the decoder of a name.

    Raises:
        SettingsError: there is none.
    """
    try:
        return _BY_NAME[name]
    except KeyError:
        raise SettingsError(unknown("decoder", name, _BY_NAME)) from None


def full_name(name: str) -> str:
    """Return the name of the decoder of whole images that is nearest to a scaled or batched one.

    Raises:
        SettingsError: there is no decoder of that name.
    """
    return decoder(name).full


__all__ = ["DECODERS", "Choose", "Decoded", "Decoder", "Pixels", "decoder", "full_name"]
