"""Which settings matter: the rates of all candidates, by the value that each setting had in them."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from autotrain.measure.measurement import Kind, Measurement
from autotrain.measure.session import Session
from autotrain.plan.plan import Plan
from autotrain.report.html.blocks import Beside, Block, Cell, Column, Fold, Legend, Section, Table, Words
from autotrain.report.html.search import legend_of, scale_of, style_of, values_of
from autotrain.report.html.svg import STRIP, Element, Scale, axis, element, mark, strip
from autotrain.report.html.where import plain_tick
from autotrain.report.words import many, plain
from autotrain.report.worth import value_text
from autotrain.search.recorder import describe
from autotrain.settings import Value

FEWEST_CANDIDATES = 5
"""Candidates from which on their rates by the value of a setting say something."""

KINDS = ((Kind.COMPUTE, "Training alone"), (Kind.INPUT, "Loading alone"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """Candidates by the value of a setting, or of several that were only ever changed together."""

    names: tuple[str, ...]
    bursts: tuple[tuple[tuple[Value, ...], tuple[Measurement, ...]], ...]
    """By value, in order; at least two of them."""

    ratios: tuple[float, ...] = ()
    """The fastest over the slowest of those that are equal in all other settings, for each such lot."""

    @property
    def effect(self) -> float:
        """What the setting seems to matter by: the median of the ratios; 1 where none is known."""
        return statistics.median(self.ratios) if self.ratios else 1.0


def slices(found: Sequence[Measurement]) -> tuple[Slice, ...]:
    """Return measurements of one kind by settings that had several values, what seems to matter most first.

    A candidate that was measured several times counts once, by the burst that saw most images. Empty where the
    candidates are too few.
    """
    bursts: dict[tuple[tuple[str, Value], ...], Measurement] = {}
    for entry in found:
        content = tuple(values_of(entry.kind, entry.settings).items())
        bursts[content] = max(
            entry, bursts.get(content, entry), key=lambda burst: (not burst.stopped_early, burst.images)
        )
    if len(bursts) < FEWEST_CANDIDATES:
        return ()
    values = [dict(content) for content in bursts]
    rates = [burst.rate.value for burst in bursts.values()]
    made = []
    for names in _changed(values):
        by_value: dict[tuple[Value, ...], list[Measurement]] = {}
        for known, burst in zip(values, bursts.values(), strict=True):
            by_value.setdefault(tuple(known[name] for name in names), []).append(burst)
        rows = [(value, tuple(entries)) for value, entries in by_value.items()]
        if all(isinstance(entry, int) for value, _ in rows for entry in value):
            rows.sort()
        made.append(Slice(names=names, bursts=tuple(rows), ratios=_ratios(names, values, rates)))
    return tuple(sorted(made, key=lambda entry: -entry.effect))


def _changed(values: Sequence[dict[str, Value]]) -> Iterator[tuple[str, ...]]:
    """Yield names of settings with several values; those that were only ever changed together come together."""
    together: dict[tuple[int, ...], list[str]] = {}
    for name in values[0]:
        if all(name in entry for entry in values):
            column = [entry[name] for entry in values]
            together.setdefault(tuple(column.index(value) for value in column), []).append(name)
    return (tuple(names) for parts, names in together.items() if len(set(parts)) > 1)


def _ratios(names: Sequence[str], values: Sequence[dict[str, Value]], rates: Sequence[float]) -> tuple[float, ...]:
    """Return the fastest over the slowest of each lot of candidates that are equal but for these settings."""
    lots: dict[tuple[Value, ...], list[float]] = {}
    for known, rate in zip(values, rates, strict=True):
        lots.setdefault(tuple(value for name, value in known.items() if name not in names), []).append(rate)
    return tuple(max(lot) / min(lot) for lot in lots.values() if len(lot) > 1)


def slice_section(session: Session, plan: Plan) -> Section | None:
    """Show which settings matter; None where too few candidates were measured to say so."""
    full = slices(session.of(Kind.FULL))
    parts = [(name, found) for kind, name in KINDS if (found := slices(session.of(kind)))]
    if not full and not parts:
        return None
    shown = [burst for found in (full, *(found for _, found in parts)) for entry in found for burst in _all(entry)]
    words = (
        "Each mark is a candidate that was measured, with its 95% interval, in the row of its value. A setting matters "
        "where candidates that are equal in all others lie apart beyond their intervals; those whose values lie "
        "furthest apart come first. As candidates differ in several settings at once, a single mark says little; "
        "settings that were only ever changed together share their rows."
    )
    blocks: list[Block] = [Words(texts=(words,)), Legend(entries=legend_of(session, plan, shown))]
    if full:
        blocks.append(_pictures(session, plan, full))
    for name, found in parts:
        candidates = many(sum(len(entries) for _, entries in found[0].bursts), "candidate")
        blocks.append(Fold(summary=f"{name}: {candidates}", blocks=(_pictures(session, plan, found),)))
    return Section(name="slices", title="Which settings matter", blocks=tuple(blocks))


def _all(entry: Slice) -> Iterator[Measurement]:
    for _, found in entry.bursts:
        yield from found


def _pictures(session: Session, plan: Plan, found: Sequence[Slice]) -> Beside:
    scale = scale_of([number for burst in _all(found[0]) for number in (burst.rate.low, burst.rate.high)])
    parts = tuple((", ".join(entry.names), (_table(session, plan, entry, scale),)) for entry in found)
    return Beside(parts=parts)


def _table(session: Session, plan: Plan, entry: Slice, scale: Scale) -> Table:
    rows = []
    for value, found in entry.bursts:
        fastest = max((burst.rate for burst in found), key=lambda rate: rate.value)
        rows.append(
            (
                Cell(
                    text=", ".join(value_text(part) for part in value),
                    note=many(len(found), "candidate"),
                    strip=strip([*_marks(session, plan, found, scale)]),
                ),
                Cell(text=plain(fastest.value), note=f"{plain(fastest.low)} to {plain(fastest.high)}, n={fastest.n}"),
            )
        )
    ticks = scale.ticks()
    columns = (
        Column(title="Value", axis=axis(scale, [plain_tick(tick) for tick in ticks], ticks)),
        Column(title="Fastest, images/s", numeric=True),
    )
    return Table(caption=_caption(entry), columns=columns, rows=tuple(rows))


def _caption(entry: Slice) -> str:
    words = f"images/s by {', '.join(entry.names)}"
    if not entry.ratios:
        return f"{words}; no two candidates differ in this alone"
    low, high = min(entry.ratios), max(entry.ratios)
    spread = f"{low:.2f} to {high:.2f}, n={len(entry.ratios)}" if len(entry.ratios) > 1 else "n=1"
    return f"{words}; candidates that are equal otherwise lie {entry.effect:.2f}x apart ({spread})"


def _marks(session: Session, plan: Plan, found: Sequence[Measurement], scale: Scale) -> Iterator[Element]:
    """Yield the marks of a row; default and choice come last, so that no other one hides them."""
    yield element("line", x1="0%", x2="100%", y1=STRIP / 2, y2=STRIP / 2, class_="track")
    styled = [(style_of(session, plan, burst), burst) for burst in found]
    for style, burst in sorted(styled, key=lambda pair: not pair[0].startswith("other")):
        rate, y = burst.rate, STRIP / 2
        left, right = scale.percent(rate.low), scale.percent(rate.high)
        yield element("line", x1=left, x2=right, y1=y, y2=y, class_=f"whisker {style}")
        words = f"{describe(burst.settings, session.default)}: {plain(rate.value)} images/s"
        yield from mark(scale.percent(rate.value), y, f"{style} crowd", words)
