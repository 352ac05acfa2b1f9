"""Question: is the probe's choice as good as what measuring every combination would have found, and how much sooner?

Six workloads, each with some settings fixed so that an exhaustive search ends in minutes; no setting is left open that
has no effect. The oracle measures every member of that space with one burst, as long as those of the probe's default;
its best then meets the probe's choice in a fresh duel. Bars:
- the oracle's best is at most 3% faster than the choice in the median over the workloads, and 8% in the worst case;
- the probe takes at most 25% of the exhaustive search's time, and at most 90 s.
Takes about 50 minutes on 2 cores; --quick (the oracle's bursts half as long) about 40. --only NAME runs one.
Pillow-SIMD stays out: each of its many combinations would have the oracle wait for workers that start anew.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision
from common import finish, options, photographs, small_cnn
from torch.utils.data import Dataset

import autotrain
from autotrain.diagnose.demand import predict
from autotrain.engine.rig import Rig
from autotrain.errors import CandidateError
from autotrain.hardware.machine import machine_facts
from autotrain.knobs.registry import legal_space
from autotrain.measure.burst import SCREENING, BurstOptions, burst
from autotrain.preparation import prepare_workload
from autotrain.search.duel import DuelOptions, duel
from autotrain.search.recorder import describe
from autotrain.settings import Settings, Value
from autotrain.task import Task

MEDIAN_GAP, WORST_GAP = 0.03, 0.08
MOST_SHARE, MOST_S = 0.25, 90.0
QUICK = BurstOptions(windows=3, limit_s=1.0, warmup_s=0.4)

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
    yield case("waiting dataset, 32 px", small_cnn(10), Waiting(), (*compute, "optimizer_kernel"))


def main() -> None:
    os.environ["AUTOTRAIN_PILLOW_SIMD"] = os.devnull
    only = sys.argv.pop(sys.argv.index("--only") + 1) if "--only" in sys.argv else None
    if only is not None:
        sys.argv.remove("--only")
    arguments = options(__doc__ or "")
    missed: list[str] = []
    result: dict[str, Any] = {}
    for case in cases(photographs(arguments.data)):
        if only is None or only in case.name:
            result[case.name] = compared(case, arguments.quick, missed)
    gaps = {name: entry["gap"] for name, entry in result.items()}
    median, worst = statistics.median(gaps.values()), max(gaps, key=lambda name: gaps[name])
    print(f"the oracle's best is faster by {median:.1%} in the median, {gaps[worst]:.1%} at worst ({worst})")
    if median > MEDIAN_GAP:
        missed.append(f"the oracle's best is faster by {median:.1%} in the median")
    if gaps[worst] > WORST_GAP:
        missed.append(f"{worst}: the oracle's best is faster by {gaps[worst]:.1%}")
    if only is None:
        finish("choice", {"workloads": result, "median_gap": median, "worst_gap": gaps[worst]}, missed, arguments)
    print(*missed, sep="\n")


def compared(case: Case, quick: bool, missed: list[str]) -> dict[str, Any]:
    """Probe, search exhaustively, and let the two meet."""
    probed = autotrain.probe(case.task, progress=False, fix=case.fixed)
    session, chosen = probed.session, probed.plan.settings
    workload = prepare_workload(case.task)
    space = legal_space(workload, machine_facts(), fixed=case.fixed)
    started, oracle = time.perf_counter(), []
    for settings in space.members:
        try:
            with Rig(workload, settings) as rig:
                measured = burst(rig, options=QUICK if quick else SCREENING)
        except CandidateError as problem:
            print(f"  {describe(settings, space.default)}: {problem}")
            continue
        oracle.append((measured.rate, settings))
    exhaustive_s = time.perf_counter() - started
    best = max(oracle, key=lambda entry: entry[0].value)[1]
    gap = None
    if best != chosen:
        record = duel(workload, chosen, best, options=DuelOptions())
        assert record.comparison is not None
        gap = record.comparison.ratio
    share = session.seconds / exhaustive_s
    versus = "is the same" if gap is None else f"{gap:.3f} times the choice"
    print(f"{case.name}: {len(space.members)} combinations, exhaustively {exhaustive_s:.0f} s")
    print(f"  probe {session.seconds:.0f} s ({share:.0%}), {probed.plan.evidence.verdict.value}: "
          f"{describe(chosen, space.default)}, {probed.plan.evidence.ratio or ''}")  # fmt: skip
    print(f"  oracle's best: {describe(best, space.default)}: {versus}", flush=True)
    if session.seconds > MOST_S:
        missed.append(f"{case.name}: the probe took {session.seconds:.0f} s")
    if share > MOST_SHARE:
        missed.append(f"{case.name}: the probe took {share:.0%} of the exhaustive search's time")
    return {
        "gap": 0.0 if gap is None else max(0.0, gap.value - 1),
        "oracle_over_choice": None if gap is None else gap.as_dict(),
        "chosen": chosen.as_dict(),
        "oracle_best": best.as_dict(),
        "verdict": probed.plan.evidence.verdict.value,
        "probe_s": session.seconds,
        "exhaustive_s": exhaustive_s,
        "default": space.default.as_dict(),
        "oracle": [
            {"settings": settings.as_dict(), "rate": rate.as_dict(), "predicted": predict(session, settings)}
            for rate, settings in oracle
        ],
    }


if __name__ == "__main__":
    main()
