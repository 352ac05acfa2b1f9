"""The images and labels that a model sees are a function of the seed: of no worker count, prefetch or placement."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, RandomSampler, Sampler, WeightedRandomSampler

from autotrain.augment.policy import POLICIES
from autotrain.data.stream import InOrder, Stream
from autotrain.data.transfer import Transfer
from autotrain.engine.rig import InputSide
from autotrain.errors import DataError, TaskError
from autotrain.preparation import prepare_workload
from autotrain.settings import Settings
from autotrain.task import Task
from autotrain.workload import Workload

pytestmark = pytest.mark.usefixtures("one_thread")

LENGTH, BATCH, SIDE = 18, 4, 24
STEPS = LENGTH // BATCH
"""Steps per epoch; two samples of each epoch are left out."""

POLICY_NAMES = tuple(entry.name for entry in POLICIES)
Batches = list[tuple[torch.Tensor, torch.Tensor]]


def picture(index: int, height: int, width: int) -> np.ndarray[Any, Any]:
    draws = np.random.default_rng(index)
    coarse = Image.fromarray(draws.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))


class Pictures(Dataset[Any]):
    """PIL images of several sizes, as a person's own dataset gives them."""

    def __len__(self) -> int:
        return LENGTH

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.fromarray(picture(index, 30 + index, 44 - index)), index % 3


class MirroredPictures(Pictures):
    """The same, with random changes of its own that nothing about the class gives away."""

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        image, label = super().__getitem__(index)
        if random.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return image.rotate(float(np.random.uniform(-30, 30)) + float(torch.rand(()))), label


class Transformed(Pictures):
    """Float tensors out of random transforms of the dataset's own, from all three generators."""

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = torch.from_numpy(picture(index, SIDE, SIDE).copy()).permute(2, 0, 1).float() / 255
        noise = torch.rand(3, 1, 1) + random.random() + float(np.random.normal())
        return image + noise, index % 3


def tensors() -> tuple[torch.Tensor, torch.Tensor]:
    images = np.stack([picture(index, 32, 32) for index in range(LENGTH)])
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.arange(LENGTH) % 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("stream")
    for index in range(LENGTH):
        (root / f"class{index % 3}").mkdir(exist_ok=True)
        Image.fromarray(picture(index, 40 + index, 60)).save(root / f"class{index % 3}" / f"{index:02d}.jpg")
    return root


@pytest.fixture
def make(tiny_model: Any, folder: Path) -> Any:
    """Return a function that makes the workload of a kind of source under a policy."""
    kinds = {
        "folder": lambda: folder,
        "pictures": Pictures,
        "mirrored": MirroredPictures,
        "tensors": tensors,
        "transformed": Transformed,
    }

    def workload(kind: str, policy: str = "none", **options: Any) -> Workload:
        task = Task(
            model=tiny_model(),
            dataset=kinds[kind](),
            batch_size=BATCH,
            image_size=SIDE,
            augmentation=policy,
            device="cpu",
            **{"mean": (0.0,) * 3, "std": (1.0,) * 3, **options},
        )
        return prepare_workload(task)

    return workload


def seen(workload: Workload, start: int = 0, stop: int = 2 * STEPS, **values: Any) -> Batches:
    """Return what the model sees in some steps."""
    settings = replace(Settings(augmentation=workload.augmentation), **values)
    transfer = Transfer(workload.device, mean=workload.mean, std=workload.std, image_size=workload.image_size)
    side = InputSide(workload, settings, start=start, stop=stop)
    try:
        return [transfer.finish(transfer.move(batch)) for batch in side.loader]
    finally:
        side.close()


def same(first: Batches, second: Batches) -> bool:
    return len(first) == len(second) and all(
        torch.equal(one, other)
        for batch, again in zip(first, second, strict=True)
        for one, other in zip(batch, again, strict=True)
    )


def levels(batches: Batches) -> torch.Tensor:
    return torch.stack([images for images, _ in batches]).mul(255).round()


IMAGES = [
    (kind, policy, placement)
    for kind in ("folder", "pictures", "mirrored", "tensors")
    for policy in POLICY_NAMES
    for placement in ("worker", "device")
]


@pytest.mark.parametrize(("kind", "policy", "placement"), [*IMAGES, ("transformed", "none", "worker")])
def test_workers_and_prefetch_change_no_bit(make: Any, kind: str, policy: str, placement: str) -> None:
    workload = make(kind, policy)
    alone = seen(workload, placement=placement)
    assert len(alone) == 2 * STEPS
    assert all(images.shape == (BATCH, 3, SIDE, SIDE) and images.dtype == torch.float32 for images, _ in alone)
    assert same(alone, seen(workload, placement=placement, workers=3, prefetch=2))


@pytest.mark.parametrize("kind", ["folder", "mirrored", "tensors", "transformed"])
@pytest.mark.parametrize(("workers", "prefetch"), [(1, 2), (1, 4), (3, 4)])
def test_every_worker_count_gives_the_same(make: Any, kind: str, workers: int, prefetch: int) -> None:
    workload = make(kind, "none" if kind == "transformed" else "rand")
    assert same(seen(workload), seen(workload, workers=workers, prefetch=prefetch))


@pytest.mark.parametrize("policy", POLICY_NAMES)
@pytest.mark.parametrize("kind", ["folder", "pictures", "mirrored", "tensors"])
def test_placements_agree_within_a_level(make: Any, kind: str, policy: str) -> None:
    """On a CPU both appliers cut, resize and change a value alike, but for rounding in one value of a thousand."""
    workload = make(kind, policy)
    here, there = seen(workload), seen(workload, placement="device")
    assert all(torch.equal(one[1], other[1]) for one, other in zip(here, there, strict=True))
    gap = (levels(here) - levels(there)).abs()
    assert gap.max() <= 1
    assert (gap > 0).double().mean() < 0.001


@pytest.mark.parametrize("policy", POLICY_NAMES[1:])
def test_policies_change_images_and_keep_labels(make: Any, policy: str) -> None:
    plain, changed = seen(make("tensors")), seen(make("tensors", policy))
    assert all(torch.equal(one[1], other[1]) for one, other in zip(plain, changed, strict=True))
    assert not torch.equal(levels(plain), levels(changed))


@pytest.mark.parametrize("kind", ["folder", "mirrored", "tensors", "transformed"])
@pytest.mark.parametrize("workers", [0, 1])
def test_started_in_mid_epoch_it_goes_on_exactly(make: Any, kind: str, workers: int) -> None:
    workload = make(kind, "none" if kind == "transformed" else "trivial")
    whole = seen(workload)
    middle = STEPS - 2
    assert same(whole[middle : STEPS + 2], seen(workload, middle, STEPS + 2, workers=workers))


@pytest.mark.parametrize("kind", ["folder", "mirrored", "tensors", "transformed"])
def test_another_seed_and_another_epoch_give_other_batches(make: Any, kind: str) -> None:
    policy = "none" if kind == "transformed" else "flip"
    first, second = seen(make(kind, policy)), seen(make(kind, policy, seed=1))
    assert same(first, seen(make(kind, policy)))
    assert not same(first, second)
    assert not same(first[:STEPS], first[STEPS:])


def test_draws_of_the_datasets_own_differ_between_epochs_and_samples(make: Any) -> None:
    workload = make("transformed")
    both = [workload.stream().ticket(step).indices.tolist() for step in range(2 * STEPS)]
    images = [image for batch, _ in seen(workload) for image in batch]
    by_index: dict[int, list[torch.Tensor]] = {}
    for index, image in zip((index for batch in both for index in batch), images, strict=True):
        by_index.setdefault(index, []).append(image)
    twice = [pair for pair in by_index.values() if len(pair) == 2]
    assert twice
    assert not any(torch.equal(*pair) for pair in twice)


def states() -> tuple[Any, ...]:
    name, keys, *rest = np.random.get_state()
    return random.getstate(), name, keys.tobytes(), tuple(rest), torch.default_generator.get_state().tolist()


@pytest.mark.parametrize("kind", ["mirrored", "transformed"])
def test_loading_in_the_process_leaves_its_random_states(make: Any, kind: str) -> None:
    workload = make(kind)
    side = InputSide(workload, Settings(), stop=3)
    before = states()
    with side.loader as loader:
        for _ in loader:
            assert states() == before  # between two batches too, where the user's code runs
    assert states() == before


@pytest.mark.parametrize("workers", [0, 1])
def test_the_process_may_draw_meanwhile(make: Any, own_draws: None, workers: int) -> None:
    workload = make("transformed")
    calm = seen(workload)
    side = InputSide(workload, Settings(workers=workers), stop=2 * STEPS)
    drawn: Batches = []
    with side.loader as loader:
        for batch in loader:
            random.random(), np.random.rand(), torch.rand(3)
            drawn.append(tuple(batch.content))
    assert same(calm, drawn)


# Order and shards


@pytest.mark.parametrize("length", [8, 9, 37, 1000])
def test_an_epoch_has_no_sample_twice(length: int) -> None:
    stream = Stream(length, 8, seed=3)
    for epoch in range(3):
        steps = range(epoch * stream.steps_per_epoch, (epoch + 1) * stream.steps_per_epoch)
        indices = np.concatenate([stream.ticket(step).indices for step in steps])
        assert len(set(indices.tolist())) == len(indices) == length // 8 * 8
        assert sorted(stream.order(epoch).tolist()) == list(range(length))


def test_orders_differ_by_seed_and_epoch() -> None:
    orders = {tuple(Stream(40, 8, seed=seed).order(epoch).tolist()) for seed in range(4) for epoch in range(4)}
    assert len(orders) == 16


def test_what_an_epoch_leaves_out_another_brings() -> None:
    stream = Stream(11, 8, seed=0)
    assert {int(index) for ticket in stream.tickets(0, 12) for index in ticket.indices} == set(range(11))


@pytest.mark.parametrize(("batch", "world"), [(8, 2), (8, 4), (9, 2), (8, 3)])
def test_ranks_share_the_batch_of_one_process(batch: int, world: int) -> None:
    alone = Stream(50, batch, seed=5)
    ranks = [Stream(50, batch, seed=5, rank=rank, world_size=world) for rank in range(world)]
    for step in range(2 * alone.steps_per_epoch + 1):
        shards = [stream.ticket(step) for stream in ranks]
        assert {shard.epoch for shard in shards} == {alone.ticket(step).epoch}
        assert np.concatenate([shard.indices for shard in shards]).tolist() == alone.ticket(step).indices.tolist()
        assert np.concatenate([shard.positions for shard in shards]).tolist() == alone.ticket(step).positions.tolist()


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_ranks_share_an_evaluation_without_loss_or_repeat(world: int) -> None:
    ranks = [list(InOrder(10, 3, rank=rank, world_size=world).tickets()) for rank in range(world)]
    assert sorted(int(index) for tickets in ranks for ticket in tickets for index in ticket.indices) == list(range(10))
    steps = [[ticket.step for ticket in tickets] for tickets in ranks]
    assert sorted(step for own in steps for step in own) == list(range(4))


@pytest.mark.parametrize(("batch", "world"), [(8, 2), (10, 4), (7, 3)])
def test_parts_count_for_the_images_in_them(batch: int, world: int) -> None:
    ranks = [Stream(50, batch, seed=5, rank=rank, world_size=world) for rank in range(world)]
    for stream in ranks:
        assert stream.weight == pytest.approx(len(stream.ticket(0).indices) * world / batch)
    assert sum(stream.weight for stream in ranks) == pytest.approx(world)


def test_tickets_can_be_asked_for_in_any_order() -> None:
    stream = Stream(20, 4, seed=0)
    forward = [ticket.indices.tolist() for ticket in stream.tickets(0, 15)]
    backward = [stream.ticket(step).indices.tolist() for step in reversed(range(15))]
    assert forward == backward[::-1]


def test_evaluation_sees_every_sample_once_and_in_order() -> None:
    tickets = list(InOrder(10, 4).tickets())
    assert [len(ticket.indices) for ticket in tickets] == [4, 4, 2]
    assert np.concatenate([ticket.indices for ticket in tickets]).tolist() == list(range(10))


# Samplers of the user's


class EpochSampler(Sampler[int]):
    """As torch's DistributedSampler: its order follows from the epoch that it was told."""

    def __init__(self) -> None:
        self.epoch = -1

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        return iter(np.random.default_rng(self.epoch).permutation(LENGTH).tolist())

    def __len__(self) -> int:
        return LENGTH


WEIGHTS = [1.0] * 9 + [9.0] * 9
SAMPLERS = {
    "weighted": lambda: WeightedRandomSampler(WEIGHTS, LENGTH),
    "weighted with a generator": lambda: WeightedRandomSampler(WEIGHTS, LENGTH, generator=torch.Generator()),
    "random": lambda: RandomSampler(range(LENGTH)),
    "by epoch": EpochSampler,
    "list": lambda: list(range(LENGTH))[::-1],
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_is_a_function_of_seed_and_epoch(name: str) -> None:
    def orders(seed: int, epochs: list[int]) -> dict[int, list[int]]:
        stream = Stream(LENGTH, BATCH, seed=seed, sampler=SAMPLERS[name]())
        return {epoch: stream.order(epoch).tolist() for epoch in epochs}

    before = states()
    assert orders(0, [0, 1, 2]) == orders(0, [2, 1, 0])
    if name != "list":
        assert orders(0, [0])[0] != orders(0, [1])[1]
    if "weighted" in name or name == "random":
        assert orders(0, [0]) != orders(1, [0])
    assert states() == before


def test_a_samplers_own_generator_is_as_before() -> None:
    generator = torch.Generator().manual_seed(7)
    before = generator.get_state()
    Stream(LENGTH, BATCH, seed=0, sampler=WeightedRandomSampler(WEIGHTS, LENGTH, generator=generator)).order(3)
    assert torch.equal(generator.get_state(), before)


def test_a_weighted_sampler_keeps_its_weights() -> None:
    stream = Stream(LENGTH, BATCH, seed=0, sampler=WeightedRandomSampler(WEIGHTS, 2000))
    share = float((stream.order(0) >= 9).mean())
    assert share == pytest.approx(0.9, abs=0.03)


def test_a_sampler_decides_the_length_of_an_epoch(make: Any) -> None:
    workload = make("pictures", sampler=[0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    assert workload.stream().steps_per_epoch == 2
    assert [label for _, labels in seen(workload, stop=2) for label in labels.tolist()] == [0, 1, 2, 0, 1, 2, 0, 1]


@pytest.mark.parametrize(
    ("sampler", "error", "words"),
    [
        ([0, 1, 2, LENGTH], DataError, f"index {LENGTH}, but the dataset has {LENGTH} samples"),
        ([0, 1, 2, -1], DataError, "index -1"),
        ([[0, 1], [2, 3]], TaskError, "not one of batches"),
        ([0, 1], TaskError, "batch size 4 is larger than the 2 samples of an epoch"),
    ],
)
def test_a_sampler_that_does_not_fit_is_refused(sampler: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Stream(LENGTH, BATCH, seed=0, sampler=sampler)


def test_a_sampler_whose_epochs_shrink_is_refused() -> None:
    lengths = iter([8, 4])

    class Shrinking:
        def __iter__(self) -> Iterator[int]:
            return iter(range(next(lengths)))

    stream = Stream(LENGTH, BATCH, seed=0, sampler=Shrinking())
    with pytest.raises(DataError, match="4 indices for epoch 1, but 8 for the first"):
        stream.ticket(2)
