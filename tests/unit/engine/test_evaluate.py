"""Evaluation sees every sample once, and its numbers are those of a computation by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from autotrain.engine.evaluate import Score, evaluate
from autotrain.engine.rig import Rig
from autotrain.errors import TaskError
from autotrain.preparation import prepare_workload
from autotrain.settings import Settings
from autotrain.task import Task
from autotrain.workload import Workload

SIDE = 16
DEFAULT = Settings()


def pixels(count: int, *, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)


def normalized(images: torch.Tensor) -> torch.Tensor:
    mean, std = torch.tensor((0.485, 0.456, 0.406)), torch.tensor((0.229, 0.224, 0.225))
    return (images.float() / 255 - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)


def score(model: nn.Module, settings: Settings = DEFAULT, **options: Any) -> Score:
    given: dict[str, Any] = {
        "dataset": (pixels(12, seed=1), torch.arange(12) % 3),
        "validation": (pixels(11), torch.arange(11) % 3),
        "batch_size": 4,
        "device": "cpu",
        **options,
    }
    workload: Workload = prepare_workload(Task(model=model, **given))
    with Rig(workload, settings) as rig, rig.active():
        return evaluate(rig)


@pytest.mark.parametrize(
    "settings", [DEFAULT, Settings(workers=2), Settings(augmentation="rand")], ids=["default", "workers", "augmented"]
)
def test_loss_and_accuracy_are_those_by_hand(tiny_model: Callable[..., nn.Module], settings: Settings) -> None:
    """11 samples in batches of 4: the short last batch counts for its 3 samples; nothing is augmented."""
    model = tiny_model()
    result = score(model, settings)
    with torch.no_grad():
        outputs = tiny_model().eval()(normalized(pixels(11)))
    labels = torch.arange(11) % 3
    assert result.samples == 11
    assert result.loss == pytest.approx(float(functional.cross_entropy(outputs, labels)), rel=1e-5)
    assert result.accuracy == int((outputs.argmax(1) == labels).sum()) / 11


def test_it_leaves_the_model_as_it_is(tiny_model: Callable[..., nn.Module]) -> None:
    workload = prepare_workload(
        Task(
            model=tiny_model(),
            dataset=(pixels(8), torch.arange(8) % 3),
            validation=(pixels(8), torch.arange(8) % 3),
            device="cpu",
        )
    )
    with Rig(workload, Settings()) as rig, rig.active():
        model = rig.step.model
        model[1].eval()
        modes = [module.training for module in model.modules()]
        before = {name: value.clone() for name, value in model.state_dict().items()}
        first, second = evaluate(rig), evaluate(rig)
        assert [module.training for module in model.modules()] == modes
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert first == second
        assert all(entry.grad is None for entry in model.parameters())


def test_it_restores_the_modes_when_the_model_raises(tiny_model: Callable[..., nn.Module]) -> None:
    class Failing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = tiny_model()

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            if not self.training:
                raise ZeroDivisionError
            outputs: torch.Tensor = self.body(images)
            return outputs

    model = Failing()
    with pytest.raises(ZeroDivisionError):
        score(model)
    assert all(module.training for module in model.modules())


def test_images_of_a_folder_are_cut_in_the_middle(tiny_model: Callable[..., nn.Module], jpeg_folder: Path) -> None:
    with_policy = score(tiny_model(), Settings(augmentation="rand"), dataset=jpeg_folder, validation=jpeg_folder)
    without = score(tiny_model(), dataset=jpeg_folder, validation=jpeg_folder, augmentation="none")
    assert with_policy == without
    assert without.samples == 36


def test_a_task_without_classes_has_no_accuracy(tiny_model: Callable[..., nn.Module]) -> None:
    targets = torch.linspace(-1, 1, 11)
    result = score(
        tiny_model(classes=1), dataset=(pixels(12), torch.linspace(0, 1, 12)), validation=(pixels(11), targets)
    )
    with torch.no_grad():
        outputs = tiny_model(classes=1).eval()(normalized(pixels(11)))
    assert result.accuracy is None
    assert result.loss == pytest.approx(float((outputs.squeeze(1) - targets).square().mean()), rel=1e-5)


def test_a_step_of_the_users_gives_the_loss(tiny_model: Callable[..., nn.Module]) -> None:
    def step(model: nn.Module, batch: Any) -> torch.Tensor:
        assert not model.training
        return functional.cross_entropy(model(batch[0]), batch[1])

    result, usual = score(tiny_model(), step=step), score(tiny_model())
    assert result.loss == usual.loss
    assert result.accuracy is None


def test_a_loss_of_shape_one_is_a_number_here_too(tiny_model: Callable[..., nn.Module]) -> None:
    def loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(outputs, labels).reshape(1)

    assert score(tiny_model(), loss=loss).loss == score(tiny_model()).loss


def test_labels_of_the_validation_set_are_checked_before_training(tiny_model: Callable[..., nn.Module]) -> None:
    workload = prepare_workload(
        Task(
            model=tiny_model(),
            dataset=(pixels(8), torch.arange(8) % 3),
            validation=(pixels(8), torch.arange(8) % 4),
            device="cpu",
        )
    )
    with Rig(workload, Settings()) as rig, rig.active(), pytest.raises(TaskError, match="validation set has label 3"):
        rig.check(rig.input.next())
