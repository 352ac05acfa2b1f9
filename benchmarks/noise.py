"""Recorded noise: long interleaved runs of two settings, from which duels are replayed by the thousand.

``null.py`` and ``coverage.py`` replay the latest recording in ``results/``. This script makes one: 25 minutes on
2 cores; --quick 6, too short to know the true ratio well.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torchvision
from common import RESULTS, finish, options, photographs, small_cnn

from autotrain.measure.heat import heat
from autotrain.preparation import prepare_workload
from autotrain.search.duel import DuelOptions, Turns, all_pairs
from autotrain.settings import Settings
from autotrain.stats.compare import Comparison, compare
from autotrain.task import Task

SECONDS, QUICK_SECONDS = 360.0, 90.0
"""Length of one recording."""

BLOCK = 8
"""Consecutive pairs that are replayed together, so that what correlates neighbours stays."""

Places = npt.NDArray[np.int64]
Side = npt.NDArray[np.float64]
"""Rates in images/s and durations in seconds, by pair."""

OPTIONS = replace(DuelOptions(), most_pairs=60)
"""Of a replayed duel: as a probe has it on a small machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """Paired rates of two settings, in images/s, and the seconds that they were measured over."""

    name: str
    equal: bool
    """Whether the two settings are the same."""

    baseline: tuple[float, ...]
    candidate: tuple[float, ...]
    baseline_seconds: tuple[float, ...]
    candidate_seconds: tuple[float, ...]


def pairs_of_settings(folder: Path) -> Iterator[tuple[str, Task, Settings, Settings]]:
    """Yield what is recorded: a name, a task, and two settings."""
    own = Settings(augmentation="crop")
    fast = replace(own, workers=2, threads=1, memory_format="channels_last")
    classes = len([entry for entry in folder.iterdir() if entry.is_dir()])
    torch.manual_seed(0)
    small = Task(model=small_cnn(classes), dataset=folder, image_size=64, batch_size=16)
    resnet = Task(model=torchvision.models.resnet18(num_classes=classes), dataset=folder, image_size=64, batch_size=16)
    yield "small CNN, no worker, equal", small, own, own
    yield "small CNN, 2 workers, equal", small, fast, fast
    yield "small CNN, 2 workers and channels-last against none", small, own, fast
    yield "resnet18, channels-last against contiguous", resnet, own, replace(own, memory_format="channels_last")


def recordings() -> list[Recording]:
    """Return the latest recording.

    Raises:
        SystemExit: there is none.
    """
    kept = sorted(RESULTS.glob("noise-*.json"))
    if not kept:
        raise SystemExit("no recorded noise: run benchmarks/noise.py first")
    print(f"replayed from {kept[-1].name}")
    found = json.loads(kept[-1].read_text())["recordings"]
    return [Recording(**{name: tuple(v) if isinstance(v, list) else v for name, v in e.items()}) for e in found]


def main() -> None:
    arguments = options(__doc__ or "")
    seconds = QUICK_SECONDS if arguments.quick else SECONDS
    made = [_record(*entry, seconds) for entry in pairs_of_settings(photographs(arguments.data))]
    kept = [
        {
            "name": entry.name,
            "equal": entry.equal,
            "baseline": [round(rate, 2) for rate in entry.baseline],
            "candidate": [round(rate, 2) for rate in entry.candidate],
            "baseline_seconds": [round(second, 4) for second in entry.baseline_seconds],
            "candidate_seconds": [round(second, 4) for second in entry.candidate_seconds],
        }
        for entry in made
    ]
    finish("noise", {"recordings": kept}, [], arguments)


def _record(name: str, task: Task, baseline: Settings, candidate: Settings, seconds: float) -> Recording:
    workload = prepare_workload(task)
    equal = baseline == candidate
    endless = replace(OPTIONS.heat, rounds=100_000, limit_s=seconds)
    result = heat(workload, (baseline, candidate), options=endless)
    first, second = result.lanes
    rates = f"{np.mean(first.rates):.0f} and {np.mean(second.rates):.0f} images/s"
    print(f"{name}: {len(first.rates)} pairs, {rates}", flush=True)
    return Recording(
        name=name,
        equal=equal,
        baseline=first.rates,
        candidate=second.rates,
        baseline_seconds=first.seconds,
        candidate_seconds=second.seconds,
    )


def sides(entry: Recording) -> tuple[Side, Side]:
    """Return rates and seconds of both settings, (2, pairs) each."""
    return (
        np.asarray([entry.baseline, entry.baseline_seconds]),
        np.asarray([entry.candidate, entry.candidate_seconds]),
    )


def places(count: int, options: DuelOptions, draws: np.random.Generator) -> Places:
    """Return which recorded pairs a replayed duel meets at most: blocks of neighbours in random order."""
    starts = draws.integers(0, count, size=-(-options.most_pairs // BLOCK))
    return ((starts[:, None] + np.arange(BLOCK)) % count).ravel()[: options.most_pairs]


def replayed(baseline: Side, candidate: Side, options: DuelOptions, met: Places) -> Comparison:
    """Replay one duel from recorded pairs, its two stages as in a live one."""
    drawn = baseline[:, met], candidate[:, met]
    length = all_pairs(*(_turns(side[:, : options.pairs]) for side in drawn), options)
    return compared(*(side[:, :length] for side in drawn))


def compared(baseline: Side, candidate: Side) -> Comparison:
    """Compare as a duel does."""
    return compare(baseline[0], candidate[0], seconds=(baseline[1], candidate[1]))


def _turns(side: Side) -> Turns:
    return Turns(rates=tuple(side[0].tolist()), seconds=tuple(side[1].tolist()))


if __name__ == "__main__":
    main()


__all__ = ["OPTIONS", "Recording", "compared", "places", "recordings", "replayed", "sides"]
