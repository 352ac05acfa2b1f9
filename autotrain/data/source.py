"""Sources: a dataset, whatever its kind, as samples that the reader understands."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch.utils.data import IterableDataset, default_collate

from autotrain.data.stream import seeded
from autotrain.errors import DataError

NATIVE_LIMIT = 256
"""Datasets of equal square images up to this side are trained at that side unless told otherwise."""


class Source:
    """Samples by index. Subclasses say what an image is; the base keeps samples as the dataset gives them."""

    kind = "samples of its own kind"
    """What people read about the samples."""

    images = False
    """Whether samples are ``(image, label)`` with an undecoded look: PIL images, uint8 arrays or tensors."""

    pure = False
    """Whether a sample depends on its index alone, so that no random state needs care."""

    def __init__(self, dataset: Any, name: str) -> None:
        self.dataset = dataset
        self.name = name

    def __len__(self) -> int:
        return len(self.dataset)

    def sample(self, index: int) -> Any:
        """Return the sample as the dataset gives it."""
        return self.dataset[index]

    def where(self, index: int) -> str:
        """Return words that lead a person to the sample."""
        return f"sample {index} of {self.name}"

    def files(self, indices: Sequence[int]) -> list[Path]:
        """Return the files behind the samples, where there are any."""
        del indices
        return []

    @property
    def classes(self) -> int | None:
        """Number of classes, where the dataset tells."""
        names = getattr(self.dataset, "classes", None)
        return len(names) if isinstance(names, list | tuple) else None


class ImageSource(Source):
    """A map-style dataset of ``(image, label)`` whose images are PIL images or uint8 arrays: they can be augmented."""

    kind = "images"
    images = True


class FolderSource(ImageSource):
    """A folder with one folder per class (torchvision's ImageFolder), read by path."""

    kind = "image files"
    pure = True

    def __init__(self, root: Path) -> None:
        from torchvision.datasets import ImageFolder

        if not root.exists():
            raise DataError(f"{root}: no such folder. Give a folder that holds one folder of images per class")
        if not root.is_dir():
            raise DataError(f"{root}: not a folder. Give a folder that holds one folder of images per class")
        try:
            dataset = ImageFolder(str(root))
        except FileNotFoundError as problem:
            raise DataError(
                f"{root}: {_first_line(problem)}. Expected one folder per class with images in each, "
                f"such as {root}/cat/1.jpg"
            ) from problem
        super().__init__(dataset, str(root))
        self._paths = [path for path, _ in dataset.samples]
        self._labels = [label for _, label in dataset.samples]

    def sample(self, index: int) -> tuple[Image.Image, int]:
        """Return the decoded image as RGB, the way torchvision's loader does, and its class number."""
        with open(self._paths[index], "rb") as file, Image.open(file) as image:
            return image.convert("RGB"), self._labels[index]

    def where(self, index: int) -> str:
        """Return the file's path."""
        return str(self._paths[index])

    def files(self, indices: Sequence[int]) -> list[Path]:
        """Return the image files."""
        return [Path(self._paths[index]) for index in indices]

    @property
    def labels(self) -> list[int]:
        """Class number of every sample."""
        return self._labels


class TensorSource(Source):
    """Images and labels that lie in memory as tensors of equal length."""

    kind = "tensors in memory"
    pure = True

    def __init__(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        if len(images) != len(labels):
            raise DataError(f"{len(images)} images but {len(labels)} labels: give tensors of equal length")
        super().__init__(images, "the tensors")
        self.labels = labels
        self.images = images.dtype == torch.uint8 and images.ndim == 4

    def sample(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return one image, shape (channels, height, width), and its label."""
        return self.dataset[index], self.labels[index]

    def batch(self, indices: np.ndarray[Any, np.dtype[np.int64]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images and labels of many samples at once, copied."""
        chosen = torch.from_numpy(indices)
        return self.dataset[chosen].cpu(), self.labels[chosen].cpu()


def open_source(dataset: Any) -> Source:
    """Recognise the kind of a dataset by looking at its first sample.

    Raises:
        DataError: it is missing, empty, iterable-style, or its first sample cannot be read.
    """
    if isinstance(dataset, Source):
        return dataset
    if isinstance(dataset, str | os.PathLike):
        return _not_empty(FolderSource(Path(dataset)))
    if isinstance(dataset, tuple | list) and len(dataset) == 2 and all(map(torch.is_tensor, dataset)):
        return _not_empty(TensorSource(dataset[0], dataset[1]))
    name = type(dataset).__name__
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__getitem__"):
        raise DataError(
            f"{name} gives samples only one after the other: the seeded order needs a map-style dataset, "
            "one with __getitem__ and __len__"
        )
    if not hasattr(dataset, "__len__"):
        raise DataError(f"{name} has no __len__: the order of an epoch needs the number of samples")
    first = _first_sample(_not_empty(Source(dataset, name)))
    if is_image_pair(first):
        return ImageSource(dataset, name)
    return Source(dataset, name)


def square_side(source: Source, *, looks: int = 16) -> int | None:
    """Return the common side of the first images where all are square, equal and small, else None."""
    sizes = set()
    with seeded(0):
        for index in range(min(looks, len(source))):
            sizes.add(image_size(read_sample(source, index)[0]))
    height, width = sizes.pop()
    return height if not sizes and height == width and height <= NATIVE_LIMIT else None


def image_size(image: Any) -> tuple[int, int]:
    """Return height and width of a PIL image, an array (height, width, ...) or a tensor (channels, height, width)."""
    if isinstance(image, Image.Image):
        return image.height, image.width
    if isinstance(image, np.ndarray):
        return image.shape[0], image.shape[1]
    return image.shape[-2], image.shape[-1]


def read_sample(source: Source, index: int) -> Any:
    """Return a sample; what goes wrong names the sample.

    Raises:
        DataError: the image file is missing, unreadable or truncated.
    """
    try:
        return source.sample(index)
    except (UnidentifiedImageError, OSError, SyntaxError) as problem:
        raise DataError(
            f"{source.where(index)}: cannot be read as an image ({_first_line(problem)}). "
            "Repair it or remove it from the dataset"
        ) from problem
    except DataError:
        raise
    except Exception as problem:
        raise DataError(
            f"{source.where(index)}: the dataset raised {type(problem).__name__}: {_first_line(problem)}"
        ) from problem


def collate_samples(samples: list[Any]) -> Any:
    """Stack samples as torch's DataLoader does.

    Raises:
        DataError: the samples differ in size or kind.
    """
    try:
        return default_collate(samples)
    except (RuntimeError, TypeError) as problem:
        raise DataError(
            f"samples cannot be made into a batch ({_first_line(problem)}). "
            "Let the dataset resize its images to one size, or give collate="
        ) from problem


def _first_sample(source: Source) -> Any:
    with seeded(0):
        return read_sample(source, 0)


def _not_empty(source: Source) -> Source:
    if len(source) == 0:
        raise DataError(f"{source.name} is empty: give a dataset with at least two samples")
    if len(source) == 1:
        raise DataError(f"{source.name} has one sample only: give a dataset with at least two")
    return source


def is_image_pair(sample: Any) -> bool:
    """Tell whether a sample is an image that can be augmented, with a label."""
    return isinstance(sample, tuple | list) and len(sample) == 2 and _is_raw_image(sample[0])


def _is_raw_image(image: Any) -> bool:
    if isinstance(image, Image.Image):
        return True
    if isinstance(image, np.ndarray):
        return image.dtype == np.uint8 and image.ndim in (2, 3)
    return isinstance(image, torch.Tensor) and image.dtype == torch.uint8 and image.ndim == 3


def _first_line(problem: BaseException) -> str:
    lines = str(problem).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(problem).__name__
