"""The command as people start it: what they get wrong costs one line and exit code 2."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import rich.style  # noqa: F401 - draws a random number when it is first imported, which typer has it be
from PIL import Image

from autotrain.cli.main import run


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with images, an empty one, and files that raise."""
    root = tmp_path_factory.mktemp("cli")
    for name in ("cat", "dog"):
        (root / "photos" / name).mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (16, 16)).save(root / "photos" / name / f"{number}.jpg")
    (root / "empty").mkdir()
    (root / "raises.py").write_text("import torch\n\nraise ValueError('no weights')\n")
    return root


@pytest.fixture
def here(folder, monkeypatch) -> Iterator[Path]:
    """Work in the folder, and forget what targets import."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield folder
    sys.modules.pop("raises", None)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ("probe", "nothing to train"),
        ("probe --model resnet18 --data nowhere", "--data nowhere: neither a folder nor a data set of torchvision"),
        ("probe --model resnet18 --data empty", "empty: "),
        ("probe raises.py --model resnet18", "TARGET raises.py and --model: both say what to train"),
        ("probe raises.py", "raises.py:3: the target raised ValueError: no weights"),
        ("probe --model resnt18 --data photos", "unknown model. Did you mean 'resnet18'"),
        ("probe --model resnet18 --data photos --fix precison=bf16", "Did you mean 'precision'?"),
        ("probe --model resnet18 --data photos --fix precision=bf61", "bf61"),
        ("probe --model resnet18 --data photos --batch-size 100", "100"),
        ("probe --model resnet18 --data photos --augment trvial", "Did you mean 'trivial'?"),
        ("probe --model resnet18 --data photos --budget soon", "soon"),
        ("probe --model resnet18 --data photos --duration 5", "the unit is missing"),
        ("probe --model resnet18 --data photos --device tpu", "device 'tpu'"),
        ("fit --model resnet18 --data photos --plan nothing.yaml", "nothing.yaml: no such plan"),
        ("fit --model resnet18 --data photos --save nowhere/model.pt", "its folder does not exist"),
    ],
)
def test_a_mistake_is_one_clear_line(here, capfd, arguments, problem):
    before = sorted(here.rglob("*"))
    code = run(arguments.split())
    out, err = capfd.readouterr()
    assert (code, out) == (2, "")
    assert err.startswith("autotrain: error: ")
    assert problem in err
    assert err.count("\n") == 1
    assert [path for path in sorted(here.rglob("*")) if "__pycache__" not in path.parts] == before


def test_debug_shows_where_a_target_raised(folder):
    command = [sys.executable, "-m", "autotrain", "probe", "raises.py", "--debug"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("autotrain: error: raises.py:3: ")
