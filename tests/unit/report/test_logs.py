"""Logs hold every epoch as soon as it is over, and go on where a training does."""

from __future__ import annotations

import csv
import errno
import json
from dataclasses import replace
from pathlib import Path

import pytest

from autotrain.engine.events import EpochDone, EpochRecord, FitEnded, Resumed
from autotrain.errors import TaskError
from autotrain.report.logs import logging_to

RECORD = EpochRecord(
    epoch=1,
    step=5,
    images=20,
    seconds=2.0,
    wait_s=0.5,
    loss=float("nan"),
    lr=0.1,
    validation_s=0.3,
    validation_loss=1.5,
    accuracy=0.25,
    metrics={"f1": 0.5},
)


def epoch(number: int) -> EpochDone:
    return EpochDone(record=replace(RECORD, epoch=number, step=5 * number, loss=1.0 / number))


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_json_lines_hold_every_number(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with logging_to([path]) as observe:
        assert not path.exists()
        observe(EpochDone(record=RECORD))
        line = json.loads(path.read_text())
        observe(epoch(2))
        observe(FitEnded(seconds=4.0, interrupted=False))
    assert line["loss"] is None
    assert {"epoch": 1, "step": 5, "images_per_s": 10.0, "accuracy": 0.25, "f1": 0.5, "lr": 0.1}.items() <= line.items()
    assert [json.loads(text)["epoch"] for text in path.read_text().splitlines()] == [1, 2]


def test_csv_has_a_header_and_a_row_per_epoch(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    with logging_to([path]) as observe:
        observe(EpochDone(record=RECORD))
        observe(epoch(2))
    found = rows(path)
    assert [row["epoch"] for row in found] == ["1", "2"]
    assert (found[0]["loss"], found[1]["loss"], found[1]["f1"]) == ("", "0.5", "0.5")


@pytest.mark.parametrize("name", ["log.jsonl", "log.csv"])
def test_a_log_goes_on_from_the_checkpoints_step(tmp_path: Path, name: str) -> None:
    """What was logged beyond the checkpoint is trained again, and must not stand there twice."""
    path = tmp_path / name
    with logging_to([path]) as observe:
        for number in (1, 2, 3):
            observe(epoch(number))
    if name == "log.jsonl":
        path.write_text(path.read_text()[:-20])  # killed while writing
    with logging_to([path]) as observe:
        observe(Resumed(step=12, path=tmp_path / "checkpoint.pt"))
        observe(epoch(3))
        observe(epoch(4))
    steps = (
        [int(row["step"]) for row in rows(path)]
        if name == "log.csv"
        else [json.loads(line)["step"] for line in path.read_text().splitlines()]
    )
    assert steps == [5, 10, 15, 20]


def test_a_new_training_begins_a_new_log(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    for _ in range(2):
        with logging_to([path]) as observe:
            observe(epoch(1))
    assert len(path.read_text().splitlines()) == 1


def test_tensorboard_shows_curves_over_the_steps_and_goes_on_where_a_training_does(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    path = tmp_path / "runs"
    with logging_to([path]) as observe:
        for number in (1, 2, 3):
            observe(epoch(number))
        observe(FitEnded(seconds=4.0, interrupted=False))
    with logging_to([path]) as observe:
        observe(Resumed(step=10, path=tmp_path / "checkpoint.pt"))
        observe(epoch(4))
    board = EventAccumulator(str(path))
    board.Reload()
    curves = {name: [(point.step, point.value) for point in board.Scalars(name)] for name in board.Tags()["scalars"]}
    assert curves["loss"] == [(5, 1.0), (10, 0.5), (20, 0.25)]
    assert [step for step, _ in curves["f1"]] == [5, 10, 20]
    assert not {"step", "epoch"} & set(curves)


def test_without_tensorboard_a_folder_is_refused_with_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    with (
        pytest.raises(TaskError, match=r"is a folder for TensorBoard, which is not installed: pip install"),
        logging_to([tmp_path / "runs"]),
    ):
        pass


def test_folders_on_the_way_to_a_log_are_made(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "first" / "log.csv"
    with logging_to([path]) as observe:
        observe(epoch(1))
    assert [row["epoch"] for row in rows(path)] == ["1"]


def test_a_place_for_no_log_is_refused_before_the_training(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "file").write_text("")
    for name, words in {
        "folder.csv": r"folder\.csv is a folder\. Name the file in it",
        "file/log.jsonl": r"file cannot be made \(File exists\)",
        "file": r"file cannot be made \(File exists\)",
    }.items():
        with pytest.raises(TaskError, match=words), logging_to([tmp_path / name]):
            pass


@pytest.mark.parametrize("name", ["log.jsonl", "log.csv"])
def test_a_log_that_cannot_be_written_does_not_end_the_training(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said once, what was there stays, and what is missing comes with the next epoch."""
    path = tmp_path / name

    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with logging_to([path, tmp_path / "other.csv"]) as observe:
        observe(epoch(1))
        before = path.read_text()
        with monkeypatch.context() as disk:
            disk.setattr("autotrain.files.os.fsync", full)
            observe(epoch(2))
            observe(epoch(3))
        assert path.read_text() == before
        assert len([record for record in caplog.records if name in record.getMessage()]) == 1
        assert "cannot be written (No space left on device)" in caplog.text
        observe(epoch(4))
    numbers = [line.split(",")[0] for line in path.read_text().splitlines()[1:]]
    if name == "log.jsonl":
        numbers = [str(json.loads(line)["epoch"]) for line in path.read_text().splitlines()]
    assert numbers == ["1", "2", "3", "4"]
    assert {entry.name for entry in tmp_path.iterdir()} == {name, "other.csv"}


def test_an_epoch_that_is_closed_again_has_one_row(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    with logging_to([path]) as observe:
        observe(epoch(1))
        observe(epoch(2))
    with logging_to([path]) as observe:
        observe(Resumed(step=10, path=tmp_path / "checkpoint.pt"))
        observe(epoch(2))
        observe(epoch(3))
    assert [row["epoch"] for row in rows(path)] == ["1", "2", "3"]


def test_a_log_that_cannot_be_read_is_not_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text("before\n")

    def stale(self: Path, **options: object) -> str:
        raise OSError(errno.ESTALE, "Stale file handle")

    with monkeypatch.context() as storage, logging_to([path]) as observe:
        storage.setattr(Path, "read_text", stale)
        observe(Resumed(step=5, path=tmp_path / "checkpoint.pt"))
        observe(epoch(2))
    assert path.read_text() == "before\n"
    assert "Stale file handle" in caplog.text


def test_several_logs_at_once(tmp_path: Path) -> None:
    with logging_to([tmp_path / "a.jsonl", tmp_path / "b.csv"]) as observe:
        observe(epoch(1))
    assert {entry.name for entry in tmp_path.iterdir()} == {"a.jsonl", "b.csv"}
