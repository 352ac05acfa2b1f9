"""Logs of a training: JSON lines, CSV, TensorBoard; observers of its events."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

from autotrain.engine.events import EpochDone, EpochRecord, FitEvent, FitObserver, Resumed
from autotrain.errors import TaskError


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

    Raises:
        TaskError: a log cannot be written, or needs a package that is not installed.
    """
    with ExitStack() as stack:
        logs = [_open(path) for path in paths]
        for log in logs:
            stack.callback(log.close)

        def observe(event: FitEvent) -> None:
            for log in logs:
                if isinstance(event, Resumed):
                    log.go_on(event.step)
                elif isinstance(event, EpochDone):
                    log.write(event.record)

        yield observe


def _open(path: Path) -> Log:
    kinds: dict[str, Any] = {".jsonl": JsonLines, ".json": JsonLines, ".csv": Csv}
    kind = kinds.get(path.suffix.lower(), TensorBoard)
    made: Log = kind(path)
    return made


def values_of(record: EpochRecord) -> dict[str, Any]:
    """Return an epoch's numbers in one level; NaN and infinity, which JSON lacks, become None."""
    values = record.as_dict() | {"images_per_s": record.images_per_s}
    values |= values.pop("metrics")
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values.items()
    }


class _Rows:
    """A file with a row per epoch, each written as soon as the epoch is over; it is made with the first."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.kept: list[dict[str, Any]] = []
        self.begun = False

    def go_on(self, step: int) -> None:
        """Keep the rows up to a step."""
        if self.path.exists():
            self.kept = [row for row in self.read() if int(row["step"]) <= step]

    def write(self, record: EpochRecord) -> None:
        """Add a row."""
        row = values_of(record)
        try:
            self.add([*self.kept, row] if not self.begun else [row], fresh=not self.begun)
        except OSError as problem:
            raise TaskError(f"log: {self.path} cannot be written: {problem.strerror}") from problem
        self.begun = True

    def read(self) -> list[dict[str, Any]]:
        """Return the rows that are there."""
        return []

    def add(self, rows: Sequence[dict[str, Any]], *, fresh: bool) -> None:
        """Write rows, to a fresh file or to the end."""

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

    def add(self, rows: Sequence[dict[str, Any]], *, fresh: bool) -> None:
        """Write lines."""
        with self.path.open("w" if fresh else "a", encoding="utf-8") as stream:
            stream.writelines(json.dumps(row) + "\n" for row in rows)


class Csv(_Rows):
    """One row of CSV per epoch, with a header."""

    def read(self) -> list[dict[str, Any]]:
        """Return the rows that are whole."""
        with self.path.open(newline="", encoding="utf-8") as stream:
            return [row for row in csv.DictReader(stream) if None not in row.values()]

    def add(self, rows: Sequence[dict[str, Any]], *, fresh: bool) -> None:
        """Write rows."""
        with self.path.open("w" if fresh else "a", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, fieldnames=list(rows[-1]), extrasaction="ignore")
            if fresh:
                writer.writeheader()
            writer.writerows(rows)


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
