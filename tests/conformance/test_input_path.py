"""Whatever is set about speed, the model sees the same images: to the bit, or within what is stated here."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from made import odd_photographs
from PIL import Image
from torch.utils.data import WeightedRandomSampler
from torchvision import transforms
from torchvision.datasets import ImageFolder

from autotrain.data.batch import HostBatch, MixedLabels
from autotrain.data.stream import Stream
from autotrain.decode.decoder import decoder
from autotrain.engine.rig import InputSide, Rig, make_reader
from autotrain.errors import CandidateError
from autotrain.knobs.registry import canonical
from autotrain.preparation import prepare_workload
from autotrain.settings import Settings
from autotrain.task import Task
from autotrain.workload import Workload

pytestmark = pytest.mark.usefixtures("one_thread")

LENGTH, BATCH, SIDE = 18, 4, 24
STEPS = LENGTH // BATCH
EPOCHS = 2 * STEPS
Batches = list[Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photograph-like files; one is greyscale, one a PNG with transparency."""
    return odd_photographs(tmp_path_factory.mktemp("path"), LENGTH, {5: "RGBA", 7: "L"})


CHAIN = transforms.Compose(
    [
        transforms.RandomResizedCrop(SIDE),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize((0.5, 0.4, 0.3), (0.2, 0.3, 0.4)),
    ]
)
FIXED = transforms.Compose(
    [
        transforms.Resize((SIDE, SIDE)),
        transforms.RandomCrop(SIDE, 4),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
    ]
)
EXTRAS = {"color_jitter": (0.4, 0.4, 0.4, 0.1), "erasing": 0.5, "mixup": 0.4, "cutmix": 1.0}


@dataclass(frozen=True)
class Case:
    """A task and settings that give other bits than the default's, by how much is stated."""

    kind: str
    policy: str | None = None
    extras: bool = False

    def __str__(self) -> str:
        return f"{self.kind}-{self.policy or 'own'}{'-extras' if self.extras else ''}"


CASES = [
    Case("folder", "none"),
    Case("folder", "crop"),
    Case("folder", "rand", extras=True),
    Case("folder", "augmix"),
    Case("bare"),
    Case("weighted", "trivial"),
    Case("chain"),
    Case("fixed"),
]
by_case = pytest.mark.parametrize("case", CASES, ids=str)


@pytest.fixture
def make(tiny_model: Any, folder: Path, tmp_path: Path) -> Any:
    def workload(case: Case, **options: Any) -> Workload:
        dataset: Any = folder
        if case.kind in ("chain", "fixed"):
            dataset = ImageFolder(str(folder), CHAIN if case.kind == "chain" else FIXED)
        elif case.kind == "bare":
            dataset = ImageFolder(str(folder))
        sampler = None
        if case.kind == "weighted":
            sampler = WeightedRandomSampler([1.0 + index for index in range(LENGTH)], LENGTH)
        task = Task(
            model=tiny_model(),
            dataset=dataset,
            batch_size=BATCH,
            image_size=SIDE,
            augmentation=case.policy,
            sampler=sampler,
            device="cpu",
            cache_dir=tmp_path / "kept",
            **({} if case.kind in ("chain", "fixed") else {"mean": (0.0,) * 3, "std": (1.0,) * 3}),
            **(EXTRAS if case.extras else {}),
            **options,
        )
        return prepare_workload(task)

    return workload


def seen(workload: Workload, start: int = 0, stop: int = EPOCHS, **values: Any) -> Batches:
    """Return what the model sees: images and labels, flattened."""
    settings = canonical(replace(Settings(augmentation=workload.augmentation), **values), workload)
    for name, value in values.items():
        assert getattr(settings, name) == value or name in ("placement", "decoder", "resize"), f"{name} is folded"
    side = InputSide(workload, settings, start=start, stop=stop)
    with Rig(workload, settings) as rig:
        try:
            return [flat(rig.transfer.finish(rig.move(batch))) for batch in side.loader]
        finally:
            side.close()


def flat(content: Any) -> tuple[Any, ...]:
    images, labels = content
    return (images, *labels) if isinstance(labels, MixedLabels) else (images, labels)


def same(first: Batches, second: Batches) -> bool:
    return len(first) == len(second) and all(
        torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other
        for batch, again in zip(first, second, strict=True)
        for one, other in zip(batch, again, strict=True)
    )


EXACT: list[dict[str, Any]] = [
    {"workers": 1, "prefetch": 4},
    {"workers": 3},
    {"cache": "ram"},
    {"cache": "ram", "workers": 3},
    {"cache": "disk"},
    {"cache": "disk", "workers": 3, "prefetch": 1},
]
FILES_ONLY: list[dict[str, Any]] = [
    *({"decoder": name} for name in ("torchvision", "simplejpeg")),
    {"decoder": "simplejpeg", "cache": "ram", "workers": 1},
]
PURE_ONLY: list[dict[str, Any]] = [
    {"loader": "threads", "workers": 1},
    {"loader": "threads", "workers": 3, "prefetch": 4},
    {"loader": "threads", "workers": 2, "cache": "ram"},
]


@by_case
def test_what_is_exact_changes_no_bit(make: Any, case: Case) -> None:
    workload = make(case)
    default = seen(workload)
    assert len(default) == EPOCHS
    assert not same(default[:STEPS], default[STEPS:])
    for values in [*EXACT, *FILES_ONLY, *(PURE_ONLY if workload.source.pure else [])]:
        assert same(default, seen(workload, **values)), values


@by_case
def test_on_the_device_too(make: Any, case: Case) -> None:
    """Exact settings change no bit there either; device and worker agree within rounding."""
    workload = make(case)
    here, there = seen(workload), seen(workload, placement="device")
    for values in ({"workers": 3}, {"cache": "ram"}, {"cache": "disk", "workers": 1}):
        assert same(there, seen(workload, placement="device", **values)), values
    for one, other in zip(here, there, strict=True):
        assert one[0].shape == other[0].shape
        gap = (one[0] - other[0]).abs()
        assert gap.max() <= 1.01 / 255, "a level"
        assert (gap > 1e-5).double().mean() < 0.002
        assert all(same([(first,)], [(second,)]) for first, second in zip(one[1:], other[1:], strict=True))


NUMERICS: list[tuple[dict[str, Any], float]] = [
    ({"resize": "torch"}, 0.2),
    ({"decoder": "pillow_draft"}, 2.0),
    ({"decoder": "simplejpeg_scaled"}, 2.0),
    ({"decoder": "simplejpeg_scaled", "resize": "torch", "workers": 1}, 2.0),
]
"""Settings with the mean difference from the default, in levels, that is allowed."""


@pytest.mark.parametrize(("values", "bound"), NUMERICS, ids=str)
@pytest.mark.parametrize("case", [Case("folder", "crop"), Case("chain")], ids=str)
def test_other_rounding_stays_within_its_bound(make: Any, case: Case, values: dict[str, Any], bound: float) -> None:
    workload = make(case)
    placement = "device" if case.kind == "chain" else "worker"
    default, other = seen(workload, placement=placement), seen(workload, placement=placement, **values)
    unit = 255.0 * (0.3 if case.kind == "chain" else 1.0)
    gaps = torch.stack([(one[0] - two[0]).abs() * unit for one, two in zip(default, other, strict=True)])
    assert 0 < gaps.mean() < bound
    assert all(torch.equal(one[1], two[1]) for one, two in zip(default, other, strict=True))
    assert same(other, seen(workload, placement=placement, **{**values, "workers": 3}))


@pytest.mark.skipif(decoder("dali").unavailable() is not None, reason="NVIDIA DALI is not installed")
@pytest.mark.parametrize("kernel", ["pillow", "torch"])
def test_dali_gives_the_same_images(make: Any, kernel: str) -> None:
    workload = make(Case("folder", "crop"))
    default, other = seen(workload, resize=kernel), seen(workload, decoder="dali", resize=kernel)
    gaps = torch.stack([(one[0] - two[0]).abs() * 255 for one, two in zip(default, other, strict=True)])
    assert gaps.mean() < 1
    assert same(other, seen(workload, decoder="dali", resize=kernel, workers=1))


@by_case
@pytest.mark.parametrize("values", [{"workers": 1}, {"cache": "ram"}, {"cache": "disk", "workers": 1}], ids=str)
def test_resumed_in_mid_epoch_it_goes_on_exactly(make: Any, case: Case, values: dict[str, Any]) -> None:
    workload = make(case)
    start, stop = STEPS - 2, STEPS + 2
    assert same(seen(workload)[start:stop], seen(workload, start, stop, **values))


@by_case
@pytest.mark.parametrize("placement", ["worker", "device"])
def test_two_ranks_see_what_one_process_sees(make: Any, case: Case, placement: str) -> None:
    workload = make(case)
    settings = canonical(Settings(augmentation=workload.augmentation, placement=placement), workload)
    reader = make_reader(workload, settings)
    with Rig(workload, settings) as rig:

        def finished(batch: Any) -> tuple[Any, ...]:
            assert isinstance(batch, HostBatch)
            return flat(rig.transfer.finish(rig.move(batch)))

        for step in range(STEPS + 1):
            shards = []
            for rank in range(2):
                stream = Stream(LENGTH, BATCH, seed=0, sampler=workload.task.sampler, rank=rank, world_size=2)
                shards.append(finished(reader[stream.ticket(step)]))
            whole = finished(reader[workload.stream().ticket(step)])
            for place, entry in enumerate(whole):
                parts = [shard[place] for shard in shards]
                if isinstance(entry, torch.Tensor):
                    assert torch.equal(entry, torch.cat(parts)), step
                else:
                    assert parts == [entry, entry]


@pytest.mark.parametrize("cache", ["none", "ram", "disk"])
@pytest.mark.parametrize("case", [Case("folder", "rand"), Case("chain")], ids=str)
def test_a_worker_killed_in_mid_epoch_is_said_and_spoils_nothing(make: Any, case: Case, cache: str) -> None:
    """Its cache entries are whole or not there: the next run, with a half filled cache on disk, sees no other bit."""
    workload = make(case)
    default = seen(workload)
    settings = canonical(Settings(augmentation=workload.augmentation, cache=cache, workers=2), workload)
    side = InputSide(workload, settings)

    def drain() -> None:
        side.next()
        os.kill(side.loader.pids[0], signal.SIGKILL)
        list(side.loader)

    try:
        # torch raises from a signal handler, which is not always within the loader
        with pytest.raises((CandidateError, RuntimeError), match="worker"):
            drain()
    finally:
        side.close()
    assert same(default, seen(workload, cache=cache, workers=2))
    assert same(default, seen(workload, cache=cache))


def test_a_cache_on_disk_is_warm_in_the_next_run_and_a_changed_file_is_read_anew(
    make: Any, folder: Path, tmp_path: Path
) -> None:
    workload = make(Case("folder", "crop"))
    first = seen(workload, cache="disk")
    changed = folder / "class1" / "01.jpg"
    before = changed.read_bytes()
    try:
        Image.new("RGB", (150, 150), "white").save(changed)
        fresh = make(Case("folder", "crop"))
        again = seen(fresh, cache="disk")
        assert not same(first, again)
        assert same(seen(fresh), again)
    finally:
        changed.write_bytes(before)
    assert same(seen(workload), first)
