"""Samples: what a dataset gives by index, and the base of all sources."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch.utils.data import default_collate

from autotrain.errors import DataError, first_line


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

    def encoded(self, index: int) -> bytes | None:
        """Return the sample's image as it is stored, where decoding these bytes and nothing else gives its pixels."""
        del index
        return None

    def label(self, index: int) -> Any | None:
        """Return the sample's label without decoding its image, where that is possible."""
        del index
        return None

    def where(self, index: int) -> str:
        """Return words that lead a person to the sample."""
        return f"sample {index} of {self.name}"

    def files(self, indices: Sequence[int]) -> list[Path]:
        """Return the files behind the samples, where there are any."""
        del indices
        return []

    @property
    def class_names(self) -> list[Any] | None:
        """Names of the classes in the order of their numbers, where the dataset tells."""
        names = getattr(self.dataset, "classes", None)
        return list(names) if isinstance(names, list | tuple) else None

    @property
    def classes(self) -> int | None:
        """Number of classes, where the dataset tells."""
        names = self.class_names
        return None if names is None else len(names)


class ImageSource(Source):
    """A map-style dataset of ``(image, label)`` whose images are PIL images or uint8 arrays: they can be augmented."""

    kind = "images"
    images = True


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
            f"{source.where(index)}: cannot be read as an image ({first_line(problem)}). "
            "Repair it or remove it from the dataset"
        ) from problem
    except DataError:
        raise
    except Exception as problem:
        raise DataError(
            f"{source.where(index)}: the dataset raised {type(problem).__name__}: {first_line(problem)}"
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
            f"samples cannot be made into a batch ({first_line(problem)}). "
            "Let the dataset resize its images to one size, or give collate="
        ) from problem


def is_image_pair(sample: Any) -> bool:
    """Tell whether a sample is an image that can be augmented, with a label."""
    return isinstance(sample, tuple | list) and len(sample) == 2 and _is_raw_image(sample[0])


def _is_raw_image(image: Any) -> bool:
    if isinstance(image, Image.Image):
        return True
    if isinstance(image, np.ndarray):
        return image.dtype == np.uint8 and image.ndim in (2, 3)
    return isinstance(image, torch.Tensor) and image.dtype == torch.uint8 and image.ndim == 3
