"""Settings are plain values: in and out of dictionaries, compared, never guessed."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest

from autotrain.errors import SettingsError
from autotrain.settings import Settings

CHANGED = Settings(precision="bf16", workers=3, pinning=True)


@pytest.mark.parametrize("settings", [Settings(), CHANGED])
def test_they_survive_a_dictionary(settings: Settings) -> None:
    assert Settings.from_dict(settings.as_dict()) == settings
    assert tuple(settings.as_dict()) == Settings.names()


def test_what_is_left_out_has_its_default() -> None:
    assert Settings.from_dict({"workers": 2}) == replace(Settings(), workers=2)
    assert Settings.from_dict({}) == Settings()


def test_the_defaults_are_pytorchs_own() -> None:
    assert Settings().as_dict() == {
        "precision": "fp32",
        "memory_format": "contiguous",
        "compile": "none",
        "optimizer_kernel": "own",
        "cudnn_benchmark": False,
        "micro_batches": 1,
        "sharding": "none",
        "bucket_mib": 25,
        "gradient_precision": "fp32",
        "gradient_views": False,
        "static_graph": False,
        "augmentation": "none",
        "placement": "worker",
        "decoder": "pillow",
        "resize": "pillow",
        "cache": "none",
        "threads": 0,
        "loader": "processes",
        "workers": 0,
        "prefetch": 2,
        "pinning": False,
    }


def test_changes_are_the_values_here() -> None:
    assert CHANGED.changes(Settings()) == {"precision": "bf16", "workers": 3, "pinning": True}
    assert Settings().changes(CHANGED) == {"precision": "fp32", "workers": 0, "pinning": False}
    assert CHANGED.changes(CHANGED) == {}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"precison": "bf16"}, "unknown setting 'precison'. Did you mean 'precision'?"),
        ({"workers": True}, "setting 'workers': True is not of type int"),
        ({"workers": "2"}, "setting 'workers': '2' is not of type int"),
        ({"workers": 2.0}, "setting 'workers': 2.0 is not of type int"),
        ({"pinning": 1}, "setting 'pinning': 1 is not of type bool"),
        ({"precision": None}, "setting 'precision': None is not of type str"),
        ({1: 2}, "unknown setting '1'"),
    ],
)
def test_what_does_not_fit_is_refused(values: dict[Any, Any], words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_dict(values)
    assert words in str(caught.value)


def test_they_are_frozen_and_can_be_keys() -> None:
    with pytest.raises(FrozenInstanceError):
        CHANGED.workers = 1  # type: ignore[misc]
    assert {CHANGED: 1}[replace(Settings(), precision="bf16", workers=3, pinning=True)] == 1
