"""The input path ends on CUDA with the images that it ends with in main memory, whatever its settings."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made import odd_photographs
from PIL import Image
from torch import nn
from torchvision import transforms
from torchvision.datasets import ImageFolder

import autotrain
from autotrain.augment.geometry import crop_window
from autotrain.augment.policy import policy
from autotrain.data.batch import HostBatch, MixedLabels
from autotrain.data.transfer import Transfer
from autotrain.decode.nvjpeg import Packed, decode_on_device, pack
from autotrain.engine.rig import InputSide, Rig
from autotrain.errors import DataError
from autotrain.plan.plan import Plan
from autotrain.preparation import prepare_workload
from autotrain.settings import Settings
from autotrain.task import Task
from autotrain.workload import Workload

pytestmark = pytest.mark.gpu

DEVICE = "cuda"
SIDE, BATCH, LENGTH = 24, 4, 18
EPOCHS = 2 * (LENGTH // BATCH)
MEAN, STD = (0.1, 0.2, 0.3), (0.5, 1.0, 2.0)
LEVEL = 1.01 / 255
Batches = list[tuple[torch.Tensor, ...]]


@contextmanager
def no_wait() -> Iterator[None]:
    """Fail where the host waits for CUDA."""
    if not torch.cuda.is_available():
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


# Transfer


def raw(count: int = 5) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 12, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def finished(device: str, content: Any, *, pin: bool = False, **options: Any) -> Any:
    left = {name: options.pop(name) for name in ("erased", "parameters", "mixing") if name in options}
    constants = {"mean": MEAN, "std": STD, **options}
    transfer = Transfer(torch.device(device), image_size=12, **constants)
    batch = HostBatch(step=0, epoch=0, count=5, content=content, **left)
    if pin:
        batch = batch.pin_memory()
        transfer.finish(transfer.move(batch))  # the first use of an operator loads it
        with no_wait():
            return transfer.finish(transfer.move(batch))
    return transfer.finish(transfer.move(batch))


@pytest.mark.parametrize("pin", [False, True], ids=["unpinned", "pinned"])
@pytest.mark.parametrize("source", [torch.contiguous_format, torch.channels_last], ids=["from NCHW", "from NHWC"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["to NCHW", "to NHWC"])
def test_normalising_gives_what_main_memory_gives(
    layout: torch.memory_format, source: torch.memory_format, pin: bool
) -> None:
    content = raw().contiguous(memory_format=source), torch.arange(5)
    there, labels = finished(DEVICE, content, pin=pin, memory_format=layout)
    here, _ = finished("cpu", content, memory_format=layout)
    assert (there.device.type, labels.device.type, there.dtype) == (DEVICE, DEVICE, torch.float32)
    assert there.stride() == here.stride()
    torch.testing.assert_close(there.cpu(), here, rtol=0, atol=1e-5)
    assert labels.tolist() == list(range(5))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["NCHW", "NHWC"])
@pytest.mark.parametrize("values", [(0.5,), (0.1, -0.2, 0.3)], ids=["one value", "a value per channel"])
def test_what_a_dataset_erases_is_erased(values: tuple[float, ...], layout: torch.memory_format) -> None:
    windows = np.array([(0, 0, 0, 0), (0, 0, 12, 16), (3, 4, 5, 6), (11, 15, 1, 1), (2, 0, 4, 16)], dtype=np.int64)
    options = {"erased": windows, "erased_values": values, "memory_format": layout}
    there, _ = finished(DEVICE, (raw(), torch.arange(5)), pin=True, **options)
    here, _ = finished("cpu", (raw(), torch.arange(5)), **options)
    torch.testing.assert_close(there.cpu(), here, rtol=0, atol=1e-5)
    assert there.is_contiguous(memory_format=layout)
    assert torch.equal(there[1].cpu(), torch.tensor(values).view(-1, 1, 1).expand(3, 12, 16))


@pytest.mark.parametrize("pin", [False, True], ids=["unpinned", "pinned"])
def test_mixed_labels_cross_as_they_are(pin: bool) -> None:
    labels = MixedLabels(torch.arange(5), torch.arange(5).flip(0), 0.25)
    _, moved = finished(DEVICE, (raw(), labels), pin=pin)
    assert isinstance(moved, MixedLabels)
    assert (moved.labels.device.type, moved.others.device.type, moved.share) == (DEVICE, DEVICE, 0.25)
    assert moved.labels.tolist() == moved.others.tolist()[::-1] == list(range(5))


class Opaque:
    """A batch of a library's own, which knows how to move itself."""

    def __init__(self, values: torch.Tensor) -> None:
        self.values = values

    def to(self, device: Any) -> Opaque:
        return Opaque(self.values.to(device))


@pytest.mark.parametrize("kind", [lambda: (raw(), torch.arange(5)), lambda: [Opaque(torch.arange(5))]])
def test_copies_are_timed_whatever_the_batch_is(kind: Callable[[], Any]) -> None:
    transfer = Transfer(torch.device(DEVICE), mean=MEAN, std=STD, image_size=12)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    transfer.move(HostBatch(step=0, epoch=0, count=5, content=kind()), events=(start, end))
    torch.cuda.synchronize()
    assert start.elapsed_time(end) >= 0


def test_a_batch_is_not_overwritten_by_the_copies_that_follow() -> None:
    """Memory of the side stream goes back to it only once the current stream is through with it."""
    transfer = Transfer(torch.device(DEVICE), mean=(0.0,) * 3, std=(1 / 255,) * 3, image_size=12)
    hosts = [torch.full((8, 3, 64, 64), number, dtype=torch.uint8).pin_memory() for number in range(12)]
    results = []
    torch.cuda._sleep(200_000_000)
    for number, images in enumerate(hosts):
        content = images, torch.full((8,), number)
        results.append(transfer.finish(transfer.move(HostBatch(step=number, epoch=0, count=8, content=content))))
    for number, (images, labels) in enumerate(results):
        assert torch.allclose(images, torch.tensor(float(number), device=DEVICE), atol=1e-3)
        assert set(labels.tolist()) == {number}


# Sources and settings


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photograph-like JPEG files; one is greyscale, one CMYK, one a PNG with transparency."""
    return odd_photographs(tmp_path_factory.mktemp("photographs"), LENGTH, {5: "RGBA", 7: "L", 11: "CMYK"})


CHAIN = transforms.Compose(
    [
        transforms.RandomResizedCrop(SIDE),
        transforms.RandomHorizontalFlip(),
        transforms.ColorJitter(0.4, 0.4, 0.4),
        transforms.ToTensor(),
        transforms.Normalize((0.5, 0.4, 0.3), (0.2, 0.3, 0.4)),
        transforms.RandomErasing(p=0.5),
    ]
)


def workload_of(model: nn.Module, dataset: Any, chosen: str | None = "crop", **options: Any) -> Workload:
    given = {"batch_size": BATCH, "image_size": SIDE, "augmentation": chosen, **options}
    return prepare_workload(Task(model=model, dataset=dataset, device=DEVICE, **given))


def seen(workload: Workload, steps: int = EPOCHS, **values: Any) -> Batches:
    """Return what the model sees, in main memory."""
    settings = replace(Settings(augmentation=workload.augmentation), **values)
    side = InputSide(workload, settings, stop=steps)
    batches = []
    try:
        with Rig(workload, settings) as rig:
            for batch in side.loader:
                images, labels = rig.transfer.finish(rig.move(batch))
                assert images.device.type == DEVICE
                labels = (
                    [entry for entry in labels if torch.is_tensor(entry)] if isinstance(labels, tuple) else [labels]
                )
                batches.append((images.cpu(), *(entry.cpu() for entry in labels)))
    finally:
        side.close()
    return batches


def same(first: Batches, second: Batches) -> bool:
    return len(first) == len(second) and all(
        torch.equal(one, other)
        for batch, again in zip(first, second, strict=True)
        for one, other in zip(batch, again, strict=True)
    )


EXACT: list[dict[str, Any]] = [
    {"pinning": True},
    {"workers": 2, "pinning": True},
    {"workers": 2, "pinning": True, "loader": "threads"},
    {"workers": 2, "loader": "threads"},
    {"cache": "ram", "pinning": True},
    {"cache": "ram", "workers": 2, "pinning": True},
    {"cache": "ram", "workers": 2, "pinning": True, "loader": "threads"},
    {"cache": "disk", "workers": 2},
    {"decoder": "torchvision"},
    {"decoder": "simplejpeg", "workers": 1, "pinning": True},
]


@pytest.mark.parametrize("placement", ["worker", "device"])
def test_what_is_exact_changes_no_bit(tiny_model: Any, folder: Path, tmp_path: Path, placement: str) -> None:
    """Loading, pinning, caching and full decoders, over two epochs."""
    workload = workload_of(tiny_model(), folder, "rand", mixup=0.4, cache_dir=tmp_path)
    default = seen(workload, placement=placement)
    assert len(default) == EPOCHS
    for values in EXACT:
        assert same(default, seen(workload, placement=placement, **values)), values


def test_transforms_of_a_dataset_move_to_the_device(tiny_model: Any, folder: Path) -> None:
    """With the worker's own draws, within a level for each jittered property, and with the same rectangles erased."""
    workload = workload_of(tiny_model(), ImageFolder(str(folder), CHAIN), None)
    assert workload.movable
    here, there = seen(workload), seen(workload, placement="device")
    deviation = torch.tensor((0.2, 0.3, 0.4)).view(3, 1, 1)
    for one, other in zip(here, there, strict=True):
        gap = (one[0] - other[0]).abs() * deviation
        assert gap.max() <= 4 * LEVEL
        assert gap.mean() <= 0.5 * LEVEL
        assert torch.equal(one[1], other[1])
        assert torch.equal((one[0] == 0).all(dim=1), (other[0] == 0).all(dim=1))
    pinned = {"workers": 2, "pinning": True}
    assert same(there, seen(workload, placement="device", **pinned))
    assert same(there, seen(workload, placement="device", cache="ram", **pinned))


# nvJPEG


@pytest.mark.parametrize("values", [{}, {"workers": 2, "pinning": True}, {"workers": 2, "loader": "threads"}], ids=str)
@pytest.mark.parametrize(("chosen", "bound"), [("crop", 2.0), ("rand", 8.0)])
def test_nvjpeg_gives_nearly_pillows_images(
    tiny_model: Any, folder: Path, chosen: str, bound: float, values: dict[str, Any]
) -> None:
    """Mean difference in levels; an operator may make much of a level."""
    workload = workload_of(tiny_model(), folder, chosen, mean=(0.0,) * 3, std=(1.0,) * 3)
    pillow = seen(workload, placement="device")
    nvjpeg = seen(workload, placement="device", decoder="nvjpeg", **values)
    assert len(pillow) == len(nvjpeg) == EPOCHS
    gaps = [(one[0] - other[0]).abs().mean().item() * 255 for one, other in zip(pillow, nvjpeg, strict=True)]
    assert sum(gaps) / len(gaps) < bound
    assert all(torch.equal(one[1], other[1]) for one, other in zip(pillow, nvjpeg, strict=True))


def packed_batch(seed: int) -> Packed:
    draws = np.random.default_rng(seed)
    files = []
    for _ in range(8):
        file = io.BytesIO()
        coarse = Image.fromarray(draws.integers(0, 256, (5, 6, 3), dtype=np.uint8))
        coarse.resize((200, 160), Image.Resampling.BICUBIC).save(file, "JPEG")
        files.append(file.getvalue())
    rows = policy("crop").draw(seed, 0, np.arange(8)).geometry
    return pack(files, [lambda *size, row=row: crop_window(row, *size) for row in rows], SIDE, channels=3)


def test_a_batch_is_decoded_beside_work_on_the_current_stream() -> None:
    """torchvision's decoder has a stream of its own; it may not write where kernels of earlier batches still read."""
    device = torch.device(DEVICE)
    batches = [packed_batch(seed) for seed in range(6)]
    alone = []
    for packed in batches:
        alone.append(decode_on_device(packed, device).cpu())
        torch.cuda.synchronize()
    torch.cuda._sleep(1_000_000_000)
    busy = [decode_on_device(packed, device) for packed in batches]
    for one, other in zip(alone, busy, strict=True):
        assert torch.equal(one, other.cpu())


def test_a_file_that_the_device_cannot_decode_is_an_error_of_the_data() -> None:
    packed = packed_batch(0)
    first = packed.files[: packed.offsets[1]].numpy().tobytes()
    packed.files[first.index(b"\xff\xc4") + 4] = 0x77
    transfer = Transfer(torch.device(DEVICE), mean=MEAN, std=STD, image_size=SIDE)
    batch = HostBatch(step=7, epoch=0, count=8, content=(packed, torch.arange(8)))
    with pytest.raises(DataError, match="image 0 of the batch of step 7"):
        transfer.finish(transfer.move(batch))


# Training

KNOBS: list[dict[str, Any]] = [
    {"decoder": "simplejpeg_scaled"},
    {"decoder": "nvjpeg"},
    {"resize": "torch"},
    {"cache": "ram"},
    {"loader": "threads", "workers": 2},
    {"placement": "device"},
    {"pinning": True},
]


@pytest.mark.parametrize("values", KNOBS, ids=str)
def test_fit_trains_under_each_setting(tiny_model: Any, folder: Path, values: dict[str, Any]) -> None:
    chosen = "rand" if "placement" in values else "crop"
    result = autotrain.fit(
        tiny_model(),
        folder,
        plan=Plan(settings=Settings(augmentation=chosen, **values)),
        batch_size=BATCH,
        image_size=SIDE,
        duration="2ep",
        device=DEVICE,
        progress=False,
    )
    assert len(result.history) == 2
    assert all(math.isfinite(record.loss) for record in result.history)
    assert {entry.device.type for entry in result.model.parameters()} == {DEVICE}


@pytest.mark.slow
@pytest.mark.parametrize("values", KNOBS, ids=str)
def test_a_probe_holds_each_setting(tiny_model: Any, folder: Path, values: dict[str, Any]) -> None:
    model = tiny_model()
    result = autotrain.probe(
        model,
        folder,
        budget="6s",
        allow="exact",
        fix=values,
        augmentation="rand" if "placement" in values else "crop",
        batch_size=BATCH,
        image_size=SIDE,
        device=DEVICE,
        progress=False,
    )
    chosen = result.plan.settings.as_dict()
    assert all(chosen[name] == value for name, value in values.items())
    assert result.session.measurements
    assert [entry.reason for entry in result.session.failures if not entry.pruned] == []
    assert {entry.device.type for entry in model.parameters()} == {"cpu"}
