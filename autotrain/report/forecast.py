"""What the contention model foretold, how well, and what it expects of other machines."""

from __future__ import annotations

from collections.abc import Iterator

from autotrain.diagnose.accuracy import accuracy
from autotrain.diagnose.contention import Limit
from autotrain.diagnose.what_if import what_if
from autotrain.measure.session import Session
from autotrain.report.lines import Line, labelled, table
from autotrain.report.words import many, plain
from autotrain.settings import Settings

MOST_ROWS = 6
"""Rows of the table; where there are more scenarios, those that change nothing are left out first."""

FLAT = 0.02
"""Share of the rate as it is by which a scenario must differ to change anything."""

BINDING = {
    Limit.SERIAL: "loading, then training",
    Limit.TRAINING: "training",
    Limit.LOADING: "loading",
    Limit.CORES: "the shared cores",
    Limit.LOADING_CORES: "the loading cores",
    Limit.HOST: "the training process",
    Limit.BUS: "copies to the device",
}
"""What binds, in the few words that a table has room for."""


def accuracy_lines(session: Session) -> Iterator[Line]:
    """Tell how far the predictions of a probe were off."""
    found = accuracy(session)
    words = found.describe()
    if words:
        yield labelled("predictions", words)
    if found.slack is not None and found.slack.violations:
        exceeded = many(len(found.slack.violations), "burst")
        yield labelled("", f"{exceeded} exceeded the bound: a candidate may have been left out wrongly", style="yellow")


def what_if_lines(session: Session, settings: Settings) -> Iterator[Line]:
    """Tell what the contention model expects of other machines and models."""
    scenarios = what_if(session, settings)
    others = [entry for entry in scenarios if entry.extrapolated]
    if not others:
        return
    now = next(entry for entry in scenarios if not entry.extrapolated)
    flat = [entry for entry in others if abs(entry.per_s / now.per_s - 1) < FLAT]
    surplus = flat[: max(0, 1 + len(others) - MOST_ROWS)]
    kept = [entry for entry in others if entry not in surplus][: MOST_ROWS - 1]
    rows = [(entry.change, plain(entry.per_s), BINDING[entry.limit]) for entry in (now, *kept)]
    yield Line()
    yield from table(("what if (predicted, not measured)", "images/s", "what binds"), rows)
