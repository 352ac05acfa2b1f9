"""What a recipe may ask for beside optimizer and schedule: a moving average, label smoothing, weight decay for some."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import autotrain
from autotrain.errors import TaskError
from autotrain.plan.plan import Plan
from autotrain.preparation import prepare_workload
from autotrain.settings import Settings
from autotrain.task import Task

BATCH = 4


def data(count: int = 20, *, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, 16, 16), generator=generator, dtype=torch.uint8), torch.arange(count) % 3


def fit(model: nn.Module, **options: Any) -> Any:
    given = {"dataset": data(), "batch_size": BATCH, "device": "cpu", "duration": "2ep", "progress": False}
    return autotrain.fit(model, plan=Plan(settings=Settings()), **{**given, **options})


def test_the_moving_average_is_that_of_every_step(tiny_model: Callable[..., nn.Module]) -> None:
    model, decay = tiny_model(), 0.7
    seen: list[torch.Tensor] = []

    class Watched(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            result = super().step(closure)
            seen.append(model[0].weight.detach().clone())
            return result

    result = fit(model, optimizer=Watched(model.parameters(), lr=0.1), ema=decay, validation=data(8, seed=1))
    average = seen[0]
    for weight in seen[1:]:
        average = decay * average + (1 - decay) * weight
    assert torch.allclose(result.ema[0].weight, average, atol=1e-6)
    assert torch.equal(result.model[0].weight, seen[-1])
    images, labels = data(8, seed=1)
    content = (images.float() / 255 - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor(
        [0.229, 0.224, 0.225]
    ).view(3, 1, 1)
    with torch.no_grad():
        loss = functional.cross_entropy(result.ema.eval()(content), labels)
    assert result.history[-1].validation_loss == pytest.approx(float(loss), rel=1e-4)
    assert fit(tiny_model()).ema is None


def test_labels_are_smoothed_in_training_and_not_in_validation(tiny_model: Callable[..., nn.Module]) -> None:
    task = Task(model=tiny_model(), dataset=data(), batch_size=BATCH, label_smoothing=0.2, device="cpu")
    workload = prepare_workload(task)
    outputs, labels = torch.linspace(-1, 1, 12).view(4, 3), torch.tensor([0, 1, 2, 0])
    assert workload.loss_of(outputs, labels) == functional.cross_entropy(outputs, labels, label_smoothing=0.2)
    assert workload.loss(outputs, labels) == functional.cross_entropy(outputs, labels)


@pytest.mark.parametrize("make", [None, lambda given: torch.optim.SGD(given, lr=0.1, weight_decay=0.01)])
def test_parameters_of_one_dimension_have_no_decay(tiny_model: Callable[..., nn.Module], make: Any) -> None:
    task = Task(model=tiny_model(), dataset=data(), batch_size=BATCH, optimizer=make, no_decay=True, device="cpu")
    optimizer = prepare_workload(task).make_optimizer(task.model.parameters())
    decayed, others = optimizer.param_groups
    assert decayed["weight_decay"] == 0.01
    assert others["weight_decay"] == 0.0
    assert {entry.ndim for entry in others["params"]} == {1}
    assert all(entry.ndim > 1 for entry in decayed["params"])
    assert len(decayed["params"]) + len(others["params"]) == len(list(task.model.parameters()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_smoothing": 1.0}, "label_smoothing: 1.0 is no share"),
        ({"label_smoothing": 0.1, "loss": nn.MultiMarginLoss()}, "label_smoothing: goes with the cross-entropy"),
        ({"ema": 1.0}, "ema: 1.0 is no decay"),
        ({"clip_norm": 0.0}, "clip_norm: 0.0 is no norm"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    tiny_model: Callable[..., nn.Module], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(TaskError, match=message):
        fit(tiny_model(), **options)


def test_no_decay_needs_groups_of_its_own(tiny_model: Callable[..., nn.Module]) -> None:
    model = tiny_model()
    with pytest.raises(TaskError, match="no_decay: the optimizer has its parameter groups already"):
        fit(model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1), no_decay=True)


class Recall:
    """The share of a class that is found, as torchmetrics would have it."""

    higher_is_better = True

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.right = self.all = 0

    def update(self, outputs: torch.Tensor, labels: torch.Tensor) -> None:
        of_class = labels == 0
        self.right += int(((outputs.argmax(dim=1) == 0) & of_class).sum())
        self.all += int(of_class.sum())

    def compute(self) -> torch.Tensor:
        return torch.tensor(self.right / self.all)


def test_metrics_of_ones_own_are_computed_anew_every_epoch(tiny_model: Callable[..., nn.Module], tmp_path: Any) -> None:
    events: list[Any] = []
    result = fit(
        tiny_model(),
        validation=data(9, seed=1),
        metrics={"recall": Recall()},
        best_by="recall",
        checkpoints=tmp_path / "run",
        log=tmp_path / "log.jsonl",
        callbacks=[events.append],
    )
    values = [record.metrics["recall"] for record in result.history]
    assert all(value * 3 == pytest.approx(round(value * 3)) for value in values)
    assert '"recall": ' in (tmp_path / "log.jsonl").read_text()
    assert type(events[0]).__name__ == "FitStarted"
    assert [event.record for event in events if type(event).__name__ == "EpochDone"] == list(result.history)


def test_what_is_no_metric_is_refused(tiny_model: Callable[..., nn.Module]) -> None:
    with pytest.raises(TaskError, match=r"metrics: 'f1' has no update\(\)"):
        fit(tiny_model(), metrics={"f1": len})
    with pytest.raises(TaskError, match=r"best_by: unknown metric 'recal'. Did you mean 'recall'"):
        fit(tiny_model(), metrics={"recall": Recall()}, best_by="recal")
