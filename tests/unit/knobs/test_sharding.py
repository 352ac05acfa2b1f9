"""When a model has to lie in parts on the ranks, and what that does not go together with."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from autotrain.knobs.buckets import Buckets
from autotrain.knobs.gradient_precision import GradientPrecision
from autotrain.knobs.gradient_views import GradientViews
from autotrain.knobs.gradients import least_part
from autotrain.knobs.sharding import Sharding, needs_sharding
from autotrain.settings import Settings
from autotrain.world import World

pytestmark = pytest.mark.usefixtures("own_draws")

SHARDED = Settings(sharding="full", gradient_views=True, gradient_precision="bf16", bucket_mib=5)


def workload(optimizer: Any = None, *, alone: bool = False, device: str = "cpu") -> Any:
    """Return what the knobs look at: a million weights, half of them trained."""
    model = nn.Sequential(nn.Linear(500, 1000, bias=False), nn.Linear(1000, 500, bias=False))
    model[1].requires_grad_(False)
    task = SimpleNamespace(optimizer=optimizer)
    return SimpleNamespace(
        model=model, task=task, device=torch.device(device), team=SimpleNamespace(alone=alone), batch_size=8
    )


def legal(settings: Settings, given: Any) -> str | None:
    return Sharding().legal(settings, given, None)  # type: ignore[arg-type]


def test_a_search_is_never_offered_it() -> None:
    for alone, reason in ((True, "one process"), (False, "fits")):
        choices = Sharding().choices(workload(alone=alone), None)  # type: ignore[arg-type]
        assert choices.allowed == ("none",)
        assert reason in dict(choices.left_out)["full"]


def test_one_process_has_the_whole() -> None:
    assert Sharding().canonical(SHARDED, workload(alone=True)).sharding == "none"
    assert Sharding().canonical(SHARDED, workload()).sharding == "full"


def test_what_concerns_copies_is_folded() -> None:
    assert GradientViews().canonical(SHARDED, workload()).gradient_views is False
    assert Buckets().canonical(SHARDED, workload()).bucket_mib == 25
    assert GradientPrecision().canonical(SHARDED, workload()).gradient_precision == "bf16"


@pytest.mark.parametrize(
    ("settings", "given", "words"),
    [
        (SHARDED, workload(torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1)), "exists already"),
        (Settings(sharding="full", precision="fp16"), workload(), "loss scaler"),
        (Settings(sharding="full", optimizer_kernel="fused"), workload(), "whole weights"),
    ],
)
def test_what_needs_whole_weights_is_refused(settings: Settings, given: Any, words: str) -> None:
    assert words in str(legal(settings, given))


def test_the_rest_is_legal() -> None:
    assert legal(SHARDED, workload()) is None
    assert legal(Settings(sharding="full", optimizer_kernel="fused"), workload(device="cuda")) is None
    assert legal(Settings(precision="fp16"), workload()) is None


@pytest.mark.parametrize(
    ("batch_size", "ranks", "least"), [(16, 7, 2), (16, 2, 8), (10, 2, 4), (10, 4, 2), (7, 4, 1), (14, 2, 6)]
)
def test_all_ranks_pass_a_batch_in_as_many_parts(batch_size: int, ranks: int, least: int) -> None:
    """Seven ranks have two images of 16 each, but for the last one, which has four."""
    given = workload()
    given.batch_size, given.team.world = batch_size, World(world_size=ranks, local_world_size=ranks)
    assert least_part(given) == least
    assert legal(Settings(sharding="full", micro_batches=least), given) is None
    assert f"one has {least} of its images" in str(legal(Settings(sharding="full", micro_batches=least + 1), given))
    assert legal(Settings(micro_batches=least + 1), given) is None


def test_a_model_is_sharded_where_it_fills_a_device() -> None:
    """16 bytes for each of half a million trained weights, 4 for the others, in four fifths of the memory."""
    fits = int((16 + 4) * 500_000 / 0.8) + 1
    assert needs_sharding(workload(), memory_bytes=fits) is None
    assert "sharding = full" in str(needs_sharding(workload(), memory_bytes=fits - 100))
    assert needs_sharding(workload(alone=True), memory_bytes=1) is None
    assert needs_sharding(workload()) is None
