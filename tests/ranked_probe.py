"""What the ranks of a test do while they probe, started as ``python ranked_probe.py FOLDER`` with their variables."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import ranked
import torch

from autotrain.cache.shelf import kept as shelved
from autotrain.data.caching import WarmSets
from autotrain.engine import sharded as engine_sharded
from autotrain.engine.rig import Rig
from autotrain.preparation import prepare_workload
from autotrain.search import guard as module
from autotrain.search.check import check
from autotrain.search.guard import guard
from autotrain.settings import Settings
from autotrain.task import Task
from autotrain.team import join


def guarded(folder: Path) -> None:
    """Check and guard a model that lies in parts on the ranks, also where one rank finds what the other does not."""
    engine_sharded.UNIT = 1
    team = join(torch.device("cpu"))
    task = Task(model=ranked.network(), dataset=ranked.data(200), batch_size=16, device="cpu", augmentation="none")
    workload = prepare_workload(task, team=team)
    default = Settings(sharding="full")
    check(workload, default)
    found: dict[str, Any] = {}

    def judged(name: str) -> None:
        verdict = guard(workload, replace(default, precision="bf16"), default, steps=6)
        found[name] = verdict.problem, verdict.candidate, [check for check, _ in verdict.shares]

    judged("healthy")
    own = module._first_problem
    for odd in (0, 1):
        if ranked.rank() == odd:
            module._first_problem = lambda checks, shares: "planted"
        judged(f"rank {odd}")
        module._first_problem = own
    before = ranked.network().state_dict()
    found["untouched"] = all(torch.equal(before[name], value) for name, value in task.model.state_dict().items())
    ranked.keep(folder, "guarded", found)


def cached(folder: Path) -> None:
    """Train on files, kept by all ranks in one place on disk, and measure with caches of each rank's own."""
    place, given = folder / "cache", {"dataset": os.environ["IMAGES"], "validation": None, "image_size": ranked.SIDE}
    plain = ranked.train(ranked.network(), duration="3ep", **given)
    kept = ranked.train(ranked.network(), Settings(cache="disk"), duration="3ep", cache_dir=place, **given)
    team = join(torch.device("cpu"))
    (shelf,) = shelved(place)
    task = Task(model=ranked.network(), batch_size=8, device="cpu", cache_dir=place, **given)
    workload = prepare_workload(task, team=team)
    with closing(WarmSets(8, workload.cache_dir)) as warm:
        with Rig(replace(workload, warm=warm), Settings(cache="disk", augmentation="crop")) as rig:
            images = rig.input.next().count
        team.gather()
        own = len(shelved(place))
        team.gather()
    team.gather()
    same = all(torch.equal(value, kept.model.state_dict()[name]) for name, value in plain.model.state_dict().items())
    found = {"same": same, "filled": shelf.filled, "images": images, "with those of the probe": own}
    ranked.keep(folder, "cached", {**found, "left": len(shelved(place))})


if __name__ == "__main__":
    torch.set_num_threads(1)
    signal.alarm(150)
    guarded(Path(sys.argv[1]))
    cached(Path(sys.argv[1]))
