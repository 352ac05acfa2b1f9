"""The search: candidates as they were measured, what failed or was not worth it, and the duel's pairs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from autotrain.knobs.base import Side
from autotrain.knobs.registry import key
from autotrain.measure.measurement import Kind, Measurement
from autotrain.measure.session import Failed, Session
from autotrain.plan.plan import Plan
from autotrain.report.html.blocks import Block, Cell, Column, Figure, Fold, Legend, Section, Table, Words
from autotrain.report.html.svg import Plot, Scale, axis, interval, linear, logarithmic, strip
from autotrain.report.html.where import plain_tick
from autotrain.report.story import UNSETTLED
from autotrain.report.words import many, plain, ratio_words
from autotrain.report.worth import value_text
from autotrain.search.recorder import describe
from autotrain.settings import Settings, Value
from autotrain.stats.compare import LEAST_GAIN

MOST_ROWS = 200
"""Rows of a table of what was not measured; the raw data has all."""

FAR = 8.0
"""Factor between rates from which on small ones could not be told apart on a linear scale."""

SIDES = {Kind.COMPUTE: Side.COMPUTE, Kind.INPUT: Side.INPUT}
"""Half of the settings that a kind of measurement depends on; any other one depends on all."""

LEGEND = (
    ("default", "default"),
    ("default early", "default, given up early"),
    ("choice", "choice"),
    ("choice early", "choice, given up early"),
    ("other", "other candidate"),
    ("other early", "other candidate, given up early"),
)


def duel_section(session: Session) -> Section | None:
    """Show the pairs of the final duel; None where there was none."""
    record = session.final_duel
    if record is None or not record.baseline_rates:
        return None
    comparison = record.comparison
    ratios = [mine / theirs for mine, theirs in zip(record.candidate_rates, record.baseline_rates, strict=True)]
    names = describe(record.candidate, session.default), describe(record.baseline, session.default)
    blocks: list[Block] = [
        Words(
            texts=(
                f"{names[0]}, against {names[1]}: fresh loaders, turns in random order, in pairs next to each other, "
                "so that the machine's drift cancels.",
            )
        )
    ]
    ratio = comparison.ratio if comparison else None
    words = f"{many(len(ratios), 'pair')}: ratios from {min(ratios):.2f} to {max(ratios):.2f}. "
    words += f"Together {ratio_words(ratio)}." if ratio else "Too few for an interval."
    held = [ratio.low, ratio.high] if ratio else []
    y = linear([*ratios, *held, 1.0 + LEAST_GAIN, 1.0])
    plot = Plot("duel-plot", "Ratio of images/s in each pair of the duel", words, x=places(len(ratios)), y=y)
    ticks = y.ticks(6)
    style = "choice" if record.candidate == session.chosen else "other"
    plot.grid(
        [f"{tick:.4g}x" for tick in ticks], ticks, f"{'choice' if style == 'choice' else 'candidate'} over default"
    )
    plot.foot(*counted(len(ratios)), "pair")
    if ratio:
        plot.band(ratio.low, ratio.high, style)
        plot.level(ratio.value, style)
    plot.level(1.0, "", "equal")
    for number, entry in enumerate(ratios, start=1):
        plot.point(number, entry, style, f"pair {number}: {entry:.3f}x")
    known = ((f"rule {style}", "ratio"), (f"band {style}", "its 95% interval")) if ratio else ()
    legend = ((style, "one pair"), *known, ("rule", "equal"))
    blocks.append(Figure(svg=plot.markup(), caption=words, legend=legend))
    blocks.append(Fold(summary="All pairs", blocks=(_pairs(record.baseline_rates, record.candidate_rates),)))
    return Section(name="duel", title="The duel", blocks=tuple(blocks))


def _pairs(baseline: Sequence[float], candidate: Sequence[float]) -> Table:
    rows = tuple(
        (Cell(text=str(number)), Cell(text=plain(theirs)), Cell(text=plain(mine)), Cell(text=f"{mine / theirs:.3f}x"))
        for number, (theirs, mine) in enumerate(zip(baseline, candidate, strict=True), start=1)
    )
    columns = (
        Column(title="Pair"),
        Column(title="Default, images/s", numeric=True),
        Column(title="Candidate, images/s", numeric=True),
        Column(title="Ratio", numeric=True),
    )
    return Table(caption="Rates of the duel's turns", columns=columns, rows=rows)


def search_section(session: Session, plan: Plan) -> Section:
    """Tell what was tried, in the order in which it was measured, and what was not and why."""
    full = session.of(Kind.FULL)
    blocks: list[Block] = []
    if full:
        if len(full) > 1:
            blocks.append(_history(session, plan, full))
        else:
            blocks.append(Legend(entries=legend_of(session, plan, full)))
        blocks.append(_measured(session, plan, full, "Trained with in full, in the order of measuring"))
    else:
        blocks.append(Words(texts=("Nothing was trained with in full.",)))
    for kind, name in ((Kind.COMPUTE, "Training alone"), (Kind.INPUT, "Loading alone")):
        found = session.of(kind)
        if found:
            caption = f"{name}, in the order of measuring"
            blocks.append(
                Fold(
                    summary=f"{name}: {many(len(found), 'measurement')}",
                    blocks=(_measured(session, plan, found, caption),),
                )
            )
    blocks += _not_measured(session)
    return Section(name="search", title="The search", blocks=tuple(blocks))


def _history(session: Session, plan: Plan, full: Sequence[Measurement]) -> Figure:
    rates = [entry.rate for entry in full]
    best = max(range(len(full)), key=lambda place: rates[place].value)
    words = (
        f"{many(len(full), 'burst')} in the order of measuring. The first reached {plain(rates[0].value)} images/s, "
        f"the fastest, number {best + 1}, {plain(rates[best].value)}."
    )
    y = linear([number for rate in rates for number in (rate.low, rate.high)])
    plot = Plot(
        "history-plot", "Images/s of candidates in the order of measuring", words, x=places(len(full)), y=y, height=260
    )
    ticks = y.ticks(6)
    plot.grid([plain_tick(tick) for tick in ticks], ticks, "images/s")
    plot.foot(*counted(len(full)), "measurement")
    leading = 0.0
    for number, (entry, rate) in enumerate(zip(full, rates, strict=True), start=1):
        before, leading = leading, leading if entry.stopped_early else max(leading, rate.value)
        if before:
            plot.segment((number - 1, before), (number, before), "best")
            plot.segment((number, before), (number, leading), "best")
        style = style_of(session, plan, entry)
        plot.whisker(number, rate.low, rate.high, style)
        plot.point(
            number,
            rate.value,
            style,
            f"{number}. {describe(entry.settings, session.default)}: {plain(rate.value)} images/s",
        )
    legend = (*legend_of(session, plan, full), ("best", "best so far"))
    return Figure(svg=plot.markup(), caption=words, legend=legend)


def style_of(session: Session, plan: Plan, entry: Measurement) -> str:
    """Return the class of a measurement's mark."""
    values = values_of(entry.kind, entry.settings)
    names = ((session.default, "default"), (plan.settings, "choice"))
    style = next((style for settings, style in names if values_of(entry.kind, settings) == values), "other")
    return f"{style} early" if entry.stopped_early else style


def legend_of(session: Session, plan: Plan, found: Sequence[Measurement]) -> tuple[tuple[str, str], ...]:
    """Return what the marks of measurements mean."""
    styles = {style_of(session, plan, entry) for entry in found}
    return tuple(entry for entry in LEGEND if entry[0] in styles)


def values_of(kind: Kind, settings: Settings) -> dict[str, Value]:
    """Return the part of settings that a measurement of a kind depends on, by name."""
    side = SIDES.get(kind)
    return settings.as_dict() if side is None else dict(key(settings, side))


def _measured(session: Session, plan: Plan, found: Sequence[Measurement], caption: str) -> Table:
    rates = [entry.rate for entry in found]
    scale = scale_of([number for rate in rates for number in (rate.low, rate.high)])
    ticks = scale.ticks()
    later = {entry.settings: entry.reason for entry in session.failures if not (entry.pruned or entry.alone)}
    rows = []
    for number, (entry, rate) in enumerate(zip(found, rates, strict=True), start=1):
        remarks = [*_remarks(entry, found)]
        if entry.kind is Kind.FULL and entry.settings in later:
            remarks.append(f"but failed: {later[entry.settings]}")
        style = style_of(session, plan, entry)
        picture = strip([*interval(scale, rate.value, rate.low, rate.high, style)])
        text = f"{number}. {describe(entry.settings, session.default)}"
        rows.append(
            (
                Cell(text=text, note="; ".join(remarks), strip=picture, marker=style),
                Cell(text=plain(rate.value), note=f"{plain(rate.low)} to {plain(rate.high)}, n={rate.n}"),
            )
        )
    columns = (
        Column(title="Settings", axis=axis(scale, [plain_tick(tick) for tick in ticks], ticks)),
        Column(title="images/s, 95% interval", numeric=True),
    )
    return Table(caption=caption, columns=columns, rows=tuple(rows))


def scale_of(rates: Sequence[float]) -> Scale:
    """Return the scale of rates, logarithmic where they lie far apart."""
    far = min(rates) > 0 and max(rates) > FAR * min(rates)
    return logarithmic(rates) if far else linear(rates)


def _remarks(entry: Measurement, found: Sequence[Measurement]) -> Iterator[str]:
    if entry.heat is not None:
        yield f"heat {entry.heat}, side by side"
    if entry.predicted is not None:
        yield f"predicted {plain(entry.predicted)}"
    if entry.stopped_early:
        yield f"stopped early, clearly behind{_leader(entry, found)}"
    elif entry.rate.high > UNSETTLED * entry.rate.low:
        yield "noisy"
    if entry.compile_s > 0:
        yield f"compiled in {entry.compile_s:.0f} s"
    if entry.repeats and entry.heat is None:
        yield f"measured again {many(entry.repeats, 'time')}, because other programs disturbed it"


def _leader(behind: Measurement, found: Sequence[Measurement]) -> str:
    """Name what ran ahead of settings in their heat, as words that go on; empty where no rate tells."""
    rivals = [(entry.rate.value, number) for number, entry in enumerate(found, start=1) if entry.heat == behind.heat]
    rate, number = max(rivals)
    if behind.heat is None or rate <= behind.rate.value:
        return ""
    return f" number {number} with {plain(rate)}"


def _not_measured(session: Session) -> Iterator[Block]:
    failed = [entry for entry in session.failures if not entry.pruned]
    pruned = [entry for entry in session.failures if entry.pruned]
    if failed:
        yield _reasons(session.default, failed, "Failed")
    if pruned:
        words = f"Pruned: {many(len(pruned), 'candidate')} that could not have won"
        yield Fold(summary=words, blocks=(_reasons(session.default, pruned, "Pruned by their bound, unmeasured"),))
    if session.left_out:
        grouped: dict[tuple[str, str], list[str]] = {}
        for knob, value, reason in session.left_out:
            grouped.setdefault((knob, reason), []).append(value_text(value))
        rows = tuple(
            (Cell(text=knob, note=", ".join(values)), Cell(text=reason)) for (knob, reason), values in grouped.items()
        )
        columns = (Column(title="Setting, and its values"), Column(title="Reason"))
        table = Table(caption="Choices that could not be offered here", columns=columns, rows=rows)
        yield Fold(summary=f"Left out: {many(len(session.left_out), 'choice')}", blocks=(table,))


def _reasons(default: Settings, entries: Sequence[Failed], caption: str) -> Table:
    shown = entries[:MOST_ROWS]
    if len(shown) < len(entries):
        caption += f" (the first {MOST_ROWS} of {len(entries):,}; the raw data has all)"
    rows = tuple(
        (
            Cell(text=describe(entry.settings, default), note="in training alone" if entry.alone else ""),
            Cell(text=entry.reason),
        )
        for entry in shown
    )
    return Table(caption=caption, columns=(Column(title="Settings"), Column(title="Reason")), rows=rows)


def places(count: int) -> Scale:
    """Return the horizontal scale of a plot of ``count`` things."""
    return Scale(low=0.5, high=count + 0.5)


def counted(count: int) -> tuple[list[str], list[float]]:
    """Return the numbers at the foot of a plot of ``count`` things."""
    step = max(1, -(-count // 8))
    numbers = [number for number in range(1, count + 1) if number == 1 or number % step == 0]
    return [str(number) for number in numbers], [float(number) for number in numbers]
