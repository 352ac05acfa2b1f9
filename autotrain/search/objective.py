"""The objective: predicted seconds of the planned training, and the best settings by it so far."""

from __future__ import annotations

import math
from dataclasses import replace

from autotrain.data.caching import RAM
from autotrain.diagnose.demand import predict
from autotrain.measure.contender import LED_IN, HeatOptions
from autotrain.measure.heat import Cost
from autotrain.measure.measurement import Kind, Measurement
from autotrain.measure.session import Session
from autotrain.settings import Settings

OPEN_END_IMAGES = 1_000_000
"""Images that a training planned by wall-clock is judged by: enough for start-up not to matter."""


def training_s(session: Session, measurement: Measurement) -> float:
    """Return the predicted seconds of the planned training: start-up, compiling, and its images at the measured rate.

    A cache was measured full; images that it lacks, all those of a first epoch, run at the rate without one.
    """
    begin_s = measurement.startup_s + measurement.compile_s
    return begin_s + _epochs_s(session, measurement.settings, measurement.rate.value)


def cost(session: Session, settings: Settings) -> Cost:
    """Return what a training under settings takes as a function of its rate, so far as that is known before it runs."""
    images = planned(session)
    if settings.cache == Settings().cache:
        return Cost(images=images)
    filling = filling_images(session, settings)
    return Cost(fixed_s=filling / uncached_rate(session, settings), images=max(1, images - filling))


def predicted_s(session: Session, settings: Settings) -> float | None:
    """Return the same for settings that were not measured in full, start-up left out; None where nothing is known."""
    rate = predict(session, settings)
    return None if rate is None else _epochs_s(session, settings, rate)


def least_needed(session: Session, measurement: Measurement) -> float:
    """Return the images/s, over a whole training, below which settings are slower than the measured ones for certain.

    It is the lower end of the measured rate, less what filling a cache costs.
    """
    rate = measurement.rate
    return planned(session) / _epochs_s(session, measurement.settings, rate.value) * (rate.low / rate.value)


def planned(session: Session) -> int:
    """Return the images of the planned training, or many where it is planned by wall-clock."""
    return session.job.planned_images or OPEN_END_IMAGES


def _epochs_s(session: Session, settings: Settings, rate: float) -> float:
    images = planned(session)
    if settings.cache == Settings().cache:
        return images / rate
    filling = filling_images(session, settings)
    return filling / min(rate, uncached_rate(session, settings)) + (images - filling) / rate


def caches(session: Session, settings: Settings) -> int:
    """Return how many caches share out the images: one in memory for each process, one on disk for each machine."""
    return session.job.processes if settings.cache == RAM else session.job.machines


def filling_images(session: Session, settings: Settings) -> int:
    """Return how many images of the planned training are not in a cache yet.

    With one cache they are those of the first epoch. Of several each sees an ever other part of every epoch: after
    ``n`` epochs an image has been through one of ``W`` with probability ``1 - (1 - 1/W)**n``.
    """
    images, samples, count = planned(session), session.job.samples, caches(session, settings)
    seen = 1.0 - math.pow(1.0 - 1.0 / count, images / samples)
    return min(images, round(count * samples * seen))


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


def step_s(session: Session, settings: Settings) -> float:
    """Return the seconds of a step: as measured, else as predicted, else the default's."""
    measured = session.find(Kind.FULL, settings)
    rate = measured.rate.value if measured else predict(session, settings) or session.of(Kind.FULL)[0].rate.value
    return session.job.batch_size / rate


def turn_cost_s(session: Session, settings: Settings, options: HeatOptions) -> float:
    """Return the seconds that a turn takes, with the step before it that workers need."""
    step = step_s(session, settings)
    if settings.workers and step <= options.lead_in_s:
        return step + max(options.turn_s, LED_IN * step)
    return max(options.turn_s, step)
