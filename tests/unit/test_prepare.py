"""``prepare`` takes what ``fit`` takes, says what is wrong with it, and leaves a compiled model its names."""

from __future__ import annotations

import copy
import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import autotrain
from autotrain import Plan, Settings, Task, api
from autotrain.engine import own_loop
from autotrain.errors import CandidateError, CheckpointError, PlanError, TaskError, UnsupportedError
from autotrain.measure.session import Session
from autotrain.plan.evidence import Verdict
from autotrain.search.job import job_facts
from autotrain.team import Team
from autotrain.world import World

pytestmark = pytest.mark.usefixtures("own_draws")

DEFAULT = Plan(settings=Settings())


@pytest.fixture
def dataset() -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (24, 3, 16, 16), dtype=torch.uint8, generator=draws), torch.arange(24) % 3


OPTIONS: dict[str, Any] = {"batch_size": 8, "device": "cpu", "progress": False}

WRONG = [
    ({"batchsize": 8}, TaskError, "unknown option 'batchsize'. Did you mean 'batch_size'"),
    ({"schedule": "constant"}, TaskError, "schedule: a loop of your own sets the learning rate"),
    ({"stretch": 0.5}, TaskError, "stretch: a loop of your own"),
    ({"clip_norm": 0}, TaskError, "clip_norm: 0 is no norm"),
    ({"ema": 0.9}, TaskError, "unknown option 'ema'"),
    ({"plan": "nowhere/plan.yaml"}, PlanError, "nowhere/plan.yaml"),
    ({"plan": Plan(settings=Settings(precision="fp16"))}, PlanError, "precision = fp16 is not possible here"),
]


@pytest.mark.parametrize(("wrong", "kind", "words"), WRONG, ids=[words for _, _, words in WRONG])
def test_what_is_wrong_is_said_in_one_line(
    wrong: dict[str, Any], kind: type[Exception], words: str, tiny_model: Any, dataset: Any
) -> None:
    with pytest.raises(kind) as caught:
        autotrain.prepare(tiny_model(), dataset, **{"plan": DEFAULT, **OPTIONS, **wrong})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_a_plan_it_probes(tiny_model: Any, dataset: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def run_probe(workload: Any, machine: Any, *, options: Any, observer: Any) -> Session:
        asked.append((workload.batch_size, options.budget_s, options.before_training))
        default = replace(workload.task.settings, augmentation=workload.augmentation)
        job = job_facts(workload, machine)
        return Session(machine=machine, job=job, default=default, cores=2, chosen=default)

    monkeypatch.setattr(api, "run_probe", run_probe)
    task = Task(model=tiny_model(), dataset=dataset, batch_size=8, device="cpu")
    with autotrain.prepare(task, budget="10s", progress=False) as job:
        assert job.session is not None
        assert job.plan.evidence.verdict is not Verdict.GIVEN
        assert len(job.loader) == 3
    assert asked == [(8, 10.0, True)]


def test_a_plan_is_used_as_fit_uses_it(tiny_model: Any, dataset: Any, tmp_path: Path) -> None:
    Plan(settings=Settings(augmentation="flip", placement="device", prefetch=4)).save(tmp_path / "plan.yaml")
    with autotrain.prepare(tiny_model(), dataset, plan=str(tmp_path / "plan.yaml"), **OPTIONS) as job:
        assert job.plan.settings == Settings(augmentation="flip")  # what does nothing here is folded
        assert job.session is None


def test_the_first_step_finds_what_does_not_fit(tiny_model: Any, dataset: Any) -> None:
    model = tiny_model(classes=2)
    weights = copy.deepcopy(model.state_dict())
    with autotrain.prepare(model, dataset, plan=DEFAULT, **OPTIONS) as job:
        model[1].eval()
        with pytest.raises(TaskError, match="the model gives 2 outputs, but the dataset has label 2"):
            job.step(*next(iter(job.loader)))
        assert [model[0].training, model[1].training] == [True, False]
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_a_loss_that_is_no_number_is_named(tiny_model: Any, dataset: Any) -> None:
    def nothing(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return outputs.sum() * float("nan")

    with (
        autotrain.prepare(tiny_model(), dataset, plan=DEFAULT, loss=nothing, **OPTIONS) as job,
        pytest.raises(TaskError, match="the loss of the first step is not a number"),
    ):
        job.step(*next(iter(job.loader)))


def test_a_loss_of_ones_own_has_to_be_one(tiny_model: Any, dataset: Any) -> None:
    with autotrain.prepare(tiny_model(), dataset, plan=DEFAULT, **OPTIONS) as job:
        images, _ = next(iter(job.loader))
        with pytest.raises(TaskError, match="the loss must be one number"):
            job.backward(job.model(images))
        with pytest.raises(TaskError, match="does not depend on the model's parameters"):
            job.backward(images.mean())


def test_memory_that_runs_out_is_a_line_with_a_remedy(dataset: Any) -> None:
    class Grows(nn.Linear):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            if self.training:
                raise torch.OutOfMemoryError
            return super().forward(images)

    model = nn.Sequential(nn.Flatten(), Grows(768, 3))
    with (
        autotrain.prepare(model, dataset, plan=DEFAULT, **OPTIONS) as job,
        pytest.raises(CandidateError, match=r"step 0: out of memory on cpu\. Take a smaller batch"),
    ):
        job.step(*next(iter(job.loader)))


def test_a_task_with_a_step_of_its_own_and_batches_of_another_kind(tiny_model: Any, dataset: Any) -> None:
    def collate(samples: list[Any]) -> dict[str, torch.Tensor]:
        return {"x": torch.stack([image for image, _ in samples]) / 255, "y": torch.tensor([y for _, y in samples])}

    def step(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return nn.functional.cross_entropy(model(batch["x"]), batch["y"])

    given = {"step": step, "collate": collate, "validation": dataset, **OPTIONS}
    with autotrain.prepare(tiny_model(), dataset, plan=DEFAULT, **given) as job:
        losses = [float(job.step(batch)) for batch in job.loader]
        assert losses[-1] != losses[0]
        assert job.evaluate().accuracy is None


@pytest.mark.parametrize("state", [{}, {"model": {}}, None], ids=["empty", "a part", "nothing"])
def test_a_state_of_something_else_is_refused(state: Any, tiny_model: Any, dataset: Any) -> None:
    with (
        autotrain.prepare(tiny_model(), dataset, plan=DEFAULT, **OPTIONS) as job,
        pytest.raises(CheckpointError, match=r"load_state_dict: .*state_dict\(\)"),
    ):
        job.load_state_dict(state)


def test_a_state_of_another_model_is_refused(tiny_model: Any, dataset: Any) -> None:
    with autotrain.prepare(tiny_model(), dataset, plan=DEFAULT, **OPTIONS) as job:
        state = copy.deepcopy(job.state_dict())
    with (
        autotrain.prepare(tiny_model(classes=4), dataset, plan=DEFAULT, **OPTIONS) as job,
        pytest.raises(CheckpointError, match="load_state_dict: does not fit this model"),
    ):
        job.load_state_dict(state)


def test_micro_batches_are_for_whole_steps_which_is_said_once(dataset: Any, caplog: pytest.LogCaptureFixture) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(768, 3))
    plan = Plan(settings=Settings(micro_batches=2))
    with caplog.at_level(logging.WARNING), autotrain.prepare(model, dataset, plan=plan, **OPTIONS) as job:
        for images, labels in job.loader:
            with job.autocast():
                loss = job.loss(model(images), labels)
            job.backward(loss)
            job.update()
    assert caplog.messages == ["micro_batches = 2: only job.step(...) divides a batch; yours passes whole"]


def test_a_step_of_ones_own_is_refused_where_gradients_would_stay_apart(
    tiny_model: Any, dataset: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with autotrain.prepare(tiny_model(), dataset, plan=DEFAULT, **OPTIONS) as job:
        images, _ = next(iter(job.loader))
        monkeypatch.setattr(Team, "alone", property(lambda team: False))
        for use in (job.autocast, job.update, lambda: job.backward(job.model(images).sum())):
            with pytest.raises(UnsupportedError, match=r"averaged by job\.step\(\.\.\.\) alone"):
                use()
        with torch.no_grad(), job.autocast():  # a validation is no step
            job.model(images)
        monkeypatch.undo()
    assert World().world_size == 1


def test_a_compiled_model_keeps_its_names_and_is_compiled_in_training_only(
    tiny_model: Any, dataset: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch's compiler is stood in for by a count of calls; the real one is tried in a slow test."""
    calls: list[int] = []

    def compiled(function: Any, **options: Any) -> Any:
        def call(images: torch.Tensor) -> Any:
            calls.append(len(images))
            return function(images)

        return call

    monkeypatch.setattr(torch, "compile", compiled)
    monkeypatch.setattr("autotrain.knobs.compile._problem", lambda mode, workload: None)
    model = tiny_model()
    seen: list[int] = []
    hook = model.register_forward_hook(lambda *_: seen.append(1))
    plan, before = Plan(settings=Settings(compile="default")), vars(model).keys()
    with autotrain.prepare(model, dataset, plan=plan, validation=dataset, **OPTIONS) as job:
        batches = iter(job.loader)
        images, labels = next(batches)
        job.step(images, labels)
        assert (calls, len(seen)) == ([8], 2)  # the check of the first batch is not compiled
        job.backward(job.loss(job.model(images), labels))
        job.update()
        assert calls == [8, 8]
        with torch.no_grad():
            job.model(images)
        job.model.eval()
        job.model(images)
        job.evaluate()
        assert calls == [8, 8]
        assert list(job.model.state_dict()) == list(tiny_model().state_dict())
        twin = copy.deepcopy(job.model)
        twin.train()(images)
        assert calls == [8, 8]
    hook.remove()
    assert vars(model).keys() == before
    assert model._compiled_call_impl is None


@pytest.mark.slow
def test_torchs_compiler_trains_a_loop_of_ones_own(
    tiny_model: Any, dataset: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])  # setuptools adds to it, which torch's compiler imports
    problem = autotrain.knobs.compile._cpu_problem("default")
    if problem is not None:
        pytest.skip(problem)
    losses = {}
    for mode in ("none", "default"):
        model = tiny_model()
        plan = Plan(settings=Settings(compile=mode))
        with autotrain.prepare(model, dataset, plan=plan, **OPTIONS) as job:
            found = [float(job.step(*batch)) for batch in job.loader]
            for images, labels in job.loader:
                loss = job.loss(job.model(images), labels)
                job.backward(loss)
                job.update()
                found.append(loss.item())
        losses[mode] = found
        assert not any("_orig_mod" in name for name in model.state_dict())
    assert losses["default"] == pytest.approx(losses["none"], rel=1e-4)


def test_a_job_that_could_not_be_made_leaves_the_one_before_closed_and_nothing_behind(
    tiny_model: Any, dataset: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = torch.get_num_threads()

    def fails(rig: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(own_loop, "_called_compiled", fails)
    plan = Plan(settings=Settings(threads=threads + 1, memory_format="channels_last"))
    model = tiny_model().eval()
    with pytest.raises(ZeroDivisionError):
        autotrain.prepare(model, dataset, plan=plan, **OPTIONS)
    assert torch.get_num_threads() == threads
    assert not model.training
    assert model[3].weight.is_contiguous()
