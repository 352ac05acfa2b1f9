"""A lent model comes back as it was, and several leases of one model train side by side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from autotrain.engine.lease import ModelLease, OptimizerLease, lay_out_state, move_state, restore_strides

CPU = torch.device("cpu")
IMAGES = torch.linspace(-1, 1, 4 * 3 * 8 * 8).view(4, 3, 8, 8)


def step(model: nn.Module, optimizer: torch.optim.Optimizer, images: torch.Tensor = IMAGES) -> float:
    optimizer.zero_grad(set_to_none=True)
    loss = model(images).square().sum()
    loss.backward()
    optimizer.step()
    return loss.item()


def momentum(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)


def copy_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in (*model.named_parameters(), *model.named_buffers())}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def test_two_leases_train_as_if_each_were_alone(tiny_model: Callable[..., nn.Module]) -> None:
    """Each goes on where it stopped: weights, batch statistics, momentum and learning rate of its own."""

    def alone(lr: float, images: torch.Tensor) -> list[float]:
        model = tiny_model()
        optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
        return [step(model, optimizer, images) for _ in range(4)]

    model = tiny_model()
    optimizer = momentum(model)
    before = copy_of(model)
    leases = [(ModelLease(model, CPU), OptimizerLease(optimizer, CPU)) for _ in range(2)]
    losses: list[list[float]] = [[], []]
    for turn in (0, 1, 1, 0, 0, 1, 0, 1):
        lent, lent_optimizer = leases[turn]
        lent.lend()
        lent_optimizer.lend()
        optimizer.param_groups[0]["lr"] = (0.01, 0.02)[turn]
        losses[turn].append(step(model, optimizer, IMAGES * (turn + 1)))
        lent_optimizer.take_back()
        lent.take_back()
        assert same(copy_of(model), before)
        assert not optimizer.state
        assert optimizer.param_groups[0]["lr"] == 0.01
    assert losses == [alone(0.01, IMAGES), alone(0.02, IMAGES * 2)]


def test_gradients_are_kept_apart(tiny_model: Callable[..., nn.Module]) -> None:
    model = tiny_model()
    model(IMAGES).sum().backward()
    theirs = [entry.grad for entry in model.parameters()]
    values = [entry.grad.clone() for entry in model.parameters() if entry.grad is not None]
    lease = ModelLease(model, CPU)
    lease.lend()
    assert all(entry.grad is None for entry in model.parameters())
    model(IMAGES).sum().backward()
    own = [entry.grad for entry in model.parameters()]
    lease.take_back()
    assert all(entry.grad is gradient for entry, gradient in zip(model.parameters(), theirs, strict=True))
    assert all(torch.equal(entry.grad, value) for entry, value in zip(model.parameters(), values, strict=True))
    lease.lend()
    assert all(entry.grad is gradient for entry, gradient in zip(model.parameters(), own, strict=True))
    lease.take_back()


class Tied(nn.Module):
    """Two layers with one weight, and one buffer under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
        self.second.weight = self.first.weight
        self.register_buffer("total", torch.zeros(3))
        self.register_buffer("again", self.total)
        self.register_buffer("hidden", torch.ones(2), persistent=False)
        self.register_buffer("absent", None)
        self.steps = 0
        self.log: list[int] = []
        self.counts = {"forward": 0}

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        values = images.mean((2, 3))
        self.total.add_(values.detach().sum(0))
        self.hidden.mul_(2)
        self.absent = values.detach()[0]
        self.steps += 1
        self.log.append(self.steps)
        self.counts["forward"] += 1
        self.newest = values
        outputs: torch.Tensor = self.second(self.first(values))
        return outputs


@pytest.fixture
def tied() -> Tied:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return Tied()


def test_tied_weights_and_buffers_stay_tied(tied: Tied) -> None:
    weight, total = tied.first.weight, tied.total
    lease = ModelLease(tied, CPU)
    lease.lend()
    assert tied.first.weight is tied.second.weight is weight
    assert tied.total is tied.again is not total
    step(tied, momentum(tied))
    assert torch.equal(tied.total, tied.again)
    lease.take_back()
    assert tied.first.weight is tied.second.weight is weight
    assert tied.total is tied.again is total


def test_what_a_forward_pass_keeps_in_the_model_goes_and_comes(tied: Tied) -> None:
    log, counts, hidden = tied.log, tied.counts, tied.hidden
    lease = ModelLease(tied, CPU)
    for turn in (1, 2, 3):
        lease.lend()
        step(tied, momentum(tied))
        assert (tied.steps, tied.log, tied.counts["forward"]) == (turn, list(range(1, turn + 1)), turn)
        assert tied.hidden.tolist() == [2.0**turn] * 2
        assert tied.absent is not None
        lease.take_back()
        assert (tied.steps, tied.absent) == (0, None)
        assert tied.log is log == []
        assert tied.counts is counts == {"forward": 0}
        assert tied.hidden is hidden
        assert hidden.tolist() == [1.0, 1.0]
        assert not hasattr(tied, "newest")
        assert "hidden" not in tied.state_dict()


class Growing(nn.Module):
    """Registers a buffer in its first forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 2, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if "mask" not in self._buffers:
            self.register_buffer("mask", torch.ones(1))
        outputs: torch.Tensor = self.layer(images) * self.mask
        return outputs


def test_a_buffer_that_a_forward_pass_makes_is_gone_afterwards(own_draws: None) -> None:
    model = Growing()
    lease = ModelLease(model, CPU)
    for _ in range(2):
        lease.lend()
        model(IMAGES)
        lease.take_back()
        assert list(model.state_dict()) == ["layer.weight", "layer.bias"]


def test_modes_come_back_module_by_module(tiny_model: Callable[..., nn.Module]) -> None:
    model = tiny_model().train()
    model[1].eval()
    lease = ModelLease(model, CPU)
    lease.lend()
    assert all(module.training for module in model.modules())
    model[4].eval()  # what is lent keeps modes of its own
    lease.take_back()
    assert [module.training for module in model] == [index != 1 for index in range(len(model))]
    model.eval()
    lease.lend()
    assert [module.training for module in model] == [index != 4 for index in range(len(model))]
    lease.take_back()
    assert not any(module.training for module in model.modules())


def test_memory_layout_of_the_lent_does_not_reach_the_users(tiny_model: Callable[..., nn.Module]) -> None:
    model = tiny_model()
    weight = model[0].weight
    before = weight.data_ptr(), weight.stride()
    lease = ModelLease(model, CPU)
    lease.lend()
    model.to(memory_format=torch.channels_last)
    assert model[0].weight.stride() != before[1]
    lease.take_back()
    assert model[0].weight is weight
    assert (weight.data_ptr(), weight.stride()) == before
    lease.lend()
    assert weight.stride() != before[1]
    lease.take_back()


def test_ending_a_lease_twice_is_harmless(tiny_model: Callable[..., nn.Module]) -> None:
    model = tiny_model()
    before = copy_of(model)
    lease = ModelLease(model, CPU)
    lease.end()
    lease.lend()
    assert lease.lent
    step(model, momentum(model))
    lease.end()
    lease.end()
    assert not lease.lent
    assert same(copy_of(model), before)


@pytest.mark.parametrize(
    "make",
    [
        lambda entries: torch.optim.SGD(entries, lr=0.1, momentum=0.9),
        lambda entries: torch.optim.AdamW(entries, lr=torch.tensor(0.01)),
        lambda entries: torch.optim.Adagrad(entries, lr=0.1),
    ],
    ids=["SGD", "AdamW with a tensor as rate", "Adagrad"],
)
def test_an_optimizers_state_comes_back(tiny_model: Callable[..., nn.Module], make: Any) -> None:
    model = tiny_model()
    optimizer = make(model.parameters())
    step(model, optimizer)
    state = optimizer.state
    tensors = {
        (id(key), name): (value, value.clone())
        for key, entry in state.items()
        for name, value in entry.items()
        if isinstance(value, torch.Tensor)
    }
    options = {name: value for name, value in optimizer.param_groups[0].items() if name != "params"}
    lease = OptimizerLease(optimizer, CPU)
    lease.lend()
    assert optimizer.state is not state
    optimizer.param_groups[0].update(lr=7.0, extra="mine")
    step(model, optimizer)
    lease.take_back()
    assert optimizer.state is state
    assert {name: value for name, value in optimizer.param_groups[0].items() if name != "params"} == options
    for key, entry in state.items():
        for name, value in entry.items():
            if isinstance(value, torch.Tensor):
                kept, values = tensors[id(key), name]
                assert value is kept
                assert torch.equal(value, values)
    lease.lend()
    assert (optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["extra"]) == (7.0, "mine")
    lease.take_back()


def test_state_moves_to_where_the_weights_are(tiny_model: Callable[..., nn.Module]) -> None:
    """To the meta device here, which every machine has; step counts stay in host memory."""
    model = tiny_model()
    optimizer = torch.optim.AdamW(model.parameters())
    step(model, optimizer)
    lease = OptimizerLease(optimizer, torch.device("meta"))
    assert {entry["exp_avg"].device.type for entry in optimizer.state.values()} == {"cpu"}
    lease.lend()
    assert {entry["exp_avg"].device.type for entry in optimizer.state.values()} == {"meta"}
    assert {entry["step"].device.type for entry in optimizer.state.values()} == {"cpu"}
    lease.take_back()
    assert {entry["exp_avg"].device.type for entry in optimizer.state.values()} == {"cpu"}
    move_state(optimizer, torch.device("meta"))
    assert {entry["exp_avg_sq"].device.type for entry in optimizer.state.values()} == {"meta"}


def test_strides_are_restored_with_the_values_of_then(tiny_model: Callable[..., nn.Module]) -> None:
    model = tiny_model()
    with torch.no_grad():
        model[3].weight.data = model[3].weight.data.to(memory_format=torch.channels_last)
    before = {name: value.stride() for name, value in model.state_dict().items()}
    pointer = model[1].weight.data_ptr()
    restore = restore_strides(model)
    model.to(memory_format=torch.channels_last)
    step(model, momentum(model))
    trained = copy_of(model)
    restore()
    assert {name: value.stride() for name, value in model.state_dict().items()} == before
    assert same(copy_of(model), trained)
    assert model[1].weight.data_ptr() == pointer  # what was laid out right is not copied


@pytest.mark.usefixtures("own_draws")
def test_the_optimizers_state_is_laid_out_as_its_parameters_are() -> None:
    model = nn.Conv2d(4, 4, 3)
    restore = restore_strides(model)
    model.to(memory_format=torch.channels_last)
    optimizer = momentum(model)
    step(model, optimizer, torch.ones(2, 4, 8, 8))
    state = optimizer.state[model.weight]
    before = state["momentum_buffer"].clone()
    assert state["momentum_buffer"].stride() != (36, 9, 3, 1)
    restore()
    lay_out_state(optimizer)
    assert state["momentum_buffer"].stride() == model.weight.stride() == (36, 9, 3, 1)
    assert torch.equal(state["momentum_buffer"], before)
