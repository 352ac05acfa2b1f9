"""Hugging Face datasets: images with labels are told from rows in a format of their own."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from autotrain.augment.policy import policy
from autotrain.data.loader import Loader, LoaderOptions
from autotrain.data.reader import Reader, Recipe
from autotrain.data.source import ImageSource, collate_samples, open_source, read_sample
from autotrain.data.stream import InOrder
from autotrain.errors import DataError

datasets = pytest.importorskip("datasets")

NAMES = ["apple", "boat"]


def encoded(number: int = 0, *, kind: str = "JPEG", mode: str = "RGB", orientation: int | None = None) -> bytes:
    image = Image.fromarray(np.random.default_rng(number).integers(0, 256, (12, 20, 3), dtype=np.uint8)).convert(mode)
    exif = Image.Exif()
    if orientation is not None:
        exif[274] = orientation
    file = io.BytesIO()
    image.save(file, kind, exif=exif)
    return file.getvalue()


def rows(count: int = 6, *, images: list[Any] | None = None, feature: Any = None, **columns: Any) -> Any:
    stored = [{"bytes": entry, "path": None} for entry in images or [encoded(number) for number in range(count)]]
    values, features = {"image": stored}, {"image": feature or datasets.Image()}
    for name, (entries, kind) in (columns or {"label": ([0, 1] * count, datasets.ClassLabel(names=NAMES))}).items():
        values[name], features[name] = entries[: len(stored)], kind
    return datasets.Dataset.from_dict(values, features=datasets.Features(features))


def whole(values: list[Any]) -> tuple[list[Any], Any]:
    return values, datasets.Value("int64")


def test_images_with_labels() -> None:
    dataset = rows()
    source = open_source(dataset)
    assert isinstance(source, ImageSource)
    assert (len(source), source.classes, source.class_names, source.pure) == (6, 2, NAMES, True)
    for index in range(6):
        image, label = source.sample(index)
        assert np.array_equal(np.asarray(image), np.asarray(dataset[index]["image"]))
        assert label == source.label(index) == index % 2
        assert source.encoded(index) == encoded(index)
    assert source.labels == [0, 1] * 3  # type: ignore[attr-defined]


def test_a_selection_keeps_rows_and_labels_together() -> None:
    dataset = rows().shuffle(seed=1).select([4, 2, 0])
    source = open_source(dataset)
    for index in range(3):
        row = dataset[index]
        image, label = source.sample(index)
        assert np.array_equal(np.asarray(image), np.asarray(row["image"]))
        assert label == source.label(index) == row["label"]


@pytest.mark.parametrize("options", [{}, {"workers": 2, "kind": "threads"}, {"workers": 1}])
def test_batches_of_every_kind_of_loader(options: dict[str, Any]) -> None:
    source = open_source(rows())
    reader = Reader(source, Recipe(seed=0, policy=policy("none"), image_size=8))
    with Loader(reader, InOrder(6, 4), LoaderOptions(**options)) as loader:
        batches = list(loader)
    with Loader(reader, InOrder(6, 4), LoaderOptions()) as loader:
        for one, other in zip(batches, loader, strict=True):
            assert torch.equal(one.content[0], other.content[0])
            assert one.content[1].tolist() == other.content[1].tolist()
    assert [len(batch.content[0]) for batch in batches] == [4, 2]


def test_an_image_column_that_is_not_decoded_is_an_image_all_the_same() -> None:
    image, label = open_source(rows(feature=datasets.Image(decode=False))).sample(1)
    assert (image.size, label) == ((20, 12), 1)


@pytest.mark.parametrize("other", [{}, {"image_id": whole(list(range(6)))}])
def test_the_label_may_be_a_plain_number(other: dict[str, Any]) -> None:
    source = open_source(rows(**other, label=whole([3, 1, 2, 0, 1, 2])))
    assert [source.label(index) for index in range(3)] == [3, 1, 2]
    assert source.classes is None


def test_images_stored_by_path_give_their_files_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(encoded())
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    dataset = datasets.Dataset.from_dict({"image": [str(tmp_path / "a.jpg")] * 2, "label": [0, 1]}, features=features)
    assert open_source(dataset).encoded(1) == encoded()


@pytest.mark.parametrize(
    ("stored", "feature", "plain"),
    [
        (encoded(orientation=1), None, True),
        (encoded(orientation=6), None, False),  # Hugging Face turns it, a decoder does not
        (encoded(mode="L"), None, True),
        (encoded(), datasets.Image(mode="RGB"), True),
        (encoded(), datasets.Image(mode="L"), False),
        (encoded(kind="PNG"), None, False),
        (b"\xff\xd8Exif\0\0 broken", None, False),
    ],
)
def test_bytes_are_given_where_decoding_them_is_all_there_is_to_do(stored: bytes, feature: Any, plain: bool) -> None:
    source = open_source(rows(images=[encoded(), stored, encoded()], feature=feature))
    assert source.encoded(1) == (stored if plain else None)
    if plain:
        assert np.array_equal(np.asarray(source.sample(1)[0]), np.asarray(Image.open(io.BytesIO(stored))))


def test_a_broken_image_names_its_row() -> None:
    source = open_source(rows(images=[encoded(), b"no image", encoded()]))
    with pytest.raises(DataError, match=r"^row 1 of Dataset: cannot be read as an image \("):
        read_sample(source, 1)


def test_rows_with_a_transform_stay_as_they_are_and_may_draw() -> None:
    def transform(batch: dict[str, Any]) -> dict[str, Any]:
        return {"pixels": [torch.ones(3, 4, 4) for _ in batch["image"]], "label": batch["label"]}

    source = open_source(rows().with_transform(transform))
    assert (source.images, source.pure) == (False, False)
    batch = collate_samples([source.sample(0), source.sample(1)])
    assert batch["pixels"].shape == (2, 3, 4, 4)
    assert batch["label"].tolist() == [0, 1]


def test_rows_in_another_format_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tqdm.std.tqdm.monitor_interval", 0)  # else the package leaves a thread of its progress bars
    source = open_source(rows().with_format("torch"))
    assert (source.images, source.pure, source.encoded(0), source.label(0)) == (False, True, None, None)
    assert source.sample(0)["image"].shape == (3, 12, 20)


def second() -> tuple[list[Any], Any]:
    return [{"bytes": encoded(), "path": None}] * 6, datasets.Image()


CLASSES = [0, 1] * 3


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        (
            lambda: rows(mask=second(), label=whole(CLASSES)),
            r"2 image columns \(image, mask\).* Keep one: dataset.remove_columns\(\['mask'\]\)",
        ),
        (lambda: rows().remove_columns(["image"]), r"no image column among label \(int64\)\. .*cast_column"),
        (
            lambda: rows().remove_columns(["label"]),
            r"no column of class numbers among image \(PIL.*class_encode_column",
        ),
        (
            lambda: rows(fine=(CLASSES, datasets.ClassLabel(names=NAMES)), coarse=(CLASSES, datasets.ClassLabel(2))),
            r"several columns could be the label \(fine, coarse\).*select_columns\(\['image', 'fine'\]\)",
        ),
        (
            lambda: rows(name=(["a", "b"] * 3, datasets.Value("string"))),
            r"no column of class numbers among .*name \(str",
        ),
        (lambda: rows(label=whole([0, 1, None, 1, 0, 1])), r"^row 2 of Dataset: its label is empty"),
        (
            lambda: datasets.DatasetDict(train=rows(), test=rows()),
            r"holds several datasets \(train, test\).*data\['train'\], with validation=data\['test'\]",
        ),
        (lambda: rows().to_iterable_dataset(), r"of Hugging Face gives samples only one after.*streaming=False"),
        (lambda: datasets.IterableDatasetDict(train=rows().to_iterable_dataset()), "streaming=False"),
        (lambda: rows(count=0, images=None, label=whole([])), "is empty"),
    ],
)
def test_what_cannot_be_used_is_told_with_the_remedy(dataset: Any, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        open_source(dataset())
    assert "\n" not in str(caught.value)


def test_the_package_is_not_imported_for_other_datasets() -> None:
    code = (
        "import sys, torch; from autotrain.data.source import open_source; "
        "open_source((torch.zeros(4, 3, 8, 8), torch.arange(4))); print('datasets' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False"]
