"""Plots: a schedule in characters that every terminal has, a history as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from autotrain.engine.events import EpochRecord
from autotrain.errors import TaskError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROWS = 5
"""Lines of a plot on the terminal."""


def area(values: Sequence[float], *, rows: int = ROWS) -> list[str]:
    """Return values, one per column, as lines of ``#`` from the top down."""
    top = max(values, default=0.0)
    if top <= 0:
        return [" " * len(values)] * rows
    heights = [round(rows * max(0.0, value) / top) for value in values]
    return ["".join("#" if height >= row else " " for height in heights).rstrip() for row in range(rows, 0, -1)]


def figure(history: Sequence[EpochRecord], path: str | Path | None = None) -> Figure:
    """Return loss, scores and learning rate by epoch as a matplotlib figure; written to a file where one is named.

    Raises:
        TaskError: matplotlib is not installed, the file cannot be written, or no epoch has ended yet.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as problem:
        raise TaskError("plot: needs matplotlib: pip install 'autotrain-torch[plot]'") from problem
    if not history:
        raise TaskError("plot: no epoch has ended yet, so there is nothing to show")
    scores = {name for record in history for name in record.metrics}
    scored = any(record.accuracy is not None for record in history) or bool(scores)
    made = Figure(figsize=(8, 8 if scored else 5.5), layout="constrained")
    axes = made.subplots(3 if scored else 2, 1, sharex=True)
    epochs = [record.step / history[0].step for record in history]
    axes[0].plot(epochs, [record.loss for record in history], marker=".", label="training")
    _line(axes[0], epochs, [record.validation_loss for record in history], "validation")
    axes[0].set_ylabel("loss")
    axes[0].legend()
    if scored:
        _line(axes[1], epochs, [record.accuracy for record in history], "accuracy")
        for name in sorted(scores):
            _line(axes[1], epochs, [record.metrics.get(name) for record in history], name)
        axes[1].set_ylabel("validation")
        axes[1].legend()
    axes[-1].plot(epochs, [record.lr for record in history], marker=".")
    axes[-1].set_ylabel("learning rate")
    axes[-1].set_xlabel("epoch")
    if path is not None:
        try:
            made.savefig(path)
        except (OSError, ValueError) as problem:
            raise TaskError(f"plot: {path} cannot be written: {problem}") from problem
    return made


def _line(axis: object, epochs: Sequence[float], values: Sequence[float | None], label: str) -> None:
    """Add a line of what is known."""
    known = [(epoch, value) for epoch, value in zip(epochs, values, strict=True) if value is not None]
    if known:
        axis.plot(*zip(*known, strict=True), marker=".", label=label)  # type: ignore[attr-defined]
