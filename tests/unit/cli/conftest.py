"""A command line whose API is replaced: what the commands hand over, without measuring anything."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pytest
import rich.style  # noqa: F401 - draws a random number when it is first imported, which typer has it be
import torch

from autotrain.cli.main import run
from autotrain.engine.events import EpochDone, EpochRecord, FitEnded, FitStarted
from autotrain.hardware.cpu import CpuFacts
from autotrain.hardware.machine import Machine
from autotrain.hardware.memory import MemoryFacts
from autotrain.measure.session import Job, Session
from autotrain.plan.evidence import Evidence, Verdict
from autotrain.plan.plan import Plan
from autotrain.search.events import Started
from autotrain.settings import Settings

SESSION = Session(
    machine=Machine(
        cpu=CpuFacts(name="a CPU", logical=2, usable=2, affinity=2, quota=None, features=()),
        memory=MemoryFacts(total_bytes=1 << 30, available_bytes=1 << 30),
        gpus=(),
        platform="linux",
        python="3.11.7",
        versions=(),
        start_methods=("fork",),
    ),
    job=Job(
        model="Net",
        parameters=10,
        dataset="photos",
        samples=100,
        samples_kind="image files",
        batch_size=8,
        image_size=32,
        device="cpu",
        device_name="a CPU",
        fingerprint="f",
        seed=0,
        threads=2,
        planned_images=1000,
    ),
    default=Settings(),
    cores=2,
)


@dataclass
class Result:
    """Stands in for both results of the API."""

    plan: Plan
    session: Session = SESSION
    finding: Any = None
    model: Any = None
    interrupted: bool = False
    unsaved: str | None = None
    ema: Any = None


@dataclass
class FakeApi:
    """Records calls; ``raises`` makes the next call fail."""

    calls: list[tuple[str, Any, dict[str, Any]]] = field(default_factory=list)
    verdict: Verdict = Verdict.INCONCLUSIVE
    interrupted: bool = False
    unsaved: str | None = None
    raises: BaseException | None = None

    def probe(self, task: Any, **options: Any) -> Result:
        self.calls.append(("probe", task, options))
        if self.raises is not None:
            raise self.raises
        options["observer"](Started(machine="a machine", job=SESSION.job, candidates=3, budget_s=75.0))
        print("a message of the user's own code")
        return Result(plan=Plan(settings=Settings(), evidence=Evidence(verdict=self.verdict)))

    def fit(self, task: Any, **options: Any) -> Result:
        self.calls.append(("fit", task, options))
        if self.raises is not None:
            raise self.raises
        tell = options["fit_observer"]
        tell(
            FitStarted(
                settings=Settings(), steps_per_epoch=2, total_steps=4, total_s=None, images=16, validation_images=0
            )
        )
        for epoch in (1, 2):
            record = EpochRecord(
                epoch=epoch, step=2 * epoch, images=16, seconds=1.0, wait_s=0.1, loss=float("nan"), lr=0.1
            )
            tell(EpochDone(record=record))
        tell(FitEnded(seconds=2.0, interrupted=self.interrupted))
        return Result(
            plan=Plan(settings=Settings()), model=task.model, interrupted=self.interrupted, unsaved=self.unsaved
        )


@pytest.fixture
def session() -> Session:
    """A session that measured nothing."""
    return SESSION


@pytest.fixture
def api(monkeypatch, tmp_path) -> FakeApi:
    """Replace the API and work in an empty folder."""
    fake, module = FakeApi(), ModuleType("autotrain.api")
    module.probe, module.fit = fake.probe, fake.fit  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "autotrain.api", module)
    monkeypatch.chdir(tmp_path)
    return fake


@pytest.fixture
def target(tmp_path, monkeypatch) -> Iterator[str]:
    """A file that gives a task."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "mytask", raising=False)
    (tmp_path / "mytask.py").write_text(
        "import torch\nfrom autotrain import Task\n"
        "task = Task(model=torch.nn.Linear(2, 3), dataset=(torch.zeros(4, 2), torch.zeros(4).long()))\n"
    )
    with torch.random.fork_rng(devices=[]):
        yield "mytask.py"
    sys.modules.pop("mytask", None)


@dataclass(frozen=True)
class Done:
    """What a command left."""

    code: int
    out: str
    err: str


@pytest.fixture
def autotrain(capsys):
    """Run a command line in this process."""

    def call(*arguments: str) -> Done:
        code = run(list(arguments))
        captured = capsys.readouterr()
        return Done(code, captured.out, captured.err)

    return call
