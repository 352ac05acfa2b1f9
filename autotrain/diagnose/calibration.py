"""Calibration: how far the contention model was off in a session's bursts so far, and by what they had in common."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from autotrain.diagnose.components import training_key
from autotrain.diagnose.contention import Limit
from autotrain.settings import Settings

PRIOR = 6.0
"""Bursts that say there is no effect, for each of the three that a burst has: all three together weigh like 2."""

FURTHEST = math.log(2.0)
"""One burst counts as at most so far off, in logarithms: more is an accident and not the model."""

SHARED = (Limit.CORES, Limit.LOADING_CORES)
TRAINS = (Limit.TRAINING, Limit.CORES, Limit.SERIAL)
"""What binds where the ceiling of training has a part in the prediction."""

Trait = tuple[Hashable, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Effects on the logarithm of predictions, by trait; what was not seen yet has none."""

    effects: Mapping[Trait, float]

    def factor(self, settings: Settings, limit: Limit) -> float:
        """Return what a prediction is multiplied with, given what the model says binds the settings."""
        return math.exp(sum(self.effects.get(trait, 0.0) for trait in _traits(settings, limit)))


def calibrate(seen: Sequence[tuple[Settings, Limit, float]]) -> Calibration:
    """Return the effects seen in bursts, each with its measured rate over the uncalibrated prediction.

    A burst is off by what all share (a machine that drifts), by its way to load (serial, processes or threads; on
    shared cores or not) and by its ceiling of training, which was measured at another time. Ridge regression.
    """
    traits = list(dict.fromkeys(trait for settings, limit, _ in seen for trait in _traits(settings, limit)))
    places = {trait: place for place, trait in enumerate(traits)}
    design: npt.NDArray[np.float64] = np.zeros((len(seen), len(traits)))
    for row, (settings, limit, _) in enumerate(seen):
        design[row, [places[trait] for trait in _traits(settings, limit)]] = 1.0
    logs = np.array([max(-FURTHEST, min(FURTHEST, math.log(ratio))) for _, _, ratio in seen])
    found = np.linalg.solve(design.T @ design + PRIOR * np.eye(len(traits)), design.T @ logs)
    return Calibration(effects=dict(zip(traits, found.tolist(), strict=True)))


def _traits(settings: Settings, limit: Limit) -> tuple[Trait, ...]:
    loader = "serial" if settings.workers == 0 else settings.loader
    traits: tuple[Trait, ...] = (("all",), (loader, limit in SHARED))
    return (*traits, ("training", training_key(settings))) if limit in TRAINS else traits
