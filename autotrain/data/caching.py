"""Caches of a source: what they may take, how they are made, and filled ones of a part of the samples for measuring."""

from __future__ import annotations

import itertools
import logging
import os
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL
import torchvision
from numpy.typing import NDArray

from autotrain.cache.budget import disk_budget, estimate_bytes, memory_budget
from autotrain.cache.cache import Cache
from autotrain.cache.disk import disk_cache
from autotrain.cache.keys import cache_key, file_tags
from autotrain.cache.memory import memory_cache
from autotrain.cache.shelf import LOCK, kept, remove
from autotrain.data.images import picture_of
from autotrain.data.samples import Source, image_size, read_sample
from autotrain.data.stream import seeded
from autotrain.data.transformed import TransformedSource
from autotrain.decode.header import jpeg_header
from autotrain.errors import AutotrainError
from autotrain.hardware.memory import memory_facts
from autotrain.world import world

log = logging.getLogger(__name__)

NONE, RAM, DISK = "none", "ram", "disk"

SPARE = 1.1
"""Room in a cache for each byte that it is estimated to need."""

LOOKS = 48
"""Samples whose size is looked at to estimate the size of all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What determines the bytes that a cache keeps of a source's samples."""

    source: Source
    channels: int
    """Of the images."""

    size: int | None = None
    """Side of finished images; None where whole images are kept, because their crops are drawn anew each time."""

    decoder: str = "pillow"
    """What decodes them."""

    kernel: str = "pillow"
    """What resizes finished images."""

    @property
    def steps(self) -> str:
        """What is done to a sample before it is kept, in words that are the same in every run."""
        if isinstance(self.source, TransformedSource):
            return self.source.pipeline.prefix_key
        if self.size is None:
            return f"decoded, {self.channels} channels"
        return f"decoded, {self.channels} channels, centre resized to {self.size} by {self.kernel}"


def cache_problem(source: Source) -> str | None:
    """Return why samples of a source cannot be kept; None where they can."""
    if isinstance(source, TransformedSource):
        return None
    if not source.images:
        return "the dataset's own work on its samples may be random, and is not understood"
    if not source.pure:
        return "the dataset's images may depend on more than their index"
    if hasattr(source, "batch"):
        return "the images lie in memory already"
    return None


def always_same(source: Source) -> bool:
    """Tell whether a sample, its image finished without augmentation, is known to be the same whenever it is read."""
    if isinstance(source, TransformedSource):
        return all(step.deterministic for step in source.pipeline.steps)
    return cache_problem(source) is None


def cached_bytes(content: Content) -> int:
    """Return about how many bytes a cache of all samples takes, rather too many than too few."""
    source = content.source
    if content.size is not None:
        return estimate_bytes([content.size**2 * content.channels], len(source))
    count = min(LOOKS, len(source))
    indices = np.linspace(0, len(source) - 1, count).astype(int).tolist()
    with seeded(0):
        known = [entry for entry in (_bytes(content, index) for index in indices) if entry is not None]
    return estimate_bytes(known, len(source))


def _bytes(content: Content, index: int) -> int | None:
    """Return the bytes of a sample; None for one that cannot be read, which is said when it is trained on."""
    try:
        return _readable_bytes(content, index)
    except Exception:  # whatever somebody's dataset raises
        return None


def _readable_bytes(content: Content, index: int) -> int:
    source = content.source
    if isinstance(source, TransformedSource):
        image = source.pipeline.prefixed(index)[0]
        height, width = image_size(image)
        return height * width * content.channels
    data = source.encoded(index)
    header = None if data is None else jpeg_header(data)
    if header is not None:
        return header.height * header.width * content.channels
    picture = picture_of(read_sample(source, index)[0], content.channels)
    return picture.height * picture.width * content.channels


def budget_bytes(kind: str, directory: Path | None) -> int:
    """Return the bytes that a cache of this kind may take here."""
    if kind == RAM:
        return memory_budget(memory_facts(), ranks=world().local_world_size)
    return 0 if directory is None else disk_budget(directory)


def open_cache(kind: str, content: Content, directory: Path | None, *, name: str = "") -> Cache | None:
    """Return the cache of a kind, new in memory or as it lies on disk; None for ``none``.

    Args:
        kind: none, ram or disk.
        content: what is kept.
        directory: where caches on disk lie.
        name: stands before the key of one on disk that is nobody else's.
    """
    source, length = content.source, len(content.source)
    if kind == NONE:
        return None
    budget = budget_bytes(kind, directory)
    capacity = min(int(SPARE * cached_bytes(content)), budget)
    if kind == RAM:
        return memory_cache(length, capacity)
    assert directory is not None
    files = _files(source)
    known = os.path.commonpath(files) if files else (source.name, length, getattr(source.dataset, "_fingerprint", None))
    key = cache_key(known, content.steps, content.decoder, PIL.__version__, torchvision.__version__)
    return disk_cache(
        directory,
        name + key,
        length,
        capacity,
        tags=file_tags(files, labels=[source.label(index) for index in range(length)]) if files else None,
        about={"dataset": source.name, "kept": content.steps, "decoder": content.decoder},
        total_bytes=budget,
    )


def disk_problem(source: Source) -> str | None:
    """Return why samples cannot be told apart from run to run; None where they can."""
    if _is_files(source) or getattr(source.dataset, "_fingerprint", None):
        return None
    return "only samples that are files can be known again in another run"


def _is_files(source: Source) -> bool:
    """Tell whether samples are files, by the first: this is asked for every combination of settings."""
    if isinstance(source, TransformedSource):
        return source.pipeline.path(0) is not None
    return bool(source.files([0]))


def _files(source: Source) -> list[str]:
    """Return the absolute path of the file behind each sample; empty where samples are no files."""
    if not _is_files(source):
        return []
    if isinstance(source, TransformedSource):
        paths = (source.pipeline.path(index) for index in range(len(source)))
        return [os.path.abspath(path) for path in paths if path is not None]
    return [os.path.abspath(path) for path in source.files(range(len(source)))]


@dataclass(slots=True, kw_only=True)
class WarmSet:
    """A cache of some samples, which stand in for all of them while rates are measured."""

    cache: Cache
    indices: NDArray[np.int64]
    """Those samples."""

    filled: bool = False
    """Whether the cache holds them; whoever is first to use it sees to that."""


class WarmSets:
    """Filled caches for a probe, made when first asked for; ``close`` removes them.

    Args:
        samples: how many samples stand in for all.
        directory: where caches on disk lie; None if there are none.
    """

    def __init__(self, samples: int, directory: Path | None) -> None:
        self.samples = samples
        self._directory = directory
        self._missing = _missing(directory)
        self._sets: dict[tuple[str, Content], WarmSet] = {}
        self._name = f"probe-{uuid.uuid4().hex[:8]}-"

    def open(self, kind: str, content: Content) -> WarmSet:
        """Return the cache of some content, made where it is not there yet."""
        place = kind, content
        if place not in self._sets:
            cache = open_cache(kind, content, self._directory, name=self._name)
            assert cache is not None
            length = len(content.source)
            indices = np.linspace(0, length - 1, min(length, self.samples)).astype(np.int64)
            self._sets[place] = WarmSet(cache=cache, indices=indices)
        return self._sets[place]

    def close(self) -> None:
        """Remove all of them."""
        for entry in self._sets.values():
            entry.cache.close()
        self._sets.clear()
        if self._directory is None or not self._directory.exists():
            return
        for kept_one in kept(self._directory):
            if kept_one.key.startswith(self._name):
                remove(self._directory, kept_one.key)
        if self._missing and not kept(self._directory):
            with suppress(OSError):  # somebody else has put something there meanwhile
                (self._directory / LOCK).unlink(missing_ok=True)
                for folder in self._missing:
                    folder.rmdir()


def _missing(directory: Path | None) -> list[Path]:
    """Return the folders that are made with a directory, the innermost first."""
    if directory is None:
        return []
    place = directory.absolute()
    return list(itertools.takewhile(lambda folder: not os.path.exists(folder), (place, *place.parents)))


def checked_directory(directory: str | os.PathLike[str] | None) -> Path | None:
    """Return the folder for caches on disk.

    Raises:
        AutotrainError: it is a file.
    """
    if directory is None:
        return None
    place = Path(directory).expanduser()
    if os.path.exists(place) and not place.is_dir():
        raise AutotrainError(f"cache_dir: {place} is not a folder. Give a folder; it is made where it is not there")
    return place
