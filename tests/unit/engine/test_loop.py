"""The training loop: the learning rate at every step, durations, interrupts, and what is left in the user's hands."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

from autotrain.engine.events import EpochDone, FitEnded, FitEvent, FitStarted, Halved, StepDone
from autotrain.engine.loop import Trained, train
from autotrain.engine.step import Step
from autotrain.errors import CandidateError, ScheduleError, TaskError
from autotrain.preparation import prepare_workload
from autotrain.report.trouble import log_trouble, trouble_words
from autotrain.schedules.schedule import Constant, WarmupCosine, WarmupLinear
from autotrain.settings import Settings
from autotrain.task import Task
from autotrain.training import Training

SIDE = 16
DEFAULT = Settings()


def data(count: int = 20, *, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    return images, torch.arange(count) % 3


class Recording(torch.optim.SGD):
    """Keeps the learning rate of every group at every step."""

    def __init__(self, parameters: Any, lr: float = 0.1, **options: Any) -> None:
        super().__init__(parameters, lr=lr, **options)
        self.rates: list[tuple[float, ...]] = []

    def step(self, closure: Any = None) -> Any:
        self.rates.append(tuple(float(group["lr"]) for group in self.param_groups))
        return super().step(closure)


def run(
    model: nn.Module, settings: Settings = DEFAULT, *, training: Training = Training(), **options: Any
) -> tuple[Trained, list[FitEvent]]:
    events: list[FitEvent] = []
    task = Task(model=model, **{"dataset": data(), "batch_size": 4, "device": "cpu", "duration": "2ep", **options})
    trained = train(prepare_workload(task), settings, observer=events.append, training=training)
    return trained, events


# Learning rate


@pytest.mark.parametrize(
    ("schedule", "kind"),
    [
        ("cosine", WarmupCosine()),
        ("linear", WarmupLinear()),
        ("constant", Constant()),
        (WarmupCosine(warmup="3step", final=0.1), WarmupCosine(warmup="3step", final=0.1)),
        (WarmupLinear(warmup="1ep", resolution="epoch"), WarmupLinear(warmup="1ep", resolution="epoch")),
    ],
)
def test_every_step_has_the_rate_of_the_schedule(
    tiny_model: Callable[..., nn.Module], schedule: Any, kind: Any
) -> None:
    model = tiny_model()
    groups = [{"params": list(model[:4].parameters())}, {"params": list(model[4:].parameters()), "lr": 0.02}]
    optimizer = Recording(groups)
    trained, _ = run(model, schedule=schedule, optimizer=optimizer, duration="6ep")
    assert trained.steps == len(optimizer.rates) == 30
    for step, (first, second) in enumerate(optimizer.rates):
        factor = kind.factor(step, 30, 5)
        assert first == pytest.approx(0.1 * factor, rel=1e-12)
        assert second == pytest.approx(0.02 * factor, rel=1e-12)


def test_the_cosine_warms_up_and_ends_near_zero(tiny_model: Callable[..., nn.Module]) -> None:
    model = tiny_model()
    optimizer = Recording(model.parameters())
    run(model, optimizer=optimizer, duration="80step")
    rates = [rate for (rate,) in optimizer.rates]
    assert rates[:4] == pytest.approx([0.025, 0.05, 0.075, 0.1])
    assert all(later < earlier for earlier, later in pairwise(rates[3:]))
    assert rates[-1] == pytest.approx(0.1 * (1 + math.cos(math.pi * 76 / 77)) / 2, rel=1e-9)


@pytest.mark.parametrize("ends", ["well", "badly"])
def test_the_users_optimizer_has_its_rates_back(tiny_model: Callable[..., nn.Module], ends: str) -> None:
    model = tiny_model()
    optimizer = Recording(model.parameters(), lr=0.3)

    def loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if ends == "badly" and len(optimizer.rates) == 3:
            raise ZeroDivisionError
        return nn.functional.cross_entropy(outputs, labels)

    if ends == "badly":
        with pytest.raises(ZeroDivisionError):
            run(model, optimizer=optimizer, loss=loss)
    else:
        run(model, optimizer=optimizer, loss=loss)
    assert optimizer.param_groups[0]["lr"] == 0.3
    assert optimizer.rates[-1] != (0.3,)


# Durations


def test_training_by_the_clock_ends_and_reaches_the_end_of_its_schedule(tiny_model: Callable[..., nn.Module]) -> None:
    model = tiny_model()
    optimizer = Recording(model.parameters())
    trained, events = run(model, optimizer=optimizer, duration="1s")
    assert 0.9 <= trained.seconds < 20
    assert trained.steps == len(optimizer.rates) > 3
    assert max(optimizer.rates)[0] <= 0.1
    assert optimizer.rates[-1][0] < 0.05
    started = events[0]
    assert isinstance(started, FitStarted)
    assert (started.total_steps, started.total_s) == (None, 1.0)
    assert sum(record.images for record in trained.history) == 4 * trained.steps


def test_a_warm_up_in_steps_does_not_fit_the_clock(tiny_model: Callable[..., nn.Module]) -> None:
    with pytest.raises(ScheduleError, match="Give a share or a time"):
        run(tiny_model(), duration="1s", schedule=WarmupCosine(warmup="5step"))


@pytest.mark.parametrize(
    ("duration", "epochs"),
    [("1ep", [5]), ("2ep", [5, 5]), ("1.5ep", [5, 3]), ("3step", [3]), ("7step", [5, 2]), ("24sample", [5, 1])],
)
def test_the_last_epoch_may_be_partial(tiny_model: Callable[..., nn.Module], duration: str, epochs: list[int]) -> None:
    trained, events = run(tiny_model(), duration=duration)
    assert [record.images for record in trained.history] == [4 * steps for steps in epochs]
    assert [record.epoch for record in trained.history] == list(range(1, len(epochs) + 1))
    assert trained.history[-1].step == trained.steps == sum(epochs)
    assert not trained.interrupted
    ended = [event for event in events if isinstance(event, EpochDone)]
    assert tuple(event.record for event in ended) == trained.history
    assert isinstance(events[-1], FitEnded)


# What is told


def test_history_holds_what_a_loop_by_hand_would_note(
    monkeypatch: pytest.MonkeyPatch, tiny_model: Callable[..., nn.Module]
) -> None:
    monkeypatch.setattr("autotrain.engine.loop.TELL_S", 0.0)
    trained, events = run(tiny_model(), validation=data(11, seed=1), duration="3ep")
    steps = [event for event in events if isinstance(event, StepDone)]
    assert [event.step for event in steps] == list(range(1, 16))
    assert [event.epoch for event in steps] == [1] * 5 + [2] * 5 + [3] * 5
    assert steps[-1].progress == 1.0
    for number, record in enumerate(trained.history):
        own = steps[5 * number : 5 * number + 5]
        assert record.loss == pytest.approx(sum(event.loss for event in own) / 5, rel=1e-5)
        assert record.lr == own[-1].lr
        assert record.validation_loss is not None
        assert record.accuracy is not None
        assert 0 <= record.accuracy <= 1
        assert record.validation_s is not None
        assert record.seconds > 0
    assert isinstance(events[0], FitStarted)
    assert (events[0].images, events[0].validation_images, events[0].total_steps) == (20, 11, 15)


def test_without_a_validation_set_there_is_no_score(tiny_model: Callable[..., nn.Module]) -> None:
    trained, _ = run(tiny_model(), duration="1ep")
    record = trained.history[0]
    assert (record.validation_s, record.validation_loss, record.accuracy) == (None, None, None)


def test_validation_does_not_change_the_training(
    monkeypatch: pytest.MonkeyPatch, tiny_model: Callable[..., nn.Module]
) -> None:
    monkeypatch.setattr("autotrain.engine.loop.TELL_S", 0.0)
    losses = []
    for validation in (None, data(11, seed=1)):
        model = tiny_model()
        model.insert(3, nn.Dropout(0.3))
        _, events = run(model, validation=validation, duration="3ep")
        losses.append([event.loss for event in events if isinstance(event, StepDone)])
    assert losses[0] == losses[1]


def test_training_learns(tiny_model: Callable[..., nn.Module]) -> None:
    """Three flat colours are told apart after a few dozen steps."""
    labels = torch.arange(60) % 3
    images = torch.zeros(60, 3, SIDE, SIDE, dtype=torch.uint8)
    images[torch.arange(60), labels] = 200
    optimizer = lambda parameters: torch.optim.AdamW(parameters, lr=0.02)  # noqa: E731
    trained, _ = run(
        tiny_model(), dataset=(images, labels), validation=(images, labels), optimizer=optimizer, duration="8ep"
    )
    assert trained.history[-1].accuracy == 1.0
    assert trained.history[-1].loss < 0.5 * trained.history[0].loss


# Interrupts


class Interrupting(torch.utils.data.Dataset[Any]):
    """Ctrl-C comes while some sample is loaded."""

    def __init__(self, at: int) -> None:
        self.at, self.loaded = at, 0

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        self.loaded += 1
        if self.loaded == self.at:
            raise KeyboardInterrupt
        return Image.new("RGB", (SIDE, SIDE), (index, 0, 0)), index % 3


def test_ctrl_c_keeps_what_was_trained(tiny_model: Callable[..., nn.Module]) -> None:
    model = tiny_model()
    before = model[0].weight.detach().clone()
    optimizer = Recording(model.parameters())
    dataset = Interrupting(at=20 + 30 + 3)  # in the second epoch; opening the task looks at some samples too
    trained, events = run(model, dataset=dataset, optimizer=optimizer, duration="50ep", validation=data(6))
    assert trained.interrupted
    assert trained.steps == len(optimizer.rates)
    assert len(trained.history) == trained.steps // 5 >= 1
    assert events[-1] == FitEnded(seconds=events[-1].seconds, interrupted=True)
    assert not torch.equal(model[0].weight, before)
    assert optimizer.param_groups[0]["lr"] == 0.1
    assert all(entry.grad is None for entry in model.parameters())


# What is left


@pytest.mark.parametrize(
    "settings",
    [DEFAULT, Settings(memory_format="channels_last"), Settings(threads=1, workers=1)],
    ids=["default", "channels_last", "threads and workers"],
)
def test_the_model_is_the_users_own(tiny_model: Callable[..., nn.Module], settings: Settings) -> None:
    model = tiny_model()
    parameters = dict(model.named_parameters())
    strides = {name: value.stride() for name, value in model.state_dict().items()}
    threads = torch.get_num_threads()
    run(model, settings)
    assert dict(model.named_parameters()).keys() == parameters.keys()
    assert all(entry is parameters[name] for name, entry in model.named_parameters())
    assert {name: value.stride() for name, value in model.state_dict().items()} == strides
    assert all(entry.grad is None for entry in model.parameters())
    assert all(module.training for module in model.modules())
    assert int(model[1].num_batches_tracked) == 10  # the check of the first batch does not count
    assert torch.get_num_threads() == threads


def test_layers_that_the_users_train_method_freezes_stay_frozen(tiny_model: Callable[..., nn.Module]) -> None:
    class Frozen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = tiny_model()
            self.body[0].requires_grad_(False)

        def train(self, mode: bool = True) -> Frozen:
            super().train(mode)
            self.body[1].eval()
            return self

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            outputs: torch.Tensor = self.body(images)
            return outputs

    model = Frozen()
    weight = model.body[0].weight.detach().clone()
    run(model, validation=data(8))
    assert [module.training for module in model.body] == [index != 1 for index in range(8)]
    assert int(model.body[1].num_batches_tracked) == 0
    assert torch.equal(model.body[0].weight, weight)
    assert not model.body[0].weight.requires_grad


def test_training_works_where_gradients_are_switched_off(tiny_model: Callable[..., nn.Module]) -> None:
    with torch.no_grad():
        trained, _ = run(tiny_model())
        assert not torch.is_grad_enabled()
    assert trained.steps == 10


def test_a_loss_that_is_not_a_number_at_once_is_an_error(tiny_model: Callable[..., nn.Module]) -> None:
    model = tiny_model()
    with torch.no_grad():
        model[0].weight.fill_(float("nan"))
    with pytest.raises(TaskError, match="the loss of the first step is not a number"):
        run(model)


def test_a_label_that_appears_later_is_an_error_of_the_task(tiny_model: Callable[..., nn.Module]) -> None:
    """A map-style dataset's labels are known only when they are loaded."""

    class Odd(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return 20

        def __getitem__(self, index: int) -> tuple[Image.Image, int]:
            return Image.new("RGB", (SIDE, SIDE)), 7 if index == 11 else index % 3

    workload = prepare_workload(Task(model=tiny_model(), dataset=Odd(), batch_size=2, device="cpu"))
    assert 11 not in workload.stream().ticket(0).indices
    with pytest.raises(TaskError, match=r"step [1-9]: a label does not fit the model's outputs .*7"):
        train(workload, DEFAULT)


def test_a_loss_of_shape_one_trains(tiny_model: Callable[..., nn.Module]) -> None:
    def loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(outputs, labels).reshape(1)

    trained, _ = run(tiny_model(), loss=loss, validation=data(6))
    assert trained.steps == 10


# Memory


def without_memory(monkeypatch: pytest.MonkeyPatch, *, images: int, after: int) -> None:
    """Let memory run out for more images at once than these, from a step on."""
    train_on = Step._backward
    calls = []

    def limited(step: Step, content: Any, share: float) -> torch.Tensor:
        calls.append(len(content[0]))
        if len(calls) > after and len(content[0]) > images:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return train_on(step, content, share)

    monkeypatch.setattr(Step, "_backward", limited)


def plain_model() -> nn.Module:
    """Return a model without batch statistics."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    with torch.no_grad():
        for number, entry in enumerate(model.parameters()):
            entry.copy_(torch.linspace(-0.5, 0.5 + number, entry.numel()).view_as(entry))
    return model


@pytest.mark.usefixtures("own_draws")
def test_where_memory_runs_out_the_step_is_done_again_in_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    expected, _ = run(whole := plain_model(), dataset=data(40), batch_size=8)
    without_memory(monkeypatch, images=2, after=3)
    trained, events = run(model := plain_model(), dataset=data(40), batch_size=8)
    halved = [event for event in events if isinstance(event, Halved)]
    assert [(event.step, event.parts, event.batch_statistics) for event in halved] == [(3, 2, False), (3, 4, False)]
    assert trained.steps == expected.steps
    for one, other in zip(model.parameters(), whole.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-5)
    assert [record.loss for record in trained.history] == pytest.approx([entry.loss for entry in expected.history])


@pytest.mark.parametrize(
    ("options", "halve", "message"),
    [
        (
            {},
            None,
            r"step 3: out of memory on cpu. In halves the model's batch statistics .* allow that with halve=True",
        ),
        ({}, False, "step 3: out of memory on cpu. Take a smaller batch"),
        ({"loss": lambda outputs, labels: outputs.sum()}, True, "nothing says that a loss of your own is a mean"),
    ],
)
def test_where_halves_would_change_what_is_learned_they_need_leave(
    monkeypatch: pytest.MonkeyPatch,
    tiny_model: Callable[..., nn.Module],
    options: dict[str, Any],
    halve: bool | None,
    message: str,
) -> None:
    without_memory(monkeypatch, images=2, after=3)
    with pytest.raises(CandidateError, match=message):
        run(tiny_model(), training=Training(halve=halve), **options)


def test_with_leave_batch_statistics_are_halved_too_and_it_is_said(
    monkeypatch: pytest.MonkeyPatch, tiny_model: Callable[..., nn.Module], caplog: pytest.LogCaptureFixture
) -> None:
    without_memory(monkeypatch, images=2, after=3)
    trained, events = run(tiny_model(), training=Training(halve=True))
    assert trained.steps == 10
    (halved,) = [event for event in events if isinstance(event, Halved)]
    assert halved.batch_statistics
    for event in events:
        log_trouble(event)
    assert [record.message for record in caplog.records] == [trouble_words(halved)]
    assert "2 parts from here on, whose batch statistics are those of smaller batches" in caplog.text


@pytest.mark.usefixtures("own_draws")
def test_an_image_alone_that_does_not_fit_ends_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    without_memory(monkeypatch, images=0, after=3)
    with pytest.raises(CandidateError, match=r"step 3: out of memory on cpu\. Take a smaller batch"):
        run(plain_model())
