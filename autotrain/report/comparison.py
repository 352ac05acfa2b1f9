"""Two plans side by side, and what a duel between them says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from autotrain.measure.session import Session
from autotrain.plan.evidence import Evidence
from autotrain.plan.plan import Plan
from autotrain.report.explanation import edited, made_words
from autotrain.report.lines import Line, heading, labelled, table
from autotrain.report.words import rate_words, ratio_words
from autotrain.report.worth import value_text
from autotrain.search.events import Event, Measured, Measuring, Observer, Stage
from autotrain.search.planner import half_width
from autotrain.stats.compare import Comparison, Verdict
from autotrain.stats.summary import summarize

A, B = "A", "B"
"""What the two plans are called."""

DUEL = "duel of plans"
"""The duel's stage."""


def side_by_side(one: Plan, other: Plan, names: tuple[str, str]) -> list[Line]:
    """Return how two plans differ: settings, evidence, and where and for what they were made."""
    lines = [Line(lead=f"{letter}  ", text=name, style="bold") for letter, name in zip((A, B), names, strict=True)]
    return [*lines, *_settings(one, other), *_evidence(one, other), *_made(one, other)]


def _settings(one: Plan, other: Plan) -> Iterator[Line]:
    theirs = other.settings.as_dict()
    rows = [
        (name, value_text(value), value_text(theirs[name]))
        for name, value in one.settings.changes(other.settings).items()
    ]
    if not rows:
        yield from heading("Settings: the same in both")
        return
    yield from heading("Settings that differ")
    yield from table(("setting", A, B), rows)


def _evidence(one: Plan, other: Plan) -> Iterator[Line]:
    if one.evidence == other.evidence == Evidence():
        yield from heading("Evidence: none, a person chose the settings of both")
        return
    yield from heading("Evidence")
    yield from _pair("verdict", *(str(plan.evidence.verdict) for plan in (one, other)))
    for label, field in (("default", "default_rate"), ("plan", "chosen_rate")):
        rates = (getattr(plan.evidence, field) for plan in (one, other))
        yield from _pair(label, *("not measured" if rate is None else rate_words(rate) for rate in rates))
    ratios = (plan.evidence.ratio for plan in (one, other))
    yield from _pair("gain", *("none proven" if ratio is None else ratio_words(ratio) for ratio in ratios))
    yield from _pair("bottleneck", *(plan.evidence.bottleneck or "not known" for plan in (one, other)))
    if one.settings != other.settings and one.evidence == other.evidence != Evidence():
        words = "one evidence for different settings: at least one of the plans was edited after it was measured"
        yield labelled("edited", words, style="yellow")
    for letter, plan in ((A, one), (B, other)):
        for sentence in edited(plan):
            yield labelled("edited", f"{letter}  {sentence}", style="yellow")


def _made(one: Plan, other: Plan) -> Iterator[Line]:
    first, second = dict(made_words(one.provenance)), dict(made_words(other.provenance))
    differing = [label for label in dict.fromkeys((*first, *second)) if first.get(label) != second.get(label)]
    if not differing:
        same = "Made at the same time and place, for the same job"
        yield from heading(same if first else "Neither says where it was made")
        return
    yield from heading("Where and for what they were made")
    for label in differing:
        yield from _pair(label, first.get(label, "not known"), second.get(label, "not known"))


def _pair(label: str, first: str, second: str) -> Iterator[Line]:
    if first == second:
        yield labelled(label, f"both  {first}")
        return
    yield labelled(label, f"{A}  {first}")
    yield labelled("", f"{B}  {second}")


def unsettled(again: str) -> list[Line]:
    """Return why rates of two probes decide nothing, and how to settle it."""
    words = (
        "Rates that were measured at different times are not comparable: a machine drifts by more than the gains "
        "that are looked for. Let the plans take turns, on this machine and your job:"
    )
    return [*heading("Which is faster?"), Line(lead="  ", text=words), Line(lead="    ", text=again, whole=True)]


def verdict(session: Session) -> list[Line]:
    """Return what the duel said."""
    record, comparison = session.final_duel, decided(session)
    if session.chosen is not None:
        return [*heading("Cannot tell"), Line(lead="  ", text="Both plans come to the same settings here.")]
    if record is None or comparison is None:
        reason = session.failures[-1].reason if session.failures else "there were too few pairs; give a longer --budget"
        return [*heading("Cannot tell"), Line(lead="  ", text=f"The duel did not come to an end: {reason}")]
    ratio = comparison.ratio
    words = {
        Verdict.FASTER: f"{B} is faster: {ratio_words(ratio)} the images/s of {A}",
        Verdict.SLOWER: f"{A} is faster: {B} has {ratio_words(ratio)} its images/s",
        Verdict.INCONCLUSIVE: f"Cannot tell: {B} has {ratio_words(ratio)} the images/s of {A}",
    }[comparison.verdict]
    lines = [
        *heading(words),
        labelled(A, rate_words(summarize(record.baseline_rates))),
        labelled(B, rate_words(summarize(record.candidate_rates))),
        labelled("", f"in pairs next to each other on this machine, the ratio known to within {half_width(ratio):.1%}"),
    ]
    if comparison.verdict is Verdict.INCONCLUSIVE:
        lines.append(labelled("", "what they differ by lies within that; a longer --budget sees smaller differences"))
    recipes = record.baseline.augmentation, record.candidate.augmentation
    if recipes[0] != recipes[1]:
        words = f"{A} trains with policy {recipes[0]}, {B} with {recipes[1]}: they learn different things"
        lines.append(labelled("recipe", words, style="yellow"))
    words = "not compared here; a probe checks each plan's numerics before it proves it"
    return [*lines, labelled("learning", words)]


def decided(session: Session) -> Comparison | None:
    """Return the duel's comparison; None where it has none.

    Neither plan is the one to keep unless the other gains something: beyond the noise is enough, either way.
    """
    comparison = session.final_duel.comparison if session.final_duel is not None else None
    if comparison is None:
        return None
    ratio = comparison.ratio
    verdict = Verdict.FASTER if ratio.low > 1 else Verdict.SLOWER if ratio.high < 1 else Verdict.INCONCLUSIVE
    return replace(comparison, verdict=verdict)


def lettered(observer: Observer) -> Observer:
    """Return an observer that tells another one of A and B, where a probe would speak of the default, its A."""

    def told(event: Event) -> None:
        if isinstance(event, Measured):
            letter = A if event.what == "default" else B
            alone = event.what.startswith("loading alone")
            event = replace(event, what=f"loading alone, {A} without workers" if alone else letter)
        elif isinstance(event, Measuring):
            event = replace(event, what="the plans")
        elif isinstance(event, Stage) and event.title == "duel":
            event = replace(event, title=DUEL)
        observer(event)

    return told
