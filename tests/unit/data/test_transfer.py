"""The transfer scales and normalises raw images and leaves everything else as it is."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import pytest
import torch

from autotrain.data.batch import HostBatch
from autotrain.data.transfer import Transfer, tensors_in, to_device

CPU = torch.device("cpu")
Pair = namedtuple("Pair", "images labels")


def images(count: int = 2) -> torch.Tensor:
    return torch.arange(count * 3 * 4 * 4).remainder(256).to(torch.uint8).view(count, 3, 4, 4)


def finish(
    content: Any, *, mean: tuple[float, ...] = (0.1, 0.2, 0.3), std: tuple[float, ...] = (0.5, 1, 2), **options: Any
) -> Any:
    transfer = Transfer(CPU, mean=mean, std=std, image_size=4, **options)
    return transfer.finish(transfer.move(HostBatch(step=0, epoch=0, count=2, content=content)))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_raw_images_are_normalised_per_channel(layout: torch.memory_format) -> None:
    floats, labels = finish((images(), torch.arange(2)), memory_format=layout)
    scaled = images().float() / 255
    expected = (scaled - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)) / torch.tensor([0.5, 1, 2]).view(3, 1, 1)
    torch.testing.assert_close(floats, expected, rtol=1e-6, atol=1e-6)
    assert floats.is_contiguous(memory_format=layout)
    assert floats.dtype == torch.float32
    assert labels.tolist() == [0, 1]


def test_what_a_batch_holds_is_not_written_to() -> None:
    raw, floats = images(), images().float()
    finish((raw, torch.arange(2)))
    finish((floats, torch.arange(2)), memory_format=torch.channels_last)
    assert torch.equal(raw, images())
    assert torch.equal(floats, images().float())


def test_float_images_change_their_layout_only() -> None:
    floats, _ = finish((images().float(), torch.arange(2)), memory_format=torch.channels_last)
    assert torch.equal(floats, images().float())
    assert floats.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    "content",
    [torch.arange(3), {"x": torch.arange(3)}, [], "words", (torch.zeros(2, 5), torch.arange(2)), [["nested"], 3]],
)
def test_other_contents_pass_through(content: Any) -> None:
    finished = finish(content)
    assert type(finished) is type(content)
    pairs = zip(tensors_in(finished), tensors_in(content), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


@pytest.mark.parametrize("kind", [tuple, list, lambda pair: Pair(*pair)], ids=["tuple", "list", "named tuple"])
@pytest.mark.parametrize("raw", [True, False])
def test_a_batch_of_images_stays_the_container_that_it_is(kind: Any, raw: bool) -> None:
    content = kind((images() if raw else images().float(), torch.arange(2)))
    finished = finish(content, memory_format=torch.channels_last)
    assert type(finished) is type(content)
    assert finished[0].is_contiguous(memory_format=torch.channels_last)
    assert finished[1].tolist() == [0, 1]


def test_without_statistics_bytes_stay_bytes() -> None:
    """The batches of a collation of the user's, whose model may normalise by itself."""
    raw, _ = finish((images(), torch.arange(2)), mean=(), std=())
    assert torch.equal(raw, images())
    assert raw.dtype == torch.uint8


def test_containers_keep_their_kind() -> None:
    content = {"a": Pair(torch.zeros(1), torch.ones(1)), "b": [torch.zeros(2), ("x", torch.ones(3))], "c": None}
    moved = to_device(content, CPU)
    assert isinstance(moved["a"], Pair)
    assert isinstance(moved["b"], list)
    assert moved["b"][1][0] == "x"
    assert len(tensors_in(moved)) == 4
