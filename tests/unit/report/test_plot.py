"""Plots show what they are given."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest

from autotrain.engine.events import EpochRecord
from autotrain.errors import TaskError
from autotrain.report.plot import area, figure


def record(epoch: int, **facts: Any) -> EpochRecord:
    return EpochRecord(
        epoch=epoch, step=10 * epoch, images=80, seconds=1.0, wait_s=0.0, loss=1 / epoch, lr=0.1 / epoch, **facts
    )


def test_an_area_is_as_high_as_its_values() -> None:
    assert area([0.0, 1.0, 2.0, 3.0, 1.4], rows=3) == ["   #", "  ##", " ####"]
    assert area([0.0, 0.0], rows=2) == ["  ", "  "]
    assert area([], rows=2) == ["", ""]


def test_a_history_is_a_figure_with_a_line_for_each_thing_known(tmp_path: Path) -> None:
    history = [
        record(1, validation_loss=0.9, accuracy=0.5, metrics={"recall": 0.4}),
        record(2),
        record(3, validation_loss=0.7, accuracy=0.6, metrics={"recall": 0.5}),
    ]
    made = figure(history, tmp_path / "history.png")
    losses, scores, lrs = made.axes
    assert [line.get_label() for line in losses.lines] == ["training", "validation"]
    assert [list(line.get_xdata()) for line in losses.lines] == [[1.0, 2.0, 3.0], [1.0, 3.0]]
    assert {line.get_label(): list(line.get_ydata()) for line in scores.lines} == {
        "accuracy": [0.5, 0.6],
        "recall": [0.4, 0.5],
    }
    assert list(lrs.lines[0].get_ydata()) == [0.1, 0.05, 0.1 / 3]
    assert (tmp_path / "history.png").read_bytes().startswith(b"\x89PNG")
    assert len(figure([record(1)]).axes) == 2


def test_what_cannot_be_plotted_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TaskError, match="no epoch has ended yet"):
        figure([])
    with pytest.raises(TaskError, match="cannot be written"):
        figure([record(1)], tmp_path / "missing" / "history.png")
    with pytest.raises(TaskError, match="cannot be written"):
        figure([record(1)], tmp_path / "history.doc")
    usual = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return usual(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(TaskError, match=r"pip install 'autotrain-torch\[plot\]'"):
        figure([record(1)])
