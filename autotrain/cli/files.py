"""Files that a command leaves: their places are checked before the work, and they appear whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import IO

from autotrain.errors import AutotrainError


def check_writable(path: Path, option: str) -> None:
    """Make sure that a file can be put in its place later.

    Raises:
        AutotrainError: it cannot; the message names option, path and remedy.
    """
    what = f"{option} {path}"
    if path.is_dir():
        raise AutotrainError(f"{what}: a folder. Name the file in it")
    if path.exists() and not path.is_file():
        raise AutotrainError(f"{what}: not a regular file. Name another place")
    folder = path.resolve().parent
    if not folder.is_dir():
        raise AutotrainError(f"{what}: its folder does not exist. Make it first: mkdir -p '{path.parent}'")
    try:
        draft = _draft(path)
        draft.touch(exist_ok=False)
        draft.unlink()
    except OSError as problem:
        raise AutotrainError(f"{what}: cannot be written ({problem.strerror}). Name another place") from problem


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file under another name and move it into place: after any failure what was there is still there.

    Raises:
        AutotrainError: the place cannot be written.
    """
    draft = _draft(path)
    try:
        with open(draft, "xb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(draft, path.resolve())
    except OSError as problem:
        raise AutotrainError(f"{path}: cannot be written ({problem.strerror}). Name another place") from problem
    finally:
        draft.unlink(missing_ok=True)


def _draft(path: Path) -> Path:
    return path.resolve().with_name(f".autotrain-{uuid.uuid4().hex}.tmp")
