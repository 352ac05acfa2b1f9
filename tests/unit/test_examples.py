"""The examples: they load, do nothing on import, and the images that they make are what they say."""

import ast
import importlib
import os
import runpy
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from PIL import Image

import autotrain
from autotrain.task import Task

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
FILES = sorted(EXAMPLES.glob("*.py"))
SCRIPTS = [*FILES, *sorted(EXAMPLES.glob("*/*.py"))]
PROBE_ONLY = {"budget", "allow", "progress", "study"}


@pytest.fixture
def examples(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The examples can be imported by name, as when one of them is run."""
    names = {file.stem for file in FILES}
    assert names.isdisjoint(sys.modules)
    monkeypatch.syspath_prepend(str(EXAMPLES))
    yield
    for name in names & sys.modules.keys():
        del sys.modules[name]


@pytest.fixture
def images(examples: None) -> ModuleType:
    return importlib.import_module("make_images")


def tree(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*.jpg"))}


@pytest.mark.parametrize("file", SCRIPTS, ids=lambda file: str(file.relative_to(EXAMPLES)))
def test_an_example_does_nothing_when_imported(file: Path) -> None:
    """Loader processes that are spawned import it again."""
    harmless = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)
    module = ast.parse(file.read_text(), file.name)
    assert ast.get_docstring(module)
    for statement in module.body:
        text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        guard = isinstance(statement, ast.If) and ast.unparse(statement.test) == "__name__ == '__main__'"
        assert text or guard or isinstance(statement, harmless), ast.unparse(statement)


def test_images_are_a_function_of_the_seed(images: ModuleType, tmp_path: Path) -> None:
    made = [
        images.make_images(tmp_path / name, train=20, validation=10, seed=seed, processes=1)
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    first, again, other = (tree(folder) for folder in made)
    assert len(first) == 30
    assert first == again
    assert first.keys() == other.keys()
    assert not set(first.values()) & set(other.values())
    assert len(set(first.values())) == 30


def test_images_do_not_depend_on_the_processes(images: ModuleType, tmp_path: Path) -> None:
    one = images.make_images(tmp_path / "one", train=20, validation=10, processes=1)
    two = images.make_images(tmp_path / "two", train=20, validation=10, processes=2)
    assert tree(one) == tree(two)


def test_images_are_photograph_like_files_of_all_classes(images: ModuleType, tmp_path: Path) -> None:
    folder = images.make_images(tmp_path / "images", train=20, validation=10, processes=1)
    for part, each in (("train", 2), ("val", 1)):
        assert {entry.name: len(list(entry.iterdir())) for entry in (folder / part).iterdir()} == dict.fromkeys(
            images.FIGURES, each
        )
    for file in folder.rglob("*.jpg"):
        assert 10_000 < file.stat().st_size < 80_000
        with Image.open(file) as image:
            assert image.format == "JPEG"
            assert image.mode == "RGB"
            assert 340 <= image.width <= 460
            assert 255 <= image.height <= 345


def test_images_are_made_once(images: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = images.make_images(tmp_path / "images", train=20, validation=10, processes=1)
    monkeypatch.setattr(images, "_write_image", lambda *job: pytest.fail("made again"))
    assert images.make_images(folder, train=20, validation=10, processes=1) == folder


@pytest.mark.parametrize("spoil", ["a file is gone", "half made", "other options"])
def test_what_is_not_whole_is_made_again(images: ModuleType, tmp_path: Path, spoil: str) -> None:
    folder = images.make_images(tmp_path / "images", train=20, validation=10, processes=1)
    whole = tree(folder)
    if spoil == "a file is gone":
        next(folder.rglob("*.jpg")).unlink()
    elif spoil == "half made":
        folder.rename(folder.with_name(f"{folder.name}.half-made-1"))
    else:
        images.make_images(folder, train=20, validation=10, seed=1, processes=1)
    images.make_images(folder, train=20, validation=10, processes=1)
    assert tree(folder) == whole
    assert [entry.name for entry in tmp_path.iterdir()] == ["images"]


def test_the_network_is_small_and_fits(examples: None, own_draws: None) -> None:
    import torch

    model = importlib.import_module("network").small_resnet(classes=10)
    assert 300_000 < sum(entry.numel() for entry in model.parameters()) < 700_000
    assert model(torch.zeros(2, 3, 64, 64)).shape == (2, 10)


def test_the_task_file_defines_a_task(own_draws: None) -> None:
    task = runpy.run_path(str(EXAMPLES / "task.py"))["task"]
    assert isinstance(task, Task)
    assert task.dataset == EXAMPLES.parent / ".demo" / "images" / "train"


def test_a_dataset_of_ones_own_gives_what_it_says(images: ModuleType, tmp_path: Path, own_draws: None) -> None:
    import torch

    folder = images.make_images(tmp_path / "images", train=20, validation=10, processes=1) / "train"
    own = importlib.import_module("own_dataset")
    picture, label = own.Pictures(folder)[19]
    tensor, same = own.Finished(folder)[19]
    assert picture.mode == "RGB"
    assert label == same == 9
    assert tensor.shape == (3, own.SIZE, own.SIZE)
    assert tensor.dtype == torch.float32


def test_the_demo_probes_then_trains_with_the_plan(
    images: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_draws: None, capsys: Any
) -> None:
    calls: list[tuple[str, dict[str, Any]]] = []

    def probe(model: Any, dataset: Any, **options: Any) -> Any:
        calls.append(("probe", options))
        return SimpleNamespace(plan=SimpleNamespace(save=lambda path: Path(path).write_text("plan")))

    def fit(model: Any, dataset: Any, **options: Any) -> Any:
        calls.append(("fit", options))
        return SimpleNamespace(history=[SimpleNamespace(epoch=1, accuracy=0.2), SimpleNamespace(epoch=2, accuracy=0.9)])

    monkeypatch.setattr(autotrain, "probe", probe, raising=False)
    monkeypatch.setattr(autotrain, "fit", fit, raising=False)
    demo = importlib.import_module("demo")
    monkeypatch.setattr(demo, "make_images", lambda: tmp_path)
    monkeypatch.chdir(tmp_path)
    demo.main()
    assert [name for name, _ in calls] == ["probe", "fit"]
    assert calls[1][1].pop("plan") == "plan.yaml"
    known = {entry.name for entry in fields(Task)}
    for _, options in calls:
        assert options.keys() - PROBE_ONLY <= known
    assert Path("plan.yaml").read_text() == "plan"
    assert "90.0%" in capsys.readouterr().out


@pytest.mark.parametrize("cores", ["64", None])
def test_slurm_starts_one_launcher_per_machine_that_meets_the_others_on_the_first(
    tmp_path: Path, cores: str | None
) -> None:
    """With commands of SLURM's that say what they are given; srun is told how many cores a launcher has."""
    for name, script in {
        "scontrol": 'printf "%s\\n" node-7 node-8',
        "srun": 'printf "%s\\n" "$@"',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    given = {"SLURM_JOB_NODELIST": "node-[7-8]", "SLURM_JOB_ID": "42", "SLURM_JOB_NUM_NODES": "2"}
    if cores is not None:
        given["SLURM_CPUS_PER_TASK"] = cores
    ended = subprocess.run(
        [str(EXAMPLES / "slurm.sh"), "--duration", "2ep"],
        env={**os.environ, **given, "SLURM_GPUS_ON_NODE": "4", "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    words = ended.stdout.split("\n")
    if cores is not None:
        assert words.pop(0) == f"--cpus-per-task={cores}"
    assert words[0] == "torchrun"
    assert {"--nnodes=2", "--nproc-per-node=4", "--rdzv-endpoint=node-7:29400", "--rdzv-id=42"} <= set(words)
    command = words[words.index("-m") + 1 : -1]
    assert command[:3] == ["autotrain", "fit", "examples/task.py"]
    assert command[3:] == ["--checkpoints", "runs/42", "--resume", "auto", "--duration", "2ep"]
