"""Trouble in a training, in words: on the terminal, or as warnings where nobody watches."""

from __future__ import annotations

import logging

from autotrain.engine.events import CheckpointFailed, FitEvent, Halved, SlowedDown, Trouble
from autotrain.report.words import plain

log = logging.getLogger("autotrain")


def trouble_words(event: Trouble) -> str:
    """Say what happened, in a line."""
    match event:
        case Halved():
            words = f"step {event.step:,}: out of memory; batches pass the model in {event.parts} parts from here on"
            return words + (", whose batch statistics are those of smaller batches" if event.batch_statistics else "")
        case SlowedDown():
            reasons = "; ".join(event.reasons) or "nothing on this machine explains it"
            rates = f"{plain(event.images_per_s)} images/s, {plain(event.expected)} were expected"
            return f"step {event.step:,}: {rates}: {reasons}"
        case CheckpointFailed():
            return f"{event.reason}; training does not stop for that"


def log_trouble(event: FitEvent) -> None:
    """Observe a training that nobody watches: warn of what goes wrong."""
    if isinstance(event, Trouble):
        log.warning("%s", trouble_words(event))
