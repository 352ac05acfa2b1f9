"""The keeper knows what was really written."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from autotrain.engine.events import EpochRecord
from autotrain.engine.keeper import Keeper
from autotrain.preparation import prepare_workload
from autotrain.task import Task
from autotrain.training import Training


def record(step: int, accuracy: float) -> EpochRecord:
    return EpochRecord(epoch=1, step=step, images=8, seconds=1.0, wait_s=0.0, loss=1.0, lr=0.1, accuracy=accuracy)


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Fill the disk, and empty it again."""
    sync = os.fsync

    def refuse(file: int) -> None:
        raise OSError(28, "No space left on device")

    return lambda is_full: monkeypatch.setattr("autotrain.engine.checkpoint.os.fsync", refuse if is_full else sync)


@pytest.fixture
def keeper(tiny_model: Callable[..., nn.Module], tmp_path: Path) -> Keeper:
    data = torch.zeros(8, 3, 16, 16, dtype=torch.uint8), torch.arange(8) % 3
    workload = prepare_workload(Task(model=tiny_model(), dataset=data, validation=data, device="cpu", batch_size=4))
    made = Keeper(Training(checkpoints=tmp_path), workload, facts={})
    made.begin(0, 0.0, None)
    return made


def keep(keeper: Keeper, step: int, accuracy: float) -> tuple[bool, str | None]:
    """Keep an epoch; return whether it was the best, and why it is not there."""
    best = keeper.is_best(record(step, accuracy))
    keeper.save({}, step=step, elapsed_s=float(step), best=best)
    return best, keeper.settle()


def test_the_best_is_the_best_that_was_written(keeper: Keeper, tmp_path: Path, full: Callable[[bool], None]) -> None:
    assert keep(keeper, 1, 0.70) == (True, None)
    full(True)
    best, problem = keep(keeper, 2, 0.80)
    assert best
    assert "No space left on device" in str(problem)
    assert keeper.unsaved == problem
    assert not keeper.saved_last(2)
    full(False)
    assert keep(keeper, 3, 0.75) == (True, None)
    assert keeper.unsaved is None
    assert keep(keeper, 4, 0.74) == (False, None)
    keeper.close()
    assert sorted(entry.name[:14] for entry in tmp_path.glob("*.pt")) == [
        "best-000000003", "step-000000001", "step-000000003", "step-000000004",
    ]  # fmt: skip
    latest = max(tmp_path.glob("step-*.pt"))
    assert torch.load(latest, weights_only=True)["best"] == 0.75


def test_what_is_older_and_cannot_be_removed_is_no_failure(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for step in (1, 2, 3):
        assert keep(keeper, step, 0.5)[1] is None

    def stale(path: Path, *, missing_ok: bool = False) -> None:
        if path.name.startswith("step-"):
            raise OSError(116, "Stale file handle")

    monkeypatch.setattr(Path, "unlink", stale)
    assert keep(keeper, 4, 0.5)[1] is None
    assert "what is older cannot be removed" in caplog.text
    keeper.close()


def test_memory_too_short_for_a_copy_is_a_checkpoint_that_is_missing(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(contents: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr("autotrain.engine.checkpoint._copied", short)
    assert "the checkpoint cannot be copied: DefaultCPUAllocator" in str(keep(keeper, 1, 0.5)[1])
    keeper.close()
