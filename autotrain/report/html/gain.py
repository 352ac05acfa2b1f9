"""What the gain is made of: settings, policies, and whether the model still learns as well."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from autotrain.measure.session import Guard, PolicyCost, Session
from autotrain.plan.evidence import Worth
from autotrain.plan.plan import Plan
from autotrain.report.costs import cost_cells
from autotrain.report.html.blocks import Block, Cell, Column, Figure, Fold, Legend, Section, Table, Words
from autotrain.report.html.search import counted, places
from autotrain.report.html.svg import STRIP, Element, Plot, Scale, axis, bar, interval, linear, rule, strip
from autotrain.report.summary import guard_lines
from autotrain.report.words import many, plain
from autotrain.report.worth import sentences, value_text
from autotrain.search.recorder import describe
from autotrain.search.strength import reference_rate
from autotrain.stats.summary import Estimate

POLICY_LEGEND = (
    ("choice", "chosen"),
    ("choice early", "chosen, predicted"),
    ("other", "measured"),
    ("other early", "predicted"),
)

SINGLE = "from single bursts"
"""How a ratio was measured that is not from interleaved turns."""


def worth_section(plan: Plan) -> Section | None:
    """Tell what each changed setting is worth, alone and within the choice; None where nothing was changed."""
    entries = plan.evidence.worth
    if not entries:
        return None
    blocks: list[Block] = [Words(texts=(_how_measured(entries),))]
    known = [ratio for entry in entries for ratio in (entry.alone, entry.within or entry.ratio) if ratio]
    if known:
        alone = (("default", "alone"),) if any(entry.alone for entry in entries) else ()
        blocks.append(Legend(entries=(*alone, ("choice", "within the choice"), ("rule", "worth nothing"))))
    blocks.append(_worth_table(entries, known))
    told = tuple(sentences(entries))
    if told:
        blocks.append(Words(texts=told, listed=True))
    return Section(name="settings", title="What each setting is worth", blocks=tuple(blocks))


def _how_measured(entries: Sequence[Worth]) -> str:
    """Say what the ratios are of, and how they were measured, so far as they were."""
    words = "Alone: the default with this setting, over the default. " if any(entry.alone for entry in entries) else ""
    words += "Within: the choice, over the choice without this setting."
    single = [entry for entry in entries if entry.ratio and not entry.within]
    if any(entry.alone or entry.within for entry in entries):
        words += " Measured in interleaved turns"
        words += f", but for the rows that say {SINGLE}" if single else ""
        words += "; intervals are of 95%."
    elif single:
        words += " Ratios are from single bursts apart from each other, in which the machine's drift is mixed."
    return words


def _worth_table(entries: Sequence[Worth], known: Sequence[Estimate]) -> Table:
    scale = linear([1.0, *(number for ratio in known for number in (ratio.low, ratio.high))])
    apart = any(entry.alone for entry in entries)
    ticks = scale.ticks()
    rows = []
    for entry in entries:
        within = entry.within or entry.ratio
        pictured = ((entry.alone, "default"), (within, "choice")) if apart else ((within, "choice"),)
        height = STRIP + 14 * (len(pictured) - 1)
        parts = [rule(scale, 1.0, height=height)]
        for place, (ratio, style) in enumerate(pictured):
            if ratio is not None:
                parts += interval(scale, ratio.value, ratio.low, ratio.high, style, y=STRIP / 2 + 14 * place)
        picture = strip(parts, height=height) if entry.alone or within else None
        name = f"{entry.setting} = {value_text(entry.value)}"
        note = f"instead of {value_text(entry.instead_of)}"
        if within and entry.note and not entry.note.startswith(SINGLE):
            note += f"; {entry.note}"
        rows.append(
            (
                Cell(text=name, note=note, strip=picture),
                *((_ratio_cell(entry.alone),) if apart else ()),
                _ratio_cell(within, single=entry.within is None),
            )
        )
    columns = (
        Column(title="Setting", axis=axis(scale, [f"{tick:g}x" for tick in ticks], ticks) if known else None),
        *((Column(title="Alone", numeric=True),) if apart else ()),
        Column(title="Within the choice", numeric=True),
    )
    return Table(caption="Worth of each setting, as a ratio of images/s", columns=columns, rows=tuple(rows))


def _ratio_cell(ratio: Estimate | None, *, single: bool = False) -> Cell:
    if ratio is None:
        return Cell(text="-", note="not measured")
    note = f"{ratio.low:.2f} to {ratio.high:.2f}, n={ratio.n}"
    return Cell(text=f"{ratio.value:.2f}x", note=f"{note}; {SINGLE}" if single else note)


def policy_section(session: Session, plan: Plan) -> Section | None:
    """Tell what every policy costs at each placement; None where the strength was not left open."""
    if not session.policies:
        return None
    free = reference_rate(session.policies)
    numbers = [number for entry in session.policies for number in (entry.rate, entry.low, entry.high)]
    scale = linear([free, *numbers], zero=True)
    ticks = scale.ticks()
    rows = []
    for entry in session.policies:
        style = _policy_style(entry, plan)
        chosen = style.startswith("choice")
        cost, rate = cost_cells(entry, free)
        rows.append(
            (
                Cell(
                    text=f"{entry.policy}, {'in workers' if entry.placement == 'worker' else 'on the device'}",
                    note="chosen" if chosen else "",
                    strip=strip([rule(scale, free, height=STRIP), *_policy_marks(scale, entry, style)]),
                    marker=style if chosen else "",
                ),
                Cell(text=cost),
                Cell(text=rate),
            )
        )
    words = f"The line marks {plain(free)} images/s, the rate without augmentation; costs are shares of it."
    styles = {_policy_style(entry, plan) for entry in session.policies}
    legend = Legend(entries=tuple(entry for entry in POLICY_LEGEND if entry[0] in styles))
    columns = (
        Column(title="Policy and placement", axis=axis(scale, [f"{tick:,g}" for tick in ticks], ticks)),
        Column(title="Cost", numeric=True),
        Column(title="images/s", numeric=True),
    )
    table = Table(caption="Cost of augmentation, weakest policy first", columns=columns, rows=tuple(rows))
    return Section(name="augmentation", title="What augmentation costs", blocks=(Words(texts=(words,)), legend, table))


def _policy_style(entry: PolicyCost, plan: Plan) -> str:
    chosen = (plan.settings.augmentation, plan.settings.placement) == (entry.policy, entry.placement)
    return f"{'choice' if chosen else 'other'}{'' if entry.measured else ' early'}"


def _policy_marks(scale: Scale, entry: PolicyCost, style: str) -> Iterator[Element]:
    low, high = (entry.low, entry.high) if entry.measured else (entry.rate, entry.rate)
    yield from interval(scale, entry.rate, low, high, style)


def numerics_section(session: Session, plan: Plan) -> Section | None:
    """Tell what the guard saw: losses on the same first batches; None where nothing had to be guarded."""
    if not session.guards:
        return None
    told = tuple(line.text for line in guard_lines(session, plan))
    blocks: list[Block] = [Words(texts=told, listed=True)] if told else []
    for number, entry in enumerate(session.guards, start=1):
        if entry.candidate and entry.references:
            blocks.append(_losses(session, entry, number))
        if entry.shares:
            summary = f"{many(len(entry.shares), 'check')}: {_nearest(entry)}"
            blocks.append(Fold(summary=summary, blocks=(_shares(session, entry),)))
    return Section(name="numerics", title="Does it learn as well?", blocks=tuple(blocks))


def _losses(session: Session, entry: Guard, number: int) -> Figure:
    runs = [entry.candidate, *entry.references]
    finite = [loss for run in runs for loss in run if math.isfinite(loss)]
    steps = max(len(run) for run in runs)
    y = linear(finite or [0.0, 1.0])
    name = describe(entry.settings, session.default)
    verdict = f"disqualified: {entry.problem}" if entry.problem else "passed"
    words = (
        f"Losses of {name} ({verdict}), and of {many(len(entry.references), 'run')} of the default, over {steps} steps."
    )
    plot = Plot(
        f"guard-{number}", "Losses of the candidate and of the default", words, x=places(steps), y=y, height=200
    )
    ticks = y.ticks(6)
    plot.grid([f"{tick:.3g}" for tick in ticks], ticks, "loss")
    plot.foot(*counted(steps), "step")
    for reference in reversed(entry.references[1:]):
        plot.line(list(enumerate(reference, start=1)), "curve other")
    plot.line(list(enumerate(entry.references[0], start=1)), "curve default")
    plot.line(list(enumerate(entry.candidate, start=1)), "curve choice")
    for step, loss in enumerate(entry.candidate, start=1):
        if math.isfinite(loss):
            plot.point(step, loss, "choice", f"step {step}: {loss:.3f}")
    legend = [("choice", "candidate"), ("curve default", "default, same batches")]
    if len(entry.references) > 1:
        legend.append(("curve other", "default, other seeds and orders"))
    return Figure(svg=plot.markup(), caption=words, legend=tuple(legend))


def _nearest(entry: Guard) -> str:
    shares = [share for _, share in entry.shares]
    if not all(map(math.isfinite, shares)):
        return "not all are finite"
    return f"the furthest took {max(shares):.0%} of what is allowed"


def _shares(session: Session, entry: Guard) -> Table:
    most = max([1.2, *(share for _, share in entry.shares if math.isfinite(share))])
    scale = Scale(low=0.0, high=most * 1.02)
    rows = tuple(
        (
            Cell(text=check, strip=strip([bar(scale, 0, share, "training"), rule(scale, 1.0)])),
            Cell(text=f"{share:.0%}" if math.isfinite(share) else "not finite"),
        )
        for check, share in entry.shares
    )
    columns = (
        Column(title="Check", axis=axis(scale, ["0", "allowed"], [0.0, 1.0])),
        Column(title="Of what is allowed", numeric=True),
    )
    return Table(caption=f"Checks of {describe(entry.settings, session.default)}", columns=columns, rows=rows)
