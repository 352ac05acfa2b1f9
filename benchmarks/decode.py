"""Question: how fast is each decoder per core, and how near is its picture to Pillow's?

Every decoder that is available here, with both resize kernels, on the same photographs and the same random resized
crops: decode, crop and resize in one thread, files in memory. Rates are images per second of CPU time, which neighbours
on the machine disturb least; Pillow-SIMD runs in a process of its own. Bars:
- at 64 px the fastest decoder gives at least 1.8 times the images/s of Pillow with Pillow's resize;
- at 224 px at least 1.2 times.
Takes about 2 minutes; --quick about half a minute. Meant for photographs of some 400 by 500 pixels: give --data.
"""

from __future__ import annotations

import multiprocessing
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from time import process_time
from typing import Any

import numpy as np
import torch
from common import column, finish, options, photographs, ratio

from autotrain.augment.geometry import crop_window
from autotrain.augment.policy import policy
from autotrain.decode import simd
from autotrain.decode.dali import BatchDecoder
from autotrain.decode.decoder import DECODERS, decoder
from autotrain.decode.resize import KERNELS, resize_window
from autotrain.stats.summary import summarize

BARS = {64: 1.8, 224: 1.2}
REFERENCE = ("pillow", "pillow")


class Bench:
    """Decodes the same files in any way, and says how long that took. Picklable, for the process with Pillow-SIMD."""

    def __init__(self, files: list[bytes]) -> None:
        self.files = files
        self.geometry = policy("crop").draw(0, 0, np.arange(len(files))).geometry
        self.batches: dict[str, BatchDecoder] = {}

    def turn(self, name: str, kernel: str, size: int) -> tuple[float, np.ndarray[Any, Any]]:
        """Return images per CPU second, and the images."""
        torch.set_num_threads(1)
        choices = [self._choice(place) for place in range(len(self.files))]
        out = np.empty((len(self.files), size, size, 3), dtype=np.uint8)
        started = process_time()
        if name == "dali":
            batch = self.batches.setdefault(kernel, BatchDecoder(channels=3, kernel=kernel))
            batch.decode_batch(self.files, choices, size, out)
        else:
            way = decoder(name)
            for data, choose, place in zip(self.files, choices, out, strict=True):
                decoded = way.decode(data, channels=3, choose=choose, size=size)
                resize_window(decoded.pixels, decoded.window, size, place, kernel=kernel)
        return len(self.files) / (process_time() - started), out

    def _choice(self, place: int) -> Callable[[int, int], Any]:
        return lambda height, width: crop_window(self.geometry[place], height, width)

    def close(self) -> None:
        """End DALI's threads."""
        for batch in self.batches.values():
            batch.close()


def serve(bench: Bench, calls: Any) -> None:
    """Take turns on request; runs in the process with Pillow-SIMD."""
    assert simd.misplaced() is None, simd.misplaced()
    while (call := calls.recv()) is not None:
        calls.send(bench.turn(*call))


@contextmanager
def child(bench: Bench) -> Iterator[Callable[..., Any] | None]:
    """Start a process whose Pillow is Pillow-SIMD; give a function that takes turns in it, None where there is none."""
    directory = simd.installed()
    if directory is None:
        yield None
        return
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(bench, there))
    with simd.first_on_path(directory):
        process.start()

    def turn(*call: Any) -> Any:
        here.send(call)
        return here.recv()

    try:
        yield turn
    finally:
        here.send(None)
        process.join()


def main() -> None:
    arguments = options(__doc__ or "")
    paths = sorted(photographs(arguments.data).glob("*/*.jp*g"))
    files = [path.read_bytes() for path in random.Random(0).sample(paths, min(48, len(paths)))]
    rounds = 10 if arguments.quick else 40
    bench, result, missed = Bench(files), {}, []
    print(f"{len(files)} files of {np.mean([len(data) for data in files]) / 1000:.0f} KB, {simd.in_use()}")
    with ExitStack() as stack:
        stack.callback(bench.close)
        elsewhere = stack.enter_context(child(bench))
        ways = list(contenders(elsewhere))
        for size, bar in BARS.items():
            rows, gaps = measure(bench, elsewhere, ways, size, rounds)
            result[str(size)] = table(rows, gaps, ways, size)
            best = max(ways[1:], key=lambda way: ratio(rows, 0, ways.index(way)).ratio.value)
            gain = ratio(rows, 0, ways.index(best)).ratio
            print(f"fastest at {size} px: {' + '.join(best)}, {gain:.2f} times Pillow (bar: {bar})\n")
            if gain.value < bar:
                missed.append(f"{size} px: {' + '.join(best)} is {gain:.2f} times as fast as Pillow, not {bar}")
    finish("decode", {"files": len(files), "sizes": result}, missed, arguments)


def contenders(elsewhere: Any) -> Iterator[tuple[str, str]]:
    """Give the pairs of decoder and resize kernel that can run here, the reference first; name the others."""
    for entry in DECODERS:
        reason = entry.unavailable()
        if reason is None and entry.misplaced() is not None and elsewhere is None:
            reason = entry.misplaced()
        if reason is not None or entry.name == "nvjpeg":
            print(f"  {entry.name}: {reason or 'decodes on the device'}")
            continue
        yield from ((entry.name, kernel) for kernel in KERNELS)


def measure(
    bench: Bench, elsewhere: Any, ways: list[tuple[str, str]], size: int, rounds: int
) -> tuple[list[tuple[float, ...]], list[float]]:
    """Return images/s, one tuple per round, and each way's mean difference from the reference in levels."""

    def turn(way: tuple[str, str]) -> tuple[float, Any]:
        where = elsewhere if decoder(way[0]).misplaced() is not None else bench.turn
        rate, images = where(*way, size)
        return rate, images

    images = [turn(way)[1].astype(np.int16) for way in ways]  # warms up, too
    gaps = [float(np.abs(entry - images[0]).mean()) for entry in images]
    order, rows = random.Random(0), []
    for _ in range(rounds):
        rates = [0.0] * len(ways)
        for place in order.sample(range(len(ways)), len(ways)):
            rates[place] = turn(ways[place])[0]
        rows.append(tuple(rates))
    return rows, gaps


def table(
    rows: list[tuple[float, ...]], gaps: list[float], ways: list[tuple[str, str]], size: int
) -> list[dict[str, Any]]:
    """Print one line per way and return the same as values."""
    entries = []
    print(f"{size} px: decoder, resize, images/s per core, times Pillow, mean difference in levels")
    for place, (name, kernel) in enumerate(ways):
        rate, gain = summarize(column(rows, place)), ratio(rows, 0, place).ratio
        print(f"  {name:18s} {kernel:7s} {rate:.0f}   {gain:.2f}   {gaps[place]:.2f}")
        entries.append(
            {"decoder": name, "resize": kernel, "rate": rate.as_dict(), "ratio": gain.as_dict(), "levels": gaps[place]}
        )
    return entries


if __name__ == "__main__":
    main()
