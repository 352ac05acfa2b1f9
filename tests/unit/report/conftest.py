"""A probe made by hand: its session, plan, finding and events."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from autotrain.diagnose.finding import Bottleneck, Finding
from autotrain.hardware.cpu import CpuFacts
from autotrain.hardware.machine import Machine
from autotrain.hardware.memory import MemoryFacts
from autotrain.measure.measurement import Kind, Measurement, Window
from autotrain.measure.session import DuelRecord, Failed, Guard, Job, Session
from autotrain.plan.evidence import Evidence, Verdict, Worth
from autotrain.plan.plan import Plan
from autotrain.search.events import (
    Diagnosed,
    Event,
    Measured,
    Measuring,
    Skipped,
    Stage,
    Started,
    Turn,
)
from autotrain.settings import Settings
from autotrain.stats.summary import Estimate

DEFAULT = Settings(augmentation="crop")
CHOSEN = replace(DEFAULT, precision="bf16", memory_format="channels_last", workers=2, threads=1)
LOSER = replace(DEFAULT, precision="bf16", placement="device", workers=1)

JOB = Job(
    model="ResNet",
    parameters=11_181_642,
    dataset="photographs/clothing/train",
    samples=1002,
    samples_kind="image files",
    batch_size=32,
    image_size=96,
    device="cpu",
    device_name="Intel(R) Xeon(R) Processor",
    fingerprint="0123456789abcdef",
    seed=0,
    threads=2,
    planned_images=10_020,
)

MACHINE = Machine(
    cpu=CpuFacts(name="Intel(R) Xeon(R) Processor", logical=2, usable=2, affinity=2, quota=None, features=("avx2",)),
    memory=MemoryFacts(total_bytes=25 << 30, available_bytes=20 << 30),
    gpus=(),
    platform="linux",
    python="3.11.7",
    versions=(("torch", "2.15.0"),),
    start_methods=("fork", "spawn", "forkserver"),
)

FINDING = Finding(
    bottleneck=Bottleneck.INPUT,
    evidence=(
        "training alone reaches 612 images/s, loading alone 310, both 206",
        "66% of the time the training process waits for images",
        "with no worker, each image takes 3.23 ms to load, then 1.63 ms to train on",
    ),
    remedy=replace(DEFAULT, workers=2, placement="device"),
    remedy_words="placement = device, workers = 2",
    predicted_gain=1.61,
)

DUEL = DuelRecord(
    baseline=DEFAULT,
    candidate=CHOSEN,
    baseline_rates=(204.0, 207.0, 199.0, 206.0, 210.0, 203.0, 205.0, 201.0),
    candidate_rates=(396.0, 401.0, 388.0, 399.0, 407.0, 390.0, 402.0, 393.0),
)


def measurement(
    settings: Settings, rate: float, *, kind: Kind = Kind.FULL, wait: float = 0.5, early: bool = False
) -> Measurement:
    """Return a burst of 24 windows around a rate, ``wait`` of each spent on waiting for images."""
    windows = []
    for number in range(24):
        seconds = 96 / (rate * (1 + 0.02 * ((number * 7) % 5 - 2)))
        windows.append(
            Window(steps=3, images=96, wall_s=seconds, wait_s=wait * seconds, cpu_main_s=seconds, cpu_workers_s=0.0)
        )
    return Measurement(
        kind=kind,
        settings=settings,
        windows=tuple(windows),
        startup_s=0.2,
        warmup_steps=8,
        stationary=True,
        stopped_early=early,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """Everything about one probe."""

    session: Session
    plan: Plan
    finding: Finding
    events: tuple[Event, ...]


def make_story() -> Story:
    """Return a probe that found something faster."""
    usual = replace(DEFAULT, workers=2)
    session = Session(
        machine=MACHINE,
        job=JOB,
        default=DEFAULT,
        cores=2,
        measurements=(measurement(DEFAULT, 206, wait=0.66), measurement(usual, 308), measurement(CHOSEN, 398)),
        failures=(
            Failed(settings=LOSER, reason="out of memory: a batch did not fit"),
            Failed(settings=usual, reason="cannot exceed 201 images/s; the best so far has 398", pruned=True),
        ),
        left_out=(("precision", "tf32", "a format of CUDA devices"), ("pinning", True, "needs a CUDA device")),
        chosen=CHOSEN,
        duels=(DUEL,),
        guards=(Guard(settings=CHOSEN, candidate=(2.4, 2.2, 2.0, 1.9), references=((2.4, 2.1, 2.0, 1.88),)),),
        seconds=74.2,
    )
    evidence = Evidence(
        verdict=Verdict.FASTER,
        default_rate=Estimate(value=204.4, low=199.1, high=208.2, n=8),
        chosen_rate=Estimate(value=397.2, low=389.5, high=403.0, n=8),
        ratio=session.final_ratio,
        usual_rate=Estimate(value=308.1, low=300.4, high=316.0, n=24),
        bottleneck="input-bound",
        bursts=31,
        probe_s=74.2,
        largest_batch="batches of 256 fit and train at 431 images/s without loading (+7% against the task's own size); "
        "not tried beyond: the time for this question",
        worth=(
            Worth(
                setting="precision",
                value="bf16",
                instead_of="fp32",
                alone=Estimate(value=1.331, low=1.302, high=1.364, n=12),
                within=Estimate(value=1.412, low=1.371, high=1.463, n=12),
            ),
            Worth(
                setting="memory_format",
                value="channels_last",
                instead_of="contiguous",
                alone=Estimate(value=0.912, low=0.886, high=0.941, n=12),
                within=Estimate(value=1.118, low=1.083, high=1.152, n=12),
            ),
            Worth(setting="threads", value=1, instead_of=0, note="not measured"),
            Worth(setting="workers", value=2, instead_of=0, within=Estimate(value=1.302, low=1.267, high=1.331, n=12)),
        ),
        left_out=session.left_out,
    )
    return Story(session=session, plan=Plan(settings=CHOSEN, evidence=evidence), finding=FINDING, events=_events(usual))


def _events(usual: Settings) -> tuple[Event, ...]:
    both = "bf16, channels-last, 1 thread, 2 workers"
    return (
        Started(machine=MACHINE.describe(), job=JOB, candidates=96, budget_s=75.0),
        Stage(title="the job as it is"),
        Measuring(what="default"),
        Measured(what="default", measurement=measurement(DEFAULT, 206, wait=0.66)),
        Measured(what="training alone, default", measurement=measurement(DEFAULT, 612, kind=Kind.COMPUTE, wait=0)),
        Measured(what="loading alone, default", measurement=measurement(DEFAULT, 310, kind=Kind.INPUT, wait=1)),
        Diagnosed(finding=FINDING),
        Measured(what="2 workers", measurement=measurement(usual, 308), predicted=322.0),
        Stage(title="ceilings", steps=8),
        Measured(what="training alone, bf16", measurement=measurement(CHOSEN, 1204, kind=Kind.COMPUTE, wait=0)),
        Stage(title="search"),
        Measuring(what=both),
        Measured(what=both, measurement=measurement(CHOSEN, 398), predicted=405.0),
        Skipped(settings=usual, reason="cannot exceed 310 images/s; the best so far has 398", failed=False),
        Skipped(
            settings=replace(usual, threads=1),
            reason="cannot exceed 201 images/s; the best so far has 398",
            failed=False,
        ),
        Measured(
            what="bf16, augmenting on the device", measurement=measurement(LOSER, 240, early=True), predicted=251.0
        ),
        Skipped(settings=LOSER, reason="out of memory: a batch did not fit", failed=True),
        Stage(title="play-off"),
        Stage(title="numerics guard"),
        Stage(title="duel", steps=8),
        *(
            Turn(pair=number + 1, pairs=8, baseline_rate=first, candidate_rate=second)
            for number, (first, second) in enumerate(zip(DUEL.baseline_rates, DUEL.candidate_rates, strict=True))
        ),
        Stage(title="largest batch"),
    )


@pytest.fixture
def told() -> Story:
    """A probe that found something faster."""
    return make_story()


@pytest.fixture(name="measurement")
def measurement_maker() -> Callable[..., Measurement]:
    """The function that makes a burst around a rate."""
    return measurement
