"""On CUDA the compute knobs train nearly as plain settings do, and leave model, optimizer and flags as they were."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from autotrain.engine.rig import Rig
from autotrain.hardware.machine import machine_facts
from autotrain.knobs.registry import knob
from autotrain.preparation import prepare_workload
from autotrain.settings import Settings
from autotrain.task import Task
from autotrain.workload import Workload

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def workload_of(model: nn.Module, **options: Any) -> Workload:
    draws = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (48, 3, 24, 24), generator=draws, dtype=torch.uint8)
    given: dict[str, Any] = {"batch_size": 16, "device": "cuda", **options}
    return prepare_workload(Task(model=model, dataset=(images, torch.arange(48) % 3), **given))


def losses(workload: Workload, settings: Settings, steps: int = 5, **options: Any) -> list[float]:
    with Rig(workload, settings, **options) as rig, rig.active():
        return [rig.train(rig.move(rig.input.next())).item() for _ in range(steps)]


def group_norm(tiny_model: Callable[..., nn.Module]) -> nn.Module:
    model = tiny_model()
    model[1] = nn.GroupNorm(2, 8)
    return model


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("mode", ["default", "reduce-overhead", "max-autotune"])
def test_every_mode_of_the_compiler_trains_beside_a_plain_rig(
    tiny_model: Callable[..., nn.Module], mode: str, precision: str
) -> None:
    model = tiny_model()
    workload = workload_of(model)
    reasons = dict(knob("compile").choices(workload, machine_facts()).left_out)
    if mode in reasons:
        pytest.skip(reasons[mode])
    environment = dict(os.environ)
    held = [(entry.data_ptr(), entry.tolist()) for entry in model.state_dict(keep_vars=True).values()]
    settings = Settings(precision=precision, memory_format="channels_last")
    kept: list[torch.Tensor] = []
    found: tuple[list[float], list[float]] = ([], [])
    with Rig(workload, settings) as plain, Rig(workload, Settings(**settings.as_dict() | {"compile": mode})) as other:
        assert other.compiled
        for _ in range(6):  # in turns, as in a heat
            for rig, seen in zip((plain, other), found, strict=True):
                with rig.active():
                    loss = rig.train(rig.move(rig.input.next()))
                    seen.append(loss.item())
                    kept.append(loss)
        assert [loss.item() for loss in kept[1::2]] == found[1]  # later steps do not write over earlier losses
    assert found[1] == pytest.approx(found[0], rel=5e-2)
    assert dict(os.environ) == environment
    assert [(entry.data_ptr(), entry.tolist()) for entry in model.state_dict(keep_vars=True).values()] == held


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW])
def test_the_fused_kernel_trains_as_the_optimizer_does(tiny_model: Callable[..., nn.Module], make: Any) -> None:
    workload = workload_of(tiny_model(), optimizer=lambda entries: make(entries, lr=1e-2))
    assert knob("optimizer_kernel").choices(workload, machine_facts()).allowed == ("own", "fused")
    for precision in ("fp32", "fp16"):
        plain = losses(workload, Settings(precision=precision))
        fused = losses(workload, Settings(precision=precision, optimizer_kernel="fused"))
        assert fused == pytest.approx(plain, rel=1e-3 if precision == "fp32" else 2e-2)


def test_a_users_optimizer_counts_in_main_memory_again_after_a_fused_training(
    tiny_model: Callable[..., nn.Module],
) -> None:
    model = tiny_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    options = [{**group, "params": None} for group in optimizer.param_groups]
    found = losses(workload_of(model, optimizer=optimizer), Settings(optimizer_kernel="fused"), borrow=False)
    assert all(math.isfinite(loss) for loss in found)
    assert [{**group, "params": None} for group in optimizer.param_groups] == options
    assert {entry["step"].device.type for entry in optimizer.state.values()} == {"cpu"}
    assert {entry["exp_avg"].device.type for entry in optimizer.state.values()} == {"cuda"}
    model(torch.ones(2, 3, 24, 24, device="cuda")).sum().backward()
    optimizer.step()


@pytest.mark.parametrize("clip_norm", [None, 0.05])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_micro_batches_train_as_the_whole_batch(
    tiny_model: Callable[..., nn.Module], precision: str, clip_norm: float | None
) -> None:
    workload = workload_of(group_norm(tiny_model), mixup=0.4)
    whole = losses(workload, Settings(precision=precision), clip_norm=clip_norm)
    parts = losses(workload, Settings(precision=precision, micro_batches=4), clip_norm=clip_norm)
    assert parts == pytest.approx(whole, rel=1e-3 if precision == "fp32" else 2e-2)


def test_the_benchmark_flag_is_on_inside_alone(tiny_model: Callable[..., nn.Module]) -> None:
    workload = workload_of(tiny_model())
    assert knob("cudnn_benchmark").choices(workload, machine_facts()).allowed == (False, True)
    with Rig(workload, Settings(cudnn_benchmark=True)) as rig:
        with rig.active():
            assert torch.backends.cudnn.benchmark
            rig.train(rig.move(rig.input.next()))
        assert not torch.backends.cudnn.benchmark
