"""The commands that read plans: explain, compare and export."""

import json
import sys
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest

from autotrain.errors import CandidateError
from autotrain.measure.session import DuelRecord
from autotrain.plan.evidence import Evidence, Verdict
from autotrain.plan.plan import Plan
from autotrain.plan.provenance import Provenance
from autotrain.settings import Settings
from autotrain.stats.summary import Estimate

SETTINGS = Settings(memory_format="channels_last", cache="ram", workers=2)
PROVEN = Evidence(verdict=Verdict.FASTER, ratio=Estimate(value=1.5, low=1.4, high=1.6, n=8))
FAST, SLOW = (400.0, 410.0, 405.0, 395.0, 402.0, 399.0), (200.0, 205.0, 201.0, 199.0, 203.0, 198.0)


@pytest.fixture
def plans(tmp_path, monkeypatch) -> None:
    """Two plans in an empty folder."""
    monkeypatch.chdir(tmp_path)
    made = Provenance(cpu="a CPU", usable_cpus=1, hardware="other")
    Plan(settings=SETTINGS, evidence=PROVEN, provenance=made).save("a.yaml")
    Plan(settings=replace(SETTINGS, workers=4)).save("b.yaml")


@pytest.fixture
def meeting(monkeypatch, session) -> dict[str, Any]:
    """Replace the duel: what it is asked, and the rates or the error that it gives."""
    asked: dict[str, Any] = {"rates": (SLOW, FAST), "raises": None}

    def duel_of_plans(task, one, other, **options):
        asked.update(task=task, one=one, other=other, **options)
        if asked["raises"] is not None:
            raise asked["raises"]
        first, second = asked["rates"]
        record = DuelRecord(
            baseline=one.settings, candidate=other.settings, baseline_rates=first, candidate_rates=second
        )
        return replace(session, default=one.settings, duels=(record,))

    module = ModuleType("autotrain.comparison")
    module.duel_of_plans = duel_of_plans  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "autotrain.comparison", module)
    return asked


def test_explain(plans, autotrain):
    done = autotrain("explain", "a.yaml")
    words = " ".join(done.out.split())
    assert (done.code, done.err) == (0, "")
    assert "a.yaml: proven 1.50x (1.40 to 1.60, n=8) the default's images/s" in words
    assert "cache = ram Decoded images are kept in memory" in words
    assert "made on 'a CPU' with 1 usable core; this machine is" in words


def test_explain_as_json(plans, autotrain):
    values = json.loads(autotrain("explain", "a.yaml", "--json").out)
    assert set(values) == {"plan", "settings", "edited", "differences"}
    assert [entry["setting"] for entry in values["settings"] if entry["changed"]] == [
        "memory_format",
        "cache",
        "workers",
    ]
    assert len(values["differences"]) == 1


@pytest.mark.parametrize("command", ["explain none.yaml", "compare a.yaml none.yaml", "export none.yaml --to timm"])
def test_a_plan_that_is_not_there_is_one_line(plans, autotrain, command):
    done = autotrain(*command.split())
    assert done.code == 2
    assert done.err.startswith("autotrain: error: none.yaml: no such plan")
    assert done.err.count("\n") == 1


def test_compare_without_a_task_decides_nothing(plans, meeting, autotrain):
    done = autotrain("compare", "a.yaml", "b.yaml")
    words = " ".join(done.out.split())
    assert (done.code, done.err) == (0, "")
    assert "workers 2 4" in words
    assert "not comparable" in words
    assert "autotrain compare a.yaml b.yaml TARGET" in words
    assert "task" not in meeting


@pytest.mark.parametrize(
    ("rates", "code", "words"),
    [
        ((SLOW, FAST), 0, "B is faster: 2.00x"),
        ((FAST, SLOW), 4, "A is faster: B has 0.50x"),
        ((SLOW, SLOW), 3, "Cannot tell: B has 1.00x"),
        ((SLOW[:2], FAST[:2]), 3, "there were too few pairs"),
    ],
)
def test_the_exit_code_is_the_verdict(plans, meeting, target, autotrain, rates, code, words):
    meeting["rates"] = rates
    done = autotrain("compare", "a.yaml", "b.yaml", target, "--budget=9s")
    assert done.code == code
    assert words in " ".join(done.out.split())
    assert (meeting["budget"], meeting["names"]) == ("9s", ("a.yaml", "b.yaml"))
    assert meeting["one"].settings == SETTINGS
    assert len(meeting["task"].dataset) == 2


def test_the_comparison_as_json(plans, meeting, target, autotrain):
    values = json.loads(autotrain("compare", "a.yaml", "b.yaml", target, "--json").out)
    assert values["settings"] == {"workers": {"A": 2, "B": 4}}
    assert values["duel"]["verdict"] == "faster"
    assert values["duel"]["pairs"]["candidate_rates"] == list(FAST)
    assert json.loads(autotrain("compare", "a.yaml", "b.yaml", "--json").out)["duel"] is None


def test_a_plan_that_fails_here_is_one_line(plans, meeting, target, autotrain):
    meeting["raises"] = CandidateError("it failed here: out of memory")
    done = autotrain("compare", "a.yaml", "b.yaml", target)
    assert (done.code, done.err) == (2, "autotrain: error: it failed here: out of memory\n")


def test_comparing_takes_two_plans_and_no_options_of_a_search(plans, meeting, autotrain):
    assert autotrain("compare", "a.yaml").code == 2
    assert autotrain("compare", "a.yaml", "b.yaml", "--sampler=gp").code == 2


def test_export_writes_the_text_and_says_what_is_lost(plans, autotrain):
    done = autotrain("export", "a.yaml", "--to", "composer")
    assert done.code == 0
    assert "channels_last: {}" in done.out
    words = " ".join(done.err.split())
    assert "Under Composer nothing was measured" in words
    assert "Lost, since Composer has nothing for it: - cache = ram" in words


def test_export_to_a_file(plans, autotrain, tmp_path):
    done = autotrain("export", "a.yaml", "--to", "transformers", "--out", "arguments.json")
    assert (done.code, done.out) == (0, "")
    assert "Wrote arguments.json" in done.err
    assert json.loads((tmp_path / "arguments.json").read_text())["dataloader_num_workers"] == 2
    quiet = autotrain("export", "a.yaml", "--to", "transformers", "--quiet")
    assert (quiet.code, quiet.err) == (0, "")


def test_export_of_the_schema(plans, autotrain):
    done = autotrain("export", "--schema")
    assert json.loads(done.out)["required"] == ["schema", "settings"]


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("export", "PLAN: missing"),
        ("export a.yaml", "--to: missing"),
        ("export a.yaml --schema", "--schema: is that of all plans"),
        ("export a.yaml --to timm --out nowhere/x", "its folder does not exist"),
    ],
)
def test_what_export_needs(plans, autotrain, command, problem):
    done = autotrain(*command.split())
    assert done.code == 2
    assert problem in done.err
    assert done.err.count("\n") == 1


def test_export_to_an_unknown_library(plans, autotrain):
    done = autotrain("export", "a.yaml", "--to", "keras")
    assert done.code == 2
    assert "keras" in done.err
