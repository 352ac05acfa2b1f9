"""Checkpoints on disk: each is whole or not there, says by its name what it must hold, and runs no code when read."""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
import re
import threading
import zipfile
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from autotrain.cache.lock import alone
from autotrain.errors import CheckpointError, first_line

log = logging.getLogger(__name__)

SCHEMA = 1
"""Of the contents; a reader refuses what is newer."""

FORMAT = "autotrain checkpoint"

_NAME = re.compile(r"step-(?P<step>\d{9})-(?P<digest>[0-9a-f]{16})\.pt")
_BEST = re.compile(r"best-(?P<step>\d{9})-(?P<digest>[0-9a-f]{16})\.pt")
_TEMPORARY = ".writing-"
_READABLE = (bool, int, float, complex, str, bytes, torch.Size, torch.dtype, torch.device)
"""Types beside tensors and containers that ``torch.load`` reads with ``weights_only``."""

LOCK = ".lock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """A checkpoint that is there."""

    path: Path
    step: int
    digest: str
    """First 16 digits of the file's SHA-256, as torch.hub has it in the names of its files."""


class CheckpointFolder:
    """The checkpoints of one training: the last few, and the best by a metric.

    A file is written under another name, flushed to the disk and renamed, so that one under its own name is whole. Its
    name holds a part of its SHA-256: a file that was damaged later is noticed, and the one before it is taken.

    Args:
        path: the folder; made with the first checkpoint.
        keep: how many of the last are kept, at least 1.
    """

    def __init__(self, path: Path, *, keep: int = 3) -> None:
        if keep < 1:
            raise CheckpointError(f"keep={keep}: at least the last checkpoint is kept; give 1 or more")
        self.path = path
        self.keep = keep
        self._lock: int | None = None
        self._writer: threading.Thread | None = None
        self._problem: CheckpointError | None = None

    def claim(self) -> None:
        """Make the folder, and keep other trainings from writing to it until ``close`` or the end of the process.

        Raises:
            CheckpointError: another training writes there, or the folder cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as problem:
            raise CheckpointError(f"{self.path}: the folder cannot be made: {problem.strerror}") from problem
        with suppress(OSError):  # a file system without locks
            if not alone(self._lock):
                self.close()
                raise CheckpointError(
                    f"{self.path}: another training writes its checkpoints there. Name another folder"
                )

    def close(self) -> None:
        """Wait until nothing is being written, and let others write.

        Raises:
            CheckpointError: what was being written in the background could not be.
        """
        try:
            self.wait()
        finally:
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    def save(self, contents: dict[str, Any], *, step: int, best: bool = False) -> None:
        """Write a checkpoint of a step in a thread, from a copy; one that is still being written is waited for.

        Args:
            contents: plain values, containers of them, and tensors; nothing else can be read again.
            step: steps done so far.
            best: whether it replaces the best one too.

        Raises:
            CheckpointError: the one before could not be written.
        """
        self.wait()
        try:
            copied = _copied({"format": FORMAT, "schema": SCHEMA, "step": step, **contents})
        except (MemoryError, RuntimeError, TypeError) as problem:
            self._problem = CheckpointError(f"{self.path}: the checkpoint cannot be copied: {first_line(problem)}")
            return
        self._writer = threading.Thread(
            target=self._write_quietly, args=(copied, step, best), name="autotrain-checkpoint", daemon=False
        )
        self._writer.start()

    def wait(self) -> None:
        """Wait until nothing is being written.

        Raises:
            CheckpointError: what was being written in the background could not be.
        """
        if self._writer is not None:
            self._writer.join()
            self._writer = None
        problem, self._problem = self._problem, None
        if problem is not None:
            raise problem

    def saved(self) -> list[Saved]:
        """Return the checkpoints that are there, the latest first."""
        return sorted(self._matching(_NAME), key=lambda entry: (-entry.step, -_written_s(entry.path)))

    def best(self) -> Saved | None:
        """Return the best by the metric, if one was kept."""
        return max(self._matching(_BEST), key=lambda entry: entry.step, default=None)

    def latest(self) -> tuple[Saved, dict[str, Any]] | None:
        """Return the latest checkpoint that is whole, with its contents; None where there is none at all.

        Raises:
            CheckpointError: there are checkpoints, but all are damaged, or the latest is of a newer schema.
        """
        found = self.saved()
        for entry in found:
            try:
                return entry, read_checkpoint(entry.path)
            except DamagedError as problem:
                log.warning("%s; the one before it is taken", problem)
        if found:
            raise CheckpointError(
                f"{self.path}: none of its {len(found)} checkpoints can be read. Move them away to begin anew"
            )
        return None

    def _matching(self, pattern: re.Pattern[str]) -> list[Saved]:
        try:
            names = os.listdir(self.path)
        except FileNotFoundError:
            return []
        except OSError as problem:
            raise CheckpointError(f"{self.path}: cannot be listed: {problem.strerror}") from problem
        matches = [match for match in map(pattern.fullmatch, names) if match]
        return [Saved(path=self.path / match[0], step=int(match["step"]), digest=match["digest"]) for match in matches]

    def _write_quietly(self, contents: dict[str, Any], step: int, best: bool) -> None:
        try:
            self._write(contents, step, best)
        except CheckpointError as problem:
            self._problem = problem
        except Exception as problem:
            self._problem = CheckpointError(f"{self.path}: the checkpoint cannot be written: {first_line(problem)}")

    def _write(self, contents: dict[str, Any], step: int, best: bool) -> None:
        try:
            temporary = self.path / f"{_TEMPORARY}{os.getpid()}-{step:09d}"
            try:
                with temporary.open("wb") as file:
                    torch.save(contents, file)
                    file.flush()
                    os.fsync(file.fileno())
                digest = _digest(temporary)
                kept = self.path / f"step-{step:09d}-{digest}.pt"
                if best:
                    self._link(temporary, self.path / f"best-{step:09d}-{digest}.pt")
                temporary.rename(kept)
            finally:
                temporary.unlink(missing_ok=True)
            _sync(self.path)
        except OSError as problem:
            raise CheckpointError(f"{self.path}: the checkpoint cannot be written: {problem.strerror}") from problem
        except (pickle.PicklingError, TypeError, AttributeError, RuntimeError) as problem:
            reason = _refusal(problem) or first_line(problem)
            raise CheckpointError(f"{self.path}: the checkpoint cannot be written: {reason}") from problem
        try:
            self._tidy(kept)
        except (OSError, CheckpointError) as problem:
            log.warning("%s: what is older cannot be removed: %s", self.path, first_line(problem))

    def _link(self, file: Path, name: Path) -> None:
        """Give a file a second name; where the file system knows none, a copy."""
        with suppress(FileExistsError):
            try:
                os.link(file, name)
            except FileExistsError:
                raise
            except OSError:
                copied = name.with_name(f"{_TEMPORARY}{os.getpid()}-{name.name}")
                copied.write_bytes(file.read_bytes())
                copied.rename(name)

    def _tidy(self, latest: Path) -> None:
        """Remove what is older than the last few, the best but one, and what killed processes left half-written."""
        for entry in self.saved()[self.keep :]:
            if entry.path != latest:
                entry.path.unlink(missing_ok=True)
        best = self.best()
        for entry in self._matching(_BEST):
            if best is not None and entry != best:
                entry.path.unlink(missing_ok=True)
        for name in os.listdir(self.path):
            if name.startswith(_TEMPORARY):
                (self.path / name).unlink(missing_ok=True)


class DamagedError(CheckpointError):
    """A checkpoint's file is not what it was when it was written."""


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return the contents of a checkpoint's file; tensors come into host memory.

    Raises:
        DamagedError: the file is damaged.
        CheckpointError: it cannot be read, is no checkpoint, or of a newer schema.
    """
    match = _NAME.fullmatch(path.name) or _BEST.fullmatch(path.name)
    try:
        if match is not None and _digest(path) != match["digest"]:
            raise DamagedError(f"{path}: the file is damaged, its SHA-256 is not the one in its name")
        contents = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: there is no such checkpoint") from None
    except OSError as problem:
        raise CheckpointError(f"{path}: cannot be read: {problem.strerror or problem}") from problem
    except (RuntimeError, pickle.UnpicklingError, EOFError, zipfile.BadZipFile, ValueError) as problem:
        line = str(problem).strip().splitlines()[0] if str(problem).strip() else type(problem).__name__
        raise DamagedError(f"{path}: cannot be read as a checkpoint: {line}") from problem
    if not isinstance(contents, dict) or contents.get("format") != FORMAT:
        raise CheckpointError(f"{path}: is no checkpoint of autotrain's")
    schema = contents.get("schema")
    if not isinstance(schema, int) or schema > SCHEMA:
        raise CheckpointError(
            f"{path}: was written by a newer autotrain (schema {schema}, this one reads up to {SCHEMA}). "
            "Upgrade autotrain to go on with it"
        )
    return contents


def _refusal(problem: BaseException | None) -> str | None:
    """Return what the system said: torch's writer ends with words of its own where a write fails, a full disk's too."""
    while problem is not None:
        if isinstance(problem, OSError):
            return problem.strerror
        problem = problem.__context__
    return None


def _written_s(path: Path) -> float:
    """Return when a file was written; of two of one step the later one has seen the epoch's evaluation."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _sync(folder: Path) -> None:
    """Have the renaming itself on the disk; not every system can."""
    with suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def _copied(value: Any, *where: object) -> Any:
    """Return a copy in host memory that training does not change any more.

    Raises:
        TypeError: it holds something that could not be read again, since reading runs no code.
    """
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        copied: Any = OrderedDict() if isinstance(value, OrderedDict) else {}
        copied.update((_plain(key, where), _copied(entry, *where, key)) for key, entry in value.items())
        if hasattr(value, "_metadata"):  # by which modules tell old states from new ones
            copied._metadata = _copied(value._metadata, *where, "_metadata")
        return copied
    if isinstance(value, list | tuple) and not isinstance(value, torch.Size):
        entries = [_copied(entry, *where, place) for place, entry in enumerate(value)]
        return entries if isinstance(value, list) else tuple(entries)
    if isinstance(value, set):
        return {_plain(entry, where) for entry in value}
    return _plain(value, where)


def _plain(value: Any, where: Sequence[object]) -> Any:
    """Return a value that can be read again; numbers of numpy's as Python's."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or type(value) in _READABLE:
        return value
    if type(value) is tuple:  # a key
        return tuple(_plain(entry, where) for entry in value)
    if isinstance(value, bool | int | float | str):  # of a class of its own, such as an enumeration
        return next(kind(value) for kind in (bool, int, float, str) if isinstance(value, kind))
    place = ".".join(map(str, where))
    raise TypeError(f"{place} is a {type(value).__name__}; checkpoints hold numbers, text and tensors")
