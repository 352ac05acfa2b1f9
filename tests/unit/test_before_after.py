"""The scripts before and after: ten lines are changed at most, and both train."""

from __future__ import annotations

import difflib
import importlib.util
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from autotrain.plan.plan import Plan
from autotrain.settings import Settings

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SCRIPTS = ("plain.py", "lightning_module.py")
MOST = 10

SMALL = ["--arch", "squeezenet1_1", "--image-size", "64", "--batch-size", "8", "--epochs", "2"]


def changed(before: str, after: str) -> tuple[int, int]:
    """Return how many lines went and came, as ``diff`` counts them."""
    lines = list(difflib.ndiff(before.splitlines(), after.splitlines()))
    return sum(line.startswith("- ") for line in lines), sum(line.startswith("+ ") for line in lines)


@pytest.fixture
def photos(jpeg_folder: Path, tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    for part in ("train", "val"):
        (tmp_path / "photos" / part).symlink_to(jpeg_folder)
    Plan(settings=Settings(memory_format="channels_last", cache="ram")).save(tmp_path / "plan.yaml")
    return tmp_path / "photos"


@pytest.mark.parametrize("script", SCRIPTS)
def test_ten_lines_are_changed_at_most(script: str) -> None:
    gone, come = changed(*((EXAMPLES / side / script).read_text() for side in ("before", "after")))
    assert 0 < gone <= MOST
    assert 0 < come <= MOST


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_script_before_knows_nothing_of_autotrain(script: str) -> None:
    assert "autotrain" not in (EXAMPLES / "before" / script).read_text()


@pytest.mark.parametrize("side", ["before", "after"])
def test_the_plain_script_trains(
    side: str,
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    own_draws: None,
    one_thread: None,
) -> None:
    monkeypatch.chdir(photos.parent)
    own = ["--workers", "0"] if side == "before" else ["--plan", "plan.yaml"]
    monkeypatch.setattr(sys, "argv", ["plain.py", "photos", *SMALL, *own])
    scope = runpy.run_path(str(EXAMPLES / side / "plain.py"), run_name="__main__")
    said = capsys.readouterr().out
    assert [line.split("  ")[0] for line in said.splitlines() if line.startswith("epoch")] == [
        "epoch 0 step 4/4",
        "epoch 1 step 4/4",
    ]
    assert said.count("validation: loss") == 2
    weights = torch.load("checkpoint.pt", weights_only=True)["model"]
    assert list(weights) == list(scope["models"].squeezenet1_1(num_classes=3).state_dict())
    del scope


@pytest.mark.slow
@pytest.mark.parametrize("side", ["before", "after"])
def test_the_lightning_script_trains(side: str, photos: Path) -> None:
    if importlib.util.find_spec("lightning") is None:
        pytest.skip("needs Lightning: pip install lightning")
    own = ["--workers", "0"] if side == "before" else ["--plan", "plan.yaml"]
    script = EXAMPLES / side / "lightning_module.py"
    command = [sys.executable, script, photos, *SMALL, "--folder", "runs", *own]
    run = subprocess.run(command, cwd=photos.parent, capture_output=True, text=True, timeout=100, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "`max_epochs=2` reached" in run.stdout + run.stderr
    (kept,) = photos.parent.glob("runs/lightning_logs/version_0/checkpoints/*.ckpt")
    assert kept.name == "epoch=1-step=8.ckpt"
    assert all(name.startswith("network.") for name in torch.load(kept, weights_only=False)["state_dict"])
