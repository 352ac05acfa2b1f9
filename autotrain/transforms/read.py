"""Reading a dataset's own transforms; whatever is not understood for certain is left alone."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils._pytree import tree_leaves
from torchvision.datasets import VisionDataset
from torchvision.datasets.vision import StandardTransform
from torchvision.tv_tensors import TVTensor

from autotrain.errors import DataError
from autotrain.transforms import bare
from autotrain.transforms.generators import drawn_so_far, seeded
from autotrain.transforms.geometry import find_geometry
from autotrain.transforms.pipeline import Pipeline
from autotrain.transforms.steps import Step, flatten, form, key, trace
from autotrain.transforms.suffix import Suffix, find_suffix

_LOG = logging.getLogger(__name__)

_SEEDS = (0, 1, 2, 3)
"""What two ways of making one sample are compared under."""

_ROUNDING = 1e-4
"""The most by which a sample finished on the device may differ, next to its largest value."""


class _NotUnderstood(Exception):
    """The dataset is not one of those that can be taken apart."""


def read_transforms(dataset: Any) -> Pipeline | None:
    """Take a dataset's own transforms apart.

    Understood are torchvision's datasets of one image and one plain target per sample, classes derived from them, and
    plain subsets of these. A few samples are read to see that the parts give what the dataset gives.

    Args:
        dataset: of any kind; it is never changed.

    Returns:
        None where the samples must stay as the dataset gives them, for a reason that is logged at level info, or
        where it has no transforms.
    """
    try:
        with seeded(0):
            return _read(dataset)
    except _NotUnderstood as problem:
        _LOG.info("The transforms of %s stay as they are: %s", type(dataset).__name__, problem)
    except Exception as problem:  # whatever somebody's dataset or transforms raise
        _LOG.info(
            "The transforms of %s stay as they are: %s: %s", type(dataset).__name__, type(problem).__name__, problem
        )
    return None


def _read(dataset: Any) -> Pipeline | None:
    inner = bare.innermost(dataset)
    _check_kind(inner)
    transforms = bare.candidates(inner)
    if not transforms:
        return None
    samples = bare.without_transforms(dataset)
    image, target = _sample(samples)
    _check_sample(image, target)
    found = []
    for transform in transforms:
        steps = trace(list(flatten(transform)), image)
        pipeline = _pipeline(samples, steps)
        if _agrees(dataset, pipeline):
            found.append(pipeline)
    if len(found) != 1:
        raise _NotUnderstood("its samples are not what its transform makes of its images")
    if found[0].suffix is not None and not _finishes(dataset, found[0]):
        return replace(found[0], suffix=None, geometry=None, reason="the device would not give the same images")
    return found[0]


def _check_kind(dataset: Any) -> None:
    if not isinstance(dataset, VisionDataset):
        raise _NotUnderstood("it is not one of torchvision's datasets")
    if any(kind.__module__.startswith("torchvision.tv_tensors") for kind in type(dataset).__mro__):
        raise _NotUnderstood("its targets are transformed with its images")
    if dataset.transforms is not None and type(dataset.transforms) is not StandardTransform:
        raise _NotUnderstood("its transforms are given images and targets together")


def _sample(samples: Any) -> tuple[Any, Any]:
    sample = samples[0]
    if not (isinstance(sample, tuple | list) and len(sample) == 2):
        raise _NotUnderstood("its samples are not pairs of an image and a target")
    return sample[0], sample[1]


def _check_sample(image: Any, target: Any) -> None:
    if isinstance(image, TVTensor) or not form(image).raw:
        raise _NotUnderstood(f"its images are of the kind {type(image).__name__} before any transform")
    if isinstance(target, dict):
        raise _NotUnderstood("its targets are dictionaries")
    for leaf in tree_leaves(target):
        if isinstance(leaf, TVTensor | Image.Image) or getattr(leaf, "ndim", 0) > 1:
            raise _NotUnderstood(f"its targets hold a {type(leaf).__name__}")


def _pipeline(samples: Any, steps: tuple[Step, ...]) -> Pipeline:
    suffix = find_suffix(steps)
    geometry = None
    if isinstance(suffix, Suffix) and bare.reads_files(samples):
        geometry = find_geometry(steps[: suffix.start])
    return Pipeline(
        dataset=samples,
        steps=steps,
        prefix=_prefix(steps),
        suffix=suffix if isinstance(suffix, Suffix) else None,
        reason="" if isinstance(suffix, Suffix) else suffix,
        geometry=geometry,
    )


def _prefix(steps: tuple[Step, ...]) -> int:
    count = 0
    for step in steps:
        if not (step.deterministic and step.after.raw):
            break
        try:
            key((step,))
        except TypeError:
            break
        count += 1
    return count


def _agrees(dataset: Any, pipeline: Pipeline) -> bool:
    """Tell whether the parts give what the dataset gives, with the same draws, and the first part without any."""
    for index, seed in _looks(dataset):
        with seeded(seed):
            expected, label = dataset[index]
            end = drawn_so_far()
        with seeded(seed):
            start = drawn_so_far()
            image, target = pipeline.prefixed(index)
            if drawn_so_far() != start:
                return False
            if not (_same(pipeline.rest(image), expected) and _same(target, label) and drawn_so_far() == end):
                return False
    return True


def _finishes(dataset: Any, pipeline: Pipeline) -> bool:
    """Tell whether head and suffix give what the dataset gives, with the same draws."""
    suffix = pipeline.suffix
    assert suffix is not None
    for index, seed in _looks(dataset):
        with seeded(seed):
            expected = dataset[index][0]
            end = drawn_so_far()
        with seeded(seed):
            try:
                image, row = suffix.begin(pipeline.head(pipeline.prefixed(index)[0]))
            except (DataError, ValueError):
                return False
            if drawn_so_far() != end:
                return False
        finished = suffix.finish(image[None], suffix.stack([row]), suffix.erased([row]))[0]
        if finished.shape != expected.shape:
            return False
        bound = _ROUNDING * max(1.0, float(expected.abs().max()))
        if not row.operations and float((finished - expected).abs().max()) > bound:
            return False
    return True


def _looks(dataset: Any) -> Iterator[tuple[int, int]]:
    """Yield the samples, and seeds, under which two ways of making one are compared."""
    for index in sorted({0, len(dataset) - 1}):
        for seed in _SEEDS:
            yield index, seed


def _same(one: Any, other: Any) -> bool:
    """Tell whether two images or targets are the same to the last bit."""
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, Image.Image):
        return (one.mode, one.size, one.tobytes()) == (other.mode, other.size, other.tobytes())
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)
