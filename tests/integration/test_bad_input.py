"""Bad input gives one line that names the place and the remedy, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn.parameter import is_lazy
from torch.utils.data import Dataset, IterableDataset
from torchvision.datasets.folder import default_loader

import autotrain
from autotrain.data.source import open_source
from autotrain.errors import (
    AutotrainError,
    CandidateError,
    DataError,
    PlanError,
    ScheduleError,
    SettingsError,
    TaskError,
    UnsupportedError,
)
from autotrain.plan.plan import Plan
from autotrain.schedules.schedule import WarmupCosine
from autotrain.settings import Settings

pytestmark = pytest.mark.usefixtures("one_thread")

SIDE = 16
OPTIONS: dict[str, Any] = {"batch_size": 4, "image_size": SIDE, "device": "cpu"}
Refuse = Callable[..., str]


def pixels(count: int = 12, channels: int = 3) -> torch.Tensor:
    return torch.arange(count * channels * SIDE * SIDE).remainder(251).to(torch.uint8).view(count, channels, SIDE, SIDE)


def tensors(count: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    return pixels(count), torch.arange(count) % 3


def folder_of(root: Path, classes: int = 3, each: int = 4) -> Path:
    draws = np.random.default_rng(0)
    for number in range(classes):
        (root / f"class{number}").mkdir(parents=True)
        for index in range(each):
            image = Image.fromarray(draws.integers(0, 256, (20, 24, 3), dtype=np.uint8))
            image.save(root / f"class{number}" / f"{index}.jpg")
    return root


def snapshot(model: Any) -> Any:
    if not isinstance(model, nn.Module) or any(is_lazy(entry) for entry in model.parameters()):
        return None
    values = [value.detach().contiguous().view(-1).view(torch.uint8).tolist() for value in model.state_dict().values()]
    facts = [(id(entry), entry.data_ptr(), entry.stride(), entry.grad) for entry in model.parameters()]
    return values, facts, [module.training for module in model.modules()]


@pytest.fixture
def refuse(tiny_model: Callable[..., nn.Module]) -> Refuse:
    """Return a function that checks that both entries refuse a task in the same clear way, and returns the message.

    The leak guard of all tests sees to it that no process, thread or state is left.
    """

    def check(error: type[AutotrainError], dataset: Any, *, model: Any = None, plan: Any = None, **options: Any) -> str:
        model = tiny_model() if model is None else model
        before = snapshot(model)
        calls: list[Callable[[], Any]] = []
        if plan is None:
            calls.append(lambda: autotrain.probe(model, dataset, progress=False, **{**OPTIONS, **options}))
        wanted = Plan(settings=Settings()) if plan is None else plan
        probing = {"fix", "budget", "allow"} & options.keys()
        if not probing:
            calls.append(lambda: autotrain.fit(model, dataset, plan=wanted, progress=False, **{**OPTIONS, **options}))
        messages = []
        for call in calls:
            with pytest.raises(AutotrainError) as caught:
                call()
            assert type(caught.value) is error
            messages.append(str(caught.value))
            assert snapshot(model) == before
        for message in messages:
            assert "\n" not in message
            assert "Traceback" not in message
            assert 20 < len(message) < 400
        return messages[0]

    return check


# Folders


def test_a_missing_folder(refuse: Refuse, tmp_path: Path) -> None:
    message = refuse(DataError, tmp_path / "nowhere")
    assert message.startswith(f"{tmp_path / 'nowhere'}: no such folder. Give a folder")


def test_a_file_in_place_of_a_folder(refuse: Refuse, tmp_path: Path) -> None:
    (tmp_path / "images.zip").write_bytes(b"PK")
    assert "images.zip: not a folder. Give a folder" in refuse(DataError, str(tmp_path / "images.zip"))


def test_an_empty_folder(refuse: Refuse, tmp_path: Path) -> None:
    message = refuse(DataError, tmp_path)
    assert message.startswith(str(tmp_path))
    assert "one folder per class" in message


def test_a_class_folder_without_images(refuse: Refuse, tmp_path: Path) -> None:
    folder_of(tmp_path)
    (tmp_path / "zebra").mkdir()
    (tmp_path / "zebra" / "notes.txt").write_text("no image")
    message = refuse(DataError, tmp_path)
    assert "zebra" in message
    assert "one folder per class" in message


def test_a_single_image(refuse: Refuse, tmp_path: Path) -> None:
    message = refuse(DataError, folder_of(tmp_path, classes=1, each=1))
    assert "one sample only: give a dataset with at least two" in message


def test_a_validation_folder_with_other_classes(refuse: Refuse, tmp_path: Path) -> None:
    training, validation = folder_of(tmp_path / "train"), folder_of(tmp_path / "val", classes=2)
    message = refuse(DataError, training, validation=validation)
    assert str(validation) in message
    assert "class2" in message


def break_image(path: Path, how: str) -> None:
    if how == "text":
        path.write_text("<html>404 Not Found</html>")
    elif how == "empty":
        path.write_bytes(b"")
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("how", ["text", "empty", "truncated"])
def test_an_image_that_cannot_be_read(
    tiny_model: Callable[..., nn.Module], tmp_path: Path, how: str, workers: int
) -> None:
    """Also where a worker meets it: the file's name arrives, the worker's traceback does not."""
    folder_of(tmp_path, each=8)
    broken = tmp_path / "class1" / "3.jpg"
    break_image(broken, how)
    with pytest.raises(DataError) as caught:
        autotrain.fit(tiny_model(), tmp_path, plan=Plan(settings=Settings(workers=workers)), progress=False, **OPTIONS)
    message = str(caught.value)
    assert message.startswith(f"{broken}: cannot be read as an image (")
    assert "remove it" in message
    assert "\n" not in message
    assert "Traceback" not in message
    assert len(message) < 400


def test_a_broken_image_ends_a_probe_with_its_name(refuse: Refuse, tmp_path: Path) -> None:
    folder_of(tmp_path, each=1)
    break_image(tmp_path / "class0" / "0.jpg", "text")
    assert "class0/0.jpg: cannot be read as an image" in refuse(DataError, tmp_path, batch_size=3)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # files that this dataset leaves open
@pytest.mark.parametrize("workers", [0, 2])
def test_a_truncated_image_that_the_dataset_only_opens(
    tiny_model: Callable[..., nn.Module], tmp_path: Path, workers: int
) -> None:
    """Pillow decodes late: such an image fails only where it is cut and resized."""
    folder_of(tmp_path, classes=1, each=8)
    break_image(tmp_path / "class0" / "5.jpg", "truncated")

    class Lazy(Dataset[Any]):
        def __len__(self) -> int:
            return 8

        def __getitem__(self, index: int) -> tuple[Image.Image, int]:
            return Image.open(tmp_path / "class0" / f"{index}.jpg"), index % 3

    for channels in (3, 1):  # decoded while it is resized, or already while it is converted
        model = tiny_model(channels=channels)
        dataset: Any = Lazy()
        if channels == 1:
            Image.new("L", (24, 20)).save(tmp_path / "class0" / "0.jpg")
        with pytest.raises(DataError, match=r"^sample 5 of Lazy: cannot be read as an image \(.*[Tt]runcated"):
            autotrain.fit(model, dataset, plan=Plan(settings=Settings(workers=workers)), progress=False, **OPTIONS)


UNUSUAL = {
    "16-bit.png": lambda: Image.fromarray(np.linspace(0, 65535, 20 * 24).astype(np.uint16).reshape(20, 24)),
    "grey.png": lambda: Image.linear_gradient("L").resize((24, 20)),
    "grey with alpha.png": lambda: Image.linear_gradient("L").resize((24, 20)).convert("LA"),
    "bilevel.png": lambda: Image.linear_gradient("L").resize((24, 20)).convert("1"),
    "palette.png": lambda: colours().convert("P", palette=Image.Palette.ADAPTIVE),
    "alpha.png": lambda: colours().convert("RGBA"),
    "print.jpg": lambda: colours().convert("CMYK"),
    "grey.jpg": lambda: Image.linear_gradient("L").resize((24, 20)),
    "upright.webp": lambda: colours(),
}


def colours() -> Image.Image:
    return Image.fromarray(np.random.default_rng(1).integers(0, 256, (20, 24, 3), dtype=np.uint8))


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_images_are_decoded_as_torchvision_does(
    tiny_model: Callable[..., nn.Module], tmp_path: Path, name: str
) -> None:
    folder_of(tmp_path / "data")
    place = tmp_path / "data" / "class0" / name
    UNUSUAL[name]().save(place)
    source = open_source(tmp_path / "data")
    index = [str(path) for path in source.files(range(len(source)))].index(str(place))
    image, label = source.sample(index)
    assert label == 0
    assert image.mode == "RGB"
    assert np.array_equal(np.asarray(image), np.asarray(default_loader(str(place))))
    result = autotrain.fit(
        tiny_model(), tmp_path / "data", plan=Plan(settings=Settings()), progress=False, duration="1ep", **OPTIONS
    )
    assert np.isfinite(result.history[0].loss)


# Labels and outputs


def test_more_classes_than_outputs(refuse: Refuse, tiny_model: Callable[..., nn.Module], tmp_path: Path) -> None:
    message = refuse(TaskError, folder_of(tmp_path), model=tiny_model(classes=2))
    assert "the model gives 2 outputs, but the dataset has label 2" in message
    assert "as many outputs as there are classes" in message


@pytest.mark.parametrize(
    ("labels", "error", "words"),
    [
        (torch.tensor([0, 1, 2] * 3 + [0, 1, 3]), TaskError, "has label 3: labels must be 0 to 2"),
        (torch.tensor([0, 1, 2] * 3 + [0, -1, 2]), DataError, "sample 10 of the tensors: label -1 is negative"),
        (torch.zeros(12, 2, dtype=torch.int64), TaskError, "give loss="),
        (torch.zeros(11, dtype=torch.int64), DataError, "12 images but 11 labels"),
    ],
)
def test_labels_in_tensors(refuse: Refuse, labels: torch.Tensor, error: type[AutotrainError], words: str) -> None:
    assert words in refuse(error, (pixels(), labels))


class Listed(Dataset[Any]):
    """A dataset of given samples; a sample that is an exception is raised."""

    def __init__(self, samples: list[Any]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Any:
        if isinstance(self.samples[index], Exception):
            raise self.samples[index]
        return self.samples[index]


def pictures(labels: list[Any]) -> list[Any]:
    return [(Image.new("RGB", (SIDE, SIDE), (index, 0, 0)), label) for index, label in enumerate(labels)]


def test_labels_that_are_no_numbers(refuse: Refuse) -> None:
    message = refuse(TaskError, Listed(pictures(["cat", "dog"] * 6)))
    assert "labels of type str" in message
    assert "class numbers from 0" in message


class Shaped(nn.Module):
    """Gives outputs of some shape."""

    def __init__(self, change: Callable[[torch.Tensor], Any], body: nn.Module) -> None:
        super().__init__()
        self.change, self.body = change, body

    def forward(self, images: torch.Tensor) -> Any:
        return self.change(self.body(images))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda outputs: outputs[:, :, None, None].expand(-1, -1, 2, 2), "shape (4, 3, 2, 2) for 4 labels"),
        (lambda outputs: outputs[:2], "shape (2, 3) for 4 labels"),
        (lambda outputs: {"out": outputs}, "the loss raised TypeError"),
    ],
)
def test_outputs_that_do_not_fit(
    refuse: Refuse, tiny_model: Callable[..., nn.Module], change: Callable[[torch.Tensor], Any], words: str
) -> None:
    assert words in refuse(TaskError, tensors(), model=Shaped(change, tiny_model()))


def test_a_model_for_other_images(refuse: Refuse, tiny_model: Callable[..., nn.Module]) -> None:
    message = refuse(TaskError, tensors(), model=tiny_model(channels=1))
    assert "the model raised RuntimeError on images of shape (4, 3, 16, 16)" in message


def test_a_model_that_raises(refuse: Refuse, tiny_model: Callable[..., nn.Module]) -> None:
    def change(outputs: torch.Tensor) -> Any:
        raise KeyError("first line\nsecond line")

    assert "the model raised KeyError on images" in refuse(TaskError, tensors(), model=Shaped(change, tiny_model()))


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (lambda: "resnet18", "expected a torch.nn.Module, got str"),
        (nn.Flatten, "no parameter requires a gradient"),
        (lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(3)), "lazy layers"),
    ],
)
def test_a_model_that_cannot_be_trained(refuse: Refuse, model: Callable[[], Any], words: str) -> None:
    assert words in refuse(TaskError, tensors(), model=model())


def test_a_loss_that_is_a_vector(refuse: Refuse) -> None:
    loss = nn.CrossEntropyLoss(reduction="none")
    assert "the loss must be one number, got a tensor of shape (4,)" in refuse(TaskError, tensors(), loss=loss)


@pytest.mark.filterwarnings("ignore:Using a target size")
def test_a_loss_that_raises(refuse: Refuse) -> None:
    assert "the loss raised" in refuse(TaskError, tensors(), loss=nn.MSELoss())


# Datasets


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        yield from ()


class Unsized:
    def __getitem__(self, index: int) -> Any:
        return Image.new("RGB", (SIDE, SIDE)), 0


@pytest.mark.parametrize(
    ("dataset", "error", "words"),
    [
        (None, TaskError, "dataset: missing"),
        (tensors(1), DataError, "one sample only"),
        (tensors(0), DataError, "is empty"),
        (tensors(3), TaskError, "batch size 4 is larger than the 3 samples of an epoch"),
        (Endless(), DataError, "Endless gives samples only one after the other"),
        (Unsized(), DataError, "Unsized has no __len__"),
        (17, DataError, "int gives samples only one after the other"),
        (Listed([]), DataError, "is empty"),
        (
            Listed([ValueError("first\nsecond")] * 8),
            DataError,
            "sample 0 of Listed: the dataset raised ValueError: first",
        ),
        (Listed([7] * 8), TaskError, "is not an (image, label) pair: give step="),
        (Listed([(torch.rand(3, 8 + index, 8), 0) for index in range(8)]), DataError, "resize its images to one size"),
    ],
)
def test_datasets_that_do_not_work(refuse: Refuse, dataset: Any, error: type[AutotrainError], words: str) -> None:
    assert words in refuse(error, dataset)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("sample", "words"),
    [
        (IndexError("no such row"), "sample 7 of Listed: the dataset raised IndexError: no such row"),
        (None, "sample 7 of Listed: NoneType is not an (image, label) pair"),
        ((np.zeros((4, 4, 7), np.uint8), 0), "sample 7 of Listed: cannot be read as an image"),
        ((torch.zeros(1, 9, 9, dtype=torch.uint8), 0), "sample 7 of Listed: an image of 1 channels among images of 3"),
    ],
)
def test_one_bad_sample_among_good_ones(
    tiny_model: Callable[..., nn.Module], workers: int, sample: Any, words: str
) -> None:
    samples = pictures([index % 3 for index in range(8)])
    samples[7] = sample
    with pytest.raises(DataError) as caught:
        autotrain.fit(
            tiny_model(), Listed(samples), plan=Plan(settings=Settings(workers=workers)), progress=False, **OPTIONS
        )
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_collation_that_raises(tiny_model: Callable[..., nn.Module], workers: int) -> None:
    def collate(samples: list[Any]) -> Any:
        raise ValueError("first\nsecond")

    dataset = Listed(pictures([0, 1, 2, 0, 1, 2]))
    with pytest.raises(DataError, match=r"^collate: the function raised ValueError for samples of Listed: first$"):
        autotrain.fit(
            tiny_model(),
            dataset,
            plan=Plan(settings=Settings(workers=workers)),
            progress=False,
            collate=collate,
            **OPTIONS,
        )


def test_a_worker_that_dies(tiny_model: Callable[..., nn.Module]) -> None:
    class Deadly(Dataset[Any]):
        def __len__(self) -> int:
            return 8

        def __getitem__(self, index: int) -> Any:
            if torch.utils.data.get_worker_info() is not None:
                import os

                os._exit(3)
            return Image.new("RGB", (SIDE, SIDE)), index % 3

    with pytest.raises(CandidateError) as caught:
        autotrain.fit(
            tiny_model(), Deadly(), plan=Plan(settings=Settings(workers=1)), progress=False, duration="1ep", **OPTIONS
        )
    assert "worker" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_validation_set_that_is_less_prepared_than_the_training_set(refuse: Refuse, tmp_path: Path) -> None:
    transformed = Listed([(torch.zeros(3, SIDE, SIDE), index % 3) for index in range(8)])
    message = refuse(TaskError, transformed, validation=folder_of(tmp_path))
    assert message.startswith("validation:")
    assert "the transforms that the training set has" in message


# Options


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"batchsize": 4}, TaskError, "Did you mean 'batch_size'?"),
        ({"batch_size": 0}, TaskError, "batch_size: 0 is not a whole number of at least 1"),
        ({"batch_size": True}, TaskError, "batch_size: True"),
        ({"batch_size": 4.0}, TaskError, "batch_size: 4.0"),
        ({"image_size": -3}, TaskError, "image_size: -3"),
        ({"augmentation": "trivail"}, SettingsError, "Did you mean 'trivial'?"),
        ({"duration": "soon"}, ScheduleError, "soon"),
        ({"duration": "-3ep"}, ScheduleError, "-3ep"),
        ({"duration": "0ep"}, ScheduleError, "0ep"),
        ({"schedule": WarmupCosine(warmup="99step")}, ScheduleError, "a warm-up of 99step is 99 steps"),
        ({"schedule": WarmupCosine(warmup="2ep"), "duration": "1min"}, ScheduleError, "Give a share or a time"),
        ({"schedule": "cosin"}, ScheduleError, "Did you mean 'cosine'?"),
        ({"mean": (0.5, 0.5)}, TaskError, "mean: 2 values for images of 3 channels"),
        ({"mean": 0.5}, TaskError, "mean: 0.5 is not a sequence of numbers"),
        ({"std": ("a", "b", "c")}, TaskError, "std: ('a', 'b', 'c') is not a sequence of numbers"),
        ({"std": (0.2, 0.0, 0.2)}, TaskError, "std: must be above 0"),
        ({"std": (0.2, float("nan"), 0.2)}, TaskError, "std: must be above 0"),
        ({"device": "mps"}, UnsupportedError, "device 'mps': not available here"),
        ({"device": "tpu"}, UnsupportedError, "device 'tpu': not a device. Known: cpu, cuda"),
        ({"device": "meta"}, UnsupportedError, "device 'meta': not supported"),
        ({"optimizer": lambda parameters: 1 / 0}, TaskError, "optimizer: the function raised ZeroDivisionError"),
        ({"optimizer": lambda parameters: None}, TaskError, "optimizer: the function gave NoneType"),
        ({"sampler": [0, 1, 2, 99]}, DataError, "index 99, but the dataset has 12 samples"),
        ({"fix": {"precison": "bf16"}}, SettingsError, "unknown knob 'precison'. Did you mean 'precision'?"),
        ({"fix": {"precision": "fp8"}}, SettingsError, "'fp8' is not one of fp32"),
        ({"fix": {"workers": True}}, SettingsError, "True is not a whole number"),
        ({"budget": "plenty"}, AutotrainError, "plenty"),
        ({"allow": "all"}, SettingsError, "unknown value of allow 'all'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_options(refuse: Refuse, options: dict[str, Any], error: type[AutotrainError], words: str) -> None:
    if "device" in options and options["device"] == "mps" and torch.backends.mps.is_available():
        pytest.skip("there is an MPS device")
    if error is AutotrainError:
        with pytest.raises(AutotrainError, match=words):
            autotrain.probe(nn.Linear(1, 1, device="meta"), tensors(), progress=False, **options)
        return
    assert words in refuse(error, tensors(), **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_cuda_where_there_is_none(refuse: Refuse, device: str) -> None:
    message = refuse(UnsupportedError, tensors(), device=device)
    assert message == f"device '{device}': torch sees no CUDA device here. Use device='cpu'"


def test_augmenting_what_is_transformed_already(refuse: Refuse) -> None:
    dataset = (torch.rand(12, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 3)
    message = refuse(TaskError, dataset, augmentation="trivial")
    assert "'trivial' needs images" in message
    assert "or use 'none'" in message


def test_a_dataset_beside_a_task(tiny_model: Callable[..., nn.Module]) -> None:
    task = autotrain.Task(model=tiny_model(), dataset=tensors())
    with pytest.raises(TaskError, match="a Task brings its own"):
        autotrain.probe(task, tensors(), progress=False)


# Plans


def test_a_plan_that_is_not_there(refuse: Refuse, tmp_path: Path) -> None:
    assert str(tmp_path / "plan.yaml") in refuse(PlanError, tensors(), plan=tmp_path / "plan.yaml")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("schema: 99\nsettings: {}\n", "schema"),
        ("schema: 1\nsettings:\n  precison: bf16\n", "Did you mean 'precision'?"),
        ("schema: 1\nsettings:\n  workers: many\n", "many"),
        ("schema: [1\n", "plan.yaml"),
    ],
)
def test_a_plan_that_cannot_be_used(refuse: Refuse, tmp_path: Path, text: str, words: str) -> None:
    place = tmp_path / "plan.yaml"
    place.write_text(text)
    message = refuse(PlanError, tensors(), plan=str(place))
    assert message.startswith(f"{place}:")
    assert words in message


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("precision", ["fp16", "tf32"])
def test_a_plan_from_a_machine_that_can_more(refuse: Refuse, precision: str) -> None:
    message = refuse(PlanError, tensors(), plan=Plan(settings=Settings(precision=precision)))
    assert f"precision = {precision} is not possible here" in message
    assert "Probe again" in message
