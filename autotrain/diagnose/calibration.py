"""Calibration: how far the contention model was off in a session's bursts so far, by the way in which they ran."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from autotrain.diagnose.contention import Limit
from autotrain.settings import Settings

PRIOR = 2.0
"""Bursts of a way that a factor of 1 counts as."""

FURTHEST = math.log(2.0)
"""One burst counts as at most so far off, in logarithms: more is an accident and not the model."""

SHARED = (Limit.CORES, Limit.LOADING_CORES)


@dataclass(frozen=True, slots=True)
class Way:
    """What settings have in common that the model is off by for the same reasons."""

    loader: str
    """``serial``, ``processes`` or ``threads``."""

    shared: bool
    """Whether cores bind that loading has to share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Factors on predictions."""

    overall: float = 1.0
    """For a way that was not measured yet: what all have in common, such as a machine that drifts."""

    factors: Mapping[Way, float]

    def factor(self, way: Way) -> float:
        """Return what a prediction is multiplied with."""
        return self.factors.get(way, self.overall)


def way(settings: Settings, limit: Limit) -> Way:
    """Return the way in which settings run, given what the model says binds them."""
    return Way("serial" if settings.workers == 0 else settings.loader, limit in SHARED)


def calibrate(seen: Iterable[tuple[Way, float]]) -> Calibration:
    """Return factors from bursts, each with its measured rate over the uncalibrated prediction.

    Geometric means, shrunk: those of a way to the overall one, that one to 1, each as by ``PRIOR`` bursts.
    """
    logs: dict[Way, list[float]] = {}
    for where, ratio in seen:
        logs.setdefault(where, []).append(max(-FURTHEST, min(FURTHEST, math.log(ratio))))
    every = [entry for entries in logs.values() for entry in entries]
    overall = sum(every) / (len(every) + PRIOR)
    return Calibration(
        overall=math.exp(overall),
        factors={
            where: math.exp((sum(entries) + PRIOR * overall) / (len(entries) + PRIOR))
            for where, entries in logs.items()
        },
    )
