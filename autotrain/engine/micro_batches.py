"""A batch in parts that pass the model one after the other."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch

from autotrain.data.batch import MixedLabels


def split(content: Any, count: int) -> list[tuple[Any, float]]:
    """Return the parts of ``(images, labels)``, each with its share of the images; sizes differ by one at most."""
    images, _ = content
    total = len(images)
    bounds = [part * total // count for part in range(count + 1)]
    return [
        (_between(content, first, last), (last - first) / total) for first, last in pairwise(bounds) if first < last
    ]


def _between(values: Any, first: int, last: int) -> Any:
    """Return the images' rows ``first`` to ``last`` of a tensor, or of each tensor in a container."""
    if isinstance(values, torch.Tensor):
        return values[first:last]
    if isinstance(values, MixedLabels):
        return MixedLabels(_between(values.labels, first, last), _between(values.others, first, last), values.share)
    if isinstance(values, dict):
        return {name: _between(entry, first, last) for name, entry in values.items()}
    parts = [_between(entry, first, last) for entry in values]
    return type(values)(*parts) if hasattr(values, "_fields") else type(values)(parts)
