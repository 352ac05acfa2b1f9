"""The search: candidates as they were measured, what failed or was not worth it, and the duel's pairs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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
from autotrain.settings import Settings
from autotrain.stats.compare import LEAST_GAIN

MOST_ROWS = 200
"""Rows of a table of what was not measured; the raw data has all."""

LEGEND = (
    ("default", "default"),
    ("choice", "choice"),
    ("other", "other candidate"),
    ("other early", "given up early, clearly behind"),
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
    plot.grid([f"{tick:.4g}x" for tick in ticks], ticks, "choice over default")
    plot.foot(*counted(len(ratios)), "pair")
    if ratio:
        plot.band(ratio.low, ratio.high, "choice")
        plot.level(ratio.value, "choice")
    plot.level(1.0, "", "equal")
    for number, entry in enumerate(ratios, start=1):
        plot.point(number, entry, "choice", f"pair {number}: {entry:.3f}x")
    legend = (("choice", "one pair"), ("band choice", "95% interval of the ratio"), ("rule", "equal"))
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
            blocks.append(Legend(entries=LEGEND[:1]))
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
    return Figure(svg=plot.markup(), caption=words, legend=(*LEGEND, ("best", "best so far")))


def style_of(session: Session, plan: Plan, entry: Measurement) -> str:
    """Return the class of a measurement's mark."""
    chosen = plan.settings == entry.settings and plan.settings != session.default
    style = "default" if entry.settings == session.default else "choice" if chosen else "other"
    return f"{style} early" if entry.stopped_early else style


def _measured(session: Session, plan: Plan, found: Sequence[Measurement], caption: str) -> Table:
    rates = [entry.rate for entry in found]
    numbers = [number for rate in rates for number in (rate.low, rate.high)]
    far = min(numbers) > 0 and max(numbers) > 8 * min(numbers)
    scale = logarithmic(numbers) if far else linear(numbers)
    ticks = scale.ticks()
    rows = []
    for number, (entry, rate) in enumerate(zip(found, rates, strict=True), start=1):
        style = style_of(session, plan, entry)
        picture = strip([*interval(scale, rate.value, rate.low, rate.high, style)])
        text = f"{number}. {describe(entry.settings, session.default)}"
        rows.append(
            (
                Cell(text=text, note="; ".join(_remarks(entry)), strip=picture, marker=style),
                Cell(text=plain(rate.value), note=f"{plain(rate.low)} to {plain(rate.high)}, n={rate.n}"),
            )
        )
    columns = (
        Column(title="Settings", axis=axis(scale, [plain_tick(tick) for tick in ticks], ticks)),
        Column(title="images/s, 95% interval", numeric=True),
    )
    return Table(caption=caption, columns=columns, rows=tuple(rows))


def _remarks(entry: Measurement) -> Iterator[str]:
    if entry.heat is not None:
        yield f"heat {entry.heat}, side by side"
    if entry.predicted is not None:
        yield f"predicted {plain(entry.predicted)}"
    if entry.stopped_early:
        yield "behind, so stopped early"
    elif entry.rate.high > UNSETTLED * entry.rate.low:
        yield "noisy"
    if entry.compile_s > 0:
        yield f"compiled in {entry.compile_s:.0f} s"
    if entry.repeats and entry.heat is None:
        yield f"measured again {many(entry.repeats, 'time')}, because other programs disturbed it"


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
            (Cell(text=knob), Cell(text=", ".join(values)), Cell(text=reason))
            for (knob, reason), values in grouped.items()
        )
        columns = (Column(title="Setting"), Column(title="Values"), Column(title="Reason"))
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
