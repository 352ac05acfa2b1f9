"""The public functions take what people give them, and say what is wrong with it before anything happens."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import autotrain
from autotrain import Plan, Settings, Task, api
from autotrain import world as world_module
from autotrain.application import applicable, disagreement, facts_of, here, made_for_others
from autotrain.errors import (
    AutotrainError,
    DataError,
    PlanError,
    ScheduleError,
    SettingsError,
    TaskError,
    UnsupportedError,
)
from autotrain.hardware.machine import machine_facts
from autotrain.knobs.base import Effect
from autotrain.measure.session import Session
from autotrain.plan.evidence import Verdict
from autotrain.plan.provenance import Provenance
from autotrain.preparation import prepare_workload
from autotrain.search.job import job_facts
from autotrain.search.planner import provenance
from autotrain.team import Team
from autotrain.world import World


@pytest.fixture
def dataset():
    draws = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (24, 3, 16, 16), dtype=torch.uint8, generator=draws)
    return images, torch.arange(24) % 3


@pytest.fixture
def options():
    return {"batch_size": 8, "device": "cpu", "progress": False}


@pytest.fixture
def probed(monkeypatch):
    """What ``run_probe`` was asked; it measures nothing and keeps the default."""
    calls = []

    def run_probe(workload, machine, *, options, observer):
        calls.append((workload, options, observer))
        default = replace(workload.task.settings, augmentation=workload.augmentation)
        job = job_facts(workload, machine)
        return Session(machine=machine, job=job, default=default, cores=2, chosen=default)

    monkeypatch.setattr(api, "run_probe", run_probe)
    return calls


@pytest.fixture
def nothing_happens(monkeypatch):
    """Fail the test if anything is probed or trained."""

    def forbidden(*arguments, **options):
        raise AssertionError("this should have been refused before")

    monkeypatch.setattr(api, "run_probe", forbidden)
    monkeypatch.setattr(api, "train", forbidden)


WRONG = [
    ({"batchsize": 8}, TaskError, "unknown option 'batchsize'. Did you mean 'batch_size'"),
    ({"dataset": None}, TaskError, "dataset: missing"),
    ({"dataset": "/no/such/folder"}, DataError, "/no/such/folder: no such folder"),
    ({"allow": "everything"}, SettingsError, "Known: exact, numerics"),
    ({"fix": {"precison": "fp32"}}, SettingsError, "Did you mean 'precision'"),
    ({"budget": "soon"}, ScheduleError, "budget"),
    ({"budget": "1s"}, ScheduleError, "at least 5s"),
    ({"compile": "maybe"}, SettingsError, "Known: auto, on, off"),
    ({"optuna_sampler": "tpo"}, SettingsError, "Did you mean 'tpe'"),
    ({"sampler": "tpe"}, AutotrainError, "sampler"),
    ({"batch_size": 0}, TaskError, "batch_size"),
    ({"batch_size": 25}, TaskError, "larger than the 24 samples"),
    ({"augmentation": "strong"}, AutotrainError, "strong"),
    ({"duration": "long"}, ScheduleError, "duration 'long'"),
    ({"device": "toaster"}, UnsupportedError, "device 'toaster'"),
    ({"model": "resnet18"}, TaskError, "expected a torch.nn.Module, got str"),
]


@pytest.mark.parametrize("call", [autotrain.probe, autotrain.fit])
@pytest.mark.parametrize(("wrong", "kind", "words"), WRONG, ids=[words for _, _, words in WRONG])
def test_what_is_wrong_is_said_in_one_line(call, wrong, kind, words, tiny_model, dataset, options, nothing_happens):
    given = {"model": tiny_model(), "dataset": dataset, **options, **wrong}
    with pytest.raises(kind) as caught:
        call(given.pop("model"), given.pop("dataset"), **given)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("call", [autotrain.probe, autotrain.fit])
def test_a_task_brings_its_own_dataset(call, tiny_model, dataset, nothing_happens):
    with pytest.raises(TaskError, match="a Task brings its own"):
        call(Task(model=tiny_model(), dataset=dataset), dataset)


@pytest.mark.parametrize("call", [autotrain.probe, autotrain.fit])
def test_ranks_that_nobody_brings_together_are_refused(call, tiny_model, dataset, monkeypatch, nothing_happens):
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(UnsupportedError, match="MASTER_ADDR is not set beside WORLD_SIZE=2"):
        call(tiny_model(), dataset)


def test_a_probe_passes_on_what_it_is_given(tiny_model, dataset, options, probed, capfd):
    def observer(event):
        pass

    result = autotrain.probe(
        tiny_model(),
        dataset,
        budget="2min",
        allow="exact",
        fix={"workers": 1},
        study="study.db",
        optuna_sampler="gp",
        compile="off",
        isolate=True,
        before_training=True,
        observer=observer,
        seed=5,
        **options,
    )
    ((workload, asked, heard),) = probed
    assert (asked.budget_s, asked.allow, asked.fixed, asked.study) == (
        120.0,
        Effect.EXACT,
        {"workers": 1},
        Path("study.db"),
    )
    assert (asked.sampler, asked.compile, asked.isolate, asked.before_training) == ("gp", "off", True, True)
    assert heard is observer
    assert (workload.seed, workload.batch_size) == (5, 8)
    assert result.session.default == result.plan.settings
    assert result.plan.seed == 5
    assert "".join(capfd.readouterr()) == ""


def test_the_options_of_a_call_come_before_those_of_a_task(tiny_model, dataset, probed):
    autotrain.probe(Task(model=tiny_model(), dataset=dataset, batch_size=4, seed=1), batch_size=6, progress=False)
    ((workload, _, _),) = probed
    assert (workload.batch_size, workload.seed) == (6, 1)


def test_the_sampler_of_a_task_is_that_of_its_images(tiny_model, dataset, options, probed):
    autotrain.probe(tiny_model(), dataset, sampler=range(16), **options)
    ((workload, asked, _),) = probed
    assert workload.task.sampler == range(16)
    assert asked.sampler == "auto"
    assert not asked.before_training


def test_fit_probes_and_trains_the_users_own_model(tiny_model, dataset, options, probed, capfd):
    model = tiny_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    names = [name for name, _ in model.named_parameters()]
    result = autotrain.fit(model, dataset, duration="2ep", **options)
    assert [asked.before_training for _, asked, _ in probed] == [True]
    assert result.model is model
    assert result.session is not None
    assert (result.steps, len(result.history), result.interrupted) == (6, 2, False)
    assert [name for name, _ in model.named_parameters()] == names
    assert not torch.equal(model.state_dict()["0.weight"], before["0.weight"])
    assert "".join(capfd.readouterr()) == ""


@pytest.mark.parametrize("as_path", [False, True])
def test_fit_with_a_plan_probes_nothing(as_path, tiny_model, dataset, options, tmp_path, monkeypatch):
    monkeypatch.setattr(api, "run_probe", lambda *arguments, **rest: pytest.fail("a plan was given"))
    plan = Plan(settings=Settings(memory_format="channels_last"))
    plan.save(tmp_path / "plan.yaml")
    given = tmp_path / "plan.yaml" if as_path else plan
    result = autotrain.fit(tiny_model(), dataset, plan=given, duration="1ep", **options)
    assert result.plan.settings == plan.settings
    assert result.plan.evidence.verdict is Verdict.GIVEN
    assert (result.session, result.steps) == (None, 3)


def test_a_plan_that_is_not_there_is_named(tiny_model, dataset, options, tmp_path, nothing_happens):
    with pytest.raises(PlanError, match=r"plan\.yaml"):
        autotrain.fit(tiny_model(), dataset, plan=tmp_path / "plan.yaml", **options)


@pytest.mark.parametrize("change", [{"precision": "tf32"}, {"precision": "fp16"}, {"placement": "device"}])
def test_a_plan_that_cannot_run_here_is_refused_or_folded(change, tiny_model, dataset, options, nothing_happens):
    """TF32 needs CUDA, which is said; without a policy there is nothing to place on the device, which is no matter."""
    plan = Plan(settings=Settings(**change))
    if "precision" in change:
        with pytest.raises(PlanError, match=f"precision = {change['precision']} is not possible here: .*CUDA"):
            autotrain.fit(tiny_model(), dataset, plan=plan, **options)
    else:
        workload = prepare_workload(Task(model=tiny_model(), dataset=dataset, batch_size=8, device="cpu"))
        folded = applicable(plan, workload, machine_facts(), name="the plan")
        assert folded.settings == Settings()


class Ranks(Team):
    """A team in which the other ranks say what this one says, but for some of it."""

    def __init__(self, other=lambda said: said, **facts):
        super().__init__(World(**{"world_size": 2, "local_world_size": 2, **facts}))
        self.other = other

    @property
    def alone(self):
        return False

    def everyone(self, thing):
        return [thing, *(self.other(thing) for _ in range(self.world.world_size - 1))]


def test_what_several_ranks_cannot_have_is_left_out_of_a_plan(tiny_model, dataset, caplog):
    """One process has begun a training with it, and many go on."""
    workload = prepare_workload(Task(model=tiny_model(), dataset=dataset, batch_size=8, device="cpu"))
    plan = Plan(settings=Settings(compile="default", workers=1))
    with caplog.at_level(logging.WARNING, logger="autotrain"):
        used = applicable(plan, replace(workload, team=Ranks()), machine_facts(), name="last.pt")
    assert used.settings == Settings(workers=1)
    (words,) = caplog.messages
    assert words.startswith("last.pt: compile = default is left out: ")
    assert "which several ranks cannot share" in words


@pytest.mark.parametrize(
    ("made", "now", "others"),
    [
        ((8, 8), (8, 8), False),
        ((8, 8), (8, 1), True),
        ((8, 8), (4, 4), True),
        ((8, 0), (8, 1), False),  # not known
        ((0, 0), (8, 8), False),  # by hand
    ],
)
def test_a_plan_is_of_processes_in_all_and_on_a_machine(tiny_model, dataset, made, now, others):
    workload = prepare_workload(Task(model=tiny_model(), dataset=dataset, batch_size=8, device="cpu"))
    team = Ranks(world_size=now[0], local_world_size=now[1])
    facts = Provenance(processes=made[0], processes_per_machine=made[1])
    plan = Plan(settings=Settings(), provenance=facts)
    assert made_for_others(plan, replace(workload, team=team)) is others


def test_ranks_with_the_same_task_learn_who_shares_their_cores(tiny_model, dataset, monkeypatch):
    monkeypatch.setattr(world_module, "_share", None)
    monkeypatch.setattr("autotrain.application.affinity", lambda: frozenset(range(4)))
    task = Task(model=tiny_model(), dataset=dataset, batch_size=8, device="cpu")
    quota = {"quota": None}
    facts = machine_facts()
    monkeypatch.setattr("autotrain.application.machine_facts", lambda: replace(facts, cpu=replace(facts.cpu, **quota)))
    workload, _ = here(task, Ranks())
    assert workload.batch_size == 8
    assert world_module._share == 2
    here(task, Ranks(lambda said: (*said[:3], frozenset(range(4, 8)))))
    assert world_module._share == 4
    here(task, Ranks(lambda said: (*said[:2], "another machine", said[3])))
    assert world_module._share == 4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dataset": 23}, "number of training images of rank 1 on there is 23, that of rank 0 on .* is 24"),
        ({"seed": 1}, "seed of rank 1 on there is 1"),
        ({"duration": "3ep"}, "duration of rank 1 on there is 9 steps"),
        ({"sampler": [*range(12), *range(11, -1, -1)]}, "order of the first epoch of rank 1"),
        ({"labels": 1}, "labels of rank 1"),
    ],
)
def test_a_rank_with_another_task_is_named_with_its_machine(tiny_model, dataset, monkeypatch, change, words):
    """Nobody would notice parts that overlap, and steps in other numbers would wait for each other without end."""
    monkeypatch.setattr(world_module, "_share", None)
    task = Task(model=tiny_model(), dataset=dataset, batch_size=8, device="cpu", duration="2ep")
    images, labels = dataset
    if "dataset" in change:
        change = {"dataset": (images[:23], labels[:23])}
    if "labels" in change:
        change = {"dataset": (images, (labels + 1) % 3)}
    theirs = facts_of(prepare_workload(replace(task, **change)))
    with pytest.raises(TaskError, match=f"not given the same task: the {words}"):
        here(task, Ranks(lambda said: ("there", theirs, *said[2:])))


def test_the_odd_one_of_many_is_named_and_not_the_first():
    said = [(f"node-{rank}", {"seed": 7 if rank == 0 else 0}) for rank in range(4)]
    words = disagreement(said)
    assert words is not None
    assert "the seed of rank 0 on node-0 is 7, that of rank 1 on node-1 is 0" in words
    assert disagreement(said[1:]) is None


def test_a_plan_of_another_machine_or_task_is_warned_of(tiny_model, dataset, options, caplog):
    workload = prepare_workload(Task(model=tiny_model(), dataset=dataset, batch_size=8, device="cpu"))
    own = Plan(settings=Settings(), provenance=provenance(machine_facts(), workload))
    with caplog.at_level(logging.WARNING, logger="autotrain"):
        autotrain.fit(tiny_model(), dataset, plan=own, duration="1step", **options)
        assert caplog.messages == []
        other = replace(own, provenance=replace(own.provenance, hardware="0" * 12, batch_size=64))
        autotrain.fit(tiny_model(), dataset, plan=other, duration="1step", **options)
    assert len(caplog.messages) >= 2
    assert all(message.startswith("the plan: ") for message in caplog.messages)


def test_the_plan_names_the_policy_where_the_task_leaves_it_open(tiny_model, dataset, options, caplog):
    plan = Plan(settings=Settings(augmentation="flip"))
    open_task = autotrain.fit(tiny_model(), dataset, plan=plan, duration="1step", **options)
    assert open_task.plan.settings.augmentation == "flip"
    with caplog.at_level(logging.WARNING, logger="autotrain"):
        own = autotrain.fit(tiny_model(), dataset, plan=plan, augmentation="none", duration="1step", **options)
    assert own.plan.settings.augmentation == "none"
    assert "augmentation 'flip'" in caplog.text


def test_classes_that_the_model_does_not_have_are_named(dataset, options, own_draws):
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 2))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(TaskError, match=r"the model gives 2 outputs, but the dataset has label 2"):
        autotrain.probe(model, dataset, **options)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_result_is_shown_in_notebooks_and_saved_as_a_page(tiny_model, dataset, options, probed, tmp_path):
    result = autotrain.probe(tiny_model(), dataset, **options)
    assert "no candidate was trained with" in result._repr_html_().lower()
    result.save_report(tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text().startswith("<!DOCTYPE html>")
    with pytest.raises(AutotrainError, match="its folder does not exist"):
        result.save_report(str(tmp_path / "nowhere" / "report.html"))
