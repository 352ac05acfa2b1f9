"""The status line: on terminals and in notebooks, and nowhere else."""

from __future__ import annotations

import io
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from autotrain.report.status import StatusLine, in_notebook, new_console


class Notebook:
    """What a notebook shows: cells of output that can be changed in place."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def display(self, content: dict[str, str], *, raw: bool, display_id: bool) -> Any:
        assert raw
        assert display_id
        self.shown.append(content["text/plain"])
        return self

    def update(self, content: dict[str, str], *, raw: bool) -> None:
        assert raw
        self.shown[-1] = content["text/plain"]


def ipython(monkeypatch: pytest.MonkeyPatch, shell: object) -> Notebook:
    """Have IPython be imported, with a shell."""
    notebook = Notebook()
    module, display = ModuleType("IPython"), ModuleType("IPython.display")
    module.get_ipython = lambda: shell  # type: ignore[attr-defined]
    display.display = notebook.display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", module)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    return notebook


@pytest.mark.parametrize(
    ("shell", "expected"), [(SimpleNamespace(kernel=1), True), (SimpleNamespace(), False), (None, False)]
)
def test_a_notebook_is_a_shell_with_a_kernel(shell: object, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    ipython(monkeypatch, shell)
    assert in_notebook() is expected


def test_a_notebook_shows_one_line_that_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = ipython(monkeypatch, SimpleNamespace(kernel=1))
    console = Console(file=io.StringIO(), width=20)
    line = StatusLine(console)
    line.show("measuring: default")
    assert notebook.shown == ["measuring: default"]
    line.show("measuring: " + "x" * 100)
    assert notebook.shown == ["measuring: " + "x" * 9]
    line.close()
    assert notebook.shown == [""]
    assert console.file.getvalue() == ""  # type: ignore[attr-defined]


def test_what_stays_is_text_in_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    ipython(monkeypatch, SimpleNamespace(kernel=1))
    assert not new_console().is_jupyter


def test_a_pipe_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    console = Console(file=io.StringIO())
    line = StatusLine(console)
    assert not line.visible
    line.show("measuring")
    line.close()
    assert console.file.getvalue() == ""  # type: ignore[attr-defined]
