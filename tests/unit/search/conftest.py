"""A small workload on tensors, and sessions made by hand."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from autotrain.hardware.machine import Machine, machine_facts
from autotrain.measure.measurement import Kind, Measurement, Window
from autotrain.measure.session import DuelRecord, Session
from autotrain.preparation import prepare_workload
from autotrain.search.job import job_facts
from autotrain.settings import Settings
from autotrain.task import Task
from autotrain.workload import Workload


@pytest.fixture(scope="session")
def machine() -> Machine:
    """This machine, with four usable cores, so that the same settings are legal everywhere."""
    facts = machine_facts()
    return replace(facts, cpu=replace(facts.cpu, usable=4))


@pytest.fixture
def make_workload(tiny_model: Callable[..., Any]) -> Callable[..., Workload]:
    """A function that makes a workload of 64 images in memory, 16x16 pixels, 3 classes, batches of 8."""

    def make(**options: Any) -> Workload:
        draws = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (64, 3, 16, 16), dtype=torch.uint8, generator=draws)
        labels = torch.randint(0, 3, (64,), generator=draws)
        return prepare_workload(
            Task(**{"model": tiny_model(), "dataset": (images, labels), "batch_size": 8, "device": "cpu", **options})
        )

    return make


@pytest.fixture
def workload(make_workload: Callable[..., Workload]) -> Workload:
    return make_workload()


@pytest.fixture
def measure() -> Callable[..., Measurement]:
    """A function that makes a burst of 9 windows at a rate."""

    def make(settings: Settings, rate: float, *, kind: Kind = Kind.FULL, **changes: Any) -> Measurement:
        windows = tuple(
            Window(
                steps=3,
                images=24,
                wall_s=24 / rate * (1 + 0.01 * (number % 3 - 1)),
                wait_s=0.0,
                cpu_main_s=24 / rate,
                cpu_workers_s=0.0,
            )
            for number in range(9)
        )
        made = Measurement(
            kind=kind, settings=settings, windows=windows, startup_s=0.1, warmup_steps=2, stationary=True
        )
        return replace(made, **changes)

    return make


@pytest.fixture
def make_session(workload: Workload, machine: Machine) -> Callable[..., Session]:
    """A function that makes a session of the workload from measurements."""

    def make(*measurements: Measurement, default: Settings = Settings(), **changes: Any) -> Session:
        return Session(
            machine=machine,
            job=job_facts(workload, machine),
            default=default,
            cores=4,
            measurements=measurements,
            **changes,
        )

    return make


@pytest.fixture
def make_duel() -> Callable[..., DuelRecord]:
    """A function that makes the record of a duel in which the candidate has ``ratio`` times the default's rate."""

    def make(candidate: Settings, ratio: float, *, default: Settings = Settings(), pairs: int = 8) -> DuelRecord:
        rates = tuple(200.0 + 2 * (number % 4) for number in range(pairs))
        noise = (1.01, 0.99)
        return DuelRecord(
            baseline=default,
            candidate=candidate,
            baseline_rates=rates,
            candidate_rates=tuple(rate * ratio * noise[number % 2] for number, rate in enumerate(rates)),
        )

    return make
