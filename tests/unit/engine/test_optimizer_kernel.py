"""Optimizer kernels: the same updates, from an optimizer that is the user's own again afterwards."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from autotrain.engine.rig import Rig
from autotrain.errors import SettingsError
from autotrain.hardware.machine import machine_facts
from autotrain.knobs.optimizer_kernel import set_kernel
from autotrain.knobs.registry import canonical, knob, legal_space
from autotrain.preparation import prepare_workload
from autotrain.settings import Settings
from autotrain.task import Task
from autotrain.workload import Workload

MACHINE = machine_facts()
MAKERS: dict[str, Any] = {
    "SGD": lambda entries: torch.optim.SGD(entries, lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "Adam": lambda entries: torch.optim.Adam(entries, lr=1e-2),
    "AdamW": lambda entries: torch.optim.AdamW(entries, lr=1e-2, amsgrad=True),
    "Adagrad": lambda entries: torch.optim.Adagrad(entries, lr=1e-2),
    "RMSprop": lambda entries: torch.optim.RMSprop(entries, lr=1e-3, momentum=0.9),
}
CASES = [(name, kernel) for name in MAKERS for kernel in ("foreach", "fused") if (name, kernel) != ("RMSprop", "fused")]


def workload_of(model: nn.Module, **options: Any) -> Workload:
    draws = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (24, 3, 8, 8), generator=draws, dtype=torch.uint8)
    return prepare_workload(
        Task(model=model, dataset=(images, torch.arange(24) % 3), batch_size=4, device="cpu", **options)
    )


def steps(workload: Workload, settings: Settings, *, count: int = 5, **options: Any) -> list[torch.Tensor]:
    with Rig(workload, settings, **options) as rig, rig.active():
        for _ in range(count):
            rig.train(rig.move(rig.input.next()))
        return [entry.detach().clone() for entry in workload.model.parameters()]


@pytest.mark.parametrize(("name", "kernel"), CASES)
def test_updates_are_the_same_within_rounding(tiny_model: Any, name: str, kernel: str) -> None:
    """From a fresh optimizer, and from a user's own with a state; several steps with momentum and moments."""
    used = tiny_model()
    own = MAKERS[name](used.parameters())
    used(torch.linspace(-1, 1, 4 * 3 * 64).view(4, 3, 8, 8)).square().sum().backward()
    own.step()
    for workload in (workload_of(tiny_model(), optimizer=MAKERS[name]), workload_of(used, optimizer=own)):
        plain, changed = (steps(workload, Settings(optimizer_kernel=value)) for value in ("own", kernel))
        for one, other in zip(plain, changed, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
        assert any(not torch.equal(one, other) for one, other in zip(changed, workload.model.parameters(), strict=True))


@pytest.mark.parametrize("borrow", [True, False])
@pytest.mark.parametrize(("name", "kernel"), CASES)
def test_a_users_own_optimizer_is_as_it_was(tiny_model: Any, name: str, kernel: str, borrow: bool) -> None:
    """Borrowed, to the last attribute; after a training, with a new state that goes on and loads as any other."""
    model = tiny_model()
    optimizer = MAKERS[name](model.parameters())
    options = copy.deepcopy([{**group, "params": None} for group in optimizer.param_groups])
    attributes = set(vars(optimizer))
    workload = workload_of(model, optimizer=optimizer)
    with Rig(workload, Settings(optimizer_kernel=kernel), borrow=borrow) as rig, rig.active():
        assert all(group[kernel] is True for group in optimizer.param_groups)
        rig.train(rig.move(rig.input.next()))
    assert [{**group, "params": None} for group in optimizer.param_groups] == options
    assert set(vars(optimizer)) == attributes
    if borrow:
        return
    again = MAKERS[name](model.parameters())
    again.load_state_dict(optimizer.state_dict())
    model(torch.ones(2, 3, 8, 8)).sum().backward()
    again.step()
    optimizer.step()


def test_step_counters_lie_where_the_kernel_reads_them(tiny_model: Any) -> None:
    """On the parameters' device for the fused kernel, here the one without memory; in main memory for the others."""
    entry = nn.Parameter(torch.zeros(2, device="meta"))
    optimizer = torch.optim.AdamW([entry])
    optimizer.state[entry] = {"step": torch.tensor(3.0), "exp_avg": torch.zeros(2, device="meta")}
    set_kernel(optimizer, "foreach")
    assert optimizer.state[entry]["step"].device.type == "cpu"
    set_kernel(optimizer, "fused")
    assert optimizer.state[entry]["step"].device.type == "meta"
    assert (optimizer.param_groups[0]["fused"], optimizer.param_groups[0]["foreach"]) == (True, False)


class Inverted(torch.optim.SGD):
    """Somebody's own optimizer, which may not look at the flags."""

    def step(self, closure: Any = None) -> Any:
        return super().step(closure)


def offered(workload: Workload) -> set[Any]:
    return set(knob("optimizer_kernel").choices(workload, MACHINE).allowed)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (None, {"own", "foreach", "fused"}),
        (MAKERS["SGD"], {"own", "foreach", "fused"}),
        (MAKERS["RMSprop"], {"own", "foreach"}),
        (torch.optim.SGD, {"own", "foreach", "fused"}),
        (Inverted, {"own"}),
        (lambda entries: torch.optim.AdamW(entries, fused=True), {"own", "foreach"}),
        (lambda entries: torch.optim.AdamW(entries, foreach=True), {"own", "fused"}),
        (lambda entries: torch.optim.SGD(entries, differentiable=True), {"own"}),
        (lambda entries: None, {"own"}),
    ],
)
def test_what_the_optimizer_has_is_offered(tiny_model: Any, make: Any, expected: set[str]) -> None:
    model = tiny_model()
    assert offered(workload_of(model, optimizer=make)) == expected
    made = make(model.parameters()) if make is not None else None
    if made is not None:
        assert offered(workload_of(model, optimizer=made)) == expected


def test_what_the_optimizer_does_anyway_is_no_choice(tiny_model: Any) -> None:
    workload = workload_of(tiny_model(), optimizer=lambda entries: torch.optim.AdamW(entries, fused=True))
    assert canonical(Settings(optimizer_kernel="fused"), workload) == Settings()
    assert canonical(Settings(optimizer_kernel="foreach"), workload) != Settings()


def test_a_kernel_that_is_not_there_is_refused(tiny_model: Any) -> None:
    workload = workload_of(tiny_model(), optimizer=MAKERS["RMSprop"])
    with pytest.raises(SettingsError, match="RMSprop has no such kernel"):
        legal_space(workload, MACHINE, fixed={"optimizer_kernel": "fused"})
