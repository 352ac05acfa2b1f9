"""Keys and tags: what determines the bytes of a cache, and of each sample in it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

KEY_BYTES = 12


def cache_key(*parts: object) -> str:
    """Return a digest of what determines how samples are made: root, steps, decoder, versions; 24 hexadecimal digits.

    Parts are told apart by their type and ``repr``, which must be the same in every run (no addresses).
    """
    text = "\0".join(f"{type(part).__name__} {part!r}" for part in parts)
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=KEY_BYTES).hexdigest()


def file_tags(
    paths: Sequence[str | os.PathLike[str]],
    *,
    root: str | os.PathLike[str] | None = None,
    labels: Iterable[object] | None = None,
) -> NDArray[np.uint64]:
    """Return a number per file that changes with its name, size or time of modification; shape (files,).

    A file that cannot be looked at counts as empty: whoever reads it says what is wrong with it.

    Args:
        paths: the files, in the dataset's order.
        root: folder that names are taken relative to, so that the dataset may move.
        labels: what else is kept of each sample; a class number changes when a folder is added before its class.
    """
    prefix = "" if root is None else os.path.join(os.fspath(root), "")
    skip = len(prefix)
    more = [""] * len(paths) if labels is None else [repr(label) for label in labels]
    digest, stat, from_bytes = hashlib.blake2b, os.stat, int.from_bytes
    tags = []
    for entry, label in zip(paths, more, strict=True):
        path = os.fspath(entry)
        try:
            facts = stat(path)
            size, time_ns = facts.st_size, facts.st_mtime_ns
        except OSError:
            size = time_ns = 0
        name = path[skip:] if skip and path.startswith(prefix) else path
        text = f"{name}\0{size} {time_ns} {label}".encode(errors="surrogatepass")
        tags.append(from_bytes(digest(text, digest_size=8).digest(), "little"))
    return np.asarray(tags, dtype=np.uint64)


def distinct(tags: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the tags with every repetition changed, in the same way each time, and none 0.

    A dataset may list a file twice; its samples still have a place each.
    """
    tags = np.where(tags == 0, np.uint64(1), tags).astype(np.uint64)
    if len(np.unique(tags)) == len(tags):
        return tags
    taken: set[int] = set()
    changed = []
    for tag in tags.tolist():
        while tag in taken:
            tag = int.from_bytes(hashlib.blake2b(tag.to_bytes(8, "little"), digest_size=8).digest(), "little") or 1
        taken.add(tag)
        changed.append(tag)
    return np.asarray(changed, dtype=np.uint64)
