"""Datasets of every kind are recognised by their first sample."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, Dataset, Subset
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
