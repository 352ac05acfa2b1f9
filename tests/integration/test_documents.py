"""What the documents say can be done: their code runs as written, their commands and files are what they seem."""

from __future__ import annotations

import re
import runpy
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#]+?)(?:#[^)]*)?\)")


def blocks(document: Path, *languages: str) -> list[tuple[int, str]]:
    """Return line and text of a document's blocks of code."""
    text = document.read_text()
    return [
        (text.count("\n", 0, found.start()) + 2, found.group(2))
        for found in FENCE.finditer(text)
        if found.group(1) in languages
    ]


def with_blocks(*languages: str) -> list[Path]:
    return [document for document in DOCUMENTS if blocks(document, *languages)]


def name(document: Path) -> str:
    return str(document.relative_to(ROOT))


@pytest.fixture
def photos(
    tmp_path: Path,
    jpeg_folder: Path,
    tiny_model: Any,
    monkeypatch: pytest.MonkeyPatch,
    one_thread: None,
    own_draws: None,
) -> Path:
    """A working directory with the folder that the examples name; a small network, and probes of the default alone."""
    from autotrain import api

    for part in ("train", "val"):
        shutil.copytree(jpeg_folder, tmp_path / "photos" / part)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(api, "parse_budget", lambda text: 0.5)
    monkeypatch.setattr("torchvision.models.resnet18", lambda num_classes: tiny_model(num_classes))
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("document", with_blocks("python"), ids=name)
def test_code_runs_as_written(document: Path, photos: Path) -> None:
    """One after the other, as somebody who reads on would; guides begin with what docs/README.md says there is."""
    given: dict[str, Any] = {"__name__": "__documents__"}
    if document.parent.name == "docs":
        exec(compile(PRELUDE, "docs/README.md", "exec"), given)
    for line, text in blocks(document, "python"):
        code = compile("\n" * (line - 1) + text, str(document), "exec")
        exec(code, given)


PRELUDE = "\n".join(text for _, text in blocks(ROOT / "docs" / "README.md", "python"))
"""What all guides begin with."""


@pytest.mark.parametrize("document", with_blocks("yaml"), ids=name)
def test_yaml_is_yaml(document: Path) -> None:
    for _, text in blocks(document, "yaml"):
        assert YAML(typ="safe").load(text)


@pytest.mark.parametrize("document", with_blocks("sh"), ids=name)
def test_commands_exist(document: Path) -> None:
    """Every ``autotrain ...`` names a command and options that there are."""
    from autotrain.cli.main import app

    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for line, text in blocks(document, "sh"):
        for entry in text.replace("\\\n", " ").splitlines():
            for command, given in _called(shlex.split(entry, comments=True)):
                place = f"{document.name}:{line}: autotrain {command}"
                assert command in commands, place
                known = {option for parameter in commands[command].params for option in parameter.opts}
                unknown = [word for word in given if word.startswith("--") and word.split("=")[0] not in known]
                assert not unknown, f"{place}: {unknown}"


def _called(words: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield command and arguments where a line calls autotrain: as itself, as a module, or in a container."""
    for place, word in enumerate(words[:-1]):
        if word == "autotrain" and (place == 0 or words[place - 1] == "-m" or words[:2] == ["docker", "run"]):
            yield words[place + 1], words[place + 2 :]


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in LINK.findall(document.read_text()):
        if not target.startswith(("http:", "https:", "mailto:")):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_named_files_exist(document: Path) -> None:
    """Scripts and modules that a document names in backquotes."""
    for named in re.findall(r"`((?:benchmarks|examples|autotrain|tests|docs)/[\w/.-]+\.\w+)`", document.read_text()):
        assert (ROOT / named).exists(), f"{document.name}: {named}"


def test_the_page_of_settings_is_that_of_the_knobs() -> None:
    generate = runpy.run_path(str(ROOT / "docs" / "generate.py"))
    assert (ROOT / "docs" / "settings.md").read_text() == generate["page"](), "run: python docs/generate.py"
