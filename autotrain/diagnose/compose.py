"""Composition: what training alone should reach under settings of which only parts were measured.

An additive model of the logarithm of the rate: an effect per value of a knob, and one for precision and memory format
together, which help or hinder each other. Fitted by least squares over the measured ceilings.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from autotrain.diagnose.components import Ceiling, Components, Key, components, training_key
from autotrain.measure.session import Session
from autotrain.settings import Settings, Value

PAIR = ("precision", "memory_format")
"""The knobs that interact."""

DAMPING = 1e-3
"""Weight of an effect against a measurement: where two effects were only seen together, each gets a half."""

Effect = tuple[tuple[str, Value], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Additive:
    """The fitted effects on log images/s, against the reference settings."""

    reference: Mapping[str, Value]
    effects: Mapping[Effect, float]
    level: float | None
    """Log images/s of the reference; None where nothing was measured."""

    def rate(self, place: Key) -> float | None:
        """Return the images/s of a combination, None where a value in it was never measured."""
        if self.level is None:
            return None
        changes = _changes(place, self.reference)
        if any((change,) not in self.effects for change in changes):
            return None
        return math.exp(self.level + sum(self.effects.get(effect, 0.0) for effect in _effects(changes)))


def estimate_compute(session: Session, settings: Settings) -> float | None:
    """Return the images/s of training alone: measured, else composed of measured ones, None where that is not possible.

    A value that was never measured, in whatever company, cannot be composed.
    """
    known = components(session)
    place = training_key(settings)
    measured = known.training.get(place)
    return measured.rate if measured is not None else additive(known, training_key(session.default)).rate(place)


def composed_ceiling(known: Components, default: Settings, settings: Settings) -> tuple[float, float] | None:
    """Return images/s of training alone as composed, and the cores that are busy meanwhile; None where not possible."""
    place = training_key(settings)
    rate = additive(known, training_key(default)).rate(place)
    return None if rate is None else (rate, _busy_cores(known.training, place))


def additive(known: Components, reference: Key) -> Additive:
    """Return the model fitted to what is known; kept for the last few sessions."""
    return _fitted(_Same(known), reference)


class _Same:
    """Components as the key of a cache, compared by identity."""

    __slots__ = ("known",)

    def __init__(self, known: Components) -> None:
        self.known = known

    def __hash__(self) -> int:
        return id(self.known)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.known is other.known


@lru_cache(maxsize=8)
def _fitted(same: _Same, reference: Key) -> Additive:
    own = dict(reference)
    rows = {_changes(place, own): math.log(ceiling.rate) for place, ceiling in same.known.training.items()}
    effects = list(dict.fromkeys(effect for changes in rows for effect in _effects(changes)))
    if not rows:
        return Additive(reference=own, effects={}, level=None)
    logs = np.array(list(rows.values()))
    design: npt.NDArray[np.float64] = np.zeros((len(rows), len(effects) + 1))
    design[:, -1] = 1.0
    for row, changes in enumerate(rows):
        for effect in _effects(changes):
            design[row, effects.index(effect)] = 1.0
    damping = np.diag([math.sqrt(DAMPING)] * len(effects) + [0.0])
    # What is damped is the distance to no effect; the level itself is free.
    solution, *_ = np.linalg.lstsq(
        np.vstack([design, damping]), np.concatenate([logs, np.zeros(len(damping))]), rcond=None
    )
    return Additive(
        reference=own,
        effects=dict(zip(effects, solution[:-1].tolist(), strict=True)),
        level=float(solution[-1]),
    )


def _changes(place: Key, reference: Mapping[str, Value]) -> Effect:
    return tuple(entry for entry in place if reference.get(entry[0]) != entry[1])


def _effects(changes: Effect) -> Iterable[Effect]:
    """Return the effects that a combination has: one per change, and one for the pair that interacts."""
    pair = tuple(change for change in changes if change[0] in PAIR)
    alone = tuple((change,) for change in changes)
    return (*alone, pair) if len(pair) == len(PAIR) else alone


def _busy_cores(training: Mapping[Key, Ceiling], place: Key) -> float:
    """Return the CPU seconds per second of the measured ceiling that shares most with a combination, threads first."""
    wanted = dict(place)

    def likeness(entry: tuple[Key, Ceiling]) -> tuple[bool, int]:
        values = dict(entry[0])
        shared = sum(wanted.get(name) == value for name, value in values.items())
        return values.get("threads") == wanted.get("threads"), shared

    _, nearest = max(training.items(), key=likeness)
    return nearest.cpu_s * nearest.rate
