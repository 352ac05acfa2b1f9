"""Logs of a training: JSON lines, CSV, TensorBoard; observers of its events."""

from __future__ import annotations

import csv
import io
import json
import logging
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

from autotrain.engine.events import EpochDone, EpochRecord, FitEvent, FitObserver, Resumed
from autotrain.errors import TaskError
from autotrain.files import FileKind, write_text

logger = logging.getLogger("autotrain")

LOG = FileKind(noun="log", example="log.jsonl", most_bytes=1 << 30, origin="A training writes it", error=TaskError)


class Log(Protocol):
    """Keeps the records of epochs."""

    def go_on(self, step: int) -> None:
        """Keep what is there up to a step; everything else is begun anew."""

    def write(self, record: EpochRecord) -> None:
        """Keep the record of an epoch."""

    def close(self) -> None:
        """End the log."""


@contextmanager
def logging_to(paths: Sequence[Path]) -> Iterator[FitObserver]:
    """Yield an observer that writes to logs, each by the end of its name: ``.jsonl``, ``.csv``, or a folder.

    A log that cannot be written at some epoch does not end the training: that is warned of once, and what is missing
    is written with the next epoch.

    Raises:
        TaskError: as ``open_log``.
    """
    with ExitStack() as stack:
        logs = {path: open_log(path) for path in paths}
        failed: set[Path] = set()
        lost: set[Path] = set()
        for log in logs.values():
            stack.callback(log.close)

        def observe(event: FitEvent) -> None:
            for path, log in logs.items():
                if path in lost:
                    continue
                try:
                    if isinstance(event, Resumed):
                        log.go_on(event.step)
                    elif isinstance(event, EpochDone):
                        log.write(event.record)
                except (OSError, TaskError) as problem:
                    if path not in failed:
                        logger.warning("log: %s; training does not stop for that", problem)
                    failed.add(path)
                    if isinstance(event, Resumed):  # what cannot be read must not be written over
                        lost.add(path)

        yield observe


def check_logs(paths: Sequence[Path]) -> None:
    """Find before a training what its logs could not do in it.

    Raises:
        TaskError: as ``open_log``.
    """
    for path in paths:
        open_log(path)


def open_log(path: Path) -> Log:
    """Return the log of a name, made sure that it can be written; folders on the way to it are made.

    Raises:
        TaskError: it cannot be written, or needs a package that is not installed.
    """
    kinds: dict[str, Any] = {".jsonl": JsonLines, ".json": JsonLines, ".csv": Csv}
    kind = kinds.get(path.suffix.lower(), TensorBoard)
    made: Log = kind(path)
    folder = path if kind is TensorBoard else path.parent
    if kind is not TensorBoard and path.is_dir():
        raise TaskError(f"log: {path} is a folder. Name the file in it, such as {path / LOG.example}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise TaskError(f"log: {folder} cannot be made ({problem.strerror}). Name another place") from problem
    if not os.access(folder, os.W_OK | os.X_OK) or (path.is_file() and not os.access(path, os.W_OK)):
        raise TaskError(f"log: {path} may not be written. Name another place")
    return made


def values_of(record: EpochRecord) -> dict[str, Any]:
    """Return an epoch's numbers in one level; NaN and infinity, which JSON lacks, become None."""
    values = record.as_dict() | {"images_per_s": record.images_per_s}
    values |= values.pop("metrics")
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values.items()
    }


class _Rows:
    """A file with a row per epoch, written whole as soon as the epoch is over: no end of a training halves a row."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []

    def go_on(self, step: int) -> None:
        """Keep the rows up to a step."""
        if self.path.exists():
            self.rows = [row for row in self.read() if int(row["step"]) <= step]

    def write(self, record: EpochRecord) -> None:
        """Add a row; what goes on may close an epoch once more."""
        self.rows = [row for row in self.rows if int(row["step"]) < record.step]
        self.rows.append(values_of(record))
        write_text(self.path, self.text(), LOG)

    def read(self) -> list[dict[str, Any]]:
        """Return the rows that are there."""
        return []

    def text(self) -> str:
        """Return what the file is to hold."""
        return ""

    def close(self) -> None:
        """Do nothing: the file is closed after each row."""


class JsonLines(_Rows):
    """One line of JSON per epoch."""

    def read(self) -> list[dict[str, Any]]:
        """Return the lines that are whole."""
        rows = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                break
        return rows

    def text(self) -> str:
        """Return the lines."""
        return "".join(json.dumps(row) + "\n" for row in self.rows)


class Csv(_Rows):
    """One row of CSV per epoch, with a header."""

    def read(self) -> list[dict[str, Any]]:
        """Return the rows that are whole."""
        with self.path.open(newline="", encoding="utf-8") as stream:
            return [row for row in csv.DictReader(stream) if None not in row.values()]

    def text(self) -> str:
        """Return header and rows."""
        stream = io.StringIO()
        writer = csv.DictWriter(stream, fieldnames=list(self.rows[-1]), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(self.rows)
        return stream.getvalue()


class TensorBoard:
    """Curves over the steps, in a folder that TensorBoard shows."""

    def __init__(self, path: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as problem:
            raise TaskError(
                f"log: {path} is a folder for TensorBoard, which is not installed: pip install tensorboard, or name a "
                ".jsonl or .csv file"
            ) from problem
        self._make: Any = SummaryWriter
        self._path = path
        self._writer: Any = None
        self._purge: int | None = None

    def go_on(self, step: int) -> None:
        """Hide what was written beyond a step."""
        self._purge = step + 1

    def write(self, record: EpochRecord) -> None:
        """Add a point to each curve."""
        if self._writer is None:
            self._writer = self._make(str(self._path), purge_step=self._purge)
        for name, value in values_of(record).items():
            if isinstance(value, int | float) and name not in ("step", "epoch"):
                self._writer.add_scalar(name, value, record.step)
        self._writer.flush()

    def close(self) -> None:
        """End the writer."""
        if self._writer is not None:
            self._writer.close()
