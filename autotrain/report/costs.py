"""What costs time before or beside the training: compiling, and augmentation policies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from autotrain.measure.measurement import Kind, Measurement
from autotrain.measure.session import PolicyCost, Session
from autotrain.report.lines import Line, labelled, table
from autotrain.report.words import many, plain, time_words
from autotrain.search.strength import reference_rate
from autotrain.settings import Settings


def compile_lines(session: Session, chosen: Settings) -> Iterator[Line]:
    """Tell what compiling took, apart from start-up, and when it pays back, of the best burst of each mode."""
    best: dict[str, Measurement] = {}
    for entry in session.of(Kind.FULL):
        mode = entry.settings.compile
        if mode == Settings().compile or entry.compile_s <= 0:
            continue
        ours = entry.settings == chosen
        if mode not in best or ours or (best[mode].settings != chosen and entry.rate.value > best[mode].rate.value):
            best[mode] = entry
    label = "compiling"
    for mode, entry in best.items():
        words = f"mode {mode} takes {time_words(entry.compile_s)}, besides a start-up of {time_words(entry.startup_s)}"
        yield labelled(label, f"{words}; {_pays_back(session, entry)}")
        label = ""


def _pays_back(session: Session, compiled: Measurement) -> str:
    eager = session.find(Kind.FULL, replace(compiled.settings, compile=Settings().compile))
    if eager is None:
        return "the same settings without it were not measured"
    rates = f"{plain(compiled.rate.value)} images/s with it, {plain(eager.rate.value)} without"
    saved_s = 1 / eager.rate.value - 1 / compiled.rate.value
    if saved_s <= 0:
        return f"it does not pay here: {rates}"
    images = compiled.compile_s / saved_s
    planned = session.job.planned_images
    short = f", but only {many(planned, 'image')} are planned" if planned and images > planned else ""
    return f"pays back after {plain(images / max(1, session.job.samples))} epochs ({rates}){short}"


def policy_lines(session: Session) -> Iterator[Line]:
    """List what every policy costs at each placement, where the strength was left open."""
    if not session.policies:
        return
    free = reference_rate(session.policies)
    yield Line()
    rows = [(entry.policy, entry.placement, *cost_cells(entry, free)) for entry in session.policies]
    yield from table(("policy", "placement", "cost", "images/s"), rows)
    yield Line(lead="  ", text="(of the images/s without augmentation, 95% intervals)", style="dim")
    yield Line()


def cost_cells(entry: PolicyCost, free: float) -> tuple[str, str]:
    """Return what a policy costs and the images/s under it, for a table; ``free`` is the rate without a policy."""
    cost, rate = f"{1 - entry.rate / free:.0%}", plain(entry.rate)
    if not entry.measured:
        return f"{max(0.0, 1 - entry.rate / free):.0%} predicted", f"{rate} predicted"
    if entry.low == entry.high:
        return cost.replace("-0%", "0%"), rate
    return f"{cost} ({1 - entry.high / free:.0%} to {1 - entry.low / free:.0%})", (
        f"{rate} ({plain(entry.low)} to {plain(entry.high)})"
    )
