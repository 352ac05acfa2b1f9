"""Question: which sampler finds fast settings with the fewest measurements?

Replayed by the hundred on spaces of which every member was measured (results of choice.py), or on made ones
(--synthetic): a measurement is the member's rate with noise drawn anew, asked for in batches as the search asks. Regret
is by how much the best of the finalists, those with the best measurements, is slower, in truth, than the best of the
space. Bars:
- after 16 measurements the default sampler's median regret, averaged over the spaces, exceeds that of drawing at random
  by no more than twice the standard error of the difference between the two;
- all but two in a hundred of its replays' final choices are within 25% of the best after 32 measurements.
Takes about 40 minutes on 2 cores for the made spaces, --quick about 8.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from common import RESULTS, finish

from autotrain.knobs.base import Choices
from autotrain.knobs.registry import Space
from autotrain.search.samplers import DEFAULT, STRATEGIES
from autotrain.search.study import Study
from autotrain.settings import Settings, Value

COUNTS = (4, 8, 12, 16, 24, 32)
"""Measurements after which regret is looked at; the default's own, made before, is not among them."""

BATCH = 4
SLOW = ("gp", "linear")
"""Samplers that take up to tenths of a second per suggestion and are replayed less often."""

FINALISTS = 4
"""Settings with the best measurements that meet in a play-off, as in the search; it finds the best of them."""

RANKED = 4
"""Settings that a ranking puts first, where there is one: the first batch."""

RANK_CORRELATION = 0.8
"""Of a made ranking's logarithms with the true ones."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A space with the true rate of every member; the first member is the default."""

    name: str
    members: tuple[Settings, ...]
    rates: tuple[float, ...]
    noise: float
    """Standard deviation of a measurement's logarithm."""

    predicted: tuple[float, ...] | None = None

    @property
    def space(self) -> Space:
        """The legal space that has these members."""
        values = [entry.as_dict() for entry in self.members]
        choices = {
            entry.name: Choices(allowed=tuple(dict.fromkeys(row[entry.name] for row in values)))
            for entry in fields(Settings)
        }
        return Space(default=self.members[0], choices=choices, members=self.members)


def main() -> None:
    arguments = _arguments()
    tables = made_tables() if arguments.synthetic else recorded_tables(arguments.tables)
    seeds = 30 if arguments.quick else 200
    jobs = [
        (table, sampler.name, ranked, range(first, min(first + 10, count)))
        for table in tables
        for sampler in STRATEGIES
        for ranked in (False, True)
        for count in [max(6, seeds // 8) if sampler.name in SLOW else seeds]
        for first in range(0, count, 10)
    ]
    regrets: dict[tuple[str, str, bool], list[list[float]]] = {}
    seconds: dict[str, list[float]] = {}
    with ProcessPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as pool:
        for (table, name, ranked, _), (rows, took) in zip(jobs, pool.map(replays, jobs), strict=True):
            regrets.setdefault((table.name, name, ranked), []).extend(rows)
            seconds.setdefault(name, []).append(took)
    result = {
        "synthetic": arguments.synthetic,
        "default": DEFAULT,
        "noise": {table.name: table.noise for table in tables},
        "members": {table.name: len(table.members) for table in tables},
        "ask_s": {name: float(np.mean(took)) for name, took in seconds.items()},
        "regret_percent": [
            {"table": table, "sampler": name, "ranked": ranked, "replays": len(rows), **_summary(rows)}
            for (table, name, ranked), rows in regrets.items()
        ],
    }
    _print(result)
    finish("samplers", result, missed(regrets, [table.name for table in tables]), arguments)


def replays(job: tuple[Table, str, bool, Sequence[int]]) -> tuple[list[list[float]], float]:
    """Return the regrets in percent after each count, one row per seed, and the seconds that a suggestion takes."""
    table, sampler, ranked, seeds = job
    started, rows, asked = perf_counter(), [], 0
    for seed in seeds:
        rows.append(replay(table, sampler, ranked=ranked, seed=seed))
        asked += min(max(COUNTS), len(table.members) - 1)
    return rows, (perf_counter() - started) / asked


def replay(table: Table, sampler: str, *, ranked: bool, seed: int) -> list[float]:
    """Search once; return the regret in percent after each count of measurements."""
    draws = np.random.default_rng((seed, 1))
    rates = dict(zip(table.members, table.rates, strict=True))
    best = max(table.rates)

    def measure(settings: Settings) -> float:
        return rates[settings] * math.exp(draws.normal(0, table.noise))

    study = Study(table.space, seed=seed, path=None, name="replay", sampler=sampler)
    order = [int(place) for place in draws.permutation(len(table.members))]
    if ranked:
        predicted = table.predicted or noisy_ranking(table.rates, draws)
        order = [int(place) for place in np.argsort(-np.asarray(predicted), kind="stable")]
    expected = {table.members[place]: 1e6 / predicted[place] for place in order} if ranked else None
    study.restrict([table.members[place] for place in order], expected=expected)
    seen = {table.members[0]: measure(table.members[0])}
    study.add_known(table.members[0], 1e6 / seen[table.members[0]])
    if ranked:
        for place in [place for place in order if place != 0][:RANKED]:
            study.enqueue(table.members[place])
    regrets = []
    for count in range(BATCH, max(COUNTS) + 1, BATCH):
        for trial, settings in study.ask_batch(BATCH):
            seen[settings] = measure(settings)
            study.tell(trial, 1e6 / seen[settings])
        if count in COUNTS:
            finalists = sorted(seen, key=lambda entry: -seen[entry])[:FINALISTS]
            regrets.append(100 * (1 - max(rates[entry] for entry in finalists) / best))
    return regrets


def noisy_ranking(rates: Sequence[float], draws: np.random.Generator) -> list[float]:
    """Return what a model might predict: the logarithms with as much noise as the wanted correlation leaves."""
    logs = np.log(np.asarray(rates))
    noise = logs.std() * math.sqrt(1 / RANK_CORRELATION**2 - 1)
    return [float(value) for value in np.exp(logs + draws.normal(0, noise, len(logs)))]


def recorded_tables(path: Path | None) -> list[Table]:
    """Read the spaces that choice.py measured in full, with the settings' own order: the default first."""
    path = path or max(RESULTS.glob("choice-*.json"), default=None)
    if path is None:
        raise SystemExit(f"{RESULTS}: no result of choice.py. Run it first, or give --synthetic")
    tables = []
    for name, workload in json.loads(path.read_text())["workloads"].items():
        entries, default = workload["oracle"], Settings.from_dict(workload["default"])
        entries = sorted(entries, key=lambda entry: Settings.from_dict(entry["settings"]) != default)
        if len(entries) < BATCH or Settings.from_dict(entries[0]["settings"]) != default:
            raise SystemExit(f"{path}: the oracle of '{name}' lacks the default, or is too small")
        widths = [math.log(entry["rate"]["high"] / entry["rate"]["low"]) / 3.92 for entry in entries]
        predicted = [entry.get("predicted") for entry in entries]
        tables.append(
            Table(
                name=name,
                members=tuple(Settings.from_dict(entry["settings"]) for entry in entries),
                rates=tuple(entry["rate"]["value"] for entry in entries),
                noise=float(np.median(widths)),
                predicted=tuple(predicted) if all(predicted) else None,
            )
        )
    return tables


SMALL: Mapping[str, tuple[Value, ...]] = {
    "precision": ("fp32", "bf16"),
    "memory_format": ("contiguous", "channels_last"),
    "threads": (0, 1, 2),
    "workers": (0, 1, 2, 4),
    "prefetch": (2, 4),
}
LARGE: Mapping[str, tuple[Value, ...]] = {
    "precision": ("fp32", "tf32", "bf16", "fp16"),
    "memory_format": ("contiguous", "channels_last"),
    "placement": ("worker", "device"),
    "cache": ("none", "ram"),
    "loader": ("processes", "threads"),
    "workers": (0, 2, 4, 8),
    "prefetch": (2, 4),
    "pinning": (False, True),
}


def made_tables() -> list[Table]:
    """Return made spaces, two sizes and two shapes, three of each, drawn from fixed seeds."""
    makers: tuple[tuple[str, Callable[..., Any]], ...] = (("effects", _effects), ("bottleneck", _bottleneck))
    return [
        _made(f"{shape}-{len(members)}-{seed}", members, law, np.random.default_rng((seed, 7)))
        for members in (_members(SMALL), _members(LARGE))
        for shape, law in makers
        for seed in range(3)
    ]


def _members(choices: Mapping[str, tuple[Value, ...]]) -> tuple[Settings, ...]:
    found = {}
    for values in itertools.product(*choices.values()):
        settings = Settings(**dict(zip(choices, values, strict=True)))  # type: ignore[arg-type]
        if settings.workers == 0:
            settings = replace(settings, prefetch=2, loader="processes")
        found[settings] = None
    return tuple(found)


def _made(name: str, members: tuple[Settings, ...], law: Callable[..., Any], draws: np.random.Generator) -> Table:
    rows = [entry.as_dict() for entry in members]
    names = [knob for knob in rows[0] if len({row[knob] for row in rows}) > 1]
    logs = law(rows, names, draws)
    return Table(name=name, members=members, rates=tuple(100 * np.exp(logs)), noise=0.04)


def _effects(rows: list[dict[str, Value]], names: Sequence[str], draws: np.random.Generator) -> Any:
    """An effect for each value, large for some knobs and near nothing for others, and smaller ones for pairs."""
    sizes = {name: float(np.exp(draws.uniform(math.log(0.01), math.log(0.4)))) for name in names}
    logs = np.zeros(len(rows))
    for knobs in (*((name,) for name in names), *itertools.combinations(names, 2)):
        size = math.prod(sizes[name] for name in knobs) ** (1 / len(knobs)) * (1.0 if len(knobs) == 1 else 0.3)
        effects: dict[tuple[Value, ...], float] = {}
        for place, row in enumerate(rows):
            key = tuple(row[name] for name in knobs)
            logs[place] += effects.setdefault(key, float(draws.normal(0, size)))
    return logs


def _bottleneck(rows: list[dict[str, Value]], names: Sequence[str], draws: np.random.Generator) -> Any:
    """Two paths, each with effects of its own knobs; the slower one counts, softly."""
    compute = [name for name in names if name in ("precision", "memory_format", "threads", "pinning")]
    loading = [name for name in names if name not in compute] + ["threads"] * ("threads" in names)
    paths = np.stack([_effects(rows, compute, draws), _effects(rows, loading, draws)])
    return -np.log(np.exp(-4 * paths).sum(axis=0)) / 4


def missed(regrets: Mapping[tuple[str, str, bool], list[list[float]]], tables: Sequence[str]) -> list[str]:
    """Return the bars that were missed."""
    place, found = COUNTS.index(16), []
    for ranked in (False, True):
        gaps, errors = [], []
        for table in tables:
            own, others = (np.array(regrets[table, name, ranked])[:, place] for name in (DEFAULT, "random"))
            gaps.append(float(np.median(own) - np.median(others)))
            errors.append(_median_error(own) ** 2 + _median_error(others) ** 2)
        allowed = 2 * math.sqrt(sum(errors)) / len(tables)
        if np.mean(gaps) > allowed:
            found.append(f"{DEFAULT}, ranked {ranked}: {np.mean(gaps):.1f} points behind random, {allowed:.1f} allowed")
    final = np.concatenate([np.array(regrets[table, DEFAULT, True])[:, -1] for table in tables])
    far = float(np.mean(final > 25))
    if far > 0.02:
        found.append(f"{DEFAULT}: {100 * far:.1f}% of the final choices are slower than the best by more than 25%")
    return found


def _median_error(values: Any) -> float:
    draws = np.random.default_rng(0).integers(len(values), size=(500, len(values)))
    return float(np.median(values[draws], axis=1).std())


def _summary(rows: list[list[float]]) -> dict[str, Any]:
    values = np.array(rows)
    return {
        "measurements": list(COUNTS),
        "median": [round(float(entry), 2) for entry in np.median(values, axis=0)],
        "mean": [round(float(entry), 2) for entry in values.mean(axis=0)],
        "p90": [round(float(entry), 2) for entry in np.quantile(values, 0.9, axis=0)],
    }


def _print(result: Mapping[str, Any]) -> None:
    rows = result["regret_percent"]
    print(f"{'':24s}" + "".join(f"{f'n={count}':>14s}" for count in COUNTS))
    for table in (*result["members"], "all spaces"):
        members = result["members"].get(table)
        print(
            f"{table}"
            + (f", {members} members" if members else ", averages")
            + ": regret in %, median and 90th percentile"
        )
        for ranked in (False, True):
            for sampler in STRATEGIES:
                mine = [
                    row
                    for row in rows
                    if row["sampler"] == sampler.name
                    and row["ranked"] == ranked
                    and table in (row["table"], "all spaces")
                ]
                medians, tails = (np.mean([row[kind] for row in mine], axis=0) for kind in ("median", "p90"))
                cells = "".join(f"{f'{a:.1f} / {b:.1f}':>14s}" for a, b in zip(medians, tails, strict=True))
                print(f"  {sampler.name + (' after a ranking' if ranked else ''):22s}{cells}")
    print("seconds per suggestion: " + ", ".join(f"{name} {took:.3f}" for name, took in result["ask_s"].items()))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="same bars, fewer replays")
    parser.add_argument("--json", type=Path, help="write the result here too")
    parser.add_argument("--synthetic", action="store_true", help="made spaces instead of measured ones")
    parser.add_argument("--tables", type=Path, help="result of choice.py; the latest where not given")
    return parser.parse_args()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
