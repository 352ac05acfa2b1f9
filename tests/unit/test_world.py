"""The world from torchrun's variables."""

import pytest

from autotrain import world as module
from autotrain.errors import UnsupportedError
from autotrain.world import World, share_cores, share_of, world

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


FIRST, SECOND, BOTH = frozenset(range(4)), frozenset(range(4, 8)), frozenset(range(8))


@pytest.mark.parametrize(
    ("own", "masks", "quota", "share"),
    [
        (FIRST, [FIRST, SECOND], None, 4),  # bound to cores of their own: nothing to divide
        (BOTH, [BOTH, BOTH], None, 4),
        (FIRST, [FIRST, FIRST, SECOND, SECOND], None, 2),
        (BOTH, [BOTH, FIRST], None, 6),
        (FIRST, [FIRST] * 8, None, 1),
        (FIRST, [FIRST, SECOND], 5.0, 2),  # the control group grants less than the cores
        (FIRST, [FIRST, None], None, None),
        (None, [None, None], None, None),
    ],
)
def test_cores_are_divided_among_the_ranks_that_may_run_on_them(own, masks, quota, share):
    assert share_of(own, masks, quota=quota) == share


def test_what_ranks_have_told_each_other_of_their_cores_counts(monkeypatch):
    monkeypatch.setattr(module, "_share", None)
    assert world(TORCHRUN).cpu_budget(4) == 1
    share_cores(4)
    assert world(TORCHRUN).cpu_budget(4) == 4
    assert world(TORCHRUN).cpu_budget(2) == 2
    assert world({}) == World()
