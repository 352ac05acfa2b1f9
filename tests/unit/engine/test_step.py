"""One training step: loss, backward pass, clipping, scaling, update."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from autotrain.engine.step import Step
from autotrain.errors import TaskError
from autotrain.preparation import prepare_workload
from autotrain.task import Task
from autotrain.workload import Workload

CONTENT = (torch.linspace(-1, 1, 6 * 3 * 8 * 8).view(6, 3, 8, 8), torch.arange(6) % 3)


def workload_of(model: nn.Module, **options: Any) -> Workload:
    images = torch.zeros(8, 3, 8, 8, dtype=torch.uint8)
    labels = torch.arange(8) % 3
    return prepare_workload(Task(model=model, dataset=(images, labels), batch_size=4, device="cpu", **options))


def step_of(model: nn.Module, *, lr: float = 0.1, options: dict[str, Any] | None = None, **more: Any) -> Step:
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    return Step(workload_of(model, **(options or {})), model, optimizer, **more)


def test_a_step_descends_and_clears_gradients(tiny_model: Callable[..., nn.Module]) -> None:
    model, again = tiny_model(), tiny_model()
    loss = step_of(model)(CONTENT)
    expected = functional.cross_entropy(again(CONTENT[0]), CONTENT[1])
    expected.backward()
    assert torch.equal(loss, expected.detach())
    assert not loss.requires_grad
    assert loss.shape == ()
    for entry, other in zip(model.parameters(), again.parameters(), strict=True):
        assert other.grad is not None
        assert torch.allclose(entry, other - 0.1 * other.grad, atol=1e-7)
        assert entry.grad is None


class Scaler:
    """Stands in for torch's loss scaler and keeps what it is asked."""

    def __init__(self, *, skips: bool = False) -> None:
        self.calls: list[str] = []
        self.skips = skips

    def scale(self, loss: torch.Tensor) -> torch.Tensor:
        self.calls.append("scale")
        return loss * 1024.0

    def unscale_(self, optimizer: torch.optim.Optimizer) -> None:
        self.calls.append("unscale")
        self._divide(optimizer)

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        if "unscale" not in self.calls:
            self._divide(optimizer)
        self.calls.append("step")
        if not self.skips:
            optimizer.step()

    def update(self) -> None:
        self.calls.append("update")

    def _divide(self, optimizer: torch.optim.Optimizer) -> None:
        for group in optimizer.param_groups:
            for entry in group["params"]:
                entry.grad.div_(1024.0)


@pytest.mark.parametrize("clip_norm", [None, 0.01])
def test_a_loss_scaler_changes_the_road_and_not_the_place(
    tiny_model: Callable[..., nn.Module], clip_norm: float | None
) -> None:
    """Gradients are unscaled before they are clipped; the loss that is told is the unscaled one."""
    model, again, scaler = tiny_model(), tiny_model(), Scaler()
    loss = step_of(model, scaler=scaler, clip_norm=clip_norm)(CONTENT)
    expected = step_of(again, clip_norm=clip_norm)(CONTENT)
    assert scaler.calls == ["scale", *(["unscale"] if clip_norm else []), "step", "update"]
    assert torch.equal(loss, expected)
    for entry, other in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.allclose(entry, other, atol=1e-7)
        assert entry.grad is None


def test_a_scaler_that_skips_leaves_the_weights(tiny_model: Callable[..., nn.Module]) -> None:
    model, again = tiny_model(), tiny_model()
    step_of(model, scaler=Scaler(skips=True))(CONTENT)
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), again.parameters(), strict=True))


def test_torchs_own_scaler_works_on_a_cpu(tiny_model: Callable[..., nn.Module]) -> None:
    model, again = tiny_model(), tiny_model()
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    assert torch.equal(step_of(model, scaler=scaler)(CONTENT), step_of(again)(CONTENT))
    for entry, other in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.allclose(entry, other, atol=1e-6)


@pytest.mark.parametrize("limit", [1e-3, 1e9])
def test_the_gradients_norm_is_clipped(tiny_model: Callable[..., nn.Module], limit: float) -> None:
    model, free = tiny_model(), tiny_model()
    start = [entry.detach().clone() for entry in model.parameters()]

    def moved(live: nn.Module) -> float:
        gaps = [(entry - before).detach().flatten() for entry, before in zip(live.parameters(), start, strict=True)]
        return float(torch.cat(gaps).norm())

    step_of(model, lr=1.0, clip_norm=limit)(CONTENT)
    step_of(free, lr=1.0)(CONTENT)
    assert moved(model) == pytest.approx(min(limit, moved(free)), rel=1e-2)


def head_only(tiny_model: Callable[..., nn.Module], *, frozen: bool) -> list[torch.Tensor]:
    """Train the last layer alone for a few steps; return its weights after each of them."""
    model = tiny_model()
    model[:-1].requires_grad_(not frozen)
    optimizer = torch.optim.SGD(model[-1].parameters(), lr=1.0)
    step = Step(workload_of(model), model, optimizer, clip_norm=1e-3)
    seen = []
    for _ in range(4):
        fresh = copy.deepcopy(model)
        fresh.zero_grad(set_to_none=True)
        functional.cross_entropy(fresh(CONTENT[0]), CONTENT[1]).backward()
        step(CONTENT)
        assert all(entry.grad is None for entry in model[-1].parameters())
        if not frozen:  # another optimizer may take those now
            assert torch.allclose(model[0].weight.grad, fresh[0].weight.grad)
        seen.append(model[-1].weight.detach().clone())
    return seen


def test_gradients_that_no_optimizer_takes_neither_add_up_nor_count(tiny_model: Callable[..., nn.Module]) -> None:
    for one, other in zip(head_only(tiny_model, frozen=False), head_only(tiny_model, frozen=True), strict=True):
        assert torch.equal(one, other)


def test_what_an_optimizer_has_beside_the_model_is_clipped_and_cleared(tiny_model: Callable[..., nn.Module]) -> None:
    model, scale = tiny_model(), nn.Parameter(torch.ones(()))

    def loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(outputs * 1e-4, labels) + 100.0 * scale

    optimizer = torch.optim.SGD([*model.parameters(), scale], lr=1.0)
    Step(workload_of(model, loss=loss), model, optimizer, clip_norm=0.5)(CONTENT)
    assert scale.item() == pytest.approx(0.5, rel=1e-3)
    assert scale.grad is None


def test_a_step_can_be_repeated_until_its_update_begins(tiny_model: Callable[..., nn.Module]) -> None:
    """And anew once it is over."""
    model = tiny_model()
    step = step_of(model)
    seen: list[tuple[bool, bool]] = []
    model.register_forward_hook(lambda *given: seen.append((step.repeatable, step.updating)))
    step.optimizer.register_step_pre_hook(lambda *given: seen.append((step.repeatable, step.updating)))
    step(CONTENT)
    assert seen == [(True, False), (False, True)]
    assert (step.repeatable, step.updating) == (True, False)


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (lambda outputs, labels: functional.cross_entropy(outputs, labels, reduction="none"), "shape (6,)"),
        (lambda outputs, labels: functional.cross_entropy(outputs, labels).item(), "got float"),
        (lambda outputs, labels: None, "got NoneType"),
        (lambda outputs, labels: functional.cross_entropy(outputs.detach(), labels), "does not depend on the model"),
    ],
)
def test_a_loss_that_is_no_number_is_refused(tiny_model: Callable[..., nn.Module], loss: Any, words: str) -> None:
    with pytest.raises(TaskError) as caught:
        step_of(tiny_model(), options={"loss": loss})(CONTENT)
    assert words in str(caught.value)


def test_a_loss_of_shape_one_is_a_number(tiny_model: Callable[..., nn.Module]) -> None:
    def loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(outputs, labels).reshape(1)

    assert step_of(tiny_model(), options={"loss": loss})(CONTENT).shape == ()


def test_contexts_are_entered_around_forward_and_loss_only(tiny_model: Callable[..., nn.Module]) -> None:
    events: list[str] = []

    def context(name: str) -> Callable[[], Any]:
        @contextmanager
        def enter() -> Iterator[None]:
            events.append(f"+{name}")
            yield
            events.append(f"-{name}")

        return enter

    def loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        events.append("loss")
        outputs.register_hook(lambda gradient: events.append("backward"))
        return functional.cross_entropy(outputs, labels)

    step_of(tiny_model(), options={"loss": loss}, contexts=[context("a"), context("b")])(CONTENT)
    assert events == ["+a", "+b", "loss", "-b", "-a", "backward"]


def test_a_step_of_the_users_is_given_the_batch_as_it_is(tiny_model: Callable[..., nn.Module]) -> None:
    seen = []

    def step(model: nn.Module, batch: Any) -> torch.Tensor:
        seen.append(batch)
        loss: torch.Tensor = model(batch[0]).square().mean()
        return loss

    step_of(tiny_model(), options={"step": step})(CONTENT)
    assert seen == [CONTENT]
