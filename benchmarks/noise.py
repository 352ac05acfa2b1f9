"""Recorded noise: long interleaved runs of two settings, from which duels are replayed by the thousand.

Not a benchmark of its own: ``null.py`` and ``coverage.py`` call ``recordings``, which reads today's recording or makes
one (about 16 minutes on 2 cores; --quick about 6).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from common import RESULTS, photographs, provenance, small_cnn

from autotrain.measure.heat import heat
from autotrain.preparation import prepare_workload
from autotrain.search.duel import DuelOptions, all_pairs
from autotrain.settings import Settings
from autotrain.stats.compare import Comparison, compare
from autotrain.task import Task

SECONDS, QUICK_SECONDS = 240.0, 90.0
"""Length of one recording."""

BLOCK = 8
"""Consecutive pairs that are replayed together, so that what correlates neighbours stays."""

STRETCH = 24
"""Pairs of a stretch: every other stretch belongs to the long run that tells the true ratio, the rest to the duels."""

OPTIONS = replace(DuelOptions(), most_pairs=60)
"""Of a replayed duel: as a probe has it on a small machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """Paired rates of two settings, in images/s."""

    name: str
    equal: bool
    """Whether the two settings are the same."""

    baseline: tuple[float, ...]
    candidate: tuple[float, ...]


def pairs_of_settings(folder: Path) -> Iterator[tuple[str, Task, Settings, Settings]]:
    """Yield what is recorded: a name, a task, and two settings."""
    own = Settings(augmentation="crop")
    fast = replace(own, workers=2, threads=1, memory_format="channels_last")
    classes = len([entry for entry in folder.iterdir() if entry.is_dir()])
    torch.manual_seed(0)
    small = Task(model=small_cnn(classes), dataset=folder, image_size=64, batch_size=32)
    resnet = Task(model=torchvision.models.resnet18(num_classes=classes), dataset=folder, image_size=64, batch_size=16)
    yield "small CNN, no worker, equal", small, own, own
    yield "small CNN, 2 workers, equal", small, fast, fast
    yield "small CNN, 2 workers and channels-last against none", small, own, fast
    yield "resnet18, channels-last against contiguous", resnet, own, replace(own, memory_format="channels_last")


def recordings(arguments: argparse.Namespace) -> list[Recording]:
    """Return today's recordings, made now if there are none."""
    kept = RESULTS / f"noise-{datetime.now(UTC):%Y-%m-%d}.json"
    if not kept.exists():
        seconds = QUICK_SECONDS if arguments.quick else SECONDS
        made = [_record(*entry, seconds) for entry in pairs_of_settings(photographs(arguments.data))]
        content: dict[str, Any] = {"benchmark": "noise", "quick": arguments.quick, **provenance()}
        content["recordings"] = [
            {
                "name": entry.name,
                "equal": entry.equal,
                "baseline": [round(rate, 2) for rate in entry.baseline],
                "candidate": [round(rate, 2) for rate in entry.candidate],
            }
            for entry in made
        ]
        RESULTS.mkdir(exist_ok=True)
        kept.write_text(json.dumps(content) + "\n")
    found = json.loads(kept.read_text())["recordings"]
    return [Recording(**{name: tuple(v) if isinstance(v, list) else v for name, v in e.items()}) for e in found]


def _record(name: str, task: Task, baseline: Settings, candidate: Settings, seconds: float) -> Recording:
    workload = prepare_workload(task)
    equal = baseline == candidate
    options = OPTIONS.heat_options(100_000)
    result = heat(workload, (baseline, candidate), options=replace(options, limit_s=seconds))
    first, second = result.lanes
    print(f"{name}: {len(first.rates)} pairs, {np.mean(first.rates):.0f} and {np.mean(second.rates):.0f} images/s")
    return Recording(name=name, equal=equal, baseline=first.rates, candidate=second.rates)


def replayed(
    baseline: Sequence[float], candidate: Sequence[float], options: DuelOptions, draws: np.random.Generator
) -> Comparison:
    """Replay one duel from recorded pairs: blocks of neighbours in random order, its two stages as in a live one."""
    n = len(baseline)
    starts = draws.integers(0, n, size=-(-options.most_pairs // BLOCK))
    places = ((starts[:, None] + np.arange(BLOCK)) % n).ravel()[: options.most_pairs]
    first, second = np.asarray(baseline)[places], np.asarray(candidate)[places]
    head = options.pairs
    length = all_pairs(first[:head].tolist(), second[:head].tolist(), options)
    return compare(first[:length].tolist(), second[:length].tolist())


def stretches(entry: Recording) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Return a recording's long run and the pairs for its duels: every other stretch each."""
    baseline, candidate = np.asarray(entry.baseline), np.asarray(entry.candidate)
    odd = (np.arange(len(baseline)) // STRETCH) % 2 == 1
    return (baseline[~odd], candidate[~odd]), (baseline[odd], candidate[odd])


__all__ = ["OPTIONS", "Recording", "recordings", "replayed", "stretches"]
