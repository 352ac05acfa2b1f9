"""``autotrain cache``: the disk caches that are there, and their removal."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autotrain.errors import AutotrainError
from autotrain.hardware.units import size_words

if TYPE_CHECKING:
    from autotrain.cache.shelf import Kept


def cache(
    key: Annotated[
        str | None, typer.Argument(metavar="KEY", help="One cache, by its key's first letters.", show_default=False)
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Remove it, or all of them without KEY.")] = False,
    directory: Annotated[
        Path | None,
        typer.Option(help="Where they lie (default: $AUTOTRAIN_CACHE_DIR or ~/.cache/autotrain).", show_default=False),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.", show_default=False)] = False,
) -> None:
    """List the disk caches of decoded images, the last used first, or remove them.

    A cache that a running process uses is not removed.
    """
    del debug  # looked for by whoever runs the command
    from autotrain.cache.shelf import default_directory, kept

    place = directory or default_directory()
    found = [entry for entry in kept(place) if key is None or entry.key.startswith(key)]
    if key is not None and not found:
        raise AutotrainError(f"{place}: no cache '{key}'. See what is there: autotrain cache")
    if clear:
        _clear(place, key, found)
        return
    if not found:
        print(f"No caches in {place}")
        return
    for entry in found:
        print(_line(entry))
    print(f"{size_words(sum(entry.bytes for entry in found))} in all, in {place}")


def _clear(place: Path, key: str | None, found: list[Kept]) -> None:
    from autotrain.cache.shelf import remove

    if key is not None and len(found) > 1:
        keys = ", ".join(entry.key for entry in found)
        raise AutotrainError(f"cache {key}: more than one begins so ({keys}). Give more of the key")
    used = []
    for entry in found:
        try:
            gone = remove(place, entry.key)
        except OSError as problem:
            raise AutotrainError(f"{entry.folder}: cannot be removed ({problem.strerror or problem})") from problem
        if gone:
            print(f"Removed {entry.key}, {size_words(entry.bytes)}")
        else:
            used.append(entry.key)
    if used:
        raise AutotrainError(f"{place}: not removed: {', '.join(used)}, in use. Try again when the training has ended")
    if not found:
        print(f"No caches in {place}")


def _line(entry: Kept) -> str:
    if entry.filled is None:
        samples = "of another version, or damaged"
    else:
        samples = f"{entry.filled:,} of {entry.about.get('samples', '?')} samples"
    words = [str(value) for name, value in entry.about.items() if name not in ("created", "samples", "key")]
    state = "in use" if entry.in_use else f"used {_age(time.time() - entry.used_at)} ago"
    return f"{entry.key}  {size_words(entry.bytes):>10}  {samples}, {state}  {', '.join(words)}".rstrip()


def _age(seconds: float) -> str:
    for name, length_s in (("day", 86400.0), ("hour", 3600.0), ("minute", 60.0)):
        if seconds >= length_s:
            count = int(seconds // length_s)
            return f"{count} {name}{'' if count == 1 else 's'}"
    return "a moment"
