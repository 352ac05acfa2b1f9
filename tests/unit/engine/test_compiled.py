"""The compiled forward pass: the same training, and a model, a process and a disk that know nothing of it."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from autotrain.engine.compiled import Compiled
from autotrain.engine.rig import Rig
from autotrain.engine.step import Step
from autotrain.errors import CandidateError, SettingsError
from autotrain.hardware.machine import machine_facts
from autotrain.knobs.compile import _no_headers
from autotrain.knobs.registry import knob, legal_space
from autotrain.preparation import prepare_workload
from autotrain.settings import Settings
from autotrain.task import Task
from autotrain.workload import Workload

MACHINE = machine_facts()


def small() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


def workload_of(model: nn.Module, **options: Any) -> Workload:
    draws = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (24, 3, 8, 8), generator=draws, dtype=torch.uint8)
    given = {"dataset": (images, torch.arange(24) % 3), "batch_size": 4, "device": "cpu", **options}
    return prepare_workload(Task(model=model, **given))


def picture(model: nn.Module) -> Any:
    held = [
        (name, id(entry), entry.data_ptr(), entry.tolist()) for name, entry in model.state_dict(keep_vars=True).items()
    ]
    return held, [sorted(vars(module)) for module in model.modules()], model._compiled_call_impl


def train(workload: Workload, *settings: Settings, steps: int = 3) -> list[list[float]]:
    """Return each rig's losses, of rigs that live side by side and take turns."""
    rigs = [Rig(workload, entry) for entry in settings]
    losses: list[list[float]] = [[] for _ in settings]
    try:
        for rig in rigs:
            rig.__enter__()
        for _ in range(steps):
            for rig, seen in zip(rigs, losses, strict=True):
                with rig.active():
                    seen.append(float(rig.train(rig.move(rig.input.next()))))
    finally:
        for rig in rigs:
            rig.__exit__()
    return losses


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(sys.platform != "linux", reason="torch.compile is offered on Linux only")
def test_a_compiled_training_is_the_plain_one_and_leaves_no_trace(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])  # setuptools adds to it, which torch's compiler imports
    calls: list[int] = []

    def users(graph: Any, inputs: Any) -> Any:
        calls.append(len(inputs))
        return graph.forward

    theirs = torch.compile(lambda values: values.sin() + 1, backend=users)
    theirs(torch.zeros(3))
    model = small()
    workload = workload_of(model)
    train(workload, Settings(), steps=1)  # torch's optimizers import parts of the compiler, which make a folder
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    if knob("compile").choices(workload, MACHINE).allowed == ("none",):
        pytest.skip("no compiler here")
    before, environment = picture(model), dict(os.environ)
    plain, compiled = train(workload, Settings(), Settings(compile="default"))
    assert compiled == pytest.approx(plain, rel=1e-4)
    assert picture(model) == before
    assert dict(os.environ) == environment
    assert list(tmp_path.iterdir()) == []
    theirs(torch.zeros(3))
    assert len(calls) == 1  # what the user compiled is still there


def test_training_goes_through_the_compiled_forward_and_evaluation_does_not(tiny_model: Callable[..., Any]) -> None:
    model = tiny_model()
    seen: list[int] = []

    def forward(images: torch.Tensor) -> torch.Tensor:
        seen.append(len(images))
        return model(images)

    content = torch.zeros(6, 3, 8, 8), torch.arange(6) % 3
    step = Step(workload_of(model), model, torch.optim.SGD(model.parameters(), lr=0.1), forward=forward)
    plain = Step(workload_of(model), model, torch.optim.SGD(model.parameters(), lr=0.1))
    assert (step.compiled, plain.compiled) == (True, False)
    step(content)
    assert seen == [6]
    assert step.model is model


def left_out(workload: Workload) -> dict[Any, str]:
    return dict(knob("compile").choices(workload, MACHINE).left_out)


def test_graphs_are_for_cuda() -> None:
    reasons = left_out(workload_of(small()))
    assert "CUDA" in reasons["reduce-overhead"]
    assert "CUDA" in reasons["max-autotune"]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the platform is the reason")
def test_without_a_compiler_the_reason_names_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "CXX" in left_out(workload_of(small()))["default"]
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "install g++" in left_out(workload_of(small()))["default"]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the platform is the reason")
def test_without_pythons_headers_the_reason_names_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _no_headers.cache_clear()
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"include": str(tmp_path)})
    monkeypatch.setenv("CXX", "sh")
    try:
        assert "python3-dev" in left_out(workload_of(small()))["default"]
    finally:
        _no_headers.cache_clear()


def test_what_compiling_would_change_is_left_alone() -> None:
    def step(model: nn.Module, batch: Any) -> torch.Tensor:
        return functional.cross_entropy(model(batch[0]), batch[1])

    assert "step of your own" in left_out(workload_of(small(), step=step))["default"]
    traced = torch.jit.trace(small().eval(), torch.zeros(2, 3, 8, 8))
    assert "already" in left_out(workload_of(nn.Sequential(traced)))["default"]
    with pytest.raises(SettingsError, match="compile"):
        legal_space(workload_of(small(), step=step), MACHINE, fixed={"compile": "default"})


def test_graphs_take_no_micro_batches() -> None:
    settings = Settings(compile="reduce-overhead", micro_batches=2)
    reason = knob("compile").legal(settings, workload_of(small()), MACHINE)
    assert reason is not None
    assert "gradients" in reason


def test_a_compiler_that_fails_is_a_failed_candidate(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Compiled, images: torch.Tensor) -> torch.Tensor:
        error = type("InductorError", (RuntimeError,), {"__module__": "torch._inductor.exc"})
        raise error("CppCompileError: C++ compile error\n\ncommand: g++")

    monkeypatch.setattr(Compiled, "__call__", broken)
    model = small()
    before = picture(model)
    with pytest.raises(
        CandidateError, match=r"the compiler failed: InductorError: CppCompileError: C\+\+ compile error$"
    ):
        train(workload_of(model), Settings(compile="default"))
    assert picture(model) == before
