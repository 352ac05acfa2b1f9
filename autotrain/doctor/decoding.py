"""The libraries that decode images, and how long they take here."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter

from autotrain.doctor.check import NotDone
from autotrain.errors import first_line

SIDE = 400, 533
"""Height and width of the made photograph, in pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PillowFacts:
    """The Pillow that an import finds."""

    version: str | None
    """Its version; None where even that cannot be imported."""

    error: str | None
    """Why it does not work; None where it does."""

    jpeg: bool = False
    """Whether it reads JPEG files."""

    turbo: bool = False
    """Whether it reads them by libjpeg-turbo."""

    turbo_version: str | None = None
    """Version of libjpeg-turbo."""

    simd: bool = False
    """Whether it is Pillow-SIMD."""

    simd_copy: str | None = None
    """Version of the Pillow-SIMD that ``autotrain simd`` keeps for loader workers; None where there is none."""

    @property
    def name(self) -> str:
        """Return such as ``Pillow 13.0.0``."""
        return f"{'Pillow-SIMD' if self.simd else 'Pillow'}{f' {self.version}' if self.version else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeTimes:
    """Seconds to decode a made photograph of 400 by 533 pixels, on one core; None for what is not there."""

    pillow_s: float | None
    """By Pillow."""

    simplejpeg_s: float | None
    """By simplejpeg."""


def pillow_facts() -> PillowFacts:
    """Import Pillow and ask it; a Pillow that is broken is a fact like others."""
    try:
        import PIL
    except ImportError as error:
        return PillowFacts(version=None, error=first_line(error))
    version = getattr(PIL, "__version__", None)
    try:
        from PIL import Image, features

        from autotrain.decode import simd

        Image.new("RGB", (1, 1))
        return PillowFacts(
            version=version,
            error=None,
            jpeg=bool(features.check_codec("jpg")),
            turbo=bool(features.check_feature("libjpeg_turbo")),
            turbo_version=features.version_feature("libjpeg_turbo"),
            simd=simd.misplaced() is None,
            simd_copy=_simd_copy(),
        )
    except Exception as error:
        return PillowFacts(version=version, error=first_line(error))


def _simd_copy() -> str | None:
    from autotrain.decode import simd

    try:
        place = simd.installed()
        return None if place is None else simd.version(place)
    except (OSError, RuntimeError):  # no home folder, or none that can be read
        return None


def simplejpeg_missing() -> str | None:
    """Return why simplejpeg cannot be used, or None."""
    try:
        import simplejpeg  # noqa: F401
    except Exception as error:
        return first_line(error)
    return None


def decode_times(*, repeats: int) -> DecodeTimes:
    """Decode a made photograph some times by each library; the median counts.

    Raises:
        NotDone: Pillow does not work, by which the photograph is made.
    """
    facts = pillow_facts()
    if facts.error is not None or not facts.jpeg:
        raise NotDone("needs a Pillow that works")
    data = _photograph()

    def by_pillow() -> None:
        from PIL import Image

        Image.open(io.BytesIO(data)).load()

    def by_simplejpeg() -> None:
        import simplejpeg

        simplejpeg.decode_jpeg(data, fastdct=False, fastupsample=False)

    second = None if simplejpeg_missing() is not None else _seconds(by_simplejpeg, repeats)
    return DecodeTimes(pillow_s=_seconds(by_pillow, repeats), simplejpeg_s=second)


def _photograph() -> bytes:
    """Return a JPEG file with smooth shapes and some grain, the same in every run."""
    from PIL import Image

    height, width = SIDE
    small = Image.frombytes("L", (16, 12), bytes((97 * index * index + 31 * index) % 256 for index in range(192)))
    smooth = small.resize((width, height), Image.Resampling.BICUBIC)
    state, noise = 1, bytearray()
    for _ in range(64 * 64):
        state = (1103515245 * state + 12345) % 2**31
        noise.append(state >> 23)
    tile = Image.frombytes("L", (64, 64), bytes(noise))
    grain = Image.new("L", (width, height))
    for left in range(0, width, 64):
        for top in range(0, height, 64):
            grain.paste(tile, (left, top))
    band = Image.blend(smooth, grain, 0.15)
    file = io.BytesIO()
    Image.merge("RGB", (band, smooth, band.transpose(Image.Transpose.FLIP_LEFT_RIGHT))).save(file, "JPEG", quality=90)
    return file.getvalue()


def _seconds(decode: Callable[[], None], repeats: int) -> float:
    decode()
    taken = []
    for _ in range(repeats):
        since = perf_counter()
        decode()
        taken.append(perf_counter() - since)
    return median(taken)
