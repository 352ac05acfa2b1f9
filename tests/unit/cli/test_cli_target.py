import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from autotrain.cli.datasets import open_data, to_rgb
from autotrain.cli.models import build_model
from autotrain.cli.options import Options
from autotrain.cli.script import task_of
from autotrain.cli.target import load_task
from autotrain.errors import AutotrainError

TASK = """
import torch
from autotrain import Task
def make(size=4):
    data = torch.zeros(size, 2), torch.zeros(size).long()
    return Task(model=torch.nn.Flatten(), dataset=data, batch_size=size)
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    """Work in an empty folder, and forget what targets import."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]


def images(*folders: str) -> None:
    for folder in folders:
        Path(folder).mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (8, 8)).save(f"{folder}/{number}.jpg")


def written(text: str, name: str = "job.py") -> str:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text)
    return name


# Files and modules --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ending",
    [
        "task = make()",
        "def task():\n    return make()",
        "anything = make()",
        "one = two = make()",
        "other, task = make(2), make()",
    ],
)
def test_a_file_gives_a_task(ending):
    assert task_of(written(TASK + ending)).batch_size == 4


def test_a_task_is_named_in_a_file_or_a_module(monkeypatch):
    text = TASK + "one, two = make(2), make(3)\nclass holder:\n    three = make(5)\n"
    written(text, "pack/inner.py")
    written("")
    assert task_of("pack/inner.py:two").batch_size == 3
    assert task_of("pack.inner:one").batch_size == 2
    assert task_of("pack.inner:holder.three").batch_size == 5
    assert task_of("pack.inner:make").batch_size == 4


def test_files_beside_the_target_can_be_imported():
    written("size = 3\n", "sub/beside.py")
    assert task_of(written(TASK + "import beside\ntask = make(beside.size)", "sub/job.py")).batch_size == 3


@pytest.mark.parametrize("name", ["json.py", "my-task.py"])
def test_a_file_whose_name_is_taken_or_no_identifier(name):
    import json

    assert task_of(written(TASK + "task = make()", name)).batch_size == 4
    assert sys.modules["json"] is json


def test_classes_of_a_file_can_be_pickled_for_workers():
    import pickle

    task = task_of(
        written(TASK + "class Own(torch.nn.Flatten): pass\ntask = Task(model=Own(), dataset=(1, 2))", "mine.py")
    )
    assert type(pickle.loads(pickle.dumps(task.model))) is type(task.model)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("\n\nraise ValueError('no such\\nfile')", r"^job\.py:3: the target raised ValueError: no such$"),
        ("def inner():\n    return 1 / 0\ninner()", r"^job\.py:2: the target raised ZeroDivisionError"),
        ("import os\nos.listdir('/nowhere')", r"^job\.py:2: the target raised FileNotFoundError"),
        ("x = 1\ndef (:", r"^job\.py:2: the target raised SyntaxError"),
        ("import not_a_module", r"^job\.py:1: the target raised ModuleNotFoundError: No module named 'not_a_module'"),
        ("import sys\nsys.exit(3)", r"^job\.py:2: the target raised SystemExit: 3"),
        ("def task():\n    x = []\n    return x[0]", r"^job\.py:3: the target raised IndexError"),
        ("x = 1", r"^TARGET job\.py: gives no task\. Assign one: task = autotrain\.Task"),
        (TASK + "a, b = make(), make()", r"has several tasks \(a, b\)\. Say which: job\.py:a"),
        ("task = 3", r"'task' is of type int, not a Task nor a function"),
        ("def task(): pass", r"'task' returned None, not a Task"),
        ("def task(model): pass", r"'task' wants arguments \(model\)"),
        ("def task(*, model): pass", r"'task' wants arguments \(model\)"),
    ],
)
def test_a_bad_file_is_named_with_its_line(text, problem):
    with pytest.raises(AutotrainError, match=problem):
        task_of(written(text))


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("missing.py", r"TARGET missing\.py: no such file"),
        ("job", r"neither a Python file nor package\.module:name"),
        ("job.py:", r"no name after the colon"),
        ("job.py:other", r"has no 'other'\. Its tasks: task"),
        ("nowhere:task", r"no module of that name"),
        ("no.where:task", r"No module named 'no'"),
        ("..:task", r"not the name of a module"),
        ("./", r"a folder, not a Python file"),
    ],
)
def test_a_bad_target_is_explained(target, problem):
    written(TASK + "task = make()")
    with pytest.raises(AutotrainError, match=problem):
        task_of(target)


def test_ctrl_c_in_a_target_is_ctrl_c():
    with pytest.raises(KeyboardInterrupt):
        task_of(written("raise KeyboardInterrupt"))


def test_a_learning_rate_does_not_overrule_the_targets_optimizer():
    written(TASK + "from dataclasses import replace\ntask = replace(make(), optimizer=torch.optim.SGD)")
    with pytest.raises(AutotrainError, match=r"--lr 0\.1: job\.py brings an optimizer"):
        load_task(Options(target="job.py", lr=0.1))


# Models and data by name --------------------------------------------------------------------------------------------


def test_a_model_and_a_folder_are_a_task():
    images("photos/cat", "photos/dog", "photos/emu")
    task = load_task(Options(model="squeezenet1_1", data="photos", image_size=32))
    assert (task.dataset, task.validation, task.image_size) == (Path("photos"), None, 32)
    with torch.random.fork_rng(devices=[]):
        assert task.model(torch.zeros(1, 3, 32, 32)).shape == (1, 3)


def test_a_split_folder_has_a_validation_set():
    images("photos/train/cat", "photos/train/dog", "photos/test/cat", "photos/test/dog")
    data = open_data("photos", root=Path("data"), download=False)
    assert (data.training, data.validation, data.classes) == (Path("photos/train"), Path("photos/test"), 2)
    images("photos/val/cat", "photos/val/dog", "mine/cat", "mine/dog")
    assert open_data("photos", root=Path("data"), download=False).validation == Path("photos/val")
    assert open_data("photos", root=Path("data"), download=False, validation=Path("mine")).validation == Path("mine")


def test_images_in_a_class_that_is_called_train():
    images("vehicles/train", "vehicles/test")
    data = open_data("vehicles", root=Path("data"), download=False)
    assert (data.training, data.validation) == (Path("vehicles"), None)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ("nowhere", r"--data nowhere: neither a folder nor a data set of torchvision"),
        ("cifar", r"Did you mean 'CIFAR10'\?"),
        ("./nowhere", r"no such folder"),
        ("empty", r"empty: .*Expected one folder per class"),
        ("file.txt", r"file\.txt: not a folder"),
        ("single", r"single: one class only \('cat'\)"),
        ("odd", r"odd/val: its classes are not those of odd/train: 'dog' is in odd/train only"),
        ("mnist", r"--data MNIST: not found in data.*Add --download, or give its place by --root"),
        ("flowers102", r"--data Flowers102: not found in data"),
    ],
)
def test_bad_data_is_explained(data, problem):
    Path("empty").mkdir()
    Path("file.txt").touch()
    images("single/cat", "odd/train/cat", "odd/train/dog", "odd/val/cat")
    with pytest.raises(AutotrainError, match=problem):
        open_data(data, root=Path("data"), download=False)


def test_greyscale_data_is_shown_to_colour_models(monkeypatch):
    from torchvision import datasets

    class FashionMNIST:
        classes = list("abcdefghij")
        transform = None

        def __init__(self, root, *, train):
            self.train = train

        def __getitem__(self, index):
            image = Image.new("L", (28, 28))
            return (self.transform(image) if self.transform else image), 0

        def __len__(self):
            return 8

    monkeypatch.setattr(datasets, "FashionMNIST", FashionMNIST)
    task = load_task(Options(model="squeezenet1_1", data="fashionmnist"))
    assert task.dataset[0][0].mode == task.validation[0][0].mode == "RGB"
    assert (task.dataset.train, task.validation.train) == (True, False)
    assert to_rgb(Image.new("L", (2, 2))).mode == "RGB"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, r"nothing to train\. Give a TARGET"),
        ({"model": "resnet18"}, r"--model alone .*--data is missing"),
        ({"data": "photos"}, r"--data alone .*--model is missing"),
        ({"target": "job.py", "model": "resnet18"}, r"TARGET job\.py and --model: both say what to train"),
        ({"target": "job.py", "lr": -1.0}, r"--lr -1: a learning rate must be above 0"),
    ],
)
def test_contradictions_are_explained(options, problem):
    with pytest.raises(AutotrainError, match=problem):
        load_task(Options(**options))


def test_an_unknown_model_is_guessed_at():
    with pytest.raises(AutotrainError, match=r"--model resnt18: unknown model\. Did you mean 'resnet18'"):
        build_model("resnt18", classes=2, channels=3, image_size=None, seed=0)


def test_weights_depend_on_the_seed_alone_and_no_random_state_is_moved():
    before = torch.random.get_rng_state()
    first, again, other = (
        next(build_model("squeezenet1_1", classes=2, channels=3, image_size=None, seed=seed).model.parameters())
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_model_for_one_size_is_built_for_the_size_asked_for():
    model = build_model("vit_b_32", classes=2, channels=3, image_size=64, seed=0).model
    assert model.image_size == 64


def test_a_model_that_cannot_be_built_says_why():
    with pytest.raises(AutotrainError, match=r"--model vit_b_16: cannot be built"):
        build_model("vit_b_16", classes=2, channels=3, image_size=33, seed=0)
