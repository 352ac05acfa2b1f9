"""Question: does the probe find what an exhaustive grid finds, in less than two minutes?

resnet18 at 96 px, batch 32. Bars:
- the probe ends in under 120 s;
- the best of the grid over precision, memory format, threads and workers (one burst each), met again by the probe's
  choice in a fresh interleaved comparison, is not more than 10% faster;
- where the CPU computes bf16 natively and the grid's best is in bf16, the choice is in bf16 too.
Takes about 5 minutes on 2 cores; --quick about 4.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from time import perf_counter

import torch
import torchvision
from common import column, finish, interleaved, options, photographs, ratio, rig_contender

import autotrain
from autotrain.engine.rig import Rig
from autotrain.hardware.machine import machine_facts
from autotrain.knobs.registry import canonical, legal_space
from autotrain.measure.burst import BurstOptions, burst
from autotrain.preparation import prepare_workload
from autotrain.search.recorder import describe
from autotrain.stats.summary import summarize
from autotrain.task import Task

GRID = ("precision", "memory_format", "threads", "workers")


def main() -> None:
    arguments = options(__doc__ or "")
    folder = photographs(arguments.data)
    classes = len([entry for entry in folder.iterdir() if entry.is_dir()])
    torch.manual_seed(0)
    task = Task(model=torchvision.models.resnet18(num_classes=classes), dataset=folder, image_size=96, batch_size=32)
    started = perf_counter()
    probed = autotrain.probe(task, progress=False)
    probe_s = perf_counter() - started
    workload = prepare_workload(task)
    space = legal_space(workload, machine_facts())
    chosen = probed.plan.settings
    print(f"probe: {probe_s:.0f} s, {probed.plan.evidence.verdict}: {describe(chosen, space.default)}")
    limits = BurstOptions(windows=4, limit_s=1.5 if arguments.quick else 2.5, warmup_s=0.6)
    grid = []
    for values in itertools.product(*(space.choices[name].allowed for name in GRID)):
        settings = canonical(replace(space.default, **dict(zip(GRID, values, strict=True))), workload)
        with Rig(workload, settings) as rig:
            grid.append((burst(rig, options=limits), settings))
        print(f"  {describe(settings, space.default):44s} {grid[-1][0].rate:.0f} images/s")
    best = max(grid, key=lambda entry: entry[0].rate.value)[1]
    makers = [rig_contender(workload, settings) for settings in (chosen, best)]
    rows = interleaved(makers, 8 if arguments.quick else 16)
    versus = ratio(rows, 0, 1).ratio
    print(f"choice: {describe(chosen, space.default)}: {summarize(column(rows, 0)):.0f} images/s")
    print(
        f"grid's best: {describe(best, space.default)}: {summarize(column(rows, 1)):.0f}, {versus:.2f} times the choice"
    )
    missed = []
    if probe_s >= 120:
        missed.append(f"the probe took {probe_s:.0f} s")
    if versus.value > 1.10:
        missed.append(f"the grid's best is {versus:.2f} times as fast as the choice")
    if best.precision == "bf16" and chosen.precision != "bf16" and versus.low > 1.02:
        missed.append("the grid's best is in bf16, the choice is not")
    result = {
        "probe_s": probe_s,
        "chosen": chosen.as_dict(),
        "verdict": str(probed.plan.evidence.verdict),
        "grid": [{"settings": entry.as_dict(), "rate": measured.rate.as_dict()} for measured, entry in grid],
        "grid_best": best.as_dict(),
        "grid_best_over_choice": versus.as_dict(),
        "rows": rows,
    }
    finish("grid", result, missed, arguments)


if __name__ == "__main__":
    main()
