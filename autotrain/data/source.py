"""Sources: a dataset, whatever its kind, as samples that the reader understands."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import TensorDataset
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import default_loader

from autotrain.data.huggingface import is_hugging_face, open_hugging_face
from autotrain.data.kinds import refusal
from autotrain.data.samples import (
    ImageSource,
    Source,
    collate_samples,
    image_size,
    is_image_pair,
    read_sample,
)
from autotrain.data.stream import seeded
from autotrain.data.transformed import TransformedSource
from autotrain.errors import DataError, first_line
from autotrain.transforms.read import read_transforms

__all__ = [
    "NATIVE_LIMIT",
    "FolderSource",
    "ImageSource",
    "Source",
    "TensorSource",
    "collate_samples",
    "image_size",
    "is_image_pair",
    "open_source",
    "read_sample",
    "square_side",
]

NATIVE_LIMIT = 256
"""Datasets of equal square images up to this side are trained at that side unless told otherwise."""


class FolderSource(ImageSource):
    """A folder with one folder per class (torchvision's ImageFolder), read by path."""

    kind = "image files"
    pure = True

    def __init__(self, root: Path, dataset: ImageFolder | None = None) -> None:
        dataset = _image_folder(root) if dataset is None else dataset
        super().__init__(dataset, str(root))
        self._paths: list[str] = [path for path, _ in dataset.samples]
        self._labels: list[int] = [label for _, label in dataset.samples]

    def sample(self, index: int) -> tuple[Image.Image, int]:
        """Return the decoded image as RGB, the way torchvision's loader does, and its class number."""
        with open(self._paths[index], "rb") as file, Image.open(file) as image:
            return image.convert("RGB"), self._labels[index]

    def encoded(self, index: int) -> bytes:
        """Return the file's bytes."""
        with open(self._paths[index], "rb") as file:
            return file.read()

    def label(self, index: int) -> int:
        """Return the class number."""
        return self._labels[index]

    def where(self, index: int) -> str:
        """Return the file's path."""
        return self._paths[index]

    def files(self, indices: Sequence[int]) -> list[Path]:
        """Return the image files."""
        return [Path(self._paths[index]) for index in indices]

    @property
    def labels(self) -> list[int]:
        """Class number of every sample."""
        return self._labels


def _image_folder(root: Path) -> ImageFolder:
    if not root.exists():
        raise DataError(f"{root}: no such folder. Give a folder that holds one folder of images per class")
    if not root.is_dir():
        raise DataError(f"{root}: not a folder. Give a folder that holds one folder of images per class")
    try:
        return ImageFolder(str(root))
    except FileNotFoundError as problem:
        raise DataError(
            f"{root}: {first_line(problem)}. Expected one folder per class with images in each, "
            f"such as {root}/cat/1.jpg"
        ) from problem


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

    def label(self, index: int) -> torch.Tensor:
        """Return the label."""
        return self.labels[index]

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
    if type(dataset) is TensorDataset and len(dataset.tensors) == 2:
        return _not_empty(TensorSource(*dataset.tensors))
    if _is_array_pair(dataset):
        return _not_empty(TensorSource(_images(dataset[0]), _labels(dataset[1])))
    if is_hugging_face(dataset):
        return _opened(_not_empty(open_hugging_face(dataset)))
    reason = refusal(dataset)
    if reason is not None:
        raise DataError(reason)
    name = type(dataset).__name__
    if _is_plain_folder(dataset):
        return _opened(_not_empty(FolderSource(Path(dataset.root), dataset)))
    first = _first_sample(_not_empty(Source(dataset, name)))
    if is_image_pair(first):
        source = ImageSource(dataset, name)
        source.pure = _is_plain(dataset)
        return source
    pipeline = read_transforms(dataset)
    return Source(dataset, name) if pipeline is None else TransformedSource(dataset, name, pipeline)


def square_side(source: Source, *, looks: int = 16) -> int | None:
    """Return the common side of the first images where all are square, equal and small, else None."""
    sizes = set()
    with seeded(0):
        for index in range(min(looks, len(source))):
            sizes.add(image_size(read_sample(source, index)[0]))
    height, width = sizes.pop()
    return height if not sizes and height == width and height <= NATIVE_LIMIT else None


def _is_plain(dataset: Any) -> bool:
    """Tell whether this is one of torchvision's own datasets without transforms: nothing in it is random."""
    if not type(dataset).__module__.startswith("torchvision.datasets."):
        return False
    loader = getattr(dataset, "loader", getattr(dataset, "_loader", None))
    if loader is not None and not str(getattr(loader, "__module__", "")).startswith("torchvision.datasets."):
        return False  # a function of the user's own
    return getattr(dataset, "transforms", "unknown") is None and type(dataset).__name__ != "FakeData"


def _is_plain_folder(dataset: Any) -> bool:
    return type(dataset) is ImageFolder and _is_plain(dataset) and dataset.loader is default_loader


def _opened(source: Source) -> Source:
    """Return a source whose first sample could be read."""
    _first_sample(source)
    return source


def _is_array_pair(dataset: Any) -> bool:
    if not (isinstance(dataset, tuple | list) and len(dataset) == 2):
        return False
    images, labels = dataset
    if not isinstance(images, np.ndarray | torch.Tensor):
        return False
    return isinstance(labels, np.ndarray | torch.Tensor) or (
        isinstance(labels, list | tuple)
        and len(labels) == len(images)
        and all(isinstance(entry, int) for entry in labels)
    )


def _images(images: np.ndarray[Any, Any] | torch.Tensor) -> torch.Tensor:
    """Return images as a tensor; bytes of arrays, channels last or absent, as (n, channels, height, width)."""
    if isinstance(images, torch.Tensor):
        return images
    tensor = _tensor(images, "images")
    if images.dtype == np.uint8 and images.ndim == 3:
        return tensor.unsqueeze(1)
    if images.dtype == np.uint8 and images.ndim == 4 and images.shape[3] in (1, 3, 4):
        return tensor.permute(0, 3, 1, 2)
    return tensor


def _labels(labels: Any) -> torch.Tensor:
    """Return labels as a tensor; whole numbers as int64, one a sample."""
    if isinstance(labels, torch.Tensor):
        return labels
    array = np.asarray(labels)
    if array.dtype.kind in "iu":
        array = array.astype(np.int64)
        return torch.from_numpy(array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array)
    return _tensor(array, "labels")


def _tensor(array: np.ndarray[Any, Any], what: str) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # nor is it written to
        try:
            return torch.from_numpy(array)
        except (TypeError, ValueError) as problem:
            raise DataError(
                f"the array of {what} has dtype {array.dtype}, which torch does not know ({first_line(problem)}). "
                "Give arrays of numbers"
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
