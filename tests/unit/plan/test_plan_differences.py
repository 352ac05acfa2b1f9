"""A plan used elsewhere says in plain sentences what differs."""

from dataclasses import replace

import pytest

from autotrain.plan.plan import Plan
from autotrain.plan.provenance import Provenance
from autotrain.settings import Settings

HERE = Provenance(
    date="2026-01-05",
    autotrain="0.1.0",
    hardware="aaa",
    cpu="Intel Xeon",
    usable_cpus=2,
    versions=(("torch", "2.11.0"), ("pillow", "12.0")),
    task="ttt",
    model="resnet18",
    dataset="flowers",
    batch_size=64,
    image_size=176,
    device="cpu",
)
PLAN = Plan(settings=Settings(), provenance=HERE)


def test_same_circumstances_differ_in_nothing() -> None:
    assert PLAN.differences(replace(HERE, date="2027-01-01")) == ()


def test_hand_written_plan_differs_from_nothing() -> None:
    assert Plan(settings=Settings()).differences(HERE) == ()
    assert PLAN.differences(Provenance()) == ()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"hardware": "bbb", "cpu": "AMD EPYC", "usable_cpus": 1, "gpus": ("NVIDIA H100",)},
            "made on 'Intel Xeon' with 2 usable cores; this machine is 'AMD EPYC' with 1 usable core and NVIDIA H100: "
            "probe again",
        ),
        (
            {"usable_cpus": 8},
            "made on 'Intel Xeon' with 2 usable cores; this machine is 'Intel Xeon' with 8 usable cores: probe again",
        ),
        (
            {"hardware": "bbb"},
            "made on another machine of the same kind, 'Intel Xeon' with 2 usable cores: "
            "probe again if its rates matter",
        ),
        (
            {"hardware": "bbb", "cpu": ""},
            "made on machine 'aaa'; this machine is 'bbb': probe again",
        ),
        ({"device": "cuda"}, "made for device 'cpu'; this run is on 'cuda': probe again"),
        (
            {"task": "uuu", "model": "vit", "batch_size": 128},
            "made for another task (model resnet18, here vit; batch size 64, here 128): probe again",
        ),
        (
            {"task": "uuu"},
            "made for another task (same model, dataset and sizes; its other parts differ): probe again",
        ),
        (
            {"autotrain": "0.2.0", "versions": (("torch", "2.12.0"),)},
            "made with other versions (autotrain 0.1.0, here 0.2.0; torch 2.11.0, here 2.12.0; pillow 12.0, not here): "
            "rates may differ, probe again to be sure",
        ),
    ],
)
def test_each_difference_is_one_sentence(changes: dict[str, object], sentence: str) -> None:
    assert PLAN.differences(replace(HERE, **changes)) == (sentence,)
