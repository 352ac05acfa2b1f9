"""Data by path or name: image folders, split or not, and torchvision's data sets."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotrain.errors import AutotrainError, DataError

if TYPE_CHECKING:
    from PIL.Image import Image

TRAINING = "train"
VALIDATION = ("val", "valid", "validation", "test")
"""Folders beside ``train`` that hold a validation set, the first that is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """What ``--data`` names."""

    training: Any
    """A folder's path or a dataset."""

    validation: Any
    """Likewise; None where there is none."""

    classes: int
    channels: int
    """3, or 1 for greyscale images."""

    def in_colour(self) -> Data:
        """Return the same with every greyscale image repeated in three channels."""
        for dataset in (self.training, self.validation):
            if dataset is not None:
                dataset.transform = to_rgb
                dataset.transforms = (
                    None  # torchvision keeps a joint transform beside; data sets with labels use either
                )
        return replace(self, channels=3)


def to_rgb(image: Image) -> Image:
    """Return an image with three channels."""
    return image.convert("RGB")


def open_data(name: str, *, root: Path, download: bool, validation: Path | None = None) -> Data:
    """Open an image folder or, where there is none of that name, a data set of torchvision.

    Raises:
        AutotrainError: there is neither; the data set is not downloaded; the folders do not belong together.
    """
    path = Path(name)
    if path.exists():
        return _folder(path, validation)
    if os.sep in name or name.startswith("."):
        raise DataError(f"--data {name}: no such folder. Give a folder that holds one folder of images per class")
    spellings = {entry.lower(): entry for entry in NAMED}
    spelled = spellings.get(name.lower())
    if spelled is None:
        close = difflib.get_close_matches(name.lower(), spellings, n=1)
        hint = f" Did you mean '{spellings[close[0]]}'?" if close else ""
        raise DataError(
            f"--data {name}: neither a folder nor a data set of torchvision.{hint} Known: {', '.join(NAMED)}"
        )
    data = _torchvision(spelled, root, download)
    return replace(data, validation=None) if validation is not None else data


def _folder(path: Path, validation: Path | None) -> Data:
    training = path
    if path.is_dir() and class_folders(path / TRAINING):
        training = path / TRAINING
        beside = (path / name for name in VALIDATION if class_folders(path / name))
        validation = validation or next(beside, None)
    classes = class_folders(training)
    if not classes:
        from autotrain.data.source import open_source

        open_source(training)  # knows best what is wrong with it
    if len(classes) == 1:
        raise DataError(
            f"{training}: one class only ('{classes[0]}'), so nothing to learn. Give the folder that holds one folder "
            "of images per class"
        )
    if validation is not None:
        _check_same(training, classes, validation)
    return Data(training=training, validation=validation, classes=len(classes), channels=3)


def _check_same(training: Path, classes: list[str], validation: Path) -> None:
    """Classes are numbered in each folder by themselves: another set of names would give wrong labels silently."""
    other = class_folders(validation)
    if not other:
        raise DataError(f"{validation}: no folder with one folder of images per class, as {training} is")
    if other != classes:
        odd = sorted(set(classes) ^ set(other))
        where = f"'{odd[0]}' is in {training if odd[0] in classes else validation} only"
        raise DataError(f"{validation}: its classes are not those of {training}: {where}. Make the folders agree")


def class_folders(path: Path) -> list[str]:
    """Return the names of the folders in a folder, sorted as torchvision numbers them; empty where it is none."""
    try:
        return sorted(entry.name for entry in os.scandir(path) if entry.is_dir())
    except OSError:
        return []


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchvisionData:
    """How a data set of torchvision is asked for its parts."""

    training: Mapping[str, Any]
    validation: Mapping[str, Any] | None
    classes: int | None = None
    """Where the data set does not tell."""


_FLAG = TorchvisionData(training={"train": True}, validation={"train": False})
_TEST = TorchvisionData(training={"split": "train"}, validation={"split": "test"})
_VAL = TorchvisionData(training={"split": "train"}, validation={"split": "val"})
_WHOLE = TorchvisionData(training={}, validation=None)

NAMED: Mapping[str, TorchvisionData] = {
    "Caltech101": replace(_WHOLE, classes=101),
    "Caltech256": replace(_WHOLE, classes=257),
    "CIFAR10": _FLAG,
    "CIFAR100": _FLAG,
    "Country211": replace(_TEST, validation={"split": "valid"}),
    "DTD": _VAL,
    "EuroSAT": _WHOLE,
    "FashionMNIST": _FLAG,
    "FGVCAircraft": _VAL,
    "Flowers102": replace(_VAL, classes=102),
    "Food101": _TEST,
    "GTSRB": replace(_TEST, classes=43),
    "ImageNet": _VAL,
    "Imagenette": _VAL,
    "KMNIST": _FLAG,
    "MNIST": _FLAG,
    "OxfordIIITPet": TorchvisionData(training={"split": "trainval"}, validation={"split": "test"}),
    "PCAM": replace(_VAL, classes=2),
    "STL10": _TEST,
    "SUN397": _WHOLE,
    "SVHN": replace(_TEST, classes=10),
    "USPS": replace(_FLAG, classes=10),
}
"""Data sets of images with one class each, as torchvision spells them."""


def _torchvision(name: str, root: Path, download: bool) -> Data:
    entry = NAMED[name]
    training = _part(name, entry.training, root, download)
    validation = None if entry.validation is None else _part(name, entry.validation, root, download)
    names = getattr(training, "classes", None)
    classes = entry.classes if entry.classes is not None else len(names or ())
    first = training[0][0]
    return Data(
        training=training, validation=validation, classes=classes, channels=1 if first.mode in ("1", "L", "I;16") else 3
    )


def _part(name: str, options: Mapping[str, Any], root: Path, download: bool) -> Any:
    from torchvision import datasets

    maker = getattr(datasets, name)
    if download and name == "ImageNet":
        raise DataError(
            "ImageNet cannot be downloaded by programs: get it from image-net.org and give its place by --root"
        )
    fetch = {"download": True} if download else {}
    try:
        return maker(str(root), **options, **fetch)
    except (RuntimeError, OSError, ModuleNotFoundError) as problem:
        reason = (str(problem).strip().splitlines() or [type(problem).__name__])[0].rstrip(".")
        if isinstance(problem, ModuleNotFoundError):
            raise AutotrainError(f"--data {name}: {reason}. Install it: pip install {problem.name}") from problem
        if download:
            raise DataError(f"--data {name}: cannot be downloaded to {root} ({reason})") from problem
        raise DataError(
            f"--data {name}: not found in {root}, where torchvision would keep it. Add --download, or give its place "
            f"by --root ({reason})"
        ) from problem
