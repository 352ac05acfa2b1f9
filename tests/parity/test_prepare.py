"""A loop around ``prepare`` follows ``fit``, and a loop written by hand, step by step to the last bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.optim.lr_scheduler import CosineAnnealingLR

import autotrain
from autotrain.data.transfer import Transfer
from autotrain.engine.events import FitEvent, StepDone
from autotrain.engine.rig import InputSide
from autotrain.plan.plan import Plan
from autotrain.preparation import prepare_workload
from autotrain.prepared import Prepared
from autotrain.settings import Settings
from autotrain.task import Task

pytestmark = pytest.mark.usefixtures("one_thread", "own_draws")

SIDE, BATCH, EPOCHS = 24, 6, 2
BF16 = torch.ops.mkldnn._is_mkldnn_bf16_supported()


def momentum(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=1e-4)


def tensors() -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (31, 3, SIDE, SIDE), dtype=torch.uint8, generator=draws), torch.arange(31) % 3


def fitted(monkeypatch: pytest.MonkeyPatch, model: nn.Module, dataset: Any, settings: Settings, **options: Any) -> Any:
    """Return the losses of a fit whose learning rate stays as it is."""
    monkeypatch.setattr("autotrain.engine.loop.TELL_S", 0.0)  # tell every step
    losses: list[float] = []

    def observe(event: FitEvent) -> None:
        if isinstance(event, StepDone):
            losses.append(event.loss)

    plan = Plan(settings=settings)
    options = {"schedule": "constant", "duration": f"{EPOCHS}ep", **options}
    autotrain.fit(model, dataset, plan=plan, progress=False, fit_observer=observe, **options)
    return losses


def stepped(job: Prepared, batch: Any) -> float:
    return float(job.step(*batch))


def in_pieces(job: Prepared, batch: Any) -> float:
    """A step of the user's own."""
    images, labels = batch
    with job.autocast():
        loss = functional.cross_entropy(job.model(images), labels)
    job.backward(loss)
    job.update()
    return loss.item()


def looped(
    model: nn.Module, dataset: Any, settings: Settings, step: Callable[[Prepared, Any], float], **options: Any
) -> list[float]:
    with autotrain.prepare(model, dataset, plan=Plan(settings=settings), **options) as job:
        return [step(job, batch) for _ in range(EPOCHS) for batch in job.loader]


def same_state(model: nn.Module, other: nn.Module) -> bool:
    state = other.state_dict()
    return all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("step", [stepped, in_pieces])
@pytest.mark.parametrize(
    "settings",
    [
        Settings(augmentation="crop"),
        Settings(augmentation="crop", workers=2, memory_format="channels_last", cache="ram"),
        Settings(augmentation="trivial", placement="device", optimizer_kernel="fused"),
    ],
    ids=["default", "loader", "device"],
)
def test_the_losses_are_those_of_fit(
    monkeypatch: pytest.MonkeyPatch, jpeg_folder: Path, tiny_model: Any, settings: Settings, step: Any
) -> None:
    options = {"batch_size": BATCH, "image_size": SIDE, "optimizer": momentum, "clip_norm": 0.5, "device": "cpu"}
    options |= {"augmentation": settings.augmentation, "validation": jpeg_folder}
    trained, model = tiny_model(), tiny_model()
    expected = fitted(monkeypatch, trained, jpeg_folder, settings, **options)
    assert looped(model, jpeg_folder, settings, step, **options) == expected
    assert len(expected) == EPOCHS * 6
    assert same_state(model, trained)


@pytest.mark.skipif(not BF16, reason="this CPU would emulate bf16")
@pytest.mark.parametrize("step", [stepped, in_pieces])
def test_so_they_are_in_mixed_precision(monkeypatch: pytest.MonkeyPatch, tiny_model: Any, step: Any) -> None:
    settings, options = Settings(precision="bf16"), {"batch_size": BATCH, "device": "cpu"}
    expected = fitted(monkeypatch, tiny_model(), tensors(), settings, **options)
    assert looped(tiny_model(), tensors(), settings, step, **options) == expected


def test_so_they_are_with_dropout_mixing_and_micro_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """With validation between the epochs, which draws nothing."""

    def network() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(3 * SIDE * SIDE, 3))

    options = {"batch_size": BATCH, "mixup": 0.4, "label_smoothing": 0.1, "device": "cpu", "validation": tensors()}
    settings = Settings(micro_batches=2)
    expected = fitted(monkeypatch, network(), tensors(), settings, **options)
    torch.rand(5)  # what the process draws before does not matter
    losses, scores = [], []
    with autotrain.prepare(network(), tensors(), plan=Plan(settings=settings), **options) as job:
        for _ in range(EPOCHS):
            losses += [stepped(job, batch) for batch in job.loader]
            scores.append(job.evaluate().loss)
    assert losses == expected
    assert len(set(scores)) == EPOCHS


def test_a_loss_scaler_scales_and_unscales(tiny_model: Any) -> None:
    """By powers of two, which change no bit; fp16, whose gradients need it, is for CUDA devices."""
    options: dict[str, Any] = {"batch_size": BATCH, "clip_norm": 0.5, "optimizer": momentum, "device": "cpu"}
    results = []
    for step in (stepped, in_pieces):
        for scaler in (None, torch.amp.GradScaler("cpu", init_scale=1024.0)):
            model = tiny_model()
            with autotrain.prepare(model, tensors(), plan=Plan(settings=Settings()), **options) as job:
                job._loop.rig.step.scaler = scaler
                losses = [step(job, batch) for batch in job.loader]
            results.append((losses, [entry.tolist() for entry in model.parameters()]))
    assert results.count(results[0]) == 4


def test_with_default_settings_they_are_those_of_a_loop_by_hand(tiny_model: Any) -> None:
    """The same batches, one of torch's schedulers, and an optimizer that the user made."""
    model, other = tiny_model(), tiny_model()
    task = Task(model=other, dataset=tensors(), batch_size=BATCH, device="cpu")
    workload = prepare_workload(task)
    transfer = Transfer(workload.device, mean=workload.mean, std=workload.std, image_size=workload.image_size)
    with InputSide(workload, Settings(), stop=EPOCHS * 5).loader as loader:
        batches = [transfer.finish(transfer.move(batch)) for batch in loader]
    optimizer, expected = momentum(other.parameters()), []
    scheduler = CosineAnnealingLR(optimizer, len(batches))
    other.train()
    for images, labels in batches:
        optimizer.zero_grad()
        loss = functional.cross_entropy(other(images), labels)
        loss.backward()
        optimizer.step()
        scheduler.step()
        expected.append(loss.item())

    own = momentum(model.parameters())
    losses = []
    with autotrain.prepare(
        model, tensors(), plan=Plan(settings=Settings()), batch_size=BATCH, optimizer=own, device="cpu"
    ) as job:
        assert job.optimizer is own
        scheduler = CosineAnnealingLR(job.optimizer, EPOCHS * len(job.loader))
        for _ in range(EPOCHS):
            for images, labels in job.loader:
                losses.append(job.step(images, labels).item())
                scheduler.step()
    assert losses == expected
    assert same_state(model, other)
    assert own.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]


@pytest.mark.parametrize("stop", [3, 5], ids=["within an epoch", "at its end"])
@pytest.mark.parametrize("settings", [Settings(), Settings(workers=1, memory_format="channels_last")], ids=str)
def test_a_training_goes_on_from_its_state(tmp_path: Path, settings: Settings, stop: int) -> None:
    """In another process, as far as the state goes: all of it passes through a file."""

    def network() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.3), nn.Flatten(), nn.LazyLinear(3))

    def made() -> nn.Module:
        model = network()
        model(torch.zeros(2, 3, SIDE, SIDE))
        return model

    options = {"plan": Plan(settings=settings), "batch_size": BATCH, "augmentation": "flip", "device": "cpu"}
    whole = made()
    with autotrain.prepare(whole, tensors(), **options) as job:
        expected = [stepped(job, batch) for _ in range(EPOCHS) for batch in job.loader]
    with autotrain.prepare(made(), tensors(), **options) as job:
        losses = []
        for batch in job.loader:
            losses.append(stepped(job, batch))
            if job.loader.step == stop:
                torch.save(job.state_dict(), tmp_path / "state.pt")
                break
    model = made()
    with autotrain.prepare(model, tensors(), **options) as job:
        job.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
        assert job.loader.epoch == stop // 5
        for _ in range(job.loader.epoch, EPOCHS):
            losses += [stepped(job, batch) for batch in job.loader]
    assert losses == expected
    assert same_state(model, whole)
