"""``autotrain doctor``: its exit codes, its JSON, and that it runs where other commands refuse to."""

import json

import pytest
from healthy import made

from autotrain.cli import main as cli
from autotrain.doctor import facts as facts_module
from autotrain.errors import InstallationError


@pytest.fixture
def machine(monkeypatch):
    """Have the command look at made facts."""

    def use(**changes):
        monkeypatch.setattr(facts_module, "Facts", lambda **options: made(**changes))

    return use


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({}, 0, "All well: "),
        ({"environ": {"TORCH_LOGS": "+dynamo"}}, 0, "All well but for this: 1 worth knowing"),
        ({"environ": {"CUDA_LAUNCH_BLOCKING": "1"}}, 3, "Found: 1 slowing it down"),
        ({"file_limit": {"soft": 64}}, 3, "Found: 1 that may crash training"),
    ],
)
def test_the_exit_code_says_whether_there_is_something_to_mend(autotrain, machine, changes, code, words):
    machine(**changes)
    done = autotrain("doctor")
    assert (done.code, done.err) == (code, "")
    assert words in done.out


def test_json_alone_goes_to_standard_output(autotrain, machine):
    machine(environ={"CUDA_LAUNCH_BLOCKING": "1"})
    done = autotrain("doctor", "--json")
    found = json.loads(done.out)
    assert done.code == 3
    assert [entry["check"] for entry in found["problems"]] == ["switches"]
    assert found["machine"]["cpu"]["usable"] == 16


def test_a_check_can_be_left_out(autotrain, machine):
    machine(environ={"CUDA_LAUNCH_BLOCKING": "1"})
    assert autotrain("doctor", "--skip", "switches").code == 0
    done = autotrain("doctor", "--skip", "switch")
    assert done.code == 2
    assert "unknown check 'switch'. Did you mean 'switches'?" in done.err


def test_a_folder_that_is_not_there_is_the_users_to_mend(autotrain, machine, tmp_path):
    done = autotrain("doctor", "--quick", "--data", str(tmp_path / "missing"))
    assert done.code == 2
    assert "no such folder" in done.err


def test_it_runs_beside_the_other_project_of_this_name(autotrain, machine, monkeypatch):
    def refuse():
        raise InstallationError("the other one is here")

    monkeypatch.setattr(cli, "check_installation", refuse)
    machine()
    assert autotrain("doctor").code == 0
    assert autotrain("cache").code == 2


def test_a_missing_requirement_of_its_own_is_one_line(autotrain, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "autotrain.doctor.facts", None)
    done = autotrain("doctor")
    assert done.code == 2
    assert "from your copy of its repository: pip install ." in done.err
    assert done.err.count("\n") == 1


def test_help_tells_the_exit_codes(autotrain):
    text = " ".join(autotrain("doctor", "--help").out.split())
    assert "3, something slows training down or may crash it" in text
    assert "--skip" in text
