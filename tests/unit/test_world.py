"""The world from torchrun's variables."""

import pytest

from autotrain.errors import UnsupportedError
from autotrain.world import World, world

TORCHRUN = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}


def test_without_variables_there_is_one_process():
    assert world({}) == World() == World(rank=0, world_size=1, local_rank=0, local_world_size=1)
    assert not world({}).is_distributed


def test_torchruns_variables():
    found = world(TORCHRUN)
    assert found == World(rank=5, world_size=8, local_rank=1, local_world_size=4)
    assert found.is_distributed


def test_a_scheduler_that_sets_two_of_them_for_one_process():
    assert world({"RANK": "0", "WORLD_SIZE": "1"}) == World()


@pytest.mark.parametrize(
    "change",
    [
        {"RANK": "five"},
        {"RANK": "-1"},
        {"RANK": "8"},
        {"RANK": ""},
        {"WORLD_SIZE": "0"},
        {"WORLD_SIZE": "2.0"},
        {"LOCAL_RANK": "4"},
        {"LOCAL_WORLD_SIZE": "9"},
    ],
)
def test_a_wrong_value_is_named(change):
    (name,) = change
    with pytest.raises(UnsupportedError, match=rf"environment: {name}='"):
        world({**TORCHRUN, **change})


@pytest.mark.parametrize("name", list(TORCHRUN))
def test_a_missing_variable_is_named(name):
    with pytest.raises(UnsupportedError, match=rf"environment: {name} is not set beside"):
        world({key: value for key, value in TORCHRUN.items() if key != name})


@pytest.mark.parametrize(("usable", "ranks", "budget"), [(8, 1, 8), (8, 4, 2), (7, 4, 1), (2, 4, 1)])
def test_cores_are_shared_by_the_machines_ranks(usable, ranks, budget):
    assert World(local_world_size=ranks).cpu_budget(usable) == budget
