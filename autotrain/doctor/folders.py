"""Folders: the one for temporary files, and the training's files with the speed at which storage gives them."""

from __future__ import annotations

import logging
import os
import random
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from autotrain.errors import DataError
from autotrain.hardware.cgroup import read_text
from autotrain.hardware.mounts import Mount, mount_of
from autotrain.hardware.storage import cold_read

log = logging.getLogger(__name__)

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm")
"""Files that are opened as images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderFacts:
    """A folder that is written to."""

    path: str | None
    """Where it is; None where there is none that can be written."""

    free_bytes: int = 0
    """Free space."""

    mount: Mount | None = None
    """File system; None where the system does not tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFacts:
    """A folder of training files."""

    path: str
    """Where it is."""

    files: int
    """Files that were counted."""

    bytes: int
    """Their size in all."""

    complete: bool
    """Whether all were counted before the time for it was over."""

    mount: Mount | None
    """File system; None where the system does not tell."""

    read_files: int
    """Files that were read for the measurement."""

    read_bytes: int
    """Their size."""

    read_s: float
    """Seconds that it took, with several readers side by side."""

    readers: int
    """Readers side by side."""

    cold_share: float | None
    """Share of what was read that came from storage, not from the page cache; None where the system does not tell."""

    decode_s: float | None
    """Seconds of one core to decode one of these files, by Pillow; None where they are no images."""

    @property
    def files_per_s(self) -> float:
        """Files of the mean size that storage gave per second; one that was read in part counts as that part."""
        return self.bytes_per_s * self.files / self.bytes if self.bytes else 0.0

    @property
    def bytes_per_s(self) -> float:
        """Bytes that storage gave per second."""
        return self.read_bytes / self.read_s if self.read_s > 0 else 0.0


def temporary_folder(root: Path = Path("/")) -> FolderFacts:
    """Look at the folder that Python and torch put temporary files into."""
    try:
        path = Path(tempfile.gettempdir())
    except FileNotFoundError:
        return FolderFacts(path=None)
    return FolderFacts(path=str(path), free_bytes=shutil.disk_usage(path).free, mount=mount_of(path, root))


def check_folder(folder: Path) -> None:
    """Make sure that there is a folder.

    Raises:
        DataError: there is none.
    """
    if not folder.is_dir():
        raise DataError(f"--data {folder}: no such folder. Name the folder that holds the training's files")


def data_facts(folder: Path, *, readers: int, quick: bool = False, root: Path = Path("/")) -> DataFacts:
    """Count the files, and read some that the page cache has been asked to forget.

    Args:
        folder: with the files, at any depth.
        readers: how many read side by side, as loader workers do.
        quick: stop early.
        root: where ``proc`` lies.

    Raises:
        DataError: there is no such folder, or no file in it.
    """
    check_folder(folder)
    files, complete = _list(folder, limit_s=0.3 if quick else 2.0)
    if not files:
        raise DataError(f"--data {folder}: no files in it. Name the folder that holds the training's files")
    chosen = [path for path, _ in random.Random(0).sample(files, min(len(files), 64 if quick else 512))]
    for path in chosen:
        _forget(path)
    before = _from_storage(root)
    count, size, seconds = _read(chosen, readers=readers, limit_s=0.5 if quick else 2.0)
    after = _from_storage(root)
    share = None if before is None or after is None or not size else min(1.0, (after - before) / size)
    images = [path for path in chosen[: max(1, count)] if path.lower().endswith(SUFFIXES)]
    return DataFacts(
        path=str(folder),
        files=len(files),
        bytes=sum(length for _, length in files),
        complete=complete,
        mount=mount_of(folder, root),
        read_files=count,
        read_bytes=size,
        read_s=seconds,
        readers=readers,
        cold_share=share,
        decode_s=_decode_s(images[: 8 if quick else 24]),
    )


def _list(folder: Path, *, limit_s: float) -> tuple[list[tuple[str, int]], bool]:
    """Return paths and sizes of the files below a folder, and whether the time sufficed for all."""
    until, found = time.perf_counter() + limit_s, []
    for entry in _walk(str(folder)):
        found.append(entry)
        if len(found) % 256 == 0 and time.perf_counter() > until:
            return found, False
    return found, True


def _walk(folder: str) -> Iterator[tuple[str, int]]:
    waiting = [folder]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir():
                        waiting.append(entry.path)
                    elif entry.is_file():
                        yield entry.path, entry.stat().st_size
        except OSError:
            continue


def _forget(path: str) -> None:
    """Ask the kernel to drop the file's pages from its cache; it keeps those that others use."""
    if not hasattr(os, "posix_fadvise"):
        return
    try:
        number = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        os.posix_fadvise(number, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(number)


def _read(paths: Sequence[str], *, readers: int, limit_s: float) -> tuple[int, int, float]:
    """Read files with several readers; return how many, their bytes and the seconds."""
    since = time.perf_counter()
    with ThreadPoolExecutor(readers) as pool:
        parts = pool.map(lambda part: cold_read(part, limit_s=limit_s), [paths[at::readers] for at in range(readers)])
        rates = list(parts)
    seconds = time.perf_counter() - since
    return sum(rate.files for rate in rates), sum(rate.bytes for rate in rates), seconds


def _from_storage(root: Path) -> int | None:
    """Return the bytes that this process has had fetched from storage."""
    for line in (read_text(root / "proc/self/io") or "").splitlines():
        name, _, value = line.partition(":")
        if name == "read_bytes":
            return int(value)
    return None


def _decode_s(paths: Sequence[str]) -> float | None:
    """Return the seconds of one core per image, over files that are in the page cache by now."""
    try:
        from PIL import Image
    except ImportError:
        return None
    taken = []
    for path in paths:
        since = time.thread_time()
        try:
            with Image.open(path) as image:
                image.load()
        except Exception as error:  # Pillow's readers raise whatever broken bytes lead them to, not OSError alone
            log.debug("passes over %s: %s", path, error)
            continue
        taken.append(time.thread_time() - since)
    return sum(taken) / len(taken) if taken else None
