"""Hugging Face datasets: rows with one image and one class number become images; other rows stay as they are."""

from __future__ import annotations

import io
import os
from typing import Any

from PIL import ExifTags, Image

from autotrain.data.samples import ImageSource, Source
from autotrain.errors import DataError

LABEL_NAMES = ("label", "labels")
"""Column that is taken where several hold whole numbers."""

UPRIGHT = 1
"""EXIF orientation of an image that is stored as it is to be seen."""


class RowSource(Source):
    """Rows of a Hugging Face dataset with a format or a transform, as it gives them."""

    kind = "rows with a format of their own"

    def __init__(self, dataset: Any, name: str) -> None:
        super().__init__(dataset, name)
        self.pure = dataset.format["type"] != "custom"  # a transform may draw random numbers

    def where(self, index: int) -> str:
        """Return the row."""
        return f"row {index} of {self.name}"


class HuggingFaceSource(ImageSource):
    """Rows of a Hugging Face dataset as ``(PIL image, class number)``; all other columns stay unread.

    Args:
        dataset: without a format.
        name: what people read.
        image: column of the images.
        label: column of the class numbers.

    Raises:
        DataError: a row has no label.
    """

    kind = "images of a Hugging Face dataset"
    pure = True

    def __init__(self, dataset: Any, name: str, *, image: str, label: str) -> None:
        super().__init__(dataset, name)
        self._image, self._label = image, label
        feature = dataset.features[image]
        self._decoder = type(feature)(mode=feature.mode)
        self._stored = dataset.select_columns([image]).cast_column(
            image, type(feature)(mode=feature.mode, decode=False)
        )
        self._labels: list[int] = list(dataset.select_columns([label])[:][label])
        if None in self._labels:
            raise DataError(
                f"{self.where(self._labels.index(None))}: its {label} is empty. "  # type: ignore[arg-type]
                f"Leave such rows out: dataset.filter(lambda row: row['{label}'] is not None)"
            )

    def sample(self, index: int) -> tuple[Image.Image, int]:
        """Return the image, decoded and turned upright as the dataset itself does, and its class number."""
        return self._decoder.decode_example(self._stored[index][self._image]), self._labels[index]

    def encoded(self, index: int) -> bytes | None:
        """Return a JPEG image's stored bytes; None for other formats and where decoding is not all that is done."""
        if self._decoder.mode not in (None, "RGB"):
            return None
        stored = self._stored[index][self._image]
        data = stored["bytes"]
        if data is None and stored["path"] is not None and os.path.isfile(stored["path"]):
            with open(stored["path"], "rb") as file:
                data = file.read()
        return data if data is not None and _is_upright_jpeg(data) else None

    def label(self, index: int) -> int:
        """Return the class number."""
        return self._labels[index]

    def where(self, index: int) -> str:
        """Return the row."""
        return f"row {index} of {self.name}"

    @property
    def labels(self) -> list[int]:
        """Class number of every row."""
        return self._labels

    @property
    def class_names(self) -> list[Any] | None:
        """Names of the classes, where the label column has them."""
        names = getattr(self.dataset.features[self._label], "names", None)
        return None if names is None else list(names)


def is_hugging_face(dataset: Any) -> bool:
    """Tell whether this is a map-style Hugging Face dataset, without importing that package."""
    return any(
        (entry.__module__, entry.__qualname__) == ("datasets.arrow_dataset", "Dataset")
        for entry in type(dataset).__mro__
    )


def open_hugging_face(dataset: Any) -> Source:
    """Return the source of a Hugging Face dataset.

    Raises:
        DataError: it is not plain which columns hold image and label.
    """
    name = dataset.info.dataset_name or type(dataset).__name__
    if dataset.format["type"] is not None:
        return RowSource(dataset, name)
    image = _image_column(dataset, name)
    return HuggingFaceSource(dataset, name, image=image, label=_label_column(dataset, name, image))


def _image_column(dataset: Any, name: str) -> str:
    columns = [column for column, feature in dataset.features.items() if type(feature).__name__ == "Image"]
    if len(columns) == 1:
        return str(columns[0])
    if columns:
        others = ", ".join(repr(column) for column in columns[1:])
        raise DataError(
            f"{name}: {len(columns)} image columns ({', '.join(columns)}), but one image a sample is trained on. "
            f"Keep one: dataset.remove_columns([{others}])"
        )
    raise DataError(
        f"{name}: no image column among {_columns(dataset)}. Make one by dataset.cast_column(name, datasets.Image()), "
        "or give rows ready for the model by dataset.set_transform(...) and step="
    )


def _label_column(dataset: Any, name: str, image: str) -> str:
    classes, numbers = [], []
    for column, feature in dataset.features.items():
        if type(feature).__name__ == "ClassLabel":
            classes.append(column)
        elif type(feature).__name__ == "Value" and str(feature.dtype).startswith(("int", "uint")):
            numbers.append(column)
    candidates = classes or numbers
    for chosen in (candidates, [column for column in candidates if column in LABEL_NAMES]):
        if len(chosen) == 1:
            return str(chosen[0])
    if candidates:
        raise DataError(
            f"{name}: several columns could be the label ({', '.join(candidates)}). "
            f"Keep image and label only: dataset.select_columns(['{image}', '{candidates[0]}'])"
        )
    raise DataError(
        f"{name}: no column of class numbers among {_columns(dataset)}. Make one by dataset.class_encode_column(name), "
        "or give rows ready for the model by dataset.set_transform(...) and step="
    )


def _columns(dataset: Any) -> str:
    return ", ".join(
        f"{column} ({getattr(feature, 'dtype', None) or type(feature).__name__})"
        for column, feature in dataset.features.items()
    )


def _is_upright_jpeg(data: bytes) -> bool:
    """Tell whether decoding is all there is to do; Hugging Face also turns an image as its metadata says."""
    if not data.startswith(b"\xff\xd8"):
        return False
    if b"Exif\0\0" not in data and b"Orientation" not in data:
        return True
    try:
        with Image.open(io.BytesIO(data)) as image:
            return bool(image.getexif().get(ExifTags.Base.Orientation, UPRIGHT) == UPRIGHT)
    except (OSError, SyntaxError):
        return False  # whoever decodes it says what is wrong
