import json

import pytest

from autotrain.errors import PlanError
from autotrain.measure.session import Session
from autotrain.report.html.source import read_probe


def test_a_session_and_a_probe_s_output_are_read(tmp_path, rich, told, probe_json):
    rich.save(tmp_path / "session.json")
    (tmp_path / "probe.json").write_text(probe_json(rich))
    session, plan = read_probe(tmp_path / "session.json")
    again, stored = read_probe(tmp_path / "probe.json")
    assert plan is None
    assert stored == told.plan
    assert json.loads(session.to_json()) == json.loads(again.to_json()) or "NaN" in session.to_json()
    assert session.measurements == again.measurements == rich.measurements


def test_a_session_is_saved_at_once_and_loaded(tmp_path, told):
    path = tmp_path / "s.json"
    told.session.save(path)
    assert Session.load(path) == told.session
    assert [entry.name for entry in tmp_path.iterdir()] == ["s.json"]
    with pytest.raises(PlanError, match=r"nowhere/s\.json: its folder does not exist\. Make it first: mkdir -p"):
        told.session.save(tmp_path / "nowhere" / "s.json")
    with pytest.raises(PlanError, match=r"a folder\. Name the file in it, such as .*/session\.json"):
        told.session.save(tmp_path)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "no such session. Make one with `autotrain probe TARGET --session session.json`"),
        (b"", ":1: not JSON (Expecting value in column 1), so not a session"),
        (b"{\n 'a'}", ":2: not JSON"),
        (b"[]", ": not a session: give the JSON file that a probe wrote"),
        (b"{}", ": not a session ('schema'): give the JSON file"),
        (b'{"schema": 99}', "session of schema 99, this autotrain understands 1: probe again"),
        (b'{"session": 3}', ": not a session"),
        (b"\xff\xfe", ":1: not text in UTF-8, so not a session"),
        (b"[" * 100_000, ": not a session"),
    ],
)
def test_what_is_not_a_session_is_one_clear_line(tmp_path, content, problem):
    path = tmp_path / "s.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PlanError) as raised:
        read_probe(path)
    assert str(raised.value).startswith(str(path))
    assert problem in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_folder_is_not_a_session(tmp_path):
    with pytest.raises(PlanError, match=r"a folder, not a session\. Name the file in it"):
        read_probe(tmp_path)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda values: values["measurements"][0]["windows"][0].update(wall_s=0.0),
        lambda values: values["measurements"][0]["windows"][0].update(images="many"),
        lambda values: values["measurements"][0].update(windows=[]),
        lambda values: values.update(machine={}),
        lambda values: values["default"].update(workers="two"),
        lambda values: values.pop("job"),
    ],
)
def test_a_damaged_session_is_one_clear_line(tmp_path, told, spoil):
    values = json.loads(told.session.to_json())
    spoil(values)
    path = tmp_path / "s.json"
    path.write_text(json.dumps(values))
    with pytest.raises(PlanError, match=r"^.*/s\.json: not a session \(.*give the JSON file that a probe wrote$"):
        read_probe(path)
