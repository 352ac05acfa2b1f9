"""A dataset's transforms are read without touching it; what is not understood for certain stays as it is."""

from __future__ import annotations

import logging
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, Dataset, Subset, random_split
from torchvision import transforms as v1
from torchvision import tv_tensors
from torchvision.datasets import DatasetFolder, ImageFolder, VisionDataset, wrap_dataset_for_transforms_v2
from torchvision.datasets.folder import pil_loader
from torchvision.transforms import v2

from autotrain.data.stream import seed_generators
from autotrain.errors import DataError
from autotrain.transforms.pipeline import Pipeline, as_bytes
from autotrain.transforms.read import read_transforms

CHAIN = v1.Compose([v1.RandomResizedCrop(16), v1.RandomHorizontalFlip(), v1.ToTensor()])


def pictures(count: int = 4) -> list[Image.Image]:
    draws = np.random.default_rng(0)
    return [Image.fromarray(draws.integers(0, 256, (20, 24, 3), dtype=np.uint8)) for _ in range(count)]


class Pictures(VisionDataset):
    """As torchvision's own datasets of PIL images in memory are written."""

    def __init__(self, *args: Any, targets: list[Any] | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self.images = pictures()
        self.targets = targets if targets is not None else [3, 1, 2, 0]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        image, target = self.images[index], self.targets[index]
        if self.transform is not None:
            image = self.transform(image)
        if self.target_transform is not None:
            target = self.target_transform(target)
        return image, target


class Joint(Pictures):
    """As those are written whose images and targets belong together."""

    def __getitem__(self, index: int) -> Any:
        image, target = self.images[index], self.targets[index]
        return self.transforms(image, target) if self.transforms is not None else (image, target)


class Mirrored(Pictures):
    def __getitem__(self, index: int) -> Any:
        image, target = super().__getitem__(index)
        return (image if self.transform is None else image.flip(-1)), target


class Restless(Pictures):
    def __getitem__(self, index: int) -> Any:
        return super().__getitem__(random.randrange(len(self)))


class Named(Pictures):
    def __getitem__(self, index: int) -> Any:
        return (*super().__getitem__(index), f"{index}.jpg")


class Broken(Pictures):
    def __getitem__(self, index: int) -> Any:
        raise RuntimeError("no disk")


class Own(Dataset[Any]):
    transform = CHAIN

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Any:
        return self.transform(pictures()[index]), index


class OwnSubset(Subset[Any]):
    def __getitem__(self, index: Any) -> Any:
        return super().__getitem__(index)

    def __getitems__(self, indices: list[int]) -> list[Any]:
        return [self[index] for index in indices]


def joint(image: Any, target: Any) -> Any:
    return image, target


def random_target(label: int) -> int:
    return label + random.randrange(2)


NOT_UNDERSTOOD: dict[str, Any] = {
    "own dataset": Own(),
    "no dataset": [1, 2, 3],
    "nothing": None,
    "tensors": (torch.zeros(4, 3, 8, 8), torch.zeros(4)),
    "several datasets": ConcatDataset([Pictures(transform=CHAIN), Pictures(transform=CHAIN)]),
    "own subset": OwnSubset(Pictures(transform=CHAIN), [0, 1]),
    "joint transforms": Joint(transforms=joint),
    "dictionaries": Pictures(transform=CHAIN, targets=[{"boxes": torch.zeros(2, 4)}] * 4),
    "boxes": Pictures(
        transform=CHAIN,
        targets=[tv_tensors.BoundingBoxes([[0, 0, 1, 1]], format="XYXY", canvas_size=(20, 24))] * 4,  # type: ignore[call-arg]
    ),
    "masks": Pictures(transform=CHAIN, targets=pictures()),
    "masks as tensors": Pictures(transform=CHAIN, targets=[torch.zeros(20, 24)] * 4),
    "more than a pair": Named(transform=CHAIN),
    "something done afterwards": Mirrored(transform=CHAIN),
    "random images": Restless(transform=CHAIN),
    "random targets": Pictures(transform=CHAIN, target_transform=random_target),
    "an error": Broken(transform=CHAIN),
    "an empty one": Subset(Pictures(transform=CHAIN), []),
}


@pytest.mark.parametrize("dataset", NOT_UNDERSTOOD.values(), ids=NOT_UNDERSTOOD)
def test_what_is_not_understood_stays_as_it_is_and_a_reason_is_logged(
    dataset: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="autotrain"):
        assert read_transforms(dataset) is None
    assert "stay as they are" in caplog.text


def test_datasets_wrapped_for_joint_transforms_stay_as_they_are(
    jpeg_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="autotrain"):
        wrapped = wrap_dataset_for_transforms_v2(ImageFolder(str(jpeg_folder), transform=CHAIN))
        assert read_transforms(Subset(wrapped, [0, 1])) is None
    assert "with its images" in caplog.text


def test_a_dataset_without_transforms_has_nothing_to_read(jpeg_folder: Path) -> None:
    assert read_transforms(ImageFolder(str(jpeg_folder))) is None
    assert read_transforms(Subset(Pictures(target_transform=str), [0, 1])) is None


def agrees(dataset: Any, pipeline: Pipeline) -> bool:
    for index in range(len(dataset)):
        seed_generators(index)
        expected, label = dataset[index]
        seed_generators(index)
        image, target = pipeline.prefixed(index)
        if not (torch.equal(pipeline.rest(image), expected) and target == label):
            return False
    return True


@pytest.mark.parametrize("kind", [Pictures, Joint])
def test_datasets_that_hold_images_are_understood(kind: type[Pictures], own_draws: None) -> None:
    dataset = kind(transform=CHAIN, target_transform=lambda label: label * 10)
    pipeline = read_transforms(dataset)
    assert pipeline is not None
    assert pipeline.base(1)[1] == 10
    assert pipeline.base(1)[0].size == (24, 20)
    assert agrees(dataset, pipeline)
    assert pipeline.path(1) is None
    assert pipeline.label(1) is None
    assert pipeline.geometry is None


def test_random_splits_are_understood(own_draws: None) -> None:
    dataset, _ = random_split(Pictures(transform=CHAIN), [3, 1])
    pipeline = read_transforms(dataset)
    assert pipeline is not None
    assert len(pipeline) == 3
    assert agrees(dataset, pipeline)


@pytest.mark.parametrize("kind", [Pictures, Joint])
def test_transforms_replaced_after_the_dataset_was_made(kind: type[Pictures], own_draws: None) -> None:
    """Some datasets then use the new ones, some do not."""
    dataset = kind(transform=v1.Compose([v1.Resize(9), v1.ToTensor()]))
    dataset.transform = CHAIN
    pipeline = read_transforms(dataset)
    assert pipeline is not None
    assert len(pipeline.steps) == (2 if kind is Joint else 3)
    assert agrees(dataset, pipeline)


def test_the_dataset_is_not_changed(jpeg_folder: Path) -> None:
    dataset = ImageFolder(str(jpeg_folder), transform=CHAIN, target_transform=float)
    subset = Subset(dataset, [5, 6])
    before = dict(vars(dataset)), dict(vars(subset)), dict(vars(dataset.transforms)), list(CHAIN.transforms)
    pipeline = read_transforms(subset)
    assert pipeline is not None
    pipeline.prefixed(0)
    assert before == (vars(dataset), vars(subset), vars(dataset.transforms), CHAIN.transforms)
    assert subset.dataset is dataset


def test_a_pipeline_goes_to_a_worker_and_gives_the_same(jpeg_folder: Path, own_draws: None) -> None:
    transform = v2.Compose([v2.RandomResizedCrop(16), v2.TrivialAugmentWide(), v2.ToImage(), v2.ToDtype(torch.float32)])
    pipeline = read_transforms(ImageFolder(str(jpeg_folder), transform=transform))
    assert pipeline is not None
    assert pipeline.suffix is not None
    copy = pickle.loads(pickle.dumps(pipeline))
    assert copy.prefix_key == pipeline.prefix_key
    assert copy.geometry == pipeline.geometry
    for one in (pipeline, copy):
        seed_generators(11)
        image, row = one.suffix.begin(one.head(one.prefixed(3)[0]))
        if one is pipeline:
            expected = image, row
    assert torch.equal(image, expected[0])
    assert row == expected[1]


def test_folders_are_read_by_path_only_with_torchvision_s_decoder(jpeg_folder: Path) -> None:
    own = ImageFolder(str(jpeg_folder), transform=CHAIN, loader=lambda path: Image.open(path).convert("RGB"))
    pipeline = read_transforms(own)
    assert pipeline is not None
    assert pipeline.path(3) is None
    assert pipeline.geometry is None
    plain = DatasetFolder(str(jpeg_folder), pil_loader, (".jpg",), transform=CHAIN, target_transform=str)
    pipeline = read_transforms(plain)
    assert pipeline is not None
    assert pipeline.path(13) == plain.samples[13][0]
    assert pipeline.label(13) == "1"
    assert pipeline.geometry is not None


def test_the_prefix_ends_where_chance_or_the_unknown_begins(jpeg_folder: Path) -> None:
    def lengths(*transforms: Any) -> int:
        pipeline = read_transforms(ImageFolder(str(jpeg_folder), transform=v1.Compose(list(transforms))))
        assert pipeline is not None
        return pipeline.prefix

    resize = v1.Resize(32)
    assert lengths(resize, v1.CenterCrop(32), v1.ToTensor()) == 2
    assert lengths(resize, v1.RandomCrop(16), v1.CenterCrop(8), v1.ToTensor()) == 1
    assert lengths(v1.Lambda(lambda image: image), resize, v1.ToTensor()) == 0
    assert lengths(v2.ToImage(), v2.Resize(32), v2.ToDtype(torch.float32)) == 2
    assert lengths(v1.ToTensor(), resize) == 0


def test_people_read_what_happens_where(jpeg_folder: Path) -> None:
    def words(*transforms: Any) -> str:
        pipeline = read_transforms(ImageFolder(str(jpeg_folder), transform=v1.Compose(list(transforms))))
        assert pipeline is not None
        return pipeline.describe()

    assert words(v1.RandomResizedCrop(32), v1.RandomHorizontalFlip(), v1.ToTensor(), v1.Normalize([0.5], [0.5])) == (
        "RandomResizedCrop(32) stays in the worker; RandomHorizontalFlip, ToTensor, Normalize can move to the device"
    )
    assert words(v1.Resize(40), v1.CenterCrop(32), v1.RandomRotation(9), v1.RandomCrop(8), v1.ToTensor()) == (
        "Resize(40), CenterCrop(32) can be cached; RandomRotation stays in the worker; "
        "RandomCrop(8) becomes a cut of bytes in the worker; ToTensor can move to the device"
    )
    assert words(v1.ToTensor(), v1.RandomCrop(8)) == (
        "ToTensor, RandomCrop(8) stay in the worker; nothing can move to the device "
        "(ToTensor cannot move without RandomCrop(8), which comes after it)"
    )


def test_images_whose_levels_are_not_bytes_do_not_move() -> None:
    dataset = Pictures(transform=v1.ToTensor())
    dataset.images = [picture.convert("1") for picture in dataset.images]
    pipeline = read_transforms(dataset)
    assert pipeline is not None
    assert pipeline.suffix is None
    assert "would not give the same" in pipeline.describe()


@pytest.mark.parametrize(
    ("image", "shape"),
    [
        (Image.new("RGB", (5, 4)), (3, 4, 5)),
        (Image.new("L", (5, 4)), (1, 4, 5)),
        (np.zeros((4, 5), np.uint8), (1, 4, 5)),
        (np.zeros((4, 5, 3), np.uint8)[:, ::-1], (3, 4, 5)),
        (tv_tensors.Image(torch.zeros(3, 4, 5, dtype=torch.uint8)), (3, 4, 5)),
    ],
)
def test_images_of_any_kind_become_tensors_of_bytes(image: Any, shape: tuple[int, ...]) -> None:
    levels = as_bytes(image)
    assert type(levels) is torch.Tensor
    assert levels.shape == shape


def test_an_image_that_does_not_fit_the_device_is_an_error_that_says_so() -> None:
    with pytest.raises(DataError, match="RGB"):
        as_bytes(Image.new("I;16", (5, 4)))
    dataset = Pictures(transform=v1.Compose([v1.RandomAutocontrast(), v1.ToTensor()]))
    pipeline = read_transforms(dataset)
    assert pipeline is not None
    with pytest.raises(DataError, match="4 channels"):
        pipeline.head(Image.new("RGBA", (5, 4)))
