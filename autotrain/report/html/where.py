"""Where the time goes, and what each resource could give: the default and the choice side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from autotrain.diagnose.finding import Finding
from autotrain.measure.measurement import Measurement
from autotrain.measure.profile import StageProfile
from autotrain.measure.session import Session
from autotrain.plan.plan import Plan
from autotrain.report.html.blocks import Beside, Block, Cell, Column, Legend, Section, Table, Words
from autotrain.report.html.resources import Resource, burst_of, resources
from autotrain.report.html.svg import STRIP, Scale, axis, bar, element, logarithmic, mark, rule, strip
from autotrain.report.story import LEAST_SHOWN
from autotrain.report.words import many, plain
from autotrain.settings import Settings

EXCEEDED = 1.05
"""Share of the time for which a resource may seem busy without a word about it."""

SHADES = ("stage-a", "stage-b", "stage-c", "stage-d", "stage-e")


def time_section(session: Session, plan: Plan, finding: Finding | None) -> Section | None:
    """Tell where the time of an image goes, and why; None where not even the default was measured."""
    shown = [(name, style, burst) for name, style, burst in _bursts(session, plan) if burst is not None]
    blocks: list[Block] = []
    if shown:
        blocks += [
            Legend(entries=(("bar waiting", "waiting for images, or loading them"), ("bar training", "training"))),
            _split(session, shown),
        ]
    blocks += _diagnosis(finding)
    if session.profile is not None and session.profile.wall_s > 0:
        blocks.append(_stages(session.profile))
    return Section(name="time", title="Where the time goes", blocks=tuple(blocks)) if blocks else None


def resource_section(session: Session, plan: Plan) -> Section | None:
    """Tell the ceilings of all resources, and how near each is; None where components were not measured."""
    sides = [
        (name, style, resources(session, settings), burst_of(session, settings))
        for name, style, settings in _sides(session, plan)
    ]
    values = [entry.ceiling for _, _, found, _ in sides for entry in found]
    values += [burst.rate.value for _, _, found, burst in sides if burst is not None and found]
    if not values:
        return None
    scale = logarithmic(values)
    parts = tuple(
        (name, (_roofline(name, style, found, burst, scale),)) for name, style, found, burst in sides if found
    )
    intro = Words(
        texts=(
            "The ceiling of a resource is the rate at which it would be busy all of the time, by what one image asks "
            "of it. The line from the measured rate to a ceiling is the room that is left.",
        )
    )
    entries = [("ceiling", "ceiling"), *((f"rule {style}", f"measured, {name.lower()}") for name, style, _, _ in sides)]
    blocks: list[Block] = [intro, Legend(entries=tuple(entries)), Beside(parts=parts)]
    if any(burst.rate.value * entry.seconds > EXCEEDED for _, _, found, burst in sides if burst for entry in found):
        words = (
            "A resource that is busy for more than all of the time was measured alone when the machine was slower than "
            "in the burst."
        )
        blocks.append(Words(texts=(words,), style="quiet"))
    return Section(name="resources", title="Resources: demand and ceilings", blocks=tuple(blocks))


def _sides(session: Session, plan: Plan) -> Iterator[tuple[str, str, Settings]]:
    yield "Default", "default", session.default
    if plan.settings != session.default:
        yield "Choice", "choice", plan.settings


def _bursts(session: Session, plan: Plan) -> Iterator[tuple[str, str, Measurement | None]]:
    for name, style, settings in _sides(session, plan):
        if style == "choice":
            usual = replace(session.default, workers=session.cores)
            by_hand = burst_of(session, usual) if usual not in (settings, session.default) else None
            yield f"By hand, {many(session.cores, 'worker')}", "other", by_hand
        yield name, style, burst_of(session, settings)


def _split(session: Session, shown: Sequence[tuple[str, str, Measurement]]) -> Table:
    scale = Scale(low=0.0, high=max(1e3 / burst.rate.value for _, _, burst in shown) * 1.02)
    ticks = scale.ticks()
    rows = []
    for name, style, burst in shown:
        each_ms = 1e3 / burst.rate.value
        waiting = burst.wait_share
        part = "loading" if burst.settings.workers == 0 else "waiting for images"
        note = f"{waiting:.0%} {part}, {1 - waiting:.0%} training"
        transfer = burst.transfer_share
        if transfer is not None and transfer >= LEAST_SHOWN:
            note += f"; copying to the device for {transfer:.0%} of the time, beside that"
        picture = strip(
            [bar(scale, 0, each_ms * waiting, "waiting"), bar(scale, each_ms * waiting, each_ms, "training")]
        )
        cpu_ms = 1e3 * (burst.cpu_main_per_image_s + burst.cpu_workers_per_image_s)
        rows.append(
            (
                Cell(text=name, note=note, strip=picture, marker=style),
                Cell(text=f"{each_ms:.3g}\u00a0ms"),
                Cell(
                    text=f"{cpu_ms:.3g}\u00a0ms",
                    note=f"{min(1.0, cpu_ms / each_ms / session.cores):.0%} of {session.cores} cores",
                ),
            )
        )
    return Table(
        caption="Time of an image, in one burst of each. The bursts of a search are shorter than the duel's turns, so "
        "that their rates differ from those in the headline.",
        columns=(
            Column(title="Settings", axis=axis(scale, _ms(ticks), ticks)),
            Column(title="Per image", numeric=True),
            Column(title="CPU time", numeric=True),
        ),
        rows=tuple(rows),
    )


def _diagnosis(finding: Finding | None) -> Iterator[Block]:
    if finding is None:
        return
    yield Words(texts=(f"The default is {finding.words}.",), style="strong")
    yield Words(texts=finding.evidence, listed=True)
    if finding.remedy_words:
        gain = finding.predicted_gain
        promise = f": predicted {gain:.2f}x" if finding.remedy is not None and gain is not None else ""
        yield Words(texts=(f"Remedy: {finding.remedy_words}{promise}.",))


def _stages(profile: StageProfile) -> Table:
    """Show what one loading process does with an image under the default."""
    scale = Scale(low=0.0, high=profile.wall_s * 1e3)
    ticks = scale.ticks()
    start, rows = 0.0, []
    for (stage, entry), shade in zip(profile.stages.items(), SHADES, strict=True):
        if entry.wall_s <= 0:
            continue
        ms = entry.wall_s * 1e3
        waiting = f"{entry.wait_s * 1e3:.2g} ms of it waiting" if entry.wait_s > 0.05 * profile.wall_s else ""
        rows.append(
            (
                Cell(text=stage.value, note=waiting, strip=strip([bar(scale, start, start + ms, shade)])),
                Cell(text=f"{ms:.2g}\u00a0ms"),
                Cell(text=f"{entry.wall_s / profile.wall_s:.0%}"),
            )
        )
        start += ms
    return Table(
        caption=f"Loading one image in one process, under the default ({profile.images} images profiled)",
        columns=(
            Column(title="Stage", axis=axis(scale, _ms(ticks), ticks)),
            Column(title="Time", numeric=True),
            Column(title="Share", numeric=True),
        ),
        rows=tuple(rows),
    )


def _roofline(name: str, style: str, found: Sequence[Resource], burst: Measurement | None, scale: Scale) -> Table:
    ticks = scale.ticks()
    rows = []
    for entry in found:
        parts = [element("line", x1="0%", x2="100%", y1=STRIP / 2, y2=STRIP / 2, class_="track")]
        busy = "-"
        if burst is not None:
            rate = burst.rate.value
            left, right = scale.percent(rate), scale.percent(entry.ceiling)
            parts.append(element("line", x1=left, x2=right, y1=STRIP / 2, y2=STRIP / 2, class_="room"))
            parts.append(rule(scale, rate, style))
            parts += mark(left, STRIP / 2, style)
            busy = f"{rate * entry.seconds:.0%}"
        parts.append(
            element(
                "line",
                x1=scale.percent(entry.ceiling),
                x2=scale.percent(entry.ceiling),
                y1=2,
                y2=STRIP - 2,
                class_="ceiling",
            )
        )
        text = f"{entry.name} (binds)" if entry.binds else entry.name
        rows.append(
            (Cell(text=text, note=entry.words, strip=strip(parts)), Cell(text=plain(entry.ceiling)), Cell(text=busy))
        )
    measured = (
        f" at {plain(burst.rate.value)} images/s, as measured" if burst is not None else ", not trained with in full"
    )
    return Table(
        caption=f"{name}{measured}",
        columns=(
            Column(
                title="Resource, and what an image asks of it",
                axis=axis(scale, [plain_tick(tick) for tick in ticks], ticks),
            ),
            Column(title="Ceiling, images/s", numeric=True),
            Column(title="Busy", numeric=True),
        ),
        rows=tuple(rows),
    )


def _ms(ticks: Sequence[float]) -> list[str]:
    """Return ticks of milliseconds, of which the last one says so."""
    return [f"{tick:g} ms" if tick == ticks[-1] else f"{tick:g}" for tick in ticks]


def plain_tick(value: float) -> str:
    """Return a tick of a rate, in few letters."""
    if value >= 10_000:
        return f"{value / 1e3:g}k"
    return f"{value:,g}"
