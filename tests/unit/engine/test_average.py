"""The moving average is torch's, but for whole numbers, which an average of two would damage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from autotrain.engine.average import Average
from autotrain.engine.state import bring_back_average

DECAY = 0.9


class Tabled(nn.Module):
    """A network with what real ones have beside weights: a table of indices, a mask, shared weights, halves."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)
        self.again = self.body[-1]
        self.halves = nn.Parameter(torch.linspace(-1, 1, 5, dtype=torch.bfloat16))
        self.register_buffer("relative_position_index", torch.arange(169).view(13, 13))
        self.register_buffer("mask", torch.tensor([True, False]))
        self.register_buffer("hidden", torch.zeros(3), persistent=False)
        self.register_buffer("missing", None)


def train_a_step(model: nn.Module, step: int) -> None:
    """Move everything that training moves."""
    draws = torch.Generator().manual_seed(step)
    with torch.no_grad():
        for entry in (*model.parameters(), *model.buffers()):
            if entry.is_floating_point():
                entry += torch.randn(entry.shape, generator=draws).to(entry.dtype)
    model.body[1].num_batches_tracked += 1


@pytest.fixture
def model(tiny_model: Callable[..., nn.Module]) -> Any:
    return Tabled(tiny_model())


def torchs(model: nn.Module) -> AveragedModel:
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(DECAY), use_buffers=True)


def test_it_is_torchs_average_of_all_that_is_no_whole_number(model: Any) -> None:
    average, expected = Average(model, DECAY), torchs(model)
    for step in range(5):
        train_a_step(model, step)
        average.update_parameters(model)
        expected.update_parameters(model)
    found, wanted = average.state_dict(), expected.state_dict()
    assert list(found) == list(wanted)
    for name, value in found.items():
        if value.is_floating_point():
            torch.testing.assert_close(value, wanted[name])
    torch.testing.assert_close(average.module.hidden, expected.module.hidden)
    assert int(average.n_averaged) == 5


def test_the_first_update_is_the_model_itself(model: Any) -> None:
    average = Average(model, DECAY)
    train_a_step(model, 0)
    average.update_parameters(model)
    live = model.state_dict()
    assert all(torch.equal(value, live[name]) for name, value in average.module.state_dict().items())


def test_whole_numbers_stay_whole(model: Any) -> None:
    """Torch's average takes 0.9 * 7 + 0.1 * 7 for 6."""
    average, damaged = Average(model, DECAY), torchs(model)
    for step in range(3):
        train_a_step(model, step)
        average.update_parameters(model)
        damaged.update_parameters(model)
    assert not torch.equal(damaged.module.relative_position_index, model.relative_position_index)
    assert torch.equal(average.module.relative_position_index, model.relative_position_index)
    assert torch.equal(average.module.mask, model.mask)
    assert average.module.body[1].num_batches_tracked == 3
    model.mask = torch.tensor([False, True])
    average.update_parameters(model)
    assert torch.equal(average.module.mask, model.mask)


def test_it_is_a_copy_of_its_own(model: Any) -> None:
    """Weights that have several names have them there too, those that are not trained are not there."""
    average = Average(model, DECAY)
    model.body(torch.zeros(2, 3, 16, 16)).sum().backward()
    for step in range(2):
        train_a_step(model, step)
        average.update_parameters(model)
    own, live = list(average.module.parameters()), list(model.parameters())
    assert average.module.again is average.module.body[-1]
    assert [entry.requires_grad for entry in own] == [entry.requires_grad for entry in live]
    assert all(entry.is_leaf and entry.grad is None for entry in own)
    assert {entry.data_ptr() for entry in own}.isdisjoint(entry.data_ptr() for entry in live)


def test_it_goes_on_from_what_torchs_wrote(model: Any) -> None:
    """And what that had damaged is whole after the next update."""
    average, written = Average(model, DECAY), torchs(model)
    for step in range(3):
        train_a_step(model, step)
        written.update_parameters(model)
    bring_back_average(average, written.state_dict(), where="here")
    assert int(average.n_averaged) == 3
    train_a_step(model, 3)
    average.update_parameters(model)
    written.update_parameters(model)
    for own, theirs in zip(average.module.parameters(), written.module.parameters(), strict=True):
        torch.testing.assert_close(own, theirs)
    assert torch.equal(average.module.relative_position_index, model.relative_position_index)
    written.load_state_dict(average.state_dict())


def test_a_buffer_that_the_model_gets_later_is_nobodys_average(model: Any) -> None:
    average = Average(model, DECAY)
    model.body.register_buffer("cached", torch.ones(4))
    train_a_step(model, 0)
    average.update_parameters(model)
    average.update_parameters(model)
    assert torch.equal(average.module.halves, model.halves)
    assert torch.equal(average.module.relative_position_index, model.relative_position_index)


def test_a_mask_of_infinities_stays_one(tiny_model: Callable[..., nn.Module]) -> None:
    model = tiny_model()
    model.register_buffer("attention", torch.tensor([0.0, float("-inf")]))
    average = Average(model, DECAY)
    for step in range(3):
        with torch.no_grad():
            model[0].weight += step
        average.update_parameters(model)
    assert torch.equal(average.module.attention, model.attention)
