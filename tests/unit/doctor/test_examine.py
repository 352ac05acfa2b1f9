"""The examination: nothing ends it, and everything is told."""

import json

import pytest
from healthy import made

from autotrain.doctor.check import Check, Fine, NotDone, Problem, Severity
from autotrain.doctor.checks import CHECKS
from autotrain.doctor.examine import examine
from autotrain.errors import AutotrainError


def problem(severity, what="it"):
    return Problem(severity=severity, what=what, evidence="seen", cost="time", remedy="mend")


def raising(error):
    def look(facts):
        raise error

    return look


def test_every_outcome_has_its_place_and_the_gravest_comes_first():
    checks = (
        Check(name="note", look=lambda facts: problem(Severity.NOTE)),
        Check(name="two", look=lambda facts: [problem(Severity.SLOW, "a"), problem(Severity.CRASH, "b")]),
        Check(name="fine", look=lambda facts: Fine(fact="42")),
        Check(name="not", look=raising(NotDone("no tool"))),
        Check(name="broken", look=raising(ZeroDivisionError("division by zero"))),
        Check(name="unwanted", look=raising(AssertionError)),
    )
    told = []
    found = examine(made(), checks, skip=["unwanted"], observer=told.append)
    assert [(name, entry.severity.name) for name, entry in found.problems] == [
        ("two", "CRASH"),
        ("two", "SLOW"),
        ("note", "NOTE"),
    ]
    assert found.passed == (("fine", "42"),)
    assert found.left_out == (("not", "no tool"), ("unwanted", "not wanted (--skip)"))
    assert found.failed == (("broken", "ZeroDivisionError: division by zero"),)
    assert told == ["note", "two", "fine", "not", "broken"]
    assert not found.healthy


def test_what_is_worth_knowing_leaves_a_machine_healthy():
    assert examine(made(), (Check(name="note", look=lambda facts: problem(Severity.NOTE)),)).healthy


def test_an_unknown_name_to_skip_is_told_with_the_known_ones():
    with pytest.raises(AutotrainError, match=r"--skip clok: unknown check 'clok'\. Did you mean 'clock'\?"):
        examine(made(), CHECKS, skip=["clok"])


def test_names_are_unique_and_can_be_typed():
    names = [check.name for check in CHECKS]
    assert len(names) == len(set(names))
    assert all(name.replace("-", "").isalpha() and name.islower() for name in names)


def test_the_values_are_those_of_json():
    found = examine(made(environ={"CUDA_LAUNCH_BLOCKING": "1"}), CHECKS).as_dict()
    assert json.loads(json.dumps(found)) == found
    (entry,) = found["problems"]
    assert entry["check"] == "switches"
    assert entry["severity"] == "slow"
    assert set(entry) == {"check", "severity", "what", "evidence", "cost", "remedy", "command", "source"}
    assert found["healthy"] is False
