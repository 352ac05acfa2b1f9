"""The shelf: a directory of disk caches; what is there, who uses it, and what goes when room is needed."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autotrain.cache.file import LONG_S
from autotrain.cache.header import FormatError, count_entries
from autotrain.cache.lock import alone, locked

log = logging.getLogger(__name__)

SAMPLES, LOCK, ABOUT = "samples.bin", "lock", "about.json"
"""Files of one cache: the samples, what is locked while room is given out, and words for people."""

DRAFT = ".draft"
"""Ending of files that are not yet in place."""


def default_directory(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where disk caches lie unless told otherwise.

    ``AUTOTRAIN_CACHE_DIR``, else ``autotrain`` in ``XDG_CACHE_HOME``, else in ``~/.cache``; empty variables count as
    none, and a relative ``XDG_CACHE_HOME`` too, as the XDG Base Directory Specification has it.
    """
    if own := environ.get("AUTOTRAIN_CACHE_DIR"):
        return Path(own).expanduser()
    base = environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path("~/.cache").expanduser()) / "autotrain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One disk cache on the shelf."""

    key: str
    folder: Path
    bytes: int
    """What it takes of the disk."""

    used_at: float
    """When it was last opened, in seconds since 1970."""

    in_use: bool
    """Whether a living process has it open."""

    filled: int | None = None
    """Samples that are there; None where the file cannot be understood."""

    about: Mapping[str, Any]
    """What its description says."""


def kept(directory: Path) -> list[Kept]:
    """Return the caches of a directory, the last used first."""
    found = []
    with suppress(OSError):
        for folder in sorted(directory.iterdir()):
            with suppress(OSError):  # gone meanwhile, or no cache
                found.append(_look(folder))
    return sorted(found, key=lambda entry: -entry.used_at)


def _look(folder: Path) -> Kept:
    number = os.open(folder / SAMPLES, os.O_RDONLY | os.O_CLOEXEC)
    try:
        facts = os.fstat(number)
        filled, about = None, _about(folder)
        with suppress(FormatError):
            filled = count_entries(number)
        return Kept(
            key=folder.name,
            folder=folder,
            bytes=getattr(facts, "st_blocks", 0) * 512 or facts.st_size,
            used_at=_used_at(folder, facts),
            in_use=not alone(number),
            filled=filled,
            about=about,
        )
    finally:
        os.close(number)


def _used_at(folder: Path, facts: os.stat_result) -> float:
    with suppress(OSError):
        return max(facts.st_mtime, (folder / ABOUT).stat().st_mtime)
    return facts.st_mtime


def _about(folder: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        content = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        if isinstance(content, dict):
            return content
    return {}


def describe(folder: Path, content: Mapping[str, Any]) -> None:
    """Write a cache's description, or only renew its date where it says the same already."""
    path = folder / ABOUT
    before = _about(folder)
    entries = {"created": before.get("created", time.strftime("%Y-%m-%dT%H:%M:%S%z")), **content}
    if entries == before:
        os.utime(path)
        return
    draft = folder / f"{ABOUT}{DRAFT}"
    draft.write_text(json.dumps(entries, indent=2, ensure_ascii=False, default=str) + "\n", encoding="utf-8")
    os.replace(draft, path)


@contextmanager
def held(directory: Path) -> Iterator[None]:
    """Keep others from opening, making and removing caches of a directory.

    Raises:
        OSError: the directory cannot be written, or another process holds it for long.
    """
    with locked(str(directory / LOCK), patience_s=LONG_S, create=True):
        yield


def remove(directory: Path, key: str) -> bool:
    """Remove a cache unless a living process uses it; return whether it is gone.

    Raises:
        OSError: it cannot be removed.
    """
    with held(directory):
        return _remove(directory / key)


def _remove(folder: Path) -> bool:
    """Remove the files that are ours; whoever calls holds the directory."""
    try:
        number = os.open(folder / SAMPLES, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        if not alone(number):
            return False
        (folder / SAMPLES).unlink()
    finally:
        os.close(number)
    for path in (folder / ABOUT, folder / LOCK, *folder.glob(f"*{DRAFT}")):
        path.unlink(missing_ok=True)
    with suppress(OSError):  # something of somebody else's lies there
        folder.rmdir()
    return True


def make_room(directory: Path, key: str, wanted_bytes: int, limit_bytes: int) -> int:
    """Remove caches that no one uses, the longest unused first, until one of that size fits; return what room it has.

    Whoever calls holds the directory.

    Args:
        directory: the shelf.
        key: of the cache that needs the room; it stays.
        wanted_bytes: room that it needs.
        limit_bytes: what all caches of the directory may take together.
    """
    others = [entry for entry in kept(directory) if entry.key != key]
    taken = sum(entry.bytes for entry in others)
    for entry in reversed(others):
        if taken + wanted_bytes <= limit_bytes:
            break
        if not entry.in_use and _remove(entry.folder):
            taken -= entry.bytes
            log.info("cache: removed %s (%s), the longest unused, to make room", entry.folder, entry.about)
    return max(0, min(wanted_bytes, limit_bytes - taken))
