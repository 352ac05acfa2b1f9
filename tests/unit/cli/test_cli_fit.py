import os
from pathlib import Path

import pytest
import torch

from autotrain.engine.checkpoint import CheckpointFolder
from autotrain.plan.evidence import Evidence, Verdict
from autotrain.plan.plan import Plan
from autotrain.settings import Settings
from autotrain.training import Training


@pytest.fixture
def plan(api) -> str:
    Plan(settings=Settings()).save("plan.yaml")
    return "plan.yaml"


def test_a_plan_is_trained_with_and_the_weights_are_written(api, target, plan, autotrain):
    done = autotrain("fit", target, "--plan", plan, "--duration", "5ep", "--log", "history.jsonl")
    assert done.code == 0
    assert [name for name, _, _ in api.calls] == ["fit"]
    _, task, options = api.calls[0]
    assert (task.duration, str(options["plan"])) == ("5ep", "plan.yaml")
    state = torch.load("model.pt", weights_only=True)
    assert torch.equal(state["weight"], task.model.weight)
    assert "Wrote the weights to model.pt" in done.out
    assert options["training"].logs == (Path("history.jsonl"),)


def test_checkpoints_and_what_to_go_on_from_reach_the_training(api, target, plan, autotrain):
    arguments = ["--checkpoints", "run", "--every", "2ep", "--keep", "5", "--resume", "auto", "--plan", plan]
    assert autotrain("fit", target, *arguments, "--schedule", "linear(1ep) > cosine", "--stretch", "0.5").code == 0
    _, task, options = api.calls[0]
    assert options["training"] == Training(checkpoints=Path("run"), every="2ep", keep=5, resume="auto")
    assert (task.schedule, task.stretch) == ("linear(1ep) > cosine", 0.5)


def test_what_goes_on_is_not_probed_again(api, target, autotrain):
    folder = CheckpointFolder(Path("run"))
    folder.claim()
    folder.save({}, step=7)
    folder.close()
    assert autotrain("fit", target, "--checkpoints", "run", "--resume", "auto").code == 0
    assert [(name, options["plan"]) for name, _, options in api.calls] == [("fit", None)]
    api.calls.clear()
    done = autotrain("fit", target, "--checkpoints", "run")
    assert (done.code, api.calls) == (2, []), "it is said before anything is probed"
    assert "there are checkpoints of a training. Go on with resume='auto'" in done.err


def test_a_folder_of_damaged_checkpoints_is_refused_before_probing(api, target, autotrain):
    Path("run").mkdir()
    Path("run/step-000000007-0123456789abcdef.pt").write_bytes(b"")
    done = autotrain("fit", target, "--checkpoints", "run", "--resume", "auto")
    assert (done.code, api.calls) == (2, [])
    assert "none of its 1 checkpoints can be read" in done.err


def test_where_the_last_checkpoint_is_missing_the_weights_are_written_and_it_is_said(api, target, autotrain):
    api.unsaved = "run: the checkpoint cannot be written: No space left on device"
    done = autotrain("fit", target, "--checkpoints", "run")
    assert done.code == 2
    assert f"{api.unsaved}. The weights are in model.pt" in done.err
    assert Path("model.pt").exists()


def test_without_a_plan_it_is_probed_first(api, target, autotrain):
    done = autotrain("fit", target, "--budget", "20s")
    assert done.code == 0
    assert [name for name, _, _ in api.calls] == ["probe", "fit"]
    assert api.calls[0][2]["budget"] == "20s"
    assert api.calls[0][2]["before_training"] is True
    assert isinstance(api.calls[1][2]["plan"], Plan)
    assert "Inconclusive" in done.out


def test_how_to_search_is_refused_where_nothing_is_probed(api, target, plan, autotrain):
    done = autotrain("fit", target, "--plan", plan, "--isolate")
    assert (done.code, api.calls) == (2, [])
    assert "--isolate is for probing, but with --plan nothing is probed" in done.err


def test_how_to_search_reaches_the_probe_before_a_training(api, target, autotrain):
    assert autotrain("fit", target, "--sampler", "random").code == 0
    assert api.calls[0][2]["optuna_sampler"] == "random"


def test_ctrl_c_keeps_the_weights_so_far(api, target, plan, autotrain):
    api.interrupted = True
    assert autotrain("fit", target, "--plan", plan, "--save", "w.pt").code == 130
    assert "weight" in torch.load("w.pt", weights_only=True)


def test_a_second_ctrl_c_while_probing_does_not_start_a_training(api, target, autotrain):
    api.verdict = Verdict.NOT_PROVEN
    done = autotrain("fit", target)
    assert (done.code, len(api.calls)) == (130, 1)
    assert done.err == "autotrain: interrupted\n"


def test_a_failed_training_leaves_older_weights_alone(api, target, plan, autotrain):
    Path("model.pt").write_text("older")
    api.raises = RuntimeError("boom")
    assert autotrain("fit", target, "--plan", plan, "--log", "h.jsonl").code == 1
    assert Path("model.pt").read_text() == "older"
    assert set(os.listdir()) - {"__pycache__"} == {"model.pt", "mytask.py", "plan.yaml"}


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--save", "nowhere/model.pt"], "--save nowhere/model.pt: its folder does not exist"),
        (["--log", "mytask.py/h.jsonl"], "log: mytask.py cannot be made (File exists)"),
        (["--plan", "missing.yaml"], "missing.yaml: no such plan"),
        (["--plan", "plan.yaml", "--budget", "9s"], "--budget is for probing"),
        (["--plan", "plan.yaml", "--fix", "workers=2"], "--fix is for probing"),
        (["--plan", "plan.yaml", "--allow", "exact"], "--allow is for probing"),
    ],
)
def test_what_cannot_work_is_found_before_training(api, target, plan, autotrain, arguments, problem):
    done = autotrain("fit", target, *arguments)
    assert done.code == 2
    assert done.err.startswith(f"autotrain: error: {problem}")
    assert api.calls == []


def test_a_broken_plan_is_named_with_its_line(api, target, autotrain):
    text = Plan(settings=Settings(), evidence=Evidence()).to_yaml().replace("precision:", "precison:")
    Path("plan.yaml").write_text(text)
    done = autotrain("fit", target, "--plan", "plan.yaml")
    assert done.code == 2
    assert "autotrain: error: plan.yaml:" in done.err
    assert "Did you mean 'precision'?" in done.err
