"""The steps of a chain of transforms: containers unpacked, known deterministic classes told from the rest."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torchvision import transforms as v1
from torchvision.transforms import v2

CONTAINERS: tuple[type, ...] = (v1.Compose, v2.Compose, nn.Sequential)
"""Classes that apply what they hold, one after the other."""

DETERMINISTIC: frozenset[type] = frozenset(
    {
        nn.Identity,
        v1.CenterCrop,
        v1.ConvertImageDtype,
        v1.Grayscale,
        v1.Normalize,
        v1.Pad,
        v1.PILToTensor,
        v1.Resize,
        v1.ToPILImage,
        v1.ToTensor,
        v2.CenterCrop,
        v2.ConvertImageDtype,
        v2.Grayscale,
        v2.Identity,
        v2.Normalize,
        v2.Pad,
        v2.PILToTensor,
        v2.RGB,
        v2.Resize,
        v2.ToDtype,
        v2.ToImage,
        v2.ToPILImage,
        v2.ToPureTensor,
        v2.ToTensor,
    }
)
"""Classes whose result depends on the image and their parameters alone, and that draw nothing."""

_OVERRIDES = frozenset({"__call__", "forward", "get_params", "make_params", "transform"})
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
_MODULE_STATE = frozenset(vars(nn.Module()))


class Form(enum.Enum):
    """What an image is between two steps."""

    PICTURE = "PIL image"
    BYTES = "uint8"
    FLOAT = "float32"
    OTHER = "other"

    @property
    def raw(self) -> bool:
        """Whether the image still has 8 bits per level."""
        return self in (Form.PICTURE, Form.BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One transform of a chain."""

    transform: Any
    """The user's own object; called, never changed."""

    before: Form
    """What it is given."""

    after: Form
    """What it returns."""

    @property
    def kind(self) -> type:
        """Its class, or ``object`` where something on the object stands in for what its class does."""
        return type(self.transform) if is_plain(self.transform) else object

    @property
    def deterministic(self) -> bool:
        """Whether it is known to draw nothing and to depend on the image alone."""
        return self.kind in DETERMINISTIC

    def __str__(self) -> str:
        name = getattr(self.transform, "__name__", type(self.transform).__name__)
        size = getattr(self.transform, "size", None)
        if isinstance(size, list | tuple) and len(size) in (1, 2) and self.kind is not object:
            size = size[0] if len(set(size)) == 1 else f"{size[0]}x{size[1]}"
        return f"{name}({size})" if isinstance(size, int | str) else str(name)


def form(image: Any) -> Form:
    """Return what an image is."""
    if isinstance(image, Image.Image):
        return Form.PICTURE
    if isinstance(image, torch.Tensor) and image.ndim == 3:
        return {torch.uint8: Form.BYTES, torch.float32: Form.FLOAT}.get(image.dtype, Form.OTHER)
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim in (2, 3):
        return Form.BYTES
    return Form.OTHER


def is_plain(transform: Any) -> bool:
    """Tell whether an object does what its class does: no hooks, no methods replaced on the object."""
    own = getattr(transform, "__dict__", {})
    return not (_OVERRIDES & own.keys()) and not any(own.get(name) for name in _HOOKS)


def flatten(transform: Any) -> Iterator[Any]:
    """Yield the transforms in a transform, containers of any depth unpacked."""
    if transform is None:
        return
    if type(transform) in CONTAINERS and is_plain(transform):
        for entry in transform if isinstance(transform, nn.Sequential) else transform.transforms:
            yield from flatten(entry)
    else:
        yield transform


def trace(transforms: list[Any], image: Any) -> tuple[Step, ...]:
    """Apply transforms in turn to an image and return them with what each was given and gave."""
    steps = []
    before = form(image)
    for transform in transforms:
        image = transform(image)
        after = form(image)
        steps.append(Step(transform=transform, before=before, after=after))
        before = after
    return tuple(steps)


def key(steps: tuple[Step, ...]) -> str:
    """Return the classes and all parameters of deterministic steps, as text that is the same in every run."""
    return "; ".join(_key(step.transform) for step in steps)


def _key(transform: Any) -> str:
    kind = type(transform)
    parameters = sorted((name, entry) for name, entry in vars(transform).items() if name not in _MODULE_STATE)
    return f"{kind.__module__}.{kind.__qualname__}({', '.join(f'{name}={_text(entry)}' for name, entry in parameters)})"


def _text(entry: Any) -> str:
    """Return a parameter as text; ``repr`` does for numbers, strings, enums, dtypes and what is made of them.

    Raises:
        TypeError: its text might not say all.
    """
    if isinstance(entry, dict):
        pairs = sorted(f"{_text(name)}: {_text(value)}" for name, value in entry.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(entry, list | tuple):
        return f"[{', '.join(map(_text, entry))}]"
    if isinstance(entry, torch.Tensor | np.ndarray):
        return f"{type(entry).__name__}[{', '.join(map(_text, entry.reshape(-1).tolist()))}]{tuple(entry.shape)}"
    if entry is None or isinstance(entry, int | float | str | enum.Enum | torch.dtype | np.generic):
        return repr(entry)
    if isinstance(entry, type):
        return f"{entry.__module__}.{entry.__qualname__}"
    raise TypeError(f"{type(entry).__name__} has no text that says all")
