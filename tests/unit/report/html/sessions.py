"""Sessions that show all that a report can show, and sessions that show little."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from unit.report.conftest import Story, make_story, measurement

from autotrain.measure.exchange import Exchange, RankTime
from autotrain.measure.measurement import Kind
from autotrain.measure.profile import StageProfile, StageTime
from autotrain.measure.session import DuelRecord, Failed, Guard, PolicyCost, Session
from autotrain.report.html.page import report_page
from autotrain.search.probe import finding_of

EARLIER = Path(__file__).with_name("session_of_an_earlier_version.json")


def rich_session(story: Story) -> Session:
    """Return a session with something to say in every section."""
    session, default, chosen = story.session, story.session.default, story.plan.settings
    parts = (
        measurement(default, 612, kind=Kind.COMPUTE, wait=0),
        measurement(default, 310, kind=Kind.INPUT, wait=1),
        measurement(replace(chosen, workers=0), 1204, kind=Kind.COMPUTE, wait=0),
    )
    bursts = [replace(entry, predicted=1.1 * entry.rate.value, bound=2000.0) for entry in session.measurements]
    heat = (
        measurement(replace(chosen, threads=0), 371),
        measurement(replace(chosen, precision="fp32"), 290),
        replace(measurement(replace(default, workers=1), 190, early=True), compile_s=3.0),
        measurement(replace(chosen, precision="fp16"), 352),
    )
    return replace(
        session,
        measurements=(*parts, *bursts, *(replace(entry, heat=1) for entry in heat)),
        job=replace(session.job, schedule=(0.01, 0.5, 1.0, 0.75, 0.5, 0.25, 0.0)),
        failures=(
            *session.failures,
            Failed(settings=chosen, reason="dead worker", alone=True),
            Failed(settings=replace(chosen, precision="fp16"), reason="numerics guard: a loss that is not finite"),
        ),
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


def inconclusive_session(story: Story) -> Session:
    """Return a session in which nothing beat the default: no rate lies beyond the noise of the others."""
    default = story.session.default
    tried = [replace(default, workers=workers, memory_format="channels_last") for workers in (0, 1, 2)]
    rates = (204.0, 207.0, 199.0, 206.0, 210.0, 203.0, 205.0, 201.0)
    finalist = tried[-1]
    return replace(
        story.session,
        measurements=(
            measurement(default, 204, wait=0.1),
            measurement(default, 230, kind=Kind.COMPUTE, wait=0),
            measurement(default, 1900, kind=Kind.INPUT, wait=1),
            measurement(replace(default, workers=2), 206, wait=0.01),
            *(measurement(entry, rate) for entry, rate in zip(tried, (201, 199, 207), strict=True)),
        ),
        chosen=None,
        duels=(
            DuelRecord(
                baseline=default,
                candidate=finalist,
                baseline_rates=rates,
                candidate_rates=tuple(rate + 2.0 * (-1) ** place for place, rate in enumerate(rates)),
            ),
        ),
        guards=(replace(story.session.guards[0], settings=finalist),),
        failures=(
            Failed(settings=replace(default, precision="bf16"), reason="out of memory: a batch did not fit"),
            Failed(
                settings=replace(default, threads=1),
                reason="cannot exceed 131 images/s; the best so far has 207",
                pruned=True,
            ),
        ),
    )


def earlier_session() -> Session:
    """Return a real session, as a version wrote it that knew fewer settings, no ranks and no schedule."""
    return Session.from_json(EARLIER.read_text(encoding="utf-8"))


def _earlier_page() -> str:
    session = earlier_session()
    return report_page(session, None, finding_of(session))


def _rich_page() -> str:
    story = make_story()
    return report_page(rich_session(story), story.plan, story.finding)


def _inconclusive_page() -> str:
    session = inconclusive_session(make_story())
    return report_page(session, None, finding_of(session))


PAGES: dict[str, Callable[[], str]] = {
    "earlier": _earlier_page,
    "rich": _rich_page,
    "inconclusive": _inconclusive_page,
}
"""Makers of the pages that a browser looks at."""
