"""The objective: predicted seconds of the planned training, and the best settings by it so far."""

from __future__ import annotations

from dataclasses import replace

from autotrain.diagnose.demand import predict
from autotrain.measure.measurement import Kind, Measurement
from autotrain.measure.session import Session
from autotrain.settings import Settings

OPEN_END_IMAGES = 1_000_000
"""Images that a training planned by wall-clock is judged by: enough for start-up not to matter."""


def training_s(session: Session, measurement: Measurement) -> float:
    """Return the predicted seconds of the planned training: start-up, and its images at the measured rate.

    A cache was measured full; the first epoch, which fills it, runs at the rate without one.
    """
    images = session.job.planned_images or OPEN_END_IMAGES
    settings, rate = measurement.settings, measurement.rate.value
    filling = 0 if settings.cache == Settings().cache else min(images, session.job.samples)
    first_s = filling / (min(rate, uncached_rate(session, settings)) if filling else 1.0)
    return measurement.startup_s + first_s + (images - filling) / rate


def uncached_rate(session: Session, settings: Settings) -> float:
    """Return the images/s of settings without their cache: measured, else predicted, else the default's."""
    without = replace(settings, cache=Settings().cache)
    measured = session.find(Kind.FULL, without)
    if measured is not None:
        return measured.rate.value
    default = session.find(Kind.FULL, session.default)
    predicted = predict(session, without)
    return predicted or (default.rate.value if default else float("inf"))


def candidates(session: Session) -> list[Measurement]:
    """Return the latest complete full burst of every settings, with the default's policy, that has not failed."""
    rejected = {entry.settings for entry in session.guards if entry.problem}
    rejected |= {entry.settings for entry in session.failures if not entry.pruned}
    latest = {entry.settings: entry for entry in session.of(Kind.FULL)}
    return [
        entry
        for settings, entry in latest.items()
        if settings not in rejected
        and settings.augmentation == session.default.augmentation
        and not entry.stopped_early
    ]


def best(session: Session) -> Measurement | None:
    """Return the burst with the shortest predicted training; of equals the one with the fewest changes."""
    return min(
        candidates(session),
        key=lambda entry: (training_s(session, entry), len(entry.settings.changes(session.default))),
        default=None,
    )
