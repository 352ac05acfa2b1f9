"""The race: what loading an image costs in one process, for many ways of loading it, side by side."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from autotrain.data.batch import Failure, HostBatch
from autotrain.data.loader import Loader
from autotrain.data.reader import Reader
from autotrain.data.stream import Stream, Ticket
from autotrain.decode.decoder import decoder
from autotrain.engine.rig import loader_options, warm_reader
from autotrain.errors import AutotrainError
from autotrain.measure.clock import Clock
from autotrain.measure.failure import candidate
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
    """Load the same images under each settings in turn, in random order, with one thread.

    Entrants that need another Pillow race among themselves in a worker of their own, the others in this process.

    Returns:
        One input measurement (at 0 workers) per entrant, each window the same images for all; and the entrants that
        failed, with the reason.
    """
    alone = list(dict.fromkeys(replace(settings, workers=0) for settings in entrants))
    here = [settings for settings in alone if decoder(settings.decoder).misplaced() is None]
    there = [settings for settings in alone if settings not in here]
    order = random.Random(seed)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a worker
    try:
        readers, failed = _readers(workload, here)
        try:
            windows, size = _in_this_process(readers, clock, turns, order)
        finally:
            for reader, _ in readers.values():
                reader.close()
    finally:
        torch.set_num_threads(threads)
    if there:
        try:
            with candidate():
                windows |= _in_a_worker(workload, there, clock, turns, size)
        except AutotrainError as problem:
            failed += [(settings, str(problem)) for settings in there]
    return [_measurement(settings, entry) for settings, entry in windows.items() if entry], failed


def _readers(
    workload: Workload, entrants: Sequence[Settings]
) -> tuple[dict[Settings, tuple[Reader, Stream]], list[tuple[Settings, str]]]:
    readers: dict[Settings, tuple[Reader, Stream]] = {}
    failed: list[tuple[Settings, str]] = []
    whole = workload.stream()
    for settings in entrants:
        try:
            with candidate():
                reader, subset = warm_reader(workload, settings)
                stream = whole if subset is None else workload.stream(subset=subset)
                reader.read(stream.part(0, FEWEST_IMAGES))  # imports and first touches
            readers[settings] = reader, stream
        except AutotrainError as problem:
            failed.append((settings, str(problem)))
    return readers, failed


def _in_this_process(
    readers: dict[Settings, tuple[Reader, Stream]], clock: Clock, turns: int, order: random.Random
) -> tuple[dict[Settings, list[Window]], int]:
    windows: dict[Settings, list[Window]] = {settings: [] for settings in readers}
    size = FEWEST_IMAGES
    if readers:
        size = _images_per_turn(*next(iter(readers.values())), clock)
    for turn in range(turns):
        for settings in order.sample(list(readers), len(readers)):
            reader, stream = readers[settings]
            windows[settings].append(_timed(reader, stream.part((turn + 1) * size, size), clock))
    return windows, size


class _Relay(Reader):
    """Reads by several readers in turn: step ``i`` by the i-th, round and round."""

    def __init__(self, readers: Sequence[Reader]) -> None:
        super().__init__(readers[0].source, readers[0].recipe)
        self._readers = tuple(readers)

    def __getitem__(self, ticket: Ticket) -> HostBatch | Failure:
        return self._readers[ticket.step % len(self._readers)][ticket]


class _Rounds:
    """The tickets of a race: every reader gets the same images in a round."""

    def __init__(self, stream: Stream, entrants: int, size: int) -> None:
        self._stream, self._entrants, self._size = stream, entrants, size

    def tickets(self, start: int = 0, stop: int | None = None) -> Iterator[Ticket]:
        """Yield tickets without end; the first round is for warming up."""
        del stop
        for step in itertools.count(start):
            part = self._stream.part(step // self._entrants * self._size, self._size)
            yield replace(part, step=step)


def _in_a_worker(
    workload: Workload, entrants: Sequence[Settings], clock: Clock, turns: int, size: int
) -> dict[Settings, list[Window]]:
    """Race in one worker process; while batches are only waited for, the time between two is the work on one."""
    side = {settings: replace(settings, workers=1, prefetch=1, loader="processes") for settings in entrants}
    options = loader_options(side[entrants[0]])
    relay = _Relay([warm_reader(workload, settings)[0] for settings in entrants])
    windows: dict[Settings, list[Window]] = {settings: [] for settings in entrants}
    with Loader(relay, _Rounds(workload.stream(), len(entrants), size), options) as loader:
        for _ in range(len(entrants)):
            next(loader)
        before, cpu = clock.now(), clock.workers_cpu_s(loader.pids)
        for _ in range(turns):
            for settings in entrants:
                batch = next(loader)
                now, used = clock.now(), clock.workers_cpu_s(loader.pids)
                windows[settings].append(_window(batch.count, now - before, used - cpu))
                before, cpu = now, used
    return windows


def _images_per_turn(reader: Reader, stream: Stream, clock: Clock) -> int:
    started = clock.now()
    reader.read(stream.part(FEWEST_IMAGES, FEWEST_IMAGES))
    each = max(1e-6, (clock.now() - started) / FEWEST_IMAGES)
    return max(FEWEST_IMAGES, min(MOST_IMAGES, round(TURN_S / each)))


def _timed(reader: Reader, ticket: Ticket, clock: Clock) -> Window:
    cpu, started = clock.cpu_s(), clock.now()
    reader[ticket]
    return _window(len(ticket.indices), clock.now() - started, clock.cpu_s() - cpu)


def _window(images: int, wall_s: float, cpu_s: float) -> Window:
    return Window(steps=1, images=images, wall_s=wall_s, wait_s=wall_s, cpu_main_s=cpu_s, cpu_workers_s=0.0)


def _measurement(settings: Settings, windows: Sequence[Window]) -> Measurement:
    return Measurement(
        kind=Kind.INPUT,
        settings=settings,
        windows=tuple(windows),
        startup_s=0.0,
        warmup_steps=1,
        stationary=True,
    )
