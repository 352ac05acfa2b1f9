"""The profile tells the stages of loading apart, and leaves the dataset, and what it loads, as they are."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset
from torchvision import transforms
from torchvision.datasets import ImageFolder

from autotrain.data.stages import Stage
from autotrain.data.stream import Ticket
from autotrain.engine.rig import make_reader
from autotrain.errors import DataError
from autotrain.hardware.machine import machine_facts
from autotrain.knobs.registry import default_settings
from autotrain.measure import profile as module
from autotrain.measure.clock import Clock
from autotrain.measure.profile import StageProfile, StageTime, Stopwatch, profile, step_growth
from autotrain.measure.session import Session
from autotrain.preparation import prepare_workload
from autotrain.search.job import job_facts
from autotrain.settings import Settings
from autotrain.task import Task
from autotrain.workload import Workload


class FakeClock(Clock):
    """A clock that goes on only when it is told to."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    def now(self) -> float:
        return self.wall

    def cpu_s(self) -> float:
        return self.cpu

    def works(self, seconds: float) -> None:
        self.wall += seconds
        self.cpu += seconds


class Slept(Dataset[Any]):
    """Samples of its own kind, as from a network."""

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        time.sleep(0.002)
        return torch.full((3, 8, 8), float(index)), index % 3


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOADING_S", 0.05)
    monkeypatch.setattr(module, "GROWTH_S", 0.05)


def prepared(model: nn.Module, dataset: Any, **options: Any) -> Workload:
    return prepare_workload(Task(model=model, dataset=dataset, batch_size=8, device="cpu", **options))


def profiled(workload: Workload) -> StageProfile:
    made = profile(workload, default_settings(workload), clock=Clock())
    assert made is not None
    return made


def spent(made: StageProfile) -> set[Stage]:
    return {stage for stage, entry in made.stages.items() if entry.wall_s > 0}


def test_the_time_of_an_inner_stage_is_not_the_outer_ones() -> None:
    clock = FakeClock()
    stopwatch = Stopwatch(clock)

    def read() -> bytes:
        clock.works(1.0)
        return b"12345"

    inner = stopwatch.over(read, Stage.READING)

    def decode() -> bytes:
        clock.works(2.0)
        data: bytes = inner()
        clock.works(4.0)
        return data

    assert stopwatch.over(decode, Stage.DECODING)() == b"12345"
    clock.works(100.0)
    stages = stopwatch.per_image(2)
    assert stages["reading"].wall_s == 0.5
    assert stages["decoding"] == StageTime(wall_s=3.0, cpu_s=3.0)
    assert stages["collating"].wall_s == 0.0
    assert stopwatch.bytes == 5


def test_time_after_an_error_is_not_charged_to_what_raised() -> None:
    clock = FakeClock()
    stopwatch = Stopwatch(clock)

    def fail() -> None:
        clock.works(1.0)
        raise DataError("broken")

    with pytest.raises(DataError):
        stopwatch.over(fail, Stage.DATASET)()
    clock.works(5.0)
    stopwatch.over(lambda: None, Stage.COLLATING)()
    assert stopwatch.per_image(1)["dataset"].wall_s == 1.0


def test_cores_that_others_take_are_not_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, given_way = FakeClock(), [0]
    monkeypatch.setattr(module, "_times_given_way", lambda: given_way[0])
    stopwatch = Stopwatch(clock)

    def wait(times: int) -> None:
        clock.wall += 3.0
        given_way[0] += times

    stopwatch.over(wait, Stage.DECODING)(0)
    stopwatch.over(wait, Stage.READING)(1)
    stages = stopwatch.per_image(1)
    assert (stages["decoding"].wall_s, stages["decoding"].wait_s) == (3.0, 0.0)
    assert stages["reading"].wait_s == 3.0


def test_image_files_are_read_decoded_and_augmented(tiny_model: Any, jpeg_folder: Path) -> None:
    made = profiled(prepared(tiny_model(), jpeg_folder, image_size=16, augmentation="rand"))
    assert spent(made) == {Stage.READING, Stage.DECODING, Stage.AUGMENTING, Stage.COLLATING}
    sizes = [path.stat().st_size for path in jpeg_folder.rglob("*.jpg")]
    assert made.bytes_per_image is not None
    assert min(sizes) <= made.bytes_per_image <= max(sizes)
    assert made.handed_bytes == 3 * 16 * 16 + 8, "pixels in bytes, and the label"


def test_transforms_that_are_understood_are_told_from_decoding(tiny_model: Any, jpeg_folder: Path) -> None:
    chain = transforms.Compose([transforms.Resize((16, 16)), transforms.ColorJitter(0.4), transforms.ToTensor()])
    dataset = ImageFolder(str(jpeg_folder), chain)
    made = profiled(prepared(tiny_model(), dataset))
    assert spent(made) == {Stage.READING, Stage.DECODING, Stage.AUGMENTING, Stage.COLLATING}
    assert dataset.transform is chain


def test_a_dataset_that_waits_is_seen_to_wait(tiny_model: Any) -> None:
    made = profiled(prepared(tiny_model(), Slept()))
    assert spent(made) == {Stage.DATASET, Stage.COLLATING}
    assert made.images >= 8
    assert made.storage_s == made.dataset.wait_s > 0.5 * made.wall_s


def test_a_collation_of_the_users_own_is_a_stage(tiny_model: Any) -> None:
    def slow(samples: list[Any]) -> Any:
        time.sleep(0.03)
        return torch.utils.data.default_collate(samples)

    made = profiled(prepared(tiny_model(), Slept(), collate=slow))
    assert made.collating.wall_s > 0.03 / 8


@pytest.mark.parametrize("augmentation", ["none", "rand"])
def test_under_a_stopwatch_a_reader_gives_the_same_and_its_source_is_left_alone(
    tiny_model: Any, jpeg_folder: Path, augmentation: str
) -> None:
    workload = prepared(tiny_model(), jpeg_folder, image_size=16, augmentation=augmentation)
    settings = default_settings(workload)
    ticket: Ticket = workload.stream().part(0, 8)
    before = dict(vars(workload.source))
    plain, timed = make_reader(workload, settings), make_reader(workload, settings)
    timed.watch(Stopwatch(Clock()).over)
    assert torch.equal(plain[ticket].content[0], timed[ticket].content[0])
    assert vars(workload.source) == before


def test_under_a_stopwatch_a_dataset_with_transforms_gives_the_same(tiny_model: Any, jpeg_folder: Path) -> None:
    chain = transforms.Compose([transforms.RandomResizedCrop(16), transforms.ColorJitter(0.4), transforms.ToTensor()])
    workload = prepared(tiny_model(), ImageFolder(str(jpeg_folder), chain))
    settings, ticket = default_settings(workload), workload.stream().part(0, 8)
    plain, timed = make_reader(workload, settings), make_reader(workload, settings)
    timed.watch(Stopwatch(Clock()).over)
    assert torch.equal(plain[ticket].content[0], timed[ticket].content[0])


def test_growth_is_measured_for_short_steps_and_counts_operators(
    tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit in ("LOADING_S", "LONGEST_STEP_S", "LONGEST_OPERATOR_S"):
        monkeypatch.setattr(module, limit, 30.0)  # whatever else runs on these cores
    images = torch.arange(32 * 3 * 8 * 8).remainder(251).byte().reshape(32, 3, 8, 8)
    workload = prepared(tiny_model(), (images, torch.arange(32) % 3))
    made = profiled(workload)
    assert made.step_growth is not None
    assert made.step_growth > 0
    assert made.operators is not None
    assert made.operators > 10
    assert step_growth(workload, Settings(compile="default"), clock=Clock()) is None


def test_growth_of_steps_that_are_all_arithmetic_is_no_news(tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.arange(32 * 3 * 8 * 8).remainder(251).byte().reshape(32, 3, 8, 8)
    workload = prepared(tiny_model(), (images, torch.arange(32) % 3))
    long = profile(workload, default_settings(workload), clock=Clock(), step_s=60.0)
    assert long is not None
    assert long.step_growth is None
    monkeypatch.setattr(module, "LONGEST_OPERATOR_S", 0.0)
    assert step_growth(workload, default_settings(workload), clock=Clock()) is None


def test_a_batch_that_cannot_be_doubled_has_no_growth(tiny_model: Any) -> None:
    def named(samples: list[Any]) -> Any:
        return {"images": torch.stack([image for image, _ in samples]), "names": [str(label) for _, label in samples]}

    def step(model: nn.Module, batch: Any) -> torch.Tensor:
        return model(batch["images"]).sum()

    workload = prepared(tiny_model(), Slept(), collate=named, step=step)
    assert step_growth(workload, default_settings(workload), clock=Clock()) is None


def test_a_profile_survives_json(tiny_model: Any) -> None:
    made = replace(profiled(prepared(tiny_model(), Slept())), step_s=0.1, step_growth=1.5, operators=7)
    assert StageProfile.from_dict(json.loads(json.dumps(asdict(made)))) == made


def test_a_session_keeps_its_profile_and_older_files_load_without(tiny_model: Any) -> None:
    workload = prepared(tiny_model(), Slept())
    machine = machine_facts()
    session = Session(machine=machine, job=job_facts(workload, machine), default=Settings(), cores=2)
    kept = replace(session, profile=profiled(workload))
    assert Session.from_json(kept.to_json()) == kept
    older = json.loads(session.to_json())
    del older["profile"]
    assert Session.from_json(json.dumps(older)) == session
