"""What to expect: the planned schedule, other machines and models, and how far predictions were off."""

from __future__ import annotations

from autotrain.diagnose.accuracy import foretold
from autotrain.diagnose.what_if import what_if
from autotrain.measure.session import Session
from autotrain.plan.plan import Plan
from autotrain.report.forecast import BINDING, accuracy_lines
from autotrain.report.html.blocks import Block, Cell, Column, Figure, Fold, Section, Table, Words
from autotrain.report.html.svg import Plot, Scale, axis, bar, logarithmic, strip
from autotrain.report.html.where import plain_tick
from autotrain.report.words import many, plain
from autotrain.search.recorder import describe

FAR = 0.1
"""Share by which a prediction may be off to lie between the outer lines."""


FEWEST_MARKS = 3
"""Predictions from which on a picture of them says something."""


def schedule_section(session: Session) -> Section | None:
    """Show how the learning rate moves over the planned training; None where the session does not know it."""
    factors = session.job.schedule
    if not factors:
        return None
    top = max(factors)
    last = len(factors) - 1
    peak = factors.index(top) / max(1, last)
    words = (
        f"Factor of the base learning rate: {factors[0]:.3g} at first, {top:.3g} at most, reached after {peak:.0%} of "
        f"the training, {factors[-1]:.3g} at last."
    )
    x, y = Scale(low=0.0, high=max(1.0, last)), Scale(low=0.0, high=1.05 * top or 1.0)
    plot = Plot("schedule-plot", "Learning rate over the planned training", words, x=x, y=y, height=160)
    ticks = y.ticks(6)
    plot.grid([f"{tick:g}" for tick in ticks], ticks, "factor")
    marks = [share * last for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    plot.foot(["0%", "25%", "50%", "75%", "100%"], marks, "of the training")
    plot.line(list(enumerate(factors)), "curve choice")
    planned = f"{many(session.job.planned_images, 'image')} are planned." if session.job.planned_images else ""
    caption = f"{words} {planned}".strip()
    return Section(name="schedule", title="Learning rate", blocks=(Figure(svg=plot.markup(), caption=caption),))


def what_if_section(session: Session, plan: Plan) -> Section | None:
    """Tell what the contention model expects of other machines and models; None where components are missing."""
    scenarios = what_if(session, plan.settings)
    if len(scenarios) < 2:
        return None
    scale = Scale(low=0.0, high=1.02 * max(entry.per_s for entry in scenarios))
    ticks = scale.ticks()
    now = scenarios[0]
    whose = "the default" if plan.settings == session.default else "the choice"
    rows = tuple(
        (
            Cell(
                text=entry.change,
                note=f"what binds: {BINDING[entry.limit]}",
                strip=strip([bar(scale, 0, entry.per_s, "stage-a" if entry.extrapolated else "training")]),
            ),
            Cell(text=plain(entry.per_s), note="" if entry is now else f"{entry.per_s / now.per_s:.2f}x"),
            Cell(text=f"{entry.cores_needed:.2g}"),
        )
        for entry in scenarios
    )
    columns = (
        Column(title="Change, all else as it is", axis=axis(scale, [plain_tick(tick) for tick in ticks], ticks)),
        Column(title="images/s", numeric=True),
        Column(title="Cores for loading", numeric=True),
    )
    words = (
        "Predicted by the contention model, not measured, so without intervals. The last column: cores that loading "
        "keeps busy where the model trains at full speed."
    )
    table = Table(caption=f"What if: images/s to expect of {whose}", columns=columns, rows=rows)
    return Section(name="what-if", title="What if", blocks=(Words(texts=(words,)), table))


def prediction_section(session: Session) -> Section | None:
    """Tell how far predictions were off; None where nothing was predicted."""
    known = [(entry, predicted, bound) for entry, predicted, bound in foretold(session) if predicted is not None]
    if not known:
        return None
    told = [line.text for line in accuracy_lines(session)]
    sentence = f"Predictions were {told[0]}." if told else ""
    rates = [number for entry, predicted, _ in known for number in (entry.rate.value, predicted)]
    scale = logarithmic(rates)
    plot = Plot("predictions-plot", "Predicted against measured images/s", sentence, x=scale, y=scale, height=300)
    ticks = scale.ticks()
    numbers = [plain_tick(tick) for tick in ticks]
    plot.grid(numbers, ticks, "predicted, images/s")
    plot.foot(numbers, ticks, "measured, images/s")
    low, high = scale.low, scale.high
    plot.segment((low, low), (high, high), "rule")
    plot.segment((low, low * (1 + FAR)), (high / (1 + FAR), high), "rule faint")
    plot.segment((low / (1 - FAR), low), (high, high * (1 - FAR)), "rule faint")
    rows = []
    for number, (entry, predicted, bound) in enumerate(known, start=1):
        name, rate = describe(entry.settings, session.default), entry.rate.value
        words = f"{number}. {name}: predicted {plain(predicted)}, measured {plain(rate)}"
        plot.point(rate, predicted, "default" if entry.settings == session.default else "other", words)
        rows.append(
            (
                Cell(text=f"{number}. {name}"),
                Cell(text=plain(predicted)),
                Cell(text=plain(rate)),
                Cell(text=f"{predicted / rate - 1:+.0%}".replace("-0%", "+0%")),
                Cell(text="-" if bound is None else plain(bound)),
            )
        )
    columns = tuple(
        Column(title=title, numeric=number > 0)
        for number, title in enumerate(("Settings", "Predicted", "Measured", "Error", "Bound"))
    )
    table = Table(caption="Predictions and bounds against measured images/s", columns=columns, rows=tuple(rows))
    legend = (("default", "default"), ("other", "candidate"), ("rule", "exact"), ("rule faint", f"off by {FAR:.0%}"))
    blocks: list[Block] = [Words(texts=(sentence,))] if sentence else []
    blocks += [Words(texts=tuple(told[1:]), style="warning")] if told[1:] else []
    if len(known) >= FEWEST_MARKS:
        blocks.append(Figure(svg=plot.markup(), caption="Each mark is a burst.", legend=legend, narrow=True))
    blocks.append(Fold(summary=f"All {many(len(known), 'prediction')}", blocks=(table,)))
    return Section(name="predictions", title="How good the predictions were", blocks=tuple(blocks))
