"""Evaluations find out how many workers they need, and stop looking where that is worth nothing."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from autotrain.engine import staffing as module
from autotrain.engine.loop import train
from autotrain.engine.rig import Rig
from autotrain.engine.staffing import Staffing
from autotrain.hardware.machine import machine_facts
from autotrain.preparation import prepare_workload
from autotrain.settings import Settings
from autotrain.task import Task


def numbers(staffing: Staffing, seconds: dict[int, float], evaluations: int) -> list[int]:
    seen = []
    for _ in range(evaluations):
        seen.append(staffing.workers)
        staffing.took(seconds[staffing.workers])
    return seen


def test_each_is_tried_once_and_the_fastest_stays() -> None:
    seconds = {0: 9.0, 1: 5.0, 4: 3.0}
    assert numbers(Staffing(1, (0, 4, 4, 1)), seconds, 7) == [1, 0, 4, 1, 4, 4, 4]


def test_the_first_has_a_second_chance() -> None:
    staffing = Staffing(1, (4,))
    for seconds in (9.0, 3.0, 2.0):
        staffing.took(seconds)
    assert staffing.workers == 1


def test_who_fails_is_not_tried_again() -> None:
    staffing = Staffing(1, (4,))
    assert not staffing.failed(), "what training has is all that is left"
    staffing.took(5.0)
    assert staffing.workers == 4
    assert staffing.failed()
    assert numbers(staffing, {1: 5.0}, 3) == [1, 1, 1]


@pytest.mark.parametrize(
    ("workers", "duration", "threads", "tried"),
    [
        (0, "2ep", False, [0, 0, 0]),
        (0, "2ep", True, [0, 2, 0]),
        (0, "10min", True, [0, 0]),
        (1, "2ep", False, [1, 2, 1]),
        (1, "10min", True, [1, 1]),
    ],
)
def test_nothing_is_tried_where_it_could_do_harm(
    tiny_model: Callable[..., nn.Module],
    monkeypatch: pytest.MonkeyPatch,
    workers: int,
    duration: str,
    threads: bool,
    tried: list[int],
) -> None:
    monkeypatch.setattr(module, "world", lambda: SimpleNamespace(cpu_budget=lambda usable: 2))
    data = torch.zeros(8, 3, 16, 16, dtype=torch.uint8), torch.arange(8) % 3
    task = Task(model=tiny_model(), dataset=data, validation=data, batch_size=4, device="cpu", duration=duration)
    with Rig(prepare_workload(task), Settings(workers=workers)) as rig:
        found = module.staffing(rig, machine_facts(), threads=threads)
    assert numbers(found, {0: 5.0, 1: 5.0, 2: 5.0}, len(tried)) == tried


def test_short_evaluations_are_left_as_they_are() -> None:
    assert numbers(Staffing(2, (0, 4)), {2: 0.9 * module.WORTH_S}, 3) == [2, 2, 2]


@pytest.mark.usefixtures("one_thread", "own_draws")
def test_the_scores_are_the_same_whoever_loads(
    tiny_model: Callable[..., nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []
    took = Staffing.took

    def noted(self: Staffing, seconds: float) -> None:
        counts.append(self.workers)
        took(self, seconds)

    monkeypatch.setattr(Staffing, "took", noted)
    monkeypatch.setattr("autotrain.engine.held_out.always_same", lambda source: False)

    def scores(worth_s: float) -> list[float | None]:
        monkeypatch.setattr(module, "WORTH_S", worth_s)
        torch.manual_seed(0)
        images = torch.randint(0, 256, (24, 3, 16, 16), dtype=torch.uint8)
        task = Task(
            model=tiny_model(),
            dataset=(images, torch.arange(24) % 3),
            validation=(images[:10], torch.arange(10) % 3),
            batch_size=8,
            device="cpu",
            duration="5ep",
        )
        return [record.validation_loss for record in train(prepare_workload(task), Settings(workers=1)).history]

    usual = scores(1e9)
    assert counts == [1] * 5
    counts.clear()
    monkeypatch.setattr(module, "world", lambda: SimpleNamespace(cpu_budget=lambda usable: 2))
    assert scores(0.0) == usual
    assert counts[:3] == [1, 2, 1]
