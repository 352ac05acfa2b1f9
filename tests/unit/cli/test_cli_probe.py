import json
import logging
import os

import pytest

from autotrain.cli.options import Sampler
from autotrain.plan.evidence import Verdict
from autotrain.plan.plan import Plan


def test_a_probe_tells_its_story_and_writes_the_plan(api, target, autotrain):
    done = autotrain("probe", target)
    assert done.code == 0
    assert "a machine" in done.out
    assert "Inconclusive" in done.out
    assert "Wrote plan.yaml. Train with it:\n  autotrain fit mytask.py --plan plan.yaml" in done.out
    assert done.err == ""
    Plan.load("plan.yaml")


def test_a_second_probe_says_that_it_replaced_the_plan(api, target, autotrain):
    autotrain("probe", target, "--out", "my.yaml")
    assert "Replaced my.yaml" in autotrain("probe", target, "--out", "my.yaml").out


def test_options_reach_the_task_and_the_probe(api, target, autotrain):
    given = (
        "--image-size 96 --batch-size 2 --duration 3ep --seed 7 --device cpu --augment auto --lr 0.1 --budget 30s "
        "--allow exact --fix workers=2 --fix pinning=no --fix precision=bf16 --study s.db"
    )
    done = autotrain("probe", target, *given.split())
    assert done.code == 0
    _, task, options = api.calls[0]
    assert (task.image_size, task.batch_size, task.duration, task.seed) == (96, 2, "3ep", 7)
    assert (task.device, task.augmentation) == ("cpu", "auto")
    assert task.optimizer([task.model.weight]).defaults["lr"] == 0.1
    assert (options["budget"], options["allow"], str(options["study"])) == ("30s", "exact", "s.db")
    assert options["fix"] == {"workers": 2, "pinning": False, "precision": "bf16"}
    assert "autotrain fit mytask.py --image-size 96 --batch-size 2 --duration 3ep --lr 0.1 --augment auto" in done.out


def test_how_to_search_reaches_the_probe(api, target, autotrain):
    done = autotrain("probe", target, "--isolate", "--sampler=gp", "--compile=off", "--study=s.journal")
    assert done.code == 0
    options = api.calls[0][2]
    assert (options["isolate"], options["optuna_sampler"], options["compile"]) == (True, "gp", "off")
    assert str(options["study"]) == "s.journal"
    assert "autotrain fit mytask.py --plan plan.yaml" in done.out  # how it was searched is not what is trained


def test_what_is_not_said_about_the_search_is_chosen_automatically(api, target, autotrain):
    autotrain("probe", target)
    options = api.calls[0][2]
    assert (options["isolate"], options["optuna_sampler"], options["compile"]) == (False, "auto", "auto")


def test_the_samplers_are_those_of_the_search():
    from autotrain.search.samplers import SAMPLERS

    assert {entry.value for entry in Sampler} == set(SAMPLERS)


@pytest.mark.parametrize("option", ["--sampler=tpo", "--compile=maybe"])
def test_an_unknown_way_to_search_is_refused(api, target, autotrain, option):
    done = autotrain("probe", target, option)
    assert (done.code, api.calls) == (2, [])
    assert option.partition("=")[0] in done.err


def test_what_is_not_given_stays_as_the_target_has_it(api, target, autotrain):
    autotrain("probe", target)
    task = api.calls[0][1]
    assert (task.image_size, task.batch_size, task.duration, task.optimizer) == (None, None, "10ep", None)


def test_json_is_alone_on_standard_output(api, target, autotrain):
    done = autotrain("probe", target, "--json")
    values = json.loads(done.out)
    assert set(values) == {"plan", "finding", "session"}
    assert values["plan"]["settings"]["precision"] == "fp32"
    assert "a machine" in done.err
    assert "a message of the user's own code" in done.err


def test_quiet_says_nothing(api, target, autotrain):
    done = autotrain("probe", target, "-q")
    assert (done.code, done.out, done.err) == (0, "a message of the user's own code\n", "")


def test_an_interrupted_probe_keeps_what_is_proven(api, target, autotrain):
    api.verdict = Verdict.FASTER
    assert autotrain("probe", target).code == 0
    api.verdict = Verdict.NOT_PROVEN
    assert autotrain("probe", target).code == 130


@pytest.mark.parametrize(
    ("out", "problem"),
    [
        ("nowhere/plan.yaml", "its folder does not exist. Make it first: mkdir -p 'nowhere'"),
        (".", "a folder. Name the file in it"),
        ("/dev/null", "not a regular file"),
    ],
)
def test_a_place_that_cannot_be_written_is_found_before_probing(api, target, autotrain, out, problem):
    done = autotrain("probe", target, "--out", out)
    assert done.code == 2
    assert problem in done.err
    assert api.calls == []


def test_nothing_else_is_left_behind(api, target, autotrain):
    autotrain("probe", target)
    assert {name for name in os.listdir() if not name.startswith("__")} == {"mytask.py", "plan.yaml"}


@pytest.mark.parametrize(
    ("fix", "problem"),
    [
        ("precison=bf16", "unknown knob 'precison'. Did you mean 'precision'?"),
        ("workers=two", "'two' is not a whole number"),
        ("pinning=maybe", "'maybe' is neither true nor false"),
        ("workers", "give KNOB=VALUE"),
        ("=2", "give KNOB=VALUE"),
    ],
)
def test_a_wrong_fix_is_one_clear_line(api, target, autotrain, fix, problem):
    done = autotrain("probe", target, "--fix", fix)
    assert done.code == 2
    assert done.err.startswith(f"autotrain: error: --fix {fix}: {problem}")
    assert done.err.count("\n") == 1


def test_a_setting_fixed_twice_is_refused(api, target, autotrain):
    assert "fixed twice" in autotrain("probe", target, "--fix", "workers=1", "--fix", "workers=2").err


def test_warnings_of_the_log_are_lines(api, target, autotrain, monkeypatch):
    def warn(task, **options):
        logging.getLogger("autotrain.search").warning("plan.yaml: made on\nanother machine")
        return type(api).probe(api, task, **options)

    import sys

    monkeypatch.setattr(sys.modules["autotrain.api"], "probe", warn)
    before = list(logging.getLogger("autotrain").handlers)
    assert "autotrain: warning: plan.yaml: made on another machine\n" in autotrain("probe", target).err
    assert logging.getLogger("autotrain").handlers == before
