"""Question: is the probe's choice as good as what measuring every combination would have found, and how much sooner?

Six workloads, each with some settings fixed so that an exhaustive search ends in minutes; no setting is left open that
has no effect. The oracle measures every member of that space with one burst, about as long as what the probe sees of a
candidate; the best that the numerics guard lets pass then meets the probe's choice in a fresh duel. Bars:
- the oracle's best is at most 3% faster than the choice in the median over the workloads, and 8% in the worst case;
- the probe takes at most 25% of the exhaustive search's time, and at most 90 s.
Takes about 50 minutes on 2 cores; --quick (the oracle's bursts half as long) about 40. --only NAME measures one again
and keeps the rest.
Pillow-SIMD stays out: each of its many combinations would have the oracle wait for workers that start anew.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import torchvision
from common import RESULTS, finish, options, photographs, small_cnn
from torch.utils.data import Dataset

import autotrain
from autotrain.data.caching import WarmSets
from autotrain.diagnose.demand import predict
from autotrain.engine.rig import Rig
from autotrain.errors import CandidateError
from autotrain.hardware.machine import machine_facts
from autotrain.knobs.registry import Space, legal_space
from autotrain.measure.burst import BurstOptions, burst
from autotrain.measure.measurement import Kind
from autotrain.preparation import prepare_workload
from autotrain.search.duel import DuelOptions, duel
from autotrain.search.guard import guard, needs_guard
from autotrain.search.probe import warm_samples
from autotrain.search.recorder import describe
from autotrain.settings import Settings, Value
from autotrain.stats.summary import Estimate
from autotrain.task import Task
from autotrain.workload import Workload

MEDIAN_GAP, WORST_GAP = 0.03, 0.08
MOST_SHARE, MOST_S = 0.25, 90.0
ORACLE = BurstOptions(windows=6, limit_s=3.0, warmup_s=0.6)
"""About as long as what a probe sees of a candidate in a heat."""

QUICK = BurstOptions(windows=3, limit_s=1.0, warmup_s=0.4)
GUARD_STEPS = 6

LAST_DUEL = DuelOptions(most_pairs=40)
UNFINISHED = RESULTS / "choice-unfinished.json"
"""What is known so far; kept when a run is cut off, so that --only can go on with it."""

PLAIN: Mapping[str, Value] = {
    name: value for name, value in Settings().as_dict().items() if name not in ("augmentation", "workers")
}
"""What is fixed unless a workload opens it."""


class Waiting(Dataset[Any]):
    """Images that take their time, as from a network."""

    def __len__(self) -> int:
        return 4096

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        time.sleep(0.003)
        return torch.full((3, 32, 32), index % 251, dtype=torch.uint8), index % 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A workload and what is open in it."""

    name: str
    task: Task
    fixed: Mapping[str, Value]


def cases(folder: Path) -> Iterator[Case]:
    """Yield the workloads."""
    classes = len([entry for entry in folder.iterdir() if entry.is_dir()])

    def case(name: str, model: Any, data: Any, opened: tuple[str, ...], batch: int = 32, **more: Any) -> Case:
        held = {**PLAIN, **{key: more.pop(key) for key in tuple(more) if key in PLAIN}}
        for key in opened:
            held.pop(key)
        return Case(
            name=name, task=Task(model=model, dataset=data, batch_size=batch, duration="90ep", **more), fixed=held
        )

    torch.manual_seed(0)
    compute = ("precision", "memory_format", "threads")
    loading = ("decoder", "resize", "memory_format")
    models = torchvision.models
    yield case("small CNN, 64 px", small_cnn(classes), folder, loading, 64, image_size=64)
    yield case(
        "resnet18, 96 px",
        models.resnet18(num_classes=classes),
        folder,
        (*compute, "optimizer_kernel"),
        image_size=96,
        decoder="simplejpeg",
        resize="torch",
    )
    yield case(
        "mobilenet_v3_small, 128 px",
        models.mobilenet_v3_small(num_classes=classes),
        folder,
        (*compute, "placement", "cache"),
        image_size=128,
        augmentation="trivial",
        decoder="simplejpeg",
        resize="torch",
    )
    vit = models.VisionTransformer(64, 8, num_layers=4, num_heads=4, hidden_dim=128, mlp_dim=256, num_classes=classes)
    opened = ("precision", "threads", "micro_batches", "cache")
    yield case("small ViT, 64 px", vit, folder, opened, image_size=64, decoder="simplejpeg", resize="torch")
    images, labels = torch.randint(0, 256, (512, 3, 64, 64), dtype=torch.uint8), torch.randint(0, 10, (512,))
    opened = (*compute, "optimizer_kernel")
    yield case("resident tensors, 64 px", small_cnn(10), (images, labels), opened)
    opened = (*compute, "optimizer_kernel", "prefetch")
    yield case("waiting dataset, 32 px", small_cnn(10), Waiting(), opened)


def main() -> None:
    os.environ["AUTOTRAIN_PILLOW_SIMD"] = os.devnull
    only = sys.argv.pop(sys.argv.index("--only") + 1) if "--only" in sys.argv else None
    if only is not None:
        sys.argv.remove("--only")
    arguments = options(__doc__ or "")
    result = kept() if only is not None else {}
    for case in cases(photographs(arguments.data)):
        if only is None or only in case.name:
            result[case.name] = compared(case, arguments.quick)
            UNFINISHED.parent.mkdir(exist_ok=True)
            UNFINISHED.write_text(json.dumps(result))
    gaps = {name: entry["gap"] for name, entry in result.items()}
    median, worst = statistics.median(gaps.values()), max(gaps, key=lambda name: gaps[name])
    print(f"the oracle's best is faster by {median:.1%} in the median, {gaps[worst]:.1%} at worst ({worst})")
    found = {"workloads": result, "median_gap": median, "worst_gap": gaps[worst]}
    UNFINISHED.unlink()
    finish("choice", found, list(misses(result, median)), arguments)


def kept() -> dict[str, Any]:
    """Return what was measured last, of which one workload is to be measured again."""
    if UNFINISHED.exists():
        return dict(json.loads(UNFINISHED.read_text()))
    files = sorted(RESULTS.glob("choice-*.json"))
    return dict(json.loads(files[-1].read_text())["workloads"]) if files else {}


def misses(result: Mapping[str, Mapping[str, Any]], median: float) -> Iterator[str]:
    """Yield the bars that are missed."""
    if median > MEDIAN_GAP:
        yield f"the oracle's best is faster by {median:.1%} in the median"
    for name, entry in result.items():
        share = entry["probe_s"] / entry["exhaustive_s"]
        if entry["gap"] > WORST_GAP:
            yield f"{name}: the oracle's best is faster by {entry['gap']:.1%}"
        if entry["probe_s"] > MOST_S:
            yield f"{name}: the probe took {entry['probe_s']:.0f} s"
        if share > MOST_SHARE:
            yield f"{name}: the probe took {share:.0%} of the exhaustive search's time"


def compared(case: Case, quick: bool) -> dict[str, Any]:
    """Probe, search exhaustively, and let the two meet."""
    probed = autotrain.probe(case.task, progress=False, fix=case.fixed)
    session, chosen = probed.session, probed.plan.settings
    workload = prepare_workload(case.task)
    space = legal_space(workload, machine_facts(), fixed=case.fixed)
    gap = None
    with closing(WarmSets(warm_samples(workload), None)) as warm:  # caches are filled, as where the probe measures
        workload = replace(workload, warm=warm)
        oracle, exhaustive_s = exhaustive(workload, space, QUICK if quick else ORACLE)
        best, rejected = best_admissible(workload, oracle, space.default)
        if best != chosen:
            record = duel(workload, chosen, best, options=LAST_DUEL)
            assert record.comparison is not None
            gap = record.comparison.ratio
    share = session.seconds / exhaustive_s
    versus = "is the same" if gap is None else f"{gap:.3f} times the choice"
    won = probed.plan.evidence.ratio
    print(f"{case.name}: {len(space.members)} combinations, exhaustively {exhaustive_s:.0f} s")
    print(f"  probe {session.seconds:.0f} s ({share:.0%}), {probed.plan.evidence.verdict.value}: "
          f"{describe(chosen, space.default)}{f', {won:.2f}' if won else ''}")  # fmt: skip
    for settings, problem in rejected:
        print(f"  the guard rejects {describe(settings, space.default)}: {problem}")
    print(f"  oracle's best: {describe(best, space.default)}: {versus}", flush=True)
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "gap": 0.0 if gap is None else max(0.0, gap.value - 1),
        "oracle_over_choice": None if gap is None else gap.as_dict(),
        "chosen": chosen.as_dict(),
        "oracle_best": best.as_dict(),
        "rejected": [{"settings": settings.as_dict(), "problem": problem} for settings, problem in rejected],
        "verdict": probed.plan.evidence.verdict.value,
        "probe_s": session.seconds,
        "probe_measured": [
            {"settings": entry.settings.as_dict(), "rate": entry.rate.as_dict(), "left_early": entry.stopped_early}
            for entry in session.of(Kind.FULL)
        ],
        "probe_failures": [describe(entry.settings, space.default) + ": " + entry.reason for entry in session.failures],
        "exhaustive_s": exhaustive_s,
        "default": space.default.as_dict(),
        "oracle": [
            {"settings": settings.as_dict(), "rate": rate.as_dict(), "predicted": predict(session, settings)}
            for rate, settings in oracle
        ],
    }


def exhaustive(
    workload: Workload, space: Space, options: BurstOptions
) -> tuple[list[tuple[Estimate, Settings]], float]:
    """Measure every member once; return rates in images/s, and the seconds that it took."""
    started, oracle = time.perf_counter(), []
    for settings in space.members:
        try:
            with Rig(workload, settings) as rig:
                oracle.append((burst(rig, options=options).rate, settings))
        except CandidateError as problem:
            print(f"  {describe(settings, space.default)}: {problem}")
    return oracle, time.perf_counter() - started


def best_admissible(
    workload: Workload, oracle: Sequence[tuple[Estimate, Settings]], default: Settings
) -> tuple[Settings, list[tuple[Settings, str]]]:
    """Return the fastest that a probe may choose, and what of the faster ones the numerics guard rejects."""
    rejected = []
    for _, settings in sorted(oracle, key=lambda entry: -entry[0].value):
        if not needs_guard(settings, default):
            return settings, rejected
        problem = guard(workload, settings, default, steps=GUARD_STEPS).problem
        if problem is None:
            return settings, rejected
        rejected.append((settings, problem))
    return default, rejected


if __name__ == "__main__":
    main()
