"""The legal space holds every setting that may be tried here, once, and nothing else."""

from dataclasses import replace

import pytest

from autotrain.errors import SettingsError
from autotrain.knobs.base import Effect
from autotrain.knobs.registry import canonical, effects, illegal, legal_space, without_each
from autotrain.settings import Settings


@pytest.fixture(params=[{}, {"augmentation": "crop"}, {"settings": Settings(workers=2, prefetch=4)}])
def any_workload(request, make_workload):
    return make_workload(**request.param)


def test_the_default_comes_first_and_all_are_legal_canonical_and_unique(any_workload, machine):
    space = legal_space(any_workload, machine)
    assert space.members[0] == space.default
    assert len(set(space.members)) == len(space.members) > 10
    for settings in space.members:
        assert illegal(settings, any_workload, machine) is None
        assert canonical(settings, any_workload) == settings


def test_the_default_is_the_users_own(make_workload, machine):
    own = Settings(workers=3, memory_format="channels_last")
    space = legal_space(make_workload(settings=own), machine)
    assert space.default == own
    assert 3 in space.choices["workers"].allowed


def test_the_policy_of_the_task_never_moves(any_workload, machine):
    space = legal_space(any_workload, machine)
    assert {entry.augmentation for entry in space.members} == {any_workload.augmentation}


def test_exact_moves_nothing_that_changes_the_rounding(any_workload, machine):
    space = legal_space(any_workload, machine, allow=Effect.EXACT)
    moved = set().union(*(entry.changes(space.default) for entry in space.members))
    assert "workers" in moved
    assert set().union(*(effects(entry, space.default) for entry in space.members)) == {Effect.EXACT}
    assert ("precision", "fp32") not in {(name, value) for name, value, _ in space.left_out}


def test_what_cannot_be_offered_is_named_with_its_reason(workload, machine):
    left_out = {(name, value): why for name, value, why in legal_space(workload, machine).left_out}
    assert "CUDA" in left_out["precision", "tf32"]
    assert "CUDA" in left_out["pinning", True]


def test_a_fixed_setting_holds_in_the_default_too(workload, machine):
    space = legal_space(workload, machine, fixed={"workers": 2, "memory_format": "channels_last"})
    assert space.default == Settings(workers=2, memory_format="channels_last")
    assert {(entry.workers, entry.memory_format) for entry in space.members} == {(2, "channels_last")}
    assert len(space.members) > 1


@pytest.mark.parametrize(
    ("fixed", "words"),
    [
        ({"precison": "bf16"}, "Did you mean 'precision'"),
        ({"precision": "fp8"}, "'fp8' is not one of fp32"),
        ({"workers": -1}, "at least 0"),
        ({"workers": True}, "not a whole number"),
        ({"prefetch": 0}, "at least 1"),
        ({"pinning": 1}, "not one of"),
    ],
)
def test_an_unknown_setting_or_value_is_refused(workload, machine, fixed, words):
    with pytest.raises(SettingsError, match=words):
        legal_space(workload, machine, fixed=fixed)


def test_each_change_can_be_taken_away(workload):
    chosen = Settings(precision="bf16", workers=2, prefetch=4)
    variants = without_each(chosen, Settings(), workload)
    assert variants == {
        "precision": replace(chosen, precision="fp32"),
        "workers": Settings(precision="bf16"),  # without workers there is nothing to prefetch
        "prefetch": replace(chosen, prefetch=2),
    }
    assert without_each(Settings(), Settings(), workload) == {}
