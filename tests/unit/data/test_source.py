"""Datasets of every kind are recognised by their first sample."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset, TensorDataset
from torchvision.datasets import FakeData, ImageFolder
from torchvision.datasets.folder import default_loader
from torchvision.transforms import v2

from autotrain.data.source import (
    FolderSource,
    ImageSource,
    Source,
    TensorSource,
    collate_samples,
    image_size,
    open_source,
    read_sample,
    square_side,
)
from autotrain.errors import DataError


class Listed(Dataset[Any]):
    def __init__(self, samples: list[Any]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Any:
        return self.samples[index]


def picture(height: int = 8, width: int = 8) -> Image.Image:
    return Image.new("RGB", (width, height))


@pytest.mark.parametrize(
    ("sample", "raw"),
    [
        ((picture(), 0), True),
        ([picture(), 0], True),
        ((np.zeros((8, 8, 3), np.uint8), 0), True),
        ((np.zeros((8, 8), np.uint8), 0), True),
        ((torch.zeros(3, 8, 8, dtype=torch.uint8), 0), True),
        ((np.zeros((8, 8, 3), np.float32), 0), False),
        ((torch.zeros(3, 8, 8), 0), False),
        ((torch.zeros(8, 8, dtype=torch.uint8), 0), False),
        ((picture(), 0, 1), False),
        ({"image": picture()}, False),
        (picture(), False),
    ],
)
def test_images_are_told_from_transformed_samples(sample: Any, raw: bool) -> None:
    source = open_source(Listed([sample] * 3))
    assert source.images is raw
    assert isinstance(source, ImageSource) is raw
    assert not source.pure  # whether it draws random numbers cannot be seen from outside
    assert len(source) == 3


def test_wrapped_datasets_are_not_taken_for_pure() -> None:
    inner = FakeData(4, (3, 8, 8), transform=v2.RandomHorizontalFlip())
    for dataset in (Subset(inner, [0, 1, 2]), ConcatDataset([inner, inner])):
        source = open_source(dataset)
        assert source.images
        assert not source.pure


def test_a_folder_is_read_by_path(jpeg_folder: Path) -> None:
    source = open_source(str(jpeg_folder))
    reference = ImageFolder(str(jpeg_folder))
    assert isinstance(source, FolderSource)
    assert (len(source), source.classes, source.pure) == (36, 3, True)
    assert source.labels == reference.targets
    for index in (0, 17, 35):
        image, label = source.sample(index)
        assert label == reference.targets[index]
        assert np.array_equal(np.asarray(image), np.asarray(default_loader(reference.samples[index][0])))
        assert source.where(index) == reference.samples[index][0]
    assert source.files([3]) == [Path(reference.samples[3][0])]
    assert source.encoded(3) == Path(reference.samples[3][0]).read_bytes()
    assert source.label(35) == reference.targets[35]
    assert source.class_names == reference.classes


def test_a_torchvision_dataset_keeps_its_transforms(jpeg_folder: Path) -> None:
    raw = open_source(ImageFolder(str(jpeg_folder)))
    transformed = open_source(
        ImageFolder(str(jpeg_folder), transform=v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32)]))
    )
    assert (raw.images, transformed.images) == (True, False)
    assert raw.classes == transformed.classes == 3


@pytest.mark.parametrize(
    ("images", "raw"),
    [
        (torch.zeros(4, 3, 8, 8, dtype=torch.uint8), True),
        (torch.zeros(4, 3, 8, 8), False),
        (torch.zeros(4, 9, dtype=torch.uint8), False),
    ],
)
@pytest.mark.parametrize("kind", [tuple, list])
def test_tensors(images: torch.Tensor, raw: bool, kind: Any) -> None:
    source = open_source(kind((images, torch.arange(4))))
    assert isinstance(source, TensorSource)
    assert (source.images, source.pure) == (raw, True)
    batch, labels = source.batch(np.asarray([2, 0]))
    assert labels.tolist() == [2, 0]
    batch.fill_(1)
    assert int(images.sum()) == 0  # a batch is a copy


def test_opening_leaves_the_random_states(own_draws: None) -> None:
    class Drawing(Listed):
        def __getitem__(self, index: int) -> Any:
            return picture(), int(random.random() + np.random.rand() + float(torch.rand(())))

    before = random.getstate(), np.random.get_state()[1].tobytes(), torch.default_generator.get_state().tolist()  # type: ignore[union-attr]
    source = open_source(Drawing([None] * 4))
    square_side(source)
    after = random.getstate(), np.random.get_state()[1].tobytes(), torch.default_generator.get_state().tolist()  # type: ignore[union-attr]
    assert before == after


@pytest.mark.parametrize(
    ("samples", "side"),
    [
        ([(picture(32, 32), 0)] * 3, 32),
        ([(picture(32, 40), 0)] * 3, None),
        ([(picture(32, 32), 0), (picture(30, 30), 0)], None),
        ([(picture(300, 300), 0)] * 2, None),
        ([(torch.zeros(3, 28, 28, dtype=torch.uint8), 0)] * 2, 28),
    ],
)
def test_small_equal_squares_are_trained_at_their_size(samples: list[Any], side: int | None) -> None:
    assert square_side(open_source(Listed(samples))) == side


def test_sizes_are_height_and_width() -> None:
    assert image_size(picture(5, 9)) == (5, 9)
    assert image_size(np.zeros((5, 9, 3))) == (5, 9)
    assert image_size(torch.zeros(3, 5, 9)) == (5, 9)


@pytest.mark.parametrize(
    "problem", [OSError("broken\ndata"), KeyError("x"), RuntimeError("two\nlines"), StopIteration()]
)
def test_what_goes_wrong_names_the_sample_on_one_line(problem: Exception) -> None:
    class Failing(Listed):
        def __getitem__(self, index: int) -> Any:
            raise problem

    with pytest.raises(DataError) as caught:
        read_sample(Source(Failing([0, 0]), "Failing"), 1)
    assert str(caught.value).startswith("sample 1 of Failing: ")
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is problem


def test_an_error_of_autotrains_passes_through() -> None:
    class Failing(Listed):
        def __getitem__(self, index: int) -> Any:
            raise DataError("as it is")

    with pytest.raises(DataError, match=r"^as it is$"):
        read_sample(Source(Failing([0, 0]), "Failing"), 1)


def test_collation_is_torchs() -> None:
    images, labels = collate_samples([(torch.ones(2), 1), (torch.zeros(2), 2)])
    assert images.tolist() == [[1, 1], [0, 0]]
    assert labels.tolist() == [1, 2]
    with pytest.raises(DataError, match="cannot be made into a batch"):
        collate_samples([torch.ones(2), torch.ones(3)])


def test_other_sources_have_no_stored_images_and_no_labels_apart() -> None:
    source = open_source(Listed([(picture(), 3)] * 2))
    assert source.encoded(0) is None
    assert source.label(0) is None


@pytest.mark.parametrize("images", [torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.zeros(4, 3, 8, 8)])
def test_a_tensor_dataset_is_its_pair_of_tensors(images: torch.Tensor) -> None:
    source = open_source(TensorDataset(images, torch.arange(4)))
    assert isinstance(source, TensorSource)
    assert source.images is (images.dtype == torch.uint8)
    assert source.label(2) == 2


def test_a_tensor_dataset_that_does_more_stays_as_it_is() -> None:
    class Shifted(TensorDataset):
        def __getitem__(self, index: int) -> Any:
            return super().__getitem__(index)[0] + 1, 0

    assert not isinstance(open_source(Shifted(torch.zeros(4, 2), torch.arange(4))), TensorSource)
    assert not isinstance(open_source(TensorDataset(torch.zeros(4, 2))), TensorSource)


def bytes_of(*shape: int) -> np.ndarray[Any, Any]:
    return np.arange(int(np.prod(shape))).astype(np.uint8).reshape(shape)


@pytest.mark.parametrize(
    ("shape", "side"),
    [((5, 8, 6, 3), (3, 8, 6)), ((5, 8, 6), (1, 8, 6)), ((5, 8, 6, 1), (1, 8, 6)), ((5, 3, 8, 6), None)],
)
@pytest.mark.parametrize(
    "labels", [np.arange(5), np.arange(5, dtype=np.uint8)[:, None], list(range(5)), torch.arange(5)]
)
def test_arrays_of_images_with_labels(shape: tuple[int, ...], side: Any, labels: Any) -> None:
    array = bytes_of(*shape)
    source = open_source((array, labels))
    assert isinstance(source, TensorSource)
    assert source.images
    images, numbers = source.batch(np.asarray([3, 1]))
    assert tuple(images.shape[1:]) == (side or shape[1:])
    placed = images.permute(0, 2, 3, 1).numpy().reshape(2, *shape[1:]) if side else images.numpy()
    assert np.array_equal(placed, array[[3, 1]])
    assert (numbers.tolist(), numbers.dtype) == ([3, 1], torch.int64)


def test_arrays_on_disk_are_read_and_not_copied(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    np.save(tmp_path / "images.npy", bytes_of(5, 8, 8, 3))
    array = np.load(tmp_path / "images.npy", mmap_mode="r")
    source = open_source((array, np.arange(5)))
    assert source.dataset.data_ptr() == array.ctypes.data
    assert not [entry for entry in recwarn if "writable" in str(entry.message)]


def test_arrays_of_numbers_are_taken_as_they_are() -> None:
    source = open_source((np.zeros((4, 3, 8, 8), np.float32), np.zeros((4, 2), np.float32)))
    assert (source.images, source.sample(0)[1].shape) == (False, (2,))
    with pytest.raises(DataError, match="the array of images has dtype object"):
        open_source((np.asarray([None] * 4), np.arange(4)))


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter([(picture(), 0)])


def of_webdataset() -> Any:
    """A stand-in: that package is told by its name."""
    return type("WebDataset", (Endless,), {"__module__": "webdataset.compat"})()


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        (lambda: Endless(), "Endless gives samples only one after the other.* Give a map-style dataset"),
        (of_webdataset, r"WebDataset of webdataset .*wids\.ShardListDataset, or unpack"),
        (lambda: DataLoader(Listed([0, 1])), r"DataLoader is a loader.*give its dataset \(loader\.dataset\)"),
        (lambda: (entry for entry in [1, 2]), "generator gives samples only one after the other.*and once only"),
        (lambda: iter([1, 2]), "list_iterator gives samples"),
        (lambda: {1, 2}, "set gives samples"),
        (lambda: ["a.jpg", "b.jpg", "c.jpg"], "list of 3 paths: paths are no images. Give a folder"),
        (lambda: [Path("a.jpg"), Path("b.jpg")], "list of 2 paths"),
        (lambda: [("a.jpg", 0), ("b.jpg", 1)], "list of 2 paths and labels"),
        (lambda: np.zeros((4, 8, 8, 3), np.uint8), r"ndarray of shape \(4, 8, 8, 3\) alone has no labels"),
        (lambda: torch.zeros(4, 3, 8, 8), r"Tensor of shape \(4, 3, 8, 8\) alone has no labels"),
        (lambda: {"train": [1, 2], "val": [3, 4]}, r"dict holds several datasets \(train, val\)"),
        (lambda: {"a": 1}, "dict is a mapping, not a dataset"),
        (lambda: None, "no dataset was given"),
        (lambda: Listed, "Listed is a class, not a dataset: give an instance"),
        (lambda: (np.zeros((4, 3), np.uint8), np.zeros(3)), "4 images but 3 labels"),
    ],
)
def test_what_is_no_dataset_is_told_with_the_remedy(dataset: Any, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        open_source(dataset())
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_list_of_images_with_labels_is_a_dataset() -> None:
    assert isinstance(open_source([(picture(), 0), (picture(), 1), (picture(), 0)]), ImageSource)
