"""Question: does the diagnosis name constructed bottlenecks and their causes, and is the predicted gain what one gets?

Nine jobs, each held back by one thing: files that are slow to open, a dataset that waits as if for a network, large
photographs, a costly policy, a costly collate function, a slow bus to the device, a model of many tiny operators, a
heavy model, and more workers than cores. Each is measured as a probe measures its default, up to the finding.
On a CPU nothing is copied, so the slow bus is a stand-in: ``Transfer.move`` sleeps as long as the bytes of a batch take
at 15 MB/s. No setting relieves that; its remedy is a change of the task, bytes instead of float64.
Bars:
- every cause is named rightly;
- the predicted gain of the remedy is within 15% of what default and remedy then give in an interleaved comparison.
Takes about 6 minutes on 2 cores; --quick about 4.
"""

from __future__ import annotations

import builtins
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torchvision
from common import finish, options, small_cnn
from PIL import Image
from torch import nn
from torch.utils.data import Dataset

from autotrain.data import source
from autotrain.data.batch import HostBatch
from autotrain.data.transfer import Transfer, tensors_in
from autotrain.diagnose.demand import predict
from autotrain.diagnose.finding import Cause, Finding
from autotrain.diagnose.rules import diagnose
from autotrain.hardware.machine import machine_facts
from autotrain.knobs.base import Side
from autotrain.knobs.registry import canonical, default_settings, illegal, key
from autotrain.measure.burst import SCREENING
from autotrain.measure.clock import Clock
from autotrain.measure.heat import Contender, HeatOptions
from autotrain.measure.measurement import Window
from autotrain.measure.profile import profile
from autotrain.measure.session import Session
from autotrain.preparation import prepare_workload
from autotrain.search.duel import Turns
from autotrain.search.events import silent
from autotrain.search.job import job_facts
from autotrain.search.narrow import measure_contents
from autotrain.search.recorder import Recorder
from autotrain.settings import Settings, Value
from autotrain.stats.compare import compare
from autotrain.task import Task
from autotrain.workload import Workload
from autotrain.world import world

WITHIN = 0.15
ROUNDS, QUICK_ROUNDS = 60, 30
TURNS = HeatOptions(turn_s=0.15, warmup_s=1.0)
ALONE = HeatOptions(rounds=5, turn_s=0.1, warmup_s=0.3, behind=None)

TURNS_ALONE = 16
"""Windows of every way of loading."""

OPEN_S = 0.006
BUS_BYTES_PER_S = 15e6

Change = Mapping[str, Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One constructed bottleneck."""

    task: Task
    wanted: Cause
    remedies: Sequence[Change] = ()
    """Changes of settings among which the diagnosis may choose; where it sees none that helps, the best is measured."""

    slowed: Callable[[], AbstractContextManager[object]] = nullcontext
    """What is slow around the task."""

    eased: Task | None = None
    """The task with its remedy, where that is no setting."""

    eased_share: float = 0.0
    """Part of the cause that the eased task still has."""


class Waiting(Dataset[Any]):
    """Images that take their time, as from a network."""

    def __len__(self) -> int:
        return 4096

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        time.sleep(OPEN_S)
        return torch.full((3, 32, 32), index % 251, dtype=torch.uint8), index % 10


class Samples(Dataset[Any]):
    """Samples of its own kind: tensors that a model is given as they are."""

    def __init__(self, images: torch.Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"image": self.images[index], "label": index % 10}


class Scaled(nn.Module):
    """Takes images of any number type."""

    def __init__(self) -> None:
        super().__init__()
        self.model = light(10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return scores of the classes."""
        return self.model(images.float() / 255)  # type: ignore[no-any-return]


def sorted_collate(samples: list[dict[str, Any]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Stack samples after sorting each one's levels a few times, as slow as a padding in Python."""
    for sample in samples:
        for _ in range(40):
            np.sort(sample["image"].numpy(), axis=None)
    images = torch.stack([sample["image"] for sample in samples])
    return images, torch.tensor([sample["label"] for sample in samples])


def step_on(model: nn.Module, batch: Any) -> torch.Tensor:
    images, labels = (batch["image"], batch["label"]) if isinstance(batch, dict) else batch
    return nn.functional.cross_entropy(model(images), labels)


@contextmanager
def slow_files() -> Iterator[None]:
    """Have every file of a dataset take its time to open."""

    def slow(*arguments: Any, **named: Any) -> Any:
        time.sleep(OPEN_S)
        return builtins.open(*arguments, **named)

    with patch.object(source, "open", slow, create=True):
        yield


@contextmanager
def slow_bus() -> Iterator[None]:
    """Have a batch take as long to the device as its bytes take over a slow bus."""
    move = Transfer.move

    def slow(self: Transfer, batch: HostBatch, **named: Any) -> Any:
        time.sleep(sum(tensor.nbytes for tensor in tensors_in(batch.content)) / BUS_BYTES_PER_S)
        return move(self, batch, **named)

    with patch.object(Transfer, "move", slow):
        yield


def folder_of(root: Path, count: int, height: int, width: int) -> Path:
    """Write JPEG files of smooth shapes with some noise, in two classes."""
    draws = np.random.default_rng(0)
    rows, columns = np.mgrid[0:height, 0:width] / max(height, width)
    for number in range(count):
        waves = np.sin(rows[..., None] * draws.uniform(3, 20, 3) + columns[..., None] * draws.uniform(3, 20, 3))
        levels = 120 + 90 * waves + draws.normal(0, 12, (height, width, 3))
        path = root / f"class {number % 2}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(levels.clip(0, 255).astype(np.uint8)).save(path, quality=90)
    return root


def light(classes: int) -> nn.Module:
    """Return a model that takes next to no time."""
    return nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes))


def many_layers() -> nn.Module:
    """Return a model that does next to nothing in a hundred blocks."""
    blocks = [nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()) for _ in range(100)]
    return nn.Sequential(nn.Conv2d(3, 8, 1), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))


def cases(root: Path) -> dict[str, Case]:
    small = folder_of(root / "small", 256, 48, 48)
    large = folder_of(root / "large", 48, 960, 1280)
    medium = folder_of(root / "medium", 96, 480, 640)
    torch.manual_seed(0)
    tensors = torch.randint(0, 256, (512, 3, 96, 96), dtype=torch.uint8)
    labels = torch.randint(0, 10, (512,))
    tiny = torch.nn.functional.interpolate(tensors.float(), (4, 4)).byte()
    resnet = torchvision.models.resnet18(num_classes=10)
    workers: tuple[Change, ...] = ({"workers": 2}, {"workers": 4})
    one = Settings(threads=1)
    floats = Task(
        model=Scaled(), dataset=Samples(tensors.double()), batch_size=8, step=step_on, settings=one, device="cpu"
    )
    return {
        "slow storage": Case(
            task=Task(model=light(2), dataset=small, batch_size=8, image_size=32, settings=one, device="cpu"),
            wanted=Cause.STORAGE,
            remedies=workers,
            slowed=slow_files,
        ),
        "slow network": Case(
            task=Task(model=light(10), dataset=Waiting(), batch_size=8, settings=one, device="cpu"),
            wanted=Cause.STORAGE,
            remedies=workers,
        ),
        "slow decoding": Case(
            task=Task(model=light(2), dataset=large, batch_size=8, image_size=48, settings=one, device="cpu"),
            wanted=Cause.DECODING,
            remedies=({"decoder": "simplejpeg_scaled"}, {"decoder": "simplejpeg"}, {"decoder": "pillow_draft"}),
        ),
        "heavy augmentation": Case(
            task=Task(
                model=light(10),
                dataset=(tensors[..., ::2, ::2].contiguous(), labels),
                batch_size=32,
                augmentation="augmix",
                settings=one,
                device="cpu",
            ),
            wanted=Cause.AUGMENTATION,
            remedies=({"placement": "device"}, {"workers": 1}),
        ),
        "slow collation": Case(
            task=Task(
                model=Scaled(),
                dataset=Samples(tensors[..., ::2, ::2].contiguous().float()),
                batch_size=16,
                collate=sorted_collate,
                step=step_on,
                settings=one,
                device="cpu",
            ),
            wanted=Cause.COLLATION,
            remedies=({"workers": 1}, {"workers": 2}),
        ),
        "slow transfer": Case(
            task=floats,
            wanted=Cause.TRANSFER,
            slowed=slow_bus,
            eased=replace(floats, dataset=Samples(tensors)),
            eased_share=1 / 8,
        ),
        "tiny kernels": Case(
            task=Task(model=many_layers(), dataset=(tiny, labels), batch_size=4, settings=one, device="cpu"),
            wanted=Cause.TINY_KERNELS,
            remedies=({"optimizer_kernel": "fused"}, {"optimizer_kernel": "foreach"}),
        ),
        "heavy model": Case(
            task=Task(
                model=resnet,
                dataset=(tensors[..., :64, :64].contiguous(), labels),
                batch_size=8,
                settings=one,
                device="cpu",
            ),
            wanted=Cause.MODEL,
            remedies=(
                {"threads": 2},
                {"precision": "bf16"},
                {"memory_format": "channels_last"},
                {"precision": "bf16", "memory_format": "channels_last"},
            ),
        ),
        "too many workers": Case(
            task=Task(
                model=small_cnn(2),
                dataset=medium,  # loading takes twice the CPU time of training
                batch_size=32,
                image_size=32,
                augmentation="crop",
                settings=Settings(workers=4 * world().cpu_budget(machine_facts().cpu.usable)),
                device="cpu",
            ),
            wanted=Cause.OVERSUBSCRIBED,
            remedies=({"workers": 2}, {"workers": 1}, {"workers": 1, "threads": 1}, {"workers": 2, "threads": 1}),
        ),
    }


def examined(workload: Workload, case: Case) -> tuple[Session, Finding | None, list[Settings]]:
    """Measure as a probe does up to the finding; return it with the remedies that are legal here."""
    machine, clock = machine_facts(), Clock()
    default = default_settings(workload)
    members = [canonical(replace(default, **change), workload) for change in case.remedies]  # type: ignore[arg-type]
    members = [entry for entry in dict.fromkeys(members) if illegal(entry, workload, machine) is None]
    session = Session(
        machine=machine,
        job=job_facts(workload, machine),
        default=default,
        cores=world().cpu_budget(machine.cpu.usable),
    )
    with Recorder(workload, session, silent, clock) as recorder:
        full = recorder.full(default, options=replace(SCREENING, windows=8, warmup_s=1.5))
        assert full is not None, recorder.session.failures
        recorder.note(profile=profile(workload, default, clock=clock, step_s=workload.batch_size / full.rate.value))
        measure_contents(recorder, (default, *members), turns=TURNS_ALONE)  # side by side, in one process
        if default.workers:
            recorder.loading(default)
        recorder.compute(default)
        sides = {key(entry, Side.COMPUTE): entry for entry in (*members, default)}
        del sides[key(default, Side.COMPUTE)]
        if sides:
            recorder.heat((default, *sides.values()), options=ALONE, alone=True)
        return recorder.session, diagnose(recorder.session, members), members


def measured(sides: Sequence[tuple[Workload, Settings]], rounds: int) -> Any:
    """Let two sides take turns in random order; return the second's rate over the first's."""
    order = Random(0)
    rows: list[tuple[Window, Window]] = []
    with ExitStack() as stack:
        contenders = [Contender(workload, settings, stack, TURNS) for workload, settings in sides]
        for contender in contenders:
            contender.warm_up()
        for _ in range(rounds):
            row = {place: contenders[place].turn() for place in order.sample((0, 1), 2)}
            rows.append((row[0], row[1]))
    turns = [Turns.of([row[place] for row in rows]) for place in (0, 1)]
    return compare(turns[0].rates, turns[1].rates, seconds=(turns[0].seconds, turns[1].seconds)).ratio


def remedy_of(case: Case, session: Session, finding: Finding, members: Sequence[Settings]) -> tuple[Settings, float]:
    """Return the settings to compare with the default's, and the gain that is predicted for them."""
    if case.eased is not None:
        assert finding.relief is not None
        kept = 1.0 - (1.0 - 1.0 / finding.relief) * (1.0 - case.eased_share)
        return session.default, 1.0 / kept
    if finding.remedy is not None and finding.predicted_gain is not None:
        return finding.remedy, finding.predicted_gain
    rates = {settings: predict(session, settings) or 0.0 for settings in (session.default, *members)}
    best = max(members, key=lambda entry: rates[entry])
    return best, rates[best] / rates[session.default]


def main() -> None:
    arguments = options(__doc__ or "")
    missed: list[str] = []
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as root:
        for name, case in cases(Path(root)).items():
            started = time.perf_counter()
            with case.slowed():
                workload = prepare_workload(case.task)
                session, finding, members = examined(workload, case)
                called = finding.words if finding else "nothing"
                print(f"{name}: {called}")
                if finding is None or finding.cause is not case.wanted:
                    missed.append(f"{name}: called {called}, is {case.wanted.value}")
                    result[name] = {"called": called, "evidence": finding.evidence if finding else ()}
                    for sentence in finding.evidence if finding else ():
                        print(f"  - {sentence}")
                    continue
                remedy, predicted = remedy_of(case, session, finding, members)
                other = workload if case.eased is None else prepare_workload(case.eased)
                sides = ((workload, session.default), (other, remedy))
                gain = measured(sides, QUICK_ROUNDS if arguments.quick else ROUNDS)
            error = predicted / gain.value - 1
            words = "bytes instead of float64" if case.eased else str(remedy.changes(session.default))
            print(f"  {words}: predicted {predicted:.2f}, measured {gain:.2f}: off by {error:+.0%}")
            print(f"  {time.perf_counter() - started:.0f} s")
            if abs(error) > WITHIN:
                missed.append(f"{name}: predicted {predicted:.2f}, measured {gain:.2f}")
            result[name] = {
                "called": called,
                "evidence": finding.evidence,
                "remedy": words,
                "predicted": predicted,
                "measured": gain.as_dict(),
                "relief": finding.relief,
            }
    finish("verdict", {"cases": result}, missed, arguments)


if __name__ == "__main__":
    main()
