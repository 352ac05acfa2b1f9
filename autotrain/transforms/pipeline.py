"""A dataset's own transforms, taken apart: what can be cached, what stays in the worker, what can move."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autotrain.errors import DataError
from autotrain.transforms import bare
from autotrain.transforms.crop import CROPS
from autotrain.transforms.geometry import Geometry
from autotrain.transforms.steps import Step, key
from autotrain.transforms.suffix import Suffix


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """The samples of a dataset in stages; picklable when the dataset is.

    ``rest(prefixed(index)[0])`` is the image of ``dataset[index]`` to the last bit, under the same state of the random
    generators. Where ``suffix`` is set, ``head`` and the suffix give it within rounding.
    """

    dataset: Any
    """The dataset without its transforms."""

    steps: tuple[Step, ...]
    """The transforms of its images, containers unpacked."""

    prefix: int
    """How many steps from the first are deterministic and leave the images in bytes; their result can be cached."""

    suffix: Suffix | None
    """The tail that the device can do."""

    reason: str
    """Why there is no suffix; empty where there is one."""

    geometry: Geometry | None
    """What ``head`` does, as a window; None where a window does not say all, or images are not read by path."""

    def __len__(self) -> int:
        return len(self.dataset)

    def base(self, index: int) -> tuple[Any, Any]:
        """Return the image before any transform, and the final target."""
        image, target = self.dataset[index]
        return image, target

    def path(self, index: int) -> str | None:
        """Return the file whose content, decoded and made RGB, is the image of ``base``; None if that is not known."""
        return str(bare.entry(self.dataset, index)[0]) if bare.reads_files(self.dataset) else None

    def label(self, index: int) -> Any:
        """Return the target of ``base`` without reading the image; None if that is not possible."""
        return bare.entry(self.dataset, index)[1] if bare.reads_files(self.dataset) else None

    def prefixed(self, index: int) -> tuple[Any, Any]:
        """Return the image after the prefix (PIL image, uint8 array or tensor) and the target; nothing is drawn."""
        image, target = self.base(index)
        return self.apply_prefix(image), target

    def apply_prefix(self, image: Any) -> Any:
        """Take an image of ``base`` through the prefix."""
        return self._apply(image, 0, self.prefix)

    def rest(self, image: Any) -> Any:
        """Take an image of ``prefixed`` through the rest of the chain; steps of the user's own may write to it."""
        return self._apply(image, self.prefix, len(self.steps))

    def head(self, image: Any) -> Tensor:
        """Take an image of ``prefixed`` through all steps before the suffix.

        Returns:
            uint8, ``(c, h, w)``, of any strides.

        Raises:
            DataError: the image is not one of 8 bits per level, or its channels are not 1 or 3 before an operator.
        """
        assert self.suffix is not None
        return self.checked(as_bytes(self._apply(image, self.prefix, self.suffix.start)))

    def checked(self, levels: Tensor) -> Tensor:
        """Return an image in bytes ``(c, h, w)`` if the suffix can be applied to it.

        Raises:
            DataError: its channels are not 1 or 3 before an operator.
        """
        assert self.suffix is not None
        if self.suffix.depth and levels.shape[0] not in (1, 3):
            raise DataError(
                f"an image of {levels.shape[0]} channels cannot be augmented on the device: "
                "let the dataset's transforms make all images RGB first"
            )
        return levels

    @property
    def prefix_key(self) -> str:
        """What determines the prefix's result, next to the image: classes and parameters, but not library versions."""
        return key(self.steps[: self.prefix])

    def describe(self) -> str:
        """Return what happens where, for people."""
        start = len(self.steps) if self.suffix is None else self.suffix.start
        cached = min(self.prefix, start)
        parts = []
        if cached:
            parts.append(f"{_listed(self.steps[:cached])} can be cached")
        if start > cached:
            verb = "stays" if start - cached == 1 else "stay"
            parts.append(f"{_listed(self.steps[cached:start])} {verb} in the worker")
        if self.suffix is None:
            parts.append(f"nothing can move to the device ({self.reason})")
        else:
            cuts = tuple(step for step in self.steps[start:] if step.kind in CROPS)
            if cuts:
                parts.append(f"{_listed(cuts)} becomes a cut of bytes in the worker")
            rest = tuple(step for step in self.steps[start:] if step not in cuts)
            parts.append(f"{_listed(rest)} can move to the device")
        return "; ".join(parts)

    def _apply(self, image: Any, first: int, last: int) -> Any:
        for step in self.steps[first:last]:
            image = step.transform(image)
        return image


def as_bytes(image: Any) -> Tensor:
    """Return a PIL image, an array ``(h, w)`` or ``(h, w, c)`` or a tensor ``(c, h, w)`` as uint8 ``(c, h, w)``.

    Raises:
        DataError: its levels are not of 8 bits.
    """
    if isinstance(image, Tensor):
        levels = image.as_subclass(Tensor)
    else:
        pixels = np.array(image)
        levels = torch.from_numpy(pixels[..., None] if pixels.ndim == 2 else pixels).permute(2, 0, 1)
    if levels.dtype != torch.uint8:
        raise DataError(
            f"an image of {levels.dtype} levels cannot be handed to the device in bytes: "
            "let the dataset's transforms make all images RGB first"
        )
    return levels


def _listed(steps: tuple[Step, ...]) -> str:
    return ", ".join(map(str, steps))
