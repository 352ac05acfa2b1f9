"""The reader makes batches of uint8 images; the user's own collation is left alone."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset

from autotrain.augment.policy import policy
from autotrain.data.batch import Failure, HostBatch
from autotrain.data.reader import Reader, Recipe
from autotrain.data.source import open_source
from autotrain.data.stream import Stream, Ticket
from autotrain.errors import DataError, TaskError

SIDE = 8


class Listed(Dataset[Any]):
    def __init__(self, samples: list[Any]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Any:
        return self.samples[index]


def ticket(*indices: int) -> Ticket:
    places = np.asarray(indices, dtype=np.int64)
    return Ticket(step=3, epoch=1, positions=np.arange(len(indices), dtype=np.int64), indices=places)


def read(samples: Any, *indices: int, on_device: bool = False, policy_name: str = "none", **options: Any) -> HostBatch:
    recipe = Recipe(seed=0, policy=policy(policy_name), **{"image_size": SIDE, **options})
    batch = Reader(open_source(samples), recipe, on_device=on_device)[ticket(*(indices or (0, 1)))]
    assert isinstance(batch, HostBatch)
    return batch


def pixels(height: int = SIDE, width: int = SIDE, channels: int = 3) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


KINDS = {
    "PIL": lambda array: Image.fromarray(array),
    "array": lambda array: array,
    "tensor": lambda array: torch.from_numpy(array.copy()).permute(2, 0, 1),
}


@pytest.mark.parametrize("kind", KINDS)
def test_images_of_the_right_size_are_handed_over_untouched(kind: str) -> None:
    array = pixels()
    batch = read(Listed([(KINDS[kind](array), 5)] * 2))
    images, labels = batch.content
    assert (batch.step, batch.epoch, batch.count) == (3, 1, 2)
    assert images.dtype == torch.uint8
    assert torch.equal(images[1], torch.from_numpy(array).permute(2, 0, 1))
    assert labels.tolist() == [5, 5]


@pytest.mark.parametrize("kind", KINDS)
def test_other_sizes_are_cut_in_the_middle_and_resized(kind: str) -> None:
    """The kinds agree within two levels: Pillow's resize and torch's round differently."""
    array = np.asarray(Image.fromarray(pixels(4, 5)).resize((60, 40), Image.Resampling.BICUBIC))
    images = read(Listed([(KINDS[kind](array), 0)] * 2)).content[0]
    whole = Image.fromarray(array).crop((12, 2, 47, 37))  # the central 35 pixels: 224/256 of the shorter side
    expected = np.asarray(whole.resize((SIDE, SIDE), Image.Resampling.BILINEAR)).astype(int)
    assert images.shape == (2, 3, SIDE, SIDE)
    assert np.abs(images[0].permute(1, 2, 0).numpy() - expected).max() <= 2


@pytest.mark.parametrize("shape", [(SIDE, SIDE), (SIDE, SIDE, 1), (12, 9, 1)])
def test_greyscale_arrays_keep_one_channel(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    images = read(Listed([(array, 0)] * 2), channels=1).content[0]
    assert images.shape == (2, 1, SIDE, SIDE)
    if shape[0] == SIDE:
        assert np.array_equal(images[0, 0].numpy(), array.reshape(SIDE, SIDE))


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1"])
def test_every_mode_of_pillow_becomes_rgb(mode: str) -> None:
    image = Image.fromarray(pixels()).convert(mode)
    images = read(Listed([(image, 0)] * 2)).content[0]
    assert np.array_equal(images[0].permute(1, 2, 0).numpy(), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize(
    ("label", "dtype"),
    [(1, torch.int64), (np.int64(1), torch.int64), (torch.tensor(1), torch.int64), (0.5, torch.float64)],
)
def test_labels_are_stacked(label: Any, dtype: torch.dtype) -> None:
    labels = read(Listed([(Image.fromarray(pixels()), label)] * 2)).content[1]
    assert labels.dtype == dtype
    assert labels.tolist() == [float(label)] * 2


def test_work_for_the_device_goes_along_as_parameters() -> None:
    dataset = (torch.from_numpy(pixels(12, 12)).permute(2, 0, 1)[None].repeat(4, 1, 1, 1), torch.arange(4))
    here, there = (read(dataset, policy_name="rand", on_device=flag) for flag in (False, True))
    assert (here.parameters, here.windows) == (None, None)
    assert here.content[0].shape[-1] == SIDE
    assert there.content[0].shape[-1] == 12
    assert there.parameters is not None
    assert len(there.parameters) == 2
    assert there.windows is not None
    assert there.windows.shape == (2, 4)


@pytest.mark.parametrize(
    "samples", [[(picture, 1) for picture in [Image.new("RGB", (4, 4))] * 3], [{"x": 1}, {"x": 2}]]
)
def test_the_users_collation_gets_the_samples_as_they_are(samples: list[Any]) -> None:
    seen = []

    def collate(batch: list[Any]) -> Any:
        seen.extend(batch)
        return {"mine": torch.zeros(len(batch))}

    batch = read(Listed(samples), collate=collate, policy_name="rand")
    assert all(one is other for one, other in zip(seen, samples, strict=False))
    assert list(batch.content) == ["mine"]


def test_float_tensors_are_taken_as_they_are() -> None:
    images = torch.linspace(-3, 3, 4 * 3 * 5 * 5).view(4, 3, 5, 5)
    content = read((images, torch.arange(4)), 3, 1, policy_name="none").content
    assert torch.equal(content[0], images[[3, 1]])


def test_a_reader_and_its_errors_can_be_pickled() -> None:
    reader = Reader(open_source((torch.zeros(4, 3, 8, 8), torch.arange(4))), Recipe(seed=0, policy=policy("rand")))
    again = pickle.loads(pickle.dumps(reader))
    assert torch.equal(again[ticket(2)].content[0], reader[ticket(2)].content[0])
    for kind in (DataError, TaskError):
        error = pickle.loads(pickle.dumps(Failure(kind=kind.__name__, message="a: b"))).error()
        assert type(error) is kind
        assert str(error) == "a: b"


def test_a_batch_is_a_function_of_its_ticket() -> None:
    """Not of what was read before, nor of the rest of the batch."""
    dataset = (torch.from_numpy(np.stack([pixels(12, 12)] * 16)).permute(0, 3, 1, 2).contiguous(), torch.arange(16))
    recipe = Recipe(seed=4, policy=policy("rand"), image_size=SIDE)
    stream = Stream(16, 8, seed=4)
    whole = Reader(open_source(dataset), recipe).read(stream.ticket(1))
    parts = [
        Reader(open_source(dataset), recipe).read(Stream(16, 8, seed=4, rank=rank, world_size=4).ticket(1))
        for rank in (3, 2, 1, 0)
    ]
    assert torch.equal(whole.content[0], torch.cat([part.content[0] for part in reversed(parts)]))
