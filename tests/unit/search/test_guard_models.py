"""Healthy bf16 passes the guard on models of many kinds, at random weights, where bf16 moves gradients the most."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn
from torchvision import models
from torchvision.models.convnext import CNBlockConfig, ConvNeXt

from autotrain.preparation import prepare_workload
from autotrain.search.guard import Guardian
from autotrain.settings import Settings
from autotrain.task import Task

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread", "own_draws")]

CLASSES, SIDE, BATCH, STEPS = 10, 32, 8, 6
SGD = partial(torch.optim.SGD, lr=0.02, momentum=0.9)
ADAMW = partial(torch.optim.AdamW, lr=1e-3)
FUSED = partial(torch.optim.AdamW, lr=1e-3, fused=True)


def convnext() -> nn.Module:
    blocks = [CNBlockConfig(16, 32, 2), CNBlockConfig(32, 64, 2), CNBlockConfig(64, None, 2)]
    return ConvNeXt(blocks, num_classes=CLASSES)


def transformer() -> nn.Module:
    return models.VisionTransformer(SIDE, 8, 3, 4, 64, 128, num_classes=CLASSES)


def group_norm() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.GroupNorm(4, 16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.GroupNorm(4, 32),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, CLASSES),
    )


def images() -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(0)
    labels = torch.arange(80) % CLASSES
    coarse = torch.rand(CLASSES, 3, 5, 5, generator=draws)[labels] + torch.rand(80, 3, 5, 5, generator=draws)
    smooth = nn.functional.interpolate(coarse / 2, size=(SIDE, SIDE), mode="bicubic").clamp(0, 1)
    order = torch.randperm(80, generator=draws)
    return (smooth * 255).to(torch.uint8)[order], labels[order]


@pytest.mark.parametrize(
    ("make", "optimizer"),
    [
        (partial(models.resnet18, num_classes=CLASSES), SGD),
        (partial(models.mobilenet_v3_small, num_classes=CLASSES), ADAMW),
        (partial(models.efficientnet_b0, num_classes=CLASSES), ADAMW),
        (partial(models.shufflenet_v2_x0_5, num_classes=CLASSES), SGD),
        (partial(models.squeezenet1_1, num_classes=CLASSES), ADAMW),
        (partial(models.mnasnet0_5, num_classes=CLASSES), FUSED),
        (partial(models.regnet_y_400mf, num_classes=CLASSES), SGD),
        (partial(models.DenseNet, 16, (2, 4, 4, 2), 32, num_classes=CLASSES), FUSED),
        (convnext, ADAMW),
        (transformer, FUSED),
        (group_norm, SGD),
    ],
    ids=lambda value: getattr(getattr(value, "func", value), "__name__", None),
)
def test_healthy_bf16_passes(make: Callable[[], nn.Module], optimizer: Callable[..., torch.optim.Optimizer]) -> None:
    torch.manual_seed(0)
    options = {"optimizer": optimizer, "batch_size": BATCH, "device": "cpu"}
    workload = prepare_workload(Task(model=make(), dataset=images(), **options))
    guardian = Guardian(workload, Settings(), steps=STEPS)
    for layout in ("contiguous", "channels_last"):
        result = guardian.judge(Settings(precision="bf16", memory_format=layout))
        assert result.problem is None
        assert max(share for _, share in result.shares) < 0.8
