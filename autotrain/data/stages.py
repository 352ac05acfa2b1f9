"""Stages of loading an image, and a way to lay a stopwatch over them that costs nothing while there is none."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from typing import Any

from torchvision import transforms as v1
from torchvision.transforms import v2

from autotrain.data.samples import Source

GEOMETRY: frozenset[type] = frozenset(
    {v1.Resize, v1.CenterCrop, v1.RandomResizedCrop, v2.Resize, v2.CenterCrop, v2.RandomResizedCrop}
)
"""Transforms that belong to decoding: they give an image the size that the model sees."""


class Stage(Enum):
    """What a loading process spends its time on."""

    READING = "reading"
    """The bytes of image files, from storage or wherever the dataset keeps them."""

    DATASET = "dataset"
    """The dataset's own ``__getitem__``, which nobody can look into."""

    DECODING = "decoding"
    """From bytes, or from what the dataset gave, to pixels of the right size."""

    AUGMENTING = "augmenting"
    """The policy's pixel work, or transforms of the dataset's own that are understood."""

    COLLATING = "collating"
    """From samples to a batch, and the little that is nothing else."""


Over = Callable[[Callable[..., Any], Stage], Callable[..., Any]]
"""Returns a function that does the same and has its time noted under the stage."""


def watched(source: Source, over: Over) -> Source:
    """Return a copy of a source whose methods are timed; the source itself, which others use too, stays as it is."""
    twin: Any = copy.copy(source)
    twin.encoded = over(source.encoded, Stage.READING)
    twin.sample = over(source.sample, Stage.DATASET)
    batch = getattr(source, "batch", None)
    if batch is not None:
        twin.batch = over(batch, Stage.COLLATING)
    pipeline = getattr(source, "pipeline", None)
    if pipeline is not None:
        steps = [replace(step, transform=over(step.transform, _stage_of(step.kind))) for step in pipeline.steps]
        twin.pipeline = replace(pipeline, steps=tuple(steps))
    watched_source: Source = twin
    return watched_source


def _stage_of(kind: type) -> Stage:
    return Stage.DECODING if kind in GEOMETRY else Stage.AUGMENTING
