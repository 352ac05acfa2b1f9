"""Which blocks of a model are gathered by themselves, and when a model has to lie in parts."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from autotrain.engine import sharded
from autotrain.engine.sharded import in_parts, units, whole

pytestmark = pytest.mark.usefixtures("own_draws")


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(10, 10)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharded, "UNIT", 100)


def test_units_are_large_children_of_containers_and_no_containers() -> None:
    stage = nn.Sequential(Block(), nn.ReLU(), Block())
    listed = nn.ModuleList([nn.Linear(10, 10), nn.Linear(2, 2)])
    model = nn.Sequential(nn.Conv2d(3, 2, 1), stage, listed, Block())
    assert units(model) == [stage[0], stage[2], listed[0], model[3]]


def test_what_no_container_holds_belongs_to_the_whole() -> None:
    assert units(Block()) == []


def test_shared_weights_belong_to_the_whole() -> None:
    model = nn.Sequential(nn.Linear(10, 10), nn.Linear(10, 10))
    assert len(units(model)) == 2
    model[1].weight = model[0].weight
    assert units(model) == []


def test_whole_tensors_stay_as_they_are() -> None:
    state = {"weight": torch.ones(2), "nested": [{"count": 3}, (torch.zeros(1),)]}
    kept = whole(state)
    assert kept["weight"] is state["weight"]
    assert kept["nested"][0] == {"count": 3}
    assert kept["nested"][1][0] is state["nested"][1][0]
    assert in_parts(state["weight"], torch.zeros(2)) is state["weight"]


def test_dicts_keep_their_kind() -> None:
    state = nn.Linear(2, 2).state_dict()
    assert type(whole(state)) is type(state)
    assert list(whole(state)) == list(state)
