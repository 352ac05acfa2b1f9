"""On CUDA the guard passes every healthy precision, and catches gradients that keep their loss scale."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from autotrain.knobs.precision import Precision
from autotrain.preparation import prepare_workload
from autotrain.search.guard import Guardian
from autotrain.settings import Settings
from autotrain.task import Task
from autotrain.workload import Workload

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

STEPS = 8
ADAMW = partial(torch.optim.AdamW, lr=1e-3)
FUSED = partial(torch.optim.AdamW, lr=1e-3, fused=True)
SGD = partial(torch.optim.SGD, lr=0.02, momentum=0.9)


def workload_of(model: nn.Module, optimizer: Callable[..., torch.optim.Optimizer]) -> Workload:
    draws = torch.Generator().manual_seed(0)
    labels = torch.arange(128) % 10
    coarse = torch.rand(10, 3, 5, 5, generator=draws)[labels] + torch.rand(128, 3, 5, 5, generator=draws)
    smooth = nn.functional.interpolate(coarse / 2, size=(64, 64), mode="bicubic").clamp(0, 1)
    given: dict[str, Any] = {"optimizer": optimizer, "batch_size": 16, "device": "cuda"}
    return prepare_workload(Task(model=model, dataset=((smooth * 255).to(torch.uint8), labels), **given))


def resnet18() -> nn.Module:
    from torchvision.models import resnet18 as make

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return make(num_classes=10)


@pytest.mark.parametrize("optimizer", [SGD, ADAMW, FUSED])
def test_healthy_precisions_pass(optimizer: Callable[..., torch.optim.Optimizer]) -> None:
    guardian = Guardian(workload_of(resnet18(), optimizer), Settings(), steps=STEPS)
    for precision in ("fp32", "tf32", "bf16", "fp16"):
        result = guardian.judge(Settings(precision=precision, memory_format="channels_last"))
        assert result.problem is None, precision


def test_a_kernel_that_unscales_by_itself_is_read_without_the_scale() -> None:
    guardian = Guardian(workload_of(resnet18(), FUSED), Settings(), steps=STEPS)
    shares = dict(guardian.judge(Settings(precision="fp16")).shares)
    assert shares["whole gradient"] < 1
    assert shares["optimizer state"] < 1


@pytest.mark.parametrize("optimizer", [SGD, ADAMW])
def test_a_scale_that_stays_is_caught(
    optimizer: Callable[..., torch.optim.Optimizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unscaled(torch.amp.GradScaler):
        def step(self, optimizer: torch.optim.Optimizer, *args: Any, **options: Any) -> None:
            optimizer.step()

        def update(self, new_scale: Any = None) -> None:
            pass

    made = lambda knob, value, device: Unscaled("cuda", init_scale=1024.0) if value == "fp16" else None  # noqa: E731
    monkeypatch.setattr(Precision, "scaler", made)
    problem = Guardian(workload_of(resnet18(), optimizer), Settings(), steps=STEPS).judge(Settings(precision="fp16"))
    assert "its loss scale is wrong" in str(problem.problem)
