"""Sessions that show all that a report can show, and sessions that show little."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autotrain.measure.exchange import Exchange, RankTime
from autotrain.measure.measurement import Kind, Measurement
from autotrain.measure.profile import StageProfile, StageTime
from autotrain.measure.session import Failed, Guard, PolicyCost, Session
from autotrain.report.html.page import report_page
from autotrain.search.probe import finding_of

EARLIER = Path(__file__).with_name("session_of_an_earlier_version.json")


@pytest.fixture
def rich(told: Any, measurement: Callable[..., Measurement]) -> Session:
    """A session with something to say in every section."""
    session: Session = told.session
    default, chosen = session.default, told.plan.settings
    parts = (
        measurement(default, 612, kind=Kind.COMPUTE, wait=0),
        measurement(default, 310, kind=Kind.INPUT, wait=1),
        measurement(replace(chosen, workers=0), 1204, kind=Kind.COMPUTE, wait=0),
    )
    bursts = [replace(entry, predicted=1.1 * entry.rate.value, bound=2000.0) for entry in session.measurements]
    early = replace(measurement(replace(default, workers=1), 190, early=True), heat=1, compile_s=3.0)
    return replace(
        session,
        measurements=(*parts, *bursts, early),
        job=replace(session.job, schedule=(0.01, 0.5, 1.0, 0.75, 0.5, 0.25, 0.0)),
        failures=(*session.failures, Failed(settings=chosen, reason="dead worker", alone=True)),
        guards=(
            replace(session.guards[0], shares=(("first loss", 0.2), ("gradient", 0.4))),
            Guard(
                settings=replace(chosen, precision="fp16"),
                candidate=(2.4, float("nan")),
                references=((2.4, 2.1),),
                problem="a loss that is not finite",
                shares=(("finite losses", float("nan")),),
            ),
        ),
        policies=(
            PolicyCost(policy="none", placement="worker", rate=400.0, low=400.0, high=400.0, measured=True),
            PolicyCost(policy="crop", placement="worker", rate=390.0, low=380.0, high=399.0, measured=True),
            PolicyCost(policy="rand", placement="device", rate=300.0, low=300.0, high=300.0, measured=False),
        ),
        profile=StageProfile(
            reading=StageTime(wall_s=0.0004, cpu_s=0.0001, wait_s=0.0003),
            dataset=StageTime(),
            decoding=StageTime(wall_s=0.002, cpu_s=0.002),
            augmenting=StageTime(wall_s=0.0003, cpu_s=0.0003),
            collating=StageTime(wall_s=0.0001, cpu_s=0.0001),
            images=100,
        ),
        exchange=Exchange(
            together_s=0.2,
            apart_s=0.15,
            bytes=1 << 20,
            ranks=(
                RankTime(host="a", training_s=0.1, loading_s=0.05),
                RankTime(host="b", training_s=0.1, loading_s=0.06),
            ),
        ),
        cold_bytes_per_s=1e8,
        notes=("the validation images are few",),
    )


@pytest.fixture
def rich_page(rich: Session, told: Any) -> str:
    return report_page(rich, told.plan, told.finding)


@pytest.fixture
def earlier() -> Session:
    """A real session, as a version wrote it that knew fewer settings, no ranks and no schedule."""
    return Session.from_json(EARLIER.read_text(encoding="utf-8"))


@pytest.fixture
def earlier_page(earlier: Session) -> str:
    return report_page(earlier, None, finding_of(earlier))


@pytest.fixture
def probe_json(told: Any) -> Callable[[Session], str]:
    """A function that returns what ``autotrain probe --json`` writes of a session."""
    from autotrain.api import ProbeResult
    from autotrain.cli.probe import as_dict

    def write(session: Session) -> str:
        return json.dumps(as_dict(ProbeResult(plan=told.plan, session=session, finding=told.finding)), allow_nan=False)

    return write
