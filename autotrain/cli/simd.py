"""``autotrain simd``: build Pillow-SIMD into a directory of its own, or remove it."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import Annotated

import typer

from autotrain.cli.options import Interruption


def simd(
    *,
    remove: Annotated[bool, typer.Option("--remove", help="Delete what was built, for every Python version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Build Pillow-SIMD, a faster Pillow for x86-64, from its source and keep it for workers that decode with it.

    It goes into a directory of its own, under ~/.local/share/autotrain; the installed Pillow stays as it is. Needs pip,
    a C compiler and the header files of libjpeg and zlib, and takes about half a minute.
    """
    del debug  # main reads it
    try:
        _remove() if remove else _build()
    except KeyboardInterrupt:
        raise Interruption from None


def _build() -> None:
    from autotrain.decode import simd as pillow_simd  # imports Pillow, without which other commands work

    print("Building Pillow-SIMD from its source ...", flush=True)
    started = perf_counter()
    place = pillow_simd.build()
    print(f"Pillow-SIMD {pillow_simd.version(place)} in {perf_counter() - started:.0f} s: {_home_as_tilde(place)}")
    if pillow_simd.installed() != place:
        print(f"It is not in effect while {pillow_simd.VARIABLE} names another folder: unset that to use this one")


def _remove() -> None:
    from autotrain.decode import simd as pillow_simd

    removed = pillow_simd.remove()
    for place in removed:
        print(f"Removed {_home_as_tilde(place)}")
    if not removed:
        print(f"Nothing to remove in {_home_as_tilde(pillow_simd.home())}")


def _home_as_tilde(place: Path) -> str:
    return f"~/{place.relative_to(Path.home())}" if place.is_relative_to(Path.home()) else str(place)
