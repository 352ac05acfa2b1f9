"""The conformance suite that every sampler passes, and what each one promises beyond it."""

import itertools
import math

import pytest

from autotrain.errors import SettingsError
from autotrain.knobs.base import Choices
from autotrain.knobs.registry import Space
from autotrain.search.samplers import SAMPLERS, STRATEGIES
from autotrain.search.study import Study
from autotrain.settings import Settings

NAMES = [entry.name for entry in STRATEGIES]
CHOICES = {"precision": ("fp32", "bf16"), "memory_format": ("contiguous", "channels_last"), "workers": (0, 2)}
MEMBERS = tuple(
    Settings(precision=precision, memory_format=layout, workers=workers, prefetch=prefetch)
    for precision, layout, (workers, prefetch) in itertools.product(
        CHOICES["precision"], CHOICES["memory_format"], ((0, 2), (2, 2), (2, 4))
    )
)
"""Twelve of the sixteen combinations: without workers the prefetch is folded."""


def space_of(members):
    values = [entry.as_dict() for entry in members]
    choices = {name: Choices(allowed=tuple(dict.fromkeys(row[name] for row in values))) for name in values[0]}
    return Space(default=members[0], choices=choices, members=members)


SPACE = space_of(MEMBERS)


def seconds(settings):
    """Return what a training takes: effects that multiply, and one interaction."""
    half = settings.precision == "bf16"
    effects = 0.4 * half + 0.1 * (settings.memory_format == "channels_last") * (1 if half else -1)
    return 1000 * math.exp(-effects - 0.15 * settings.workers - 0.01 * settings.prefetch)


def make(name, *, seed=0, path=None, space=SPACE):
    return Study(space, seed=seed, path=path, name="job", sampler=name)


def search(study, count):
    """Ask one at a time and tell at once; return what was suggested."""
    found = []
    for _ in range(count):
        trial, settings = study.ask()
        study.tell(trial, seconds(settings))
        found.append(settings)
    return found


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


def test_every_member_is_suggested_once_and_nothing_else(name):
    found = search(make(name), len(MEMBERS))
    assert sorted(found, key=MEMBERS.index) == list(MEMBERS)


def test_when_all_are_known_a_batch_is_empty_and_a_single_one_comes_again(name):
    study = make(name)
    search(study, len(MEMBERS))
    assert study.ask_batch(3) == []
    assert study.ask()[1] in MEMBERS


def test_the_seed_decides(name):
    first = search(make(name, seed=3), 9)
    assert search(make(name, seed=3), 9) == first
    if name != "exhaustive":
        assert search(make(name, seed=4), 9) != first


def test_a_study_gone_on_with_suggests_what_it_would_have(name, tmp_path):
    whole = search(make(name, seed=1), 10)
    path = tmp_path / "study.journal"
    parts = search(make(name, seed=1, path=path), 7)
    parts += search(make(name, seed=1, path=path), 3)
    assert parts == whole


def test_failed_and_pruned_trials_are_survived_and_not_suggested_again(name):
    study, ended = make(name), set()
    for number in range(9):
        trial, settings = study.ask()
        if number % 3 == 0:
            study.fail(trial, "out of memory")
        elif number % 3 == 1:
            study.prune(trial, "hopeless")
        else:
            study.tell(trial, seconds(settings))
        assert settings not in ended
        ended.add(settings)
    study = make(name)
    for _ in range(len(MEMBERS)):
        study.fail(study.ask()[0], "out of memory")
    assert study.ask_batch(1) == []


def test_what_is_enqueued_comes_first_and_in_order(name):
    study = make(name)
    known = search(study, 6)
    wanted = [entry for entry in reversed(MEMBERS) if entry not in known][:3]
    for settings in wanted:
        study.enqueue(settings)
    assert [settings for _, settings in study.ask_batch(3)] == wanted


def test_a_batch_differs_within_itself_and_from_what_is_known(name):
    study = make(name)
    study.add_known(MEMBERS[0], seconds(MEMBERS[0]))
    first = study.ask_batch(4)
    for trial, settings in first:
        study.tell(trial, seconds(settings))
    second = study.ask_batch(4)
    asked = [settings for _, settings in (*first, *second)]
    assert len(set(asked)) == len(asked) == 8
    assert MEMBERS[0] not in asked


def test_what_is_not_accepted_is_never_returned(name):
    study = make(name)

    def accept(settings):
        return "hopeless" if settings.precision == "fp32" else None

    asked = []
    while batch := study.ask_batch(4, accept=accept):
        for trial, settings in batch:
            study.tell(trial, seconds(settings))
            asked.append(settings)
    assert sorted(asked, key=MEMBERS.index) == [entry for entry in MEMBERS if entry.precision == "bf16"]


def test_restricting_takes_effect_at_once(name):
    study = make(name)
    search(study, 2)
    study.restrict(MEMBERS[-4:])
    asked = [settings for _, settings in study.ask_batch(len(MEMBERS))]
    assert asked
    assert set(asked) <= set(MEMBERS[-4:])


def test_exhaustive_keeps_the_order_given():
    study = make("exhaustive")
    order = [*MEMBERS[3:8], *MEMBERS[:3]]
    study.restrict(order)
    assert search(study, len(order)) == order


WIDE = tuple(
    Settings(precision=precision, memory_format=layout, threads=threads, workers=workers, pinning=pinning)
    for precision, layout, threads, workers, pinning in itertools.product(
        ("fp32", "bf16", "fp16"), ("contiguous", "channels_last"), (0, 1, 2, 3), (0, 2, 4), (False, True)
    )
)


@pytest.mark.parametrize(("name", "most"), [("linear", 20), ("tpe", 60)])
def test_models_find_the_best_of_144_sooner_than_chance(name, most):
    """Drawing at random needs 72 on average."""

    def taken(settings):
        return (
            seconds(settings) * (1.2 if settings.threads == 1 else 1.0) * (1.1 if settings.precision == "fp16" else 1)
        )

    best = min(taken(entry) for entry in WIDE)
    needed = []
    for seed in range(3):
        study = make(name, seed=seed, space=space_of(WIDE))
        needed.append(0)
        settings = WIDE[0]
        while taken(settings) > best:
            trial, settings = study.ask()
            study.tell(trial, taken(settings))
            needed[-1] += 1
    assert sum(needed) / 3 <= most


def test_the_linear_model_believes_a_prediction_that_fits():
    study = make("linear", space=space_of(WIDE))
    study.restrict(WIDE, expected={entry: seconds(entry) for entry in WIDE})
    study.add_known(WIDE[0], seconds(WIDE[0]))
    found = search(study, 8)
    assert min(seconds(entry) for entry in found) == min(seconds(entry) for entry in WIDE)


def test_auto_tries_all_of_few_in_order_and_models_many():
    study = make("auto")
    study.restrict(MEMBERS, affordable=len(MEMBERS))
    assert search(study, len(MEMBERS)) == list(MEMBERS)
    study = make("auto")
    study.restrict(MEMBERS, affordable=len(MEMBERS) - 1)
    assert search(study, 6) != list(MEMBERS[:6])


def test_an_unknown_sampler_is_named_with_what_is_known():
    with pytest.raises(SettingsError, match=r"unknown sampler 'tpa'\. Did you mean 'tpe'"):
        make("tpa")
    assert set(SAMPLERS) == {"auto", *NAMES}
