"""Held-out images stay in memory where they are the same every time and few; the scores are the same in any case."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torchvision import transforms
from torchvision.datasets import ImageFolder

from autotrain.data.loader import Loader
from autotrain.engine import held_out as module
from autotrain.engine.evaluate import evaluate
from autotrain.engine.held_out import HeldOut
from autotrain.engine.rig import Rig
from autotrain.preparation import prepare_workload
from autotrain.settings import Settings
from autotrain.task import Task

FINISH = [transforms.Resize(40), transforms.CenterCrop(32), transforms.ToTensor(), transforms.Normalize([0.5], [0.5])]


class Drawn:
    """Images that somebody's own code makes, which may be others every time."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> tuple[np.ndarray[Any, Any], int]:
        return np.full((32, 32, 3), 20 * index, dtype=np.uint8), index % 3


@contextmanager
def rig_of(model: nn.Module, folder: Path, validation: Any, **settings: Any) -> Iterator[Rig]:
    task = Task(model=model, dataset=folder, validation=validation, image_size=32, batch_size=8, device="cpu")
    with Rig(prepare_workload(task), Settings(**settings)) as rig, rig.active():
        yield rig


@pytest.mark.parametrize("workers", [0, 2])
def test_files_are_read_once(tiny_model: Callable[..., nn.Module], jpeg_folder: Path, workers: int) -> None:
    with rig_of(tiny_model(), jpeg_folder, jpeg_folder, workers=workers) as rig:
        held_out = HeldOut(rig)
        first = evaluate(rig, held_out=held_out)
        assert held_out.kept
        assert not any(part.is_shared() for batch in held_out.batches() for part in batch.content)
        assert evaluate(rig, held_out=held_out) == first == evaluate(rig)


@pytest.mark.parametrize("steps", [FINISH, [transforms.RandomHorizontalFlip(), *FINISH]], ids=["fixed", "random"])
def test_images_of_transforms_are_kept_if_those_draw_nothing(
    tiny_model: Callable[..., nn.Module], jpeg_folder: Path, steps: list[Any]
) -> None:
    validation = ImageFolder(str(jpeg_folder), transforms.Compose(steps))
    with rig_of(tiny_model(), jpeg_folder, validation) as rig:
        held_out = HeldOut(rig)
        first = evaluate(rig, held_out=held_out)
        assert held_out.kept == (steps is FINISH)
        if held_out.kept:
            assert evaluate(rig, held_out=held_out) == first


def test_images_of_somebodys_own_making_are_made_each_time(
    tiny_model: Callable[..., nn.Module], jpeg_folder: Path
) -> None:
    with rig_of(tiny_model(), jpeg_folder, Drawn()) as rig:
        held_out = HeldOut(rig)
        evaluate(rig, held_out=held_out)
        assert not held_out.kept


def test_too_many_images_are_not_kept(
    tiny_model: Callable[..., nn.Module], jpeg_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """36 images of 3 KiB each."""
    for limit, kept in ((36 * 3072, False), (36 * (3072 + 8), True)):
        monkeypatch.setattr(module, "LIMIT_BYTES", limit)
        with rig_of(tiny_model(), jpeg_folder, jpeg_folder) as rig:
            held_out = HeldOut(rig)
            evaluate(rig, held_out=held_out)
            assert held_out.kept == kept


@pytest.mark.parametrize("plain", [True, False])
def test_beside_a_training_without_workers_threads_are_tried(
    tiny_model: Callable[..., nn.Module], jpeg_folder: Path, monkeypatch: pytest.MonkeyPatch, plain: bool
) -> None:
    """Not processes, which a training may do without for a reason; and not for what only one thread may read."""
    monkeypatch.setattr("autotrain.engine.staffing.WORTH_S", 0.0)
    monkeypatch.setattr("autotrain.engine.staffing.world", lambda: SimpleNamespace(cpu_budget=lambda usable: 2))
    monkeypatch.setattr(module, "always_same", lambda source: False)
    seen: list[tuple[str, int]] = []

    class Noted(Loader):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            seen.append((self.start_method, self.options.workers))

    monkeypatch.setattr(module, "Loader", Noted)
    with rig_of(tiny_model(), jpeg_folder, jpeg_folder if plain else Drawn()) as rig:
        held_out = HeldOut(rig)
        scores = [evaluate(rig, held_out=held_out) for _ in range(3)]
    assert scores[0] == scores[1] == scores[2]
    assert seen == [("none", 0), ("threads", 2) if plain else ("none", 0), ("none", 0)]


def test_the_first_images_come_without_a_loader(tiny_model: Callable[..., nn.Module], jpeg_folder: Path) -> None:
    with rig_of(tiny_model(), jpeg_folder, jpeg_folder, workers=2) as rig:
        held_out = HeldOut(rig)
        few, many = held_out.first(3), held_out.first(99)
        assert (few.count, many.count) == (3, 36)
        assert all(torch.equal(part, whole[:3]) for part, whole in zip(few.content, many.content, strict=True))
        assert not held_out.kept


def test_an_evaluation_that_fails_keeps_nothing(tiny_model: Callable[..., nn.Module], jpeg_folder: Path) -> None:
    with rig_of(tiny_model(), jpeg_folder, jpeg_folder) as rig:
        held_out = HeldOut(rig)
        batches = held_out.batches()
        next(batches)
        batches.close()
        assert not held_out.kept


def test_a_model_that_writes_to_its_images_harms_nobody(
    tiny_model: Callable[..., nn.Module], jpeg_folder: Path
) -> None:
    class Writing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = tiny_model()

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            outputs: torch.Tensor = self.body(images.mul_(0.5))
            return outputs

    validation = ImageFolder(str(jpeg_folder), transforms.Compose(FINISH))
    with rig_of(Writing(), jpeg_folder, validation) as rig:
        held_out = HeldOut(rig)
        first = evaluate(rig, held_out=held_out)
        assert held_out.kept
        assert evaluate(rig, held_out=held_out) == first
