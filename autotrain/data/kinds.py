"""Kinds of objects that people hand over as a dataset and that are none: what each is, and what to give instead."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

ORDER = "the seeded order of every epoch needs samples by index"


def refusal(dataset: Any) -> str | None:
    """Return why an object cannot be trained on and what to give instead; None where it looks like a dataset."""
    name = type(dataset).__name__
    if dataset is None:
        return "no dataset was given: give a folder of images, a map-style dataset, or a pair (images, labels)"
    if isinstance(dataset, type):
        return f"{dataset.__name__} is a class, not a dataset: give an instance of it"
    return (
        _loader(dataset, name) or _sequential(dataset, name) or _container(dataset, name) or _unindexed(dataset, name)
    )


def _loader(dataset: Any, name: str) -> str | None:
    if isinstance(dataset, DataLoader):
        return (
            f"{name} is a loader, and how to load is what is tuned here: give its dataset (loader.dataset), with "
            "batch_size= and, where it has its own, sampler= and collate="
        )
    return None


def _sequential(dataset: Any, name: str) -> str | None:
    homes = {entry.__module__.partition(".")[0] for entry in type(dataset).__mro__}
    kinds = {f"{entry.__module__}.{entry.__qualname__}" for entry in type(dataset).__mro__}
    ordered = f"gives samples only one after the other, and {ORDER}"
    if "webdataset" in homes:
        return (
            f"{name} of webdataset {ordered}. Read the shards by index with wids.ShardListDataset, or unpack them "
            "into a folder with one folder of images per class"
        )
    if kinds & {"datasets.iterable_dataset.IterableDataset", "datasets.dataset_dict.IterableDatasetDict"}:
        return f"{name} of Hugging Face {ordered}. Load it with load_dataset(..., streaming=False) and give one split"
    if isinstance(dataset, IterableDataset):
        return f"{name} {ordered}. Give a map-style dataset, one with __getitem__ and __len__"
    if isinstance(dataset, Iterator):
        return (
            f"{name} {ordered}, and once only. Give a map-style dataset, or a list of its samples where memory allows"
        )
    return None


def _container(dataset: Any, name: str) -> str | None:
    if isinstance(dataset, Mapping):
        return _splits(dataset, name)
    if isinstance(dataset, np.ndarray | torch.Tensor):
        return f"{name} of shape {tuple(dataset.shape)} alone has no labels: give a pair (images, labels)"
    if isinstance(dataset, list | tuple) and dataset and _is_path(_image_of(dataset[0])):
        what = "paths" if _is_path(dataset[0]) else "paths and labels"
        return (
            f"{name} of {len(dataset)} {what}: paths are no images. Give a folder with one folder of images per "
            "class, or a dataset whose __getitem__ opens the image and returns (image, label)"
        )
    return None


def _splits(dataset: Mapping[Any, Any], name: str) -> str:
    names = [str(split) for split in dataset]
    if not names or not all(hasattr(part, "__len__") for part in dataset.values()):
        return f"{name} is a mapping, not a dataset: give a map-style dataset, with samples numbered from 0"
    chosen = "train" if "train" in names else names[0]
    others = [split for split in names if split != chosen]
    beside = f", with validation=data['{others[0]}']" if others else ""
    return f"{name} holds several datasets ({', '.join(names)}): give one of them, such as data['{chosen}']{beside}"


def _unindexed(dataset: Any, name: str) -> str | None:
    if not hasattr(dataset, "__getitem__"):
        return (
            f"{name} gives samples only one after the other, if at all, and {ORDER}: "
            "give a map-style dataset, one with __getitem__ and __len__"
        )
    if not hasattr(dataset, "__len__"):
        return f"{name} has no __len__: the order of an epoch needs the number of samples"
    return None


def _image_of(sample: Any) -> Any:
    return sample[0] if isinstance(sample, list | tuple) and len(sample) == 2 else sample


def _is_path(entry: Any) -> bool:
    return isinstance(entry, str | os.PathLike)
