"""Accuracy: how far predictions and bounds were off in the full bursts of a session."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from autotrain.diagnose.demand import bound, predict
from autotrain.measure.measurement import Kind, Measurement
from autotrain.measure.session import Session
from autotrain.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """Predictions against measured rates; an error is a share of the measured rate, positive where that fell short."""

    n: int
    """Bursts that there was a prediction for."""

    median: float
    """Median of the errors' sizes."""

    worst: float
    """The largest, with its sign."""

    worst_settings: Settings
    """Whose that was."""

    mean: float
    """Mean with sign: what the model flatters by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slack:
    """Bounds against measured rates; slack is the part of a bound that was not reached."""

    n: int
    """Bursts that there was a bound for."""

    median: float
    """Median slack; negative where bounds were exceeded."""

    violations: tuple[Settings, ...]
    """Those whose rate exceeded the bound by more than its 95% interval: of twenty sound bounds, hardly one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """How well a session could have been foretold; None where no burst had been."""

    errors: Errors | None
    slack: Slack | None

    def describe(self) -> str:
        """Return it for people, empty where nothing had been predicted."""
        if self.errors is None:
            return ""
        found = self.errors
        bursts = "1 burst" if found.n == 1 else f"{found.n} bursts"
        return f"off by {found.median:.0%} in the median, {abs(found.worst):.0%} at worst, over {bursts}"


def accuracy(session: Session) -> Accuracy:
    """Compare every full burst with what had been predicted when it was measured.

    Where nothing was kept, as for the default, which is measured before its parts, all of the session but the burst
    itself predicts it. Bursts that were given up early are left out: they end while they are behind.
    """
    known = foretold(session)
    return Accuracy(
        errors=_errors([(entry, predicted) for entry, predicted, _ in known if predicted is not None]),
        slack=_slack([(entry, limit) for entry, _, limit in known if limit is not None]),
    )


def foretold(session: Session) -> list[tuple[Measurement, float | None, float | None]]:
    """Return each full burst that was not given up, with the images/s that were predicted and the bound, if any."""
    bursts = [entry for entry in session.of(Kind.FULL) if not entry.stopped_early]
    return [(entry, *_foretold(session, entry)) for entry in bursts]


def _foretold(session: Session, entry: Measurement) -> tuple[float | None, float | None]:
    predicted, limit = entry.predicted, entry.bound
    if predicted is None or limit is None:
        others = replace(session, measurements=tuple(one for one in session.measurements if one is not entry))
        predicted = predict(others, entry.settings) if predicted is None else predicted
        limit = bound(others, entry.settings) if limit is None else limit
    return predicted, limit


def _errors(pairs: Sequence[tuple[Measurement, float]]) -> Errors | None:
    if not pairs:
        return None
    errors = [predicted / entry.rate.value - 1.0 for entry, predicted in pairs]
    worst = max(range(len(errors)), key=lambda place: abs(errors[place]))
    return Errors(
        n=len(errors),
        median=statistics.median(abs(error) for error in errors),
        worst=errors[worst],
        worst_settings=pairs[worst][0].settings,
        mean=statistics.fmean(errors),
    )


def _slack(pairs: Sequence[tuple[Measurement, float]]) -> Slack | None:
    if not pairs:
        return None
    return Slack(
        n=len(pairs),
        median=statistics.median(1.0 - entry.rate.value / limit for entry, limit in pairs),
        violations=tuple(entry.settings for entry, limit in pairs if entry.rate.low > limit),
    )
