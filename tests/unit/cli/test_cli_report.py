import pytest

from autotrain.cli.main import app
from autotrain.measure.session import Session
from autotrain.plan.plan import Plan
from autotrain.settings import Settings


@pytest.fixture
def session(api, target, autotrain):
    """The file that a probe wrote."""
    autotrain("probe", target, "--session", "session.json")
    return "session.json"


def test_a_stored_session_becomes_a_page(session, autotrain, tmp_path):
    done = autotrain("report", session)
    assert (done.code, done.out, done.err) == (0, "Wrote report.html. Open it in a browser.\n", "")
    assert (tmp_path / "report.html").read_text().startswith("<!DOCTYPE html>")
    assert autotrain("report", session, "--out", "report.html").out.startswith("Replaced report.html")


def test_a_plan_can_be_shown_with_it(session, autotrain, tmp_path):
    Plan(settings=Settings(workers=3)).save("mine.yaml")
    assert autotrain("report", session, "--plan", "mine.yaml", "--out", "r.html").code == 0
    assert "workers = 3" in (tmp_path / "r.html").read_text()


def test_the_output_of_a_probe_becomes_a_page(api, target, autotrain, tmp_path):
    (tmp_path / "probe.json").write_text(autotrain("probe", target, "--json").out)
    assert autotrain("report", "probe.json").code == 0


def test_a_probe_writes_session_and_report(api, target, autotrain, tmp_path):
    done = autotrain("probe", target, "--session", "s.json", "--report", "r.html")
    assert done.code == 0
    assert done.out.endswith("Wrote s.json, all measurements.\nWrote r.html. Open it in a browser.\n")
    assert Session.load("s.json").job.model == "Net"
    assert "Net" in (tmp_path / "r.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["report", "nowhere.json"], "nowhere.json: no such session. Make one with"),
        (["report", "plan.yaml"], "plan.yaml:1: not JSON"),
        (["report", "session.json", "--plan", "nowhere.yaml"], "nowhere.yaml: no such plan"),
        (["report", "session.json", "--out", "nowhere/r.html"], "--out nowhere/r.html: its folder does not exist"),
        (["report", "session.json", "--out", "."], "a folder. Name the file in it"),
    ],
)
def test_a_mistake_is_one_line(session, autotrain, arguments, problem):
    done = autotrain(*arguments)
    assert (done.code, done.out) == (2, "")
    assert problem in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("option", ["--session", "--report"])
def test_a_place_that_cannot_be_written_is_found_before_probing(api, target, autotrain, option):
    done = autotrain("probe", target, option, "nowhere/file")
    assert done.code == 2
    assert f"{option} nowhere/file: its folder does not exist" in done.err
    assert api.calls == []


def test_the_command_is_listed():
    assert "report" in {entry.name for entry in app.registered_commands}
