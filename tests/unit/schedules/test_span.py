"""The length of a task's training, and the milestones in it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from autotrain.errors import ScheduleError
from autotrain.preparation import prepare_workload
from autotrain.task import Task
from autotrain.workload import Workload

Make = Callable[..., Workload]


@pytest.fixture
def make(tiny_model: Callable[..., nn.Module]) -> Make:
    """A function that makes a workload of 25 steps per epoch."""

    def workload(**options: Any) -> Workload:
        data = (torch.zeros(25, 3, 8, 8, dtype=torch.uint8), torch.arange(25) % 3)
        return prepare_workload(
            Task(**{"model": tiny_model(), "dataset": data, "batch_size": 1, "device": "cpu", **options})
        )

    return workload


@pytest.mark.parametrize("duration", ["10ep", "250step", "250sample"])
def test_a_stretched_recipe_fills_the_stretched_training(make: Make, duration: str) -> None:
    half = duration.replace("250", "125").replace("10", "5")
    for stretch in (0.5, 0.3, 0.1, 1.7):
        workload = make(duration=duration, schedule=f"linear({half}) > cosine({half})", stretch=stretch)
        factor, total = workload.schedule.over(workload.span), workload.span.total
        assert total == int(250 * stretch + 0.5)
        assert factor(total) == 0.0
        assert factor(total - 1) > 0.0


def test_a_total_and_a_milestone_are_rounded_alike(make: Make) -> None:
    whole = make(duration="5ep", schedule="constant", stretch=0.1).span  # 12.5 steps
    assert whole.total == whole.steps("5ep") == 13


@pytest.mark.parametrize("duration", ["10ep", "1h"])
def test_a_stretch_is_any_real_number(make: Make, duration: str) -> None:
    span = make(duration=duration, stretch=np.float64(0.5)).span
    assert span == make(duration=duration, stretch=0.5).span
    assert make(duration=duration, stretch=np.float32(0.5)).span == span
    with pytest.raises(ScheduleError, match="it is a factor greater than 0"):
        make(duration=duration, stretch=float("inf"))


def test_by_wall_clock_the_rate_cannot_change_once_an_epoch(make: Make) -> None:
    with pytest.raises(ScheduleError, match="give the duration in epochs: 10ep"):
        make(duration="1h", schedule="cosine(resolution=epoch)")
