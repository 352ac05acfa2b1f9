"""``fit`` follows a training loop written by hand that is fed the same batches, step by step, to the last bit."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torchvision.transforms import v2

import autotrain
from autotrain.data.transfer import Transfer
from autotrain.engine.events import FitEvent, StepDone
from autotrain.engine.rig import InputSide
from autotrain.plan.plan import Plan
from autotrain.preparation import prepare_workload
from autotrain.settings import Settings
from autotrain.task import Task

pytestmark = pytest.mark.usefixtures("one_thread")

SIDE, BATCH, EPOCHS = 24, 6, 2
Batches = list[tuple[torch.Tensor, torch.Tensor]]


def record(task: Task, steps: int) -> Batches:
    """Return the batches that the model sees, as the input path gives them in this process."""
    workload = prepare_workload(task)
    transfer = Transfer(workload.device, mean=workload.mean, std=workload.std, image_size=workload.image_size)
    with InputSide(workload, Settings(augmentation=workload.augmentation), stop=steps).loader as loader:
        return [transfer.finish(transfer.move(batch)) for batch in loader]


def by_hand(
    model: nn.Module,
    batches: Batches,
    *,
    make: Callable[..., torch.optim.Optimizer],
    loss: Callable[..., torch.Tensor] = functional.cross_entropy,
    precision: torch.dtype | None = None,
    clip_norm: float | None = None,
) -> list[float]:
    """Train as a person would write it: warm-up over a twentieth of the steps, then half a cosine wave, per step."""
    optimizer = make(model.parameters())
    total, base = len(batches), optimizer.param_groups[0]["lr"]
    warmup = max(1, round(0.05 * total))
    losses = []
    model.train()
    for step, (images, labels) in enumerate(batches):
        progress = (step - (warmup - 1)) / (total - (warmup - 1))
        factor = (step + 1) / warmup if step < warmup - 1 else (1 + math.cos(math.pi * progress)) / 2
        for group in optimizer.param_groups:
            group["lr"] = base * factor
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=precision) if precision else nullcontext():
            value = loss(model(images), labels)
        value.backward()
        if clip_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
        optimizer.step()
        losses.append(value.item())
    return losses


def recorded_fit(
    monkeypatch: pytest.MonkeyPatch, model: nn.Module, dataset: Any, settings: Settings, **options: Any
) -> tuple[list[float], Any]:
    """Return the loss of every step of a fit, and its result."""
    monkeypatch.setattr("autotrain.engine.loop.TELL_S", 0.0)  # tell every step
    losses: list[float] = []

    def observe(event: FitEvent) -> None:
        if isinstance(event, StepDone):
            losses.append(event.loss)

    result = autotrain.fit(
        model, dataset, plan=Plan(settings=settings), progress=False, fit_observer=observe, **options
    )
    return losses, result


def adamw(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=1e-3)


def momentum(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=1e-4)


def same_state(model: nn.Module, other: nn.Module) -> bool:
    state = other.state_dict()
    return all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def tensors() -> tuple[torch.Tensor, torch.Tensor]:
    images = np.random.default_rng(0).integers(0, 256, (30, 3, SIDE, SIDE), dtype=np.uint8)
    return torch.from_numpy(images), torch.arange(30) % 3


@pytest.mark.parametrize("policy", ["none", "crop", "trivial"])
@pytest.mark.parametrize("workers", [0, 2])
def test_fit_on_a_folder_is_the_loop_by_hand(
    monkeypatch: pytest.MonkeyPatch, jpeg_folder: Path, tiny_model: Any, policy: str, workers: int
) -> None:
    options = {"batch_size": BATCH, "image_size": SIDE, "augmentation": policy, "duration": f"{EPOCHS}ep"}
    settings = Settings(augmentation=policy, workers=workers)
    trained = tiny_model()
    losses, result = recorded_fit(monkeypatch, trained, jpeg_folder, settings, device="cpu", **options)

    model = tiny_model()
    task = Task(model=model, dataset=jpeg_folder, device="cpu", **options)
    expected = by_hand(model, record(task, EPOCHS * (36 // BATCH)), make=adamw)
    assert losses == expected
    assert same_state(trained, model)
    assert result.steps == len(expected) == EPOCHS * 6


@pytest.mark.parametrize(
    "settings", [Settings(), Settings(workers=2), Settings(precision="bf16")], ids=["default", "workers", "bf16"]
)
def test_fit_on_tensors_is_the_loop_by_hand(
    monkeypatch: pytest.MonkeyPatch, tiny_model: Any, settings: Settings
) -> None:
    if settings.precision == "bf16" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("this CPU would emulate bf16")
    trained = tiny_model()
    options = {"batch_size": BATCH, "duration": "2ep", "clip_norm": 0.5, "optimizer": momentum, "seed": 3}
    losses, _ = recorded_fit(monkeypatch, trained, tensors(), settings, device="cpu", **options)

    model = tiny_model()
    batches = record(Task(model=model, dataset=tensors(), batch_size=BATCH, device="cpu", seed=3), 10)
    precision = torch.bfloat16 if settings.precision == "bf16" else None
    assert losses == by_hand(model, batches, make=momentum, precision=precision, clip_norm=0.5)
    assert same_state(trained, model)


def test_the_recorded_batches_are_what_torchvision_makes_of_the_images(tiny_model: Any) -> None:
    """The recording does not check itself: scaling and normalising are compared with torchvision's."""
    images, labels = tensors()
    task = Task(model=tiny_model(), dataset=(images, labels), batch_size=BATCH, device="cpu")
    order = prepare_workload(task).stream().order(0)[:BATCH].tolist()
    usual = v2.Compose(
        [v2.ToDtype(torch.float32, scale=True), v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
    )
    seen, numbers = record(task, 1)[0]
    torch.testing.assert_close(seen, usual(images[order]), rtol=1e-5, atol=1e-6)
    assert numbers.tolist() == labels[order].tolist()


def test_an_optimizer_of_the_users_goes_on_as_by_hand(monkeypatch: pytest.MonkeyPatch, tiny_model: Any) -> None:
    """An optimizer with momentum from earlier training, and gradients left over in the model, which do not count."""
    task = Task(model=tiny_model(), dataset=tensors(), batch_size=BATCH, device="cpu")
    batches = record(task, 5)
    earlier = record(Task(model=task.model, dataset=tensors(), batch_size=BATCH, device="cpu", seed=9), 2)
    made = {}
    for name in ("fit", "by hand"):
        model = tiny_model()
        optimizer = momentum(model.parameters())
        by_hand(model, earlier, make=lambda _, chosen=optimizer: chosen)
        optimizer.param_groups[0]["lr"] = 0.05
        made[name] = model, optimizer
    model, optimizer = made["fit"]
    losses, result = recorded_fit(
        monkeypatch, model, tensors(), Settings(), batch_size=BATCH, duration="1ep", optimizer=optimizer, device="cpu"
    )
    other, again = made["by hand"]
    assert losses == by_hand(other, batches, make=lambda _: again)
    assert same_state(model, other)
    assert result.model is model


def test_regression_and_a_step_of_the_users_follow_too(monkeypatch: pytest.MonkeyPatch, tiny_model: Any) -> None:
    images, _ = tensors()
    targets = torch.linspace(-1, 1, 30)
    trained, model = tiny_model(classes=1), tiny_model(classes=1)

    def loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return functional.mse_loss(outputs.squeeze(1), labels)

    def step(live: nn.Module, batch: Any) -> torch.Tensor:
        return loss(live(batch[0]), batch[1])

    options = {"batch_size": BATCH, "duration": "2ep", "device": "cpu"}
    batches = record(Task(model=model, dataset=(images, targets), batch_size=BATCH, device="cpu"), 10)
    expected = by_hand(model, batches, make=adamw, loss=loss)
    for more in ({}, {"loss": loss}, {"step": step}):
        trained = tiny_model(classes=1)
        losses, _ = recorded_fit(monkeypatch, trained, (images, targets), Settings(), **options, **more)
        assert losses == expected
        assert same_state(trained, model)


def test_dropout_draws_from_the_seed_alone(monkeypatch: pytest.MonkeyPatch, tiny_model: Any, own_draws: None) -> None:
    results = []
    for settings, seed in ((Settings(), 1), (Settings(workers=1), 1), (Settings(), 2)):
        model = tiny_model()
        model.insert(3, nn.Dropout(0.5))
        torch.rand(7)  # what the process draws before does not matter
        losses, _ = recorded_fit(
            monkeypatch, model, tensors(), settings, batch_size=BATCH, duration="1ep", seed=seed, device="cpu"
        )
        results.append(losses)
    assert results[0] == results[1] != results[2]
