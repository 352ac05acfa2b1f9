"""The race: every entrant loads the same images, and what fails is left out with its reason."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import PIL
import pytest
import torch

from autotrain.data.reader import Reader
from autotrain.measure.clock import Clock
from autotrain.measure.measurement import Kind
from autotrain.measure.race import FEWEST_IMAGES, race
from autotrain.preparation import prepare_workload
from autotrain.settings import Settings
from autotrain.task import Task
from autotrain.workload import Workload

DEFAULT = Settings(augmentation="crop")
VERSION = """
class Version(str):
    def __contains__(self, part):
        return "post" in part or super().__contains__(part)


__version__ = Version("{}")
"""
FAST = replace(DEFAULT, decoder="simplejpeg_scaled", resize="torch")


@pytest.fixture
def workload(tiny_model: Any, jpeg_folder: Path) -> Workload:
    return prepare_workload(Task(model=tiny_model(), dataset=jpeg_folder, batch_size=8, image_size=16, device="cpu"))


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[int]]]:
    """The tickets that readers are given, by decoder, in order."""
    tickets: list[tuple[str, list[int]]] = []
    whole = Reader.read

    def noted(self: Reader, ticket: Any) -> Any:
        tickets.append((self._images.decoder.name, ticket.indices.tolist()))
        return whole(self, ticket)

    monkeypatch.setattr(Reader, "read", noted)
    return tickets


def test_every_entrant_loads_the_same_images(workload: Workload, read: list[tuple[str, list[int]]]) -> None:
    measured, failed = race(workload, [DEFAULT, FAST], clock=Clock(), turns=3)
    assert failed == []
    assert [entry.settings for entry in measured] == [DEFAULT, FAST]
    assert {entry.kind for entry in measured} == {Kind.INPUT}
    assert [len(entry.windows) for entry in measured] == [3, 3]
    first, second = ([window.images for window in entry.windows] for entry in measured)
    assert first == second
    of_default = [indices for name, indices in read if name == "pillow"]
    of_fast = [indices for name, indices in read if name == FAST.decoder]
    assert of_default[-3:] == of_fast[-3:]
    assert len(of_default[-1]) >= FEWEST_IMAGES
    assert all(window.wall_s > 0 for entry in measured for window in entry.windows)


def test_it_is_run_on_one_thread_and_the_count_is_put_back(workload: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    counts, whole = [], Reader.read

    def noted(self: Reader, ticket: Any) -> Any:
        counts.append(torch.get_num_threads())
        return whole(self, ticket)

    monkeypatch.setattr(Reader, "read", noted)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        race(workload, [DEFAULT], clock=Clock(), turns=1)
        assert set(counts) == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_an_entrant_that_fails_is_left_out_with_its_reason(workload: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Reader.read

    def failing(self: Reader, ticket: Any) -> Any:
        if self._images.decoder.name == FAST.decoder:
            raise MemoryError("no room")
        return whole(self, ticket)

    monkeypatch.setattr(Reader, "read", failing)
    measured, failed = race(workload, [FAST, DEFAULT], clock=Clock(), turns=2)
    assert [entry.settings for entry in measured] == [DEFAULT]
    assert failed == [(FAST, "no room")]


def test_pillow_simd_races_in_a_worker_of_its_own(
    workload: Workload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy of Pillow that calls itself Pillow-SIMD stands in for it."""
    package = Path(PIL.__file__).parent
    (tmp_path / "PIL").mkdir()
    for entry in package.iterdir():
        if entry.name not in ("_version.py", "__pycache__"):
            os.symlink(entry, tmp_path / "PIL" / entry.name)
    # Pillow checks that its C part has the same version, so this one only claims to hold what Pillow-SIMD's has.
    (tmp_path / "PIL" / "_version.py").write_text(VERSION.format(PIL.__version__))
    for libraries in package.parent.glob("[pP]illow.libs"):
        os.symlink(libraries, tmp_path / libraries.name)
    monkeypatch.setenv("AUTOTRAIN_PILLOW_SIMD", str(tmp_path))
    simd = replace(DEFAULT, decoder="pillow_simd")
    draft = replace(DEFAULT, decoder="pillow_simd_draft")
    measured, failed = race(workload, [DEFAULT, simd, draft], clock=Clock(), turns=2)
    assert failed == []
    assert [entry.settings for entry in measured] == [DEFAULT, simd, draft]
    assert [len(entry.windows) for entry in measured] == [2, 2, 2]
    assert len({window.images for entry in measured for window in entry.windows}) == 1
