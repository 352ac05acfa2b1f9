"""Where memory runs out: what says so, what can be done again then, and what is checked of a batch beforehand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from autotrain.engine.events import FitEvent, Halved
from autotrain.engine.loop import train
from autotrain.engine.rig import Rig
from autotrain.engine.step import Step, ran_out
from autotrain.errors import CandidateError, TaskError
from autotrain.preparation import prepare_workload
from autotrain.settings import Settings
from autotrain.task import Task
from autotrain.workload import Workload

pytestmark = pytest.mark.usefixtures("own_draws")

FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")


def network() -> nn.Module:
    """Return a model without batch statistics."""
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))


def workload_of(model: nn.Module, **options: Any) -> Workload:
    images = torch.zeros(16, 3, 8, 8, dtype=torch.uint8)
    given = {"dataset": (images, torch.arange(16) % 3), "batch_size": 8, "device": "cpu", "duration": "2step"}
    return prepare_workload(Task(model=model, **{**given, **options}))


class Short(torch.optim.SGD):
    """Runs out of memory when it has updated one weight."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, lr=0.1)
        self.tries = 0

    def step(self, closure: Any = None) -> Any:
        self.tries += 1
        with torch.no_grad():
            self.param_groups[0]["params"][0].add_(1.0)
        raise FULL


@pytest.mark.parametrize(
    "problem",
    [
        FULL,
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
        RuntimeError("Triton Error [CUDA]: CUDA_ERROR_OUT_OF_MEMORY"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9 GB, max allowed: 9 GB)"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried to"),
    ],
)
def test_every_library_has_words_of_its_own(problem: RuntimeError) -> None:
    assert ran_out(problem)

    def fails(outputs: Any, labels: Any) -> Any:
        raise problem

    with Rig(workload_of(network(), loss=fails), Settings()) as rig, rig.active():
        with pytest.raises(CandidateError, match=r"^out of memory on cpu$"):
            rig.train(rig.move(rig.input.next()))
        assert rig.step.repeatable


@pytest.mark.parametrize("problem", [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("memory")])
def test_other_errors_do_not_tell_of_memory(problem: Exception) -> None:
    assert not ran_out(problem)


@pytest.mark.parametrize("scaled", [False, True])
def test_an_update_that_has_begun_is_not_done_again(monkeypatch: pytest.MonkeyPatch, *, scaled: bool) -> None:
    model = network()
    events: list[FitEvent] = []
    if scaled:
        make = Rig._make_step

        def with_scaler(self: Rig, *given: Any) -> Step:
            step = make(self, *given)
            step.scaler = torch.amp.GradScaler("cpu")
            return step

        monkeypatch.setattr(Rig, "_make_step", with_scaler)
    optimizer = Short(model.parameters())
    before = next(model.parameters()).detach().clone()
    with pytest.raises(CandidateError, match="out of memory on cpu in the update, which cannot be done again"):
        train(workload_of(model, optimizer=optimizer), Settings(), observer=events.append)
    assert optimizer.tries == 1
    assert torch.equal(next(model.parameters()), before + 1.0)
    assert not any(isinstance(event, Halved) for event in events)


def test_a_copy_that_does_not_fit_is_told_like_a_batch_that_does_not() -> None:
    with Rig(workload_of(network()), Settings()) as rig, rig.active():
        batch = rig.input.next()
        with pytest.MonkeyPatch.context() as patch:

            def full(batch: Any) -> Any:
                raise FULL

            patch.setattr(rig.transfer, "move", full)
            with pytest.raises(CandidateError, match=r"^out of memory on cpu$"):
                rig.move(batch)


class Seen(nn.Module):
    """Keeps how many images come at once, and takes no more than so many."""

    def __init__(self, most: int = 100) -> None:
        super().__init__()
        self.sizes: list[int] = []
        self.most = most

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(images))
        if len(images) > self.most:
            raise FULL
        return images


def test_a_batch_is_checked_in_the_parts_that_it_passes_in() -> None:
    model = nn.Sequential(seen := Seen(most=2), network())
    with Rig(workload_of(model), Settings(micro_batches=4)) as rig, rig.active():
        rig.check(rig.input.next())
        assert seen.sizes == [2, 2, 2, 2]


def test_labels_of_every_part_are_checked() -> None:
    labels = torch.zeros(16, dtype=torch.int64)
    labels[8:] = 7
    images = torch.zeros(16, 3, 8, 8, dtype=torch.uint8)
    wrong = workload_of(network(), dataset=(images, labels), batch_size=16)
    with Rig(wrong, Settings(micro_batches=4)) as rig, rig.active(), pytest.raises(TaskError, match="has label 7"):
        rig.check(rig.input.next())


def test_a_check_leaves_memory_that_runs_out_to_the_training() -> None:
    """Which halves the batch, and says so; nothing is wrong with the model."""
    events: list[FitEvent] = []
    model = nn.Sequential(seen := Seen(most=4), network())
    train(workload_of(model), Settings(), observer=events.append)
    assert [event.parts for event in events if isinstance(event, Halved)] == [2]
    assert seen.sizes == [8, 8, 4, 4, 4, 4]  # the check, the step that did not fit, two steps in halves


def test_a_model_that_raises_is_still_the_models_fault() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(7, 3))
    with Rig(workload_of(model), Settings()) as rig, rig.active(), pytest.raises(TaskError, match="the model raised"):
        rig.check(rig.input.next())
