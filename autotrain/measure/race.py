"""The race: what loading an image costs in one process, for many ways of loading it, side by side."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import torch

from autotrain.data.reader import Reader
from autotrain.data.stream import Stream, Ticket
from autotrain.engine.rig import warm_reader
from autotrain.errors import AutotrainError
from autotrain.measure.clock import Clock
from autotrain.measure.measurement import Kind, Measurement, Window
from autotrain.settings import Settings
from autotrain.workload import Workload

TURNS = 6
"""Windows of each entrant."""

TURN_S = 0.06
"""Seconds that a window of the first entrant is to take; the others load the same images."""

MOST_IMAGES, FEWEST_IMAGES = 256, 2


def race(
    workload: Workload,
    entrants: Sequence[Settings],
    *,
    clock: Clock,
    turns: int = TURNS,
    seed: int = 0,
) -> tuple[list[Measurement], list[tuple[Settings, str]]]:
    """Load the same images under each settings in turn, in random order, with one thread and without a loader.

    Returns:
        One input measurement (at 0 workers) per entrant, each window the same images for all; and the entrants that
        failed, with the reason.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a worker
    try:
        return _race(workload, entrants, clock, turns, random.Random(seed))
    finally:
        torch.set_num_threads(threads)


def _race(
    workload: Workload, entrants: Sequence[Settings], clock: Clock, turns: int, order: random.Random
) -> tuple[list[Measurement], list[tuple[Settings, str]]]:
    readers: dict[Settings, tuple[Reader, Stream]] = {}
    failed: list[tuple[Settings, str]] = []
    size = 0
    for settings in entrants:
        alone = replace(settings, workers=0)
        try:
            reader, subset = warm_reader(workload, alone)
            stream = workload.stream(subset=subset)
            reader.read(stream.part(0, FEWEST_IMAGES))  # imports and first touches
            size = size or _images_per_turn(reader, stream, clock)
            readers[alone] = reader, stream
        except AutotrainError as problem:
            failed.append((settings, str(problem)))
    windows: dict[Settings, list[Window]] = {settings: [] for settings in readers}
    for turn in range(turns):
        for settings in order.sample(list(readers), len(readers)):
            reader, stream = readers[settings]
            windows[settings].append(_timed(reader, stream.part((turn + 1) * size, size), clock))
    measured = [
        Measurement(
            kind=Kind.INPUT,
            settings=settings,
            windows=tuple(entry),
            startup_s=0.0,
            warmup_steps=1,
            stationary=True,
        )
        for settings, entry in windows.items()
        if entry
    ]
    return measured, failed


def _images_per_turn(reader: Reader, stream: Stream, clock: Clock) -> int:
    started = clock.now()
    reader.read(stream.part(FEWEST_IMAGES, FEWEST_IMAGES))
    each = max(1e-6, (clock.now() - started) / FEWEST_IMAGES)
    return max(FEWEST_IMAGES, min(MOST_IMAGES, round(TURN_S / each)))




def _timed(reader: Reader, ticket: Ticket, clock: Clock) -> Window:
    cpu, started = clock.cpu_s(), clock.now()
    reader[ticket]
    ended = clock.now()
    return Window(
        steps=1,
        images=len(ticket.indices),
        wall_s=ended - started,
        wait_s=ended - started,
        cpu_main_s=clock.cpu_s() - cpu,
        cpu_workers_s=0.0,
    )
