"""A dataset without its transforms: a shallow copy, so that the user's own object stays as it is."""

from __future__ import annotations

import copy
from typing import Any

from torch.utils.data import Subset
from torchvision import get_image_backend
from torchvision.datasets import DatasetFolder, ImageFolder, VisionDataset
from torchvision.datasets.folder import default_loader, pil_loader
from torchvision.datasets.vision import StandardTransform


def innermost(dataset: Any) -> Any:
    """Return what plain subsets, nested as they may be, are subsets of."""
    while type(dataset) is Subset:
        dataset = dataset.dataset
    return dataset


def candidates(dataset: VisionDataset) -> list[Any]:
    """Return the transforms of images that a dataset may be using, most often one.

    Some datasets call ``transform``, others ``transforms``; people replace either after the dataset was made.
    """
    joint = dataset.transforms
    found = [dataset.transform]
    if type(joint) is StandardTransform and joint.transform is not dataset.transform:
        found.append(joint.transform)
    return [entry for entry in found if entry is not None]


def without_transforms(dataset: Any) -> Any:
    """Return a copy of a dataset that gives images before any transform; targets are transformed as before."""
    bare = copy.copy(dataset)
    if type(dataset) is Subset:
        bare.dataset = without_transforms(dataset.dataset)
        return bare
    bare.transform = None
    if dataset.transforms is not None:
        target = dataset.transforms.target_transform
        bare.transforms = None if target is None else StandardTransform(None, target)
    return bare


def reads_files(dataset: Any) -> bool:
    """Tell whether a dataset is torchvision's own folder of images, decoded by Pillow and made RGB."""
    inner = innermost(dataset)
    return type(inner) in (DatasetFolder, ImageFolder) and (
        inner.loader is pil_loader or (inner.loader is default_loader and get_image_backend() == "PIL")
    )


def entry(dataset: Any, index: int) -> tuple[str, Any]:
    """Return the file behind a sample of a folder of images, and its target."""
    while type(dataset) is Subset:
        dataset, index = dataset.dataset, dataset.indices[index]
    path, target = dataset.samples[index]
    if dataset.target_transform is not None:
        target = dataset.target_transform(target)
    return path, target
