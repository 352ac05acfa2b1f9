"""Question: does autotrain train faster than with the settings that other tuners recommend, and at what search time?

Same model, same photographs, same recipe, one run: default PyTorch, loadtune 0.3.0 and fournex 0.3.1 (each installed
into an environment of its own, searching with its default options, then trained with what it recommends) and
autotrain; where there is a CUDA device also pytorch-autotune 2.0.0. Bars, per workload:
- autotrain's images/s are the highest: in turns with each of the others, the ratio is above 1 (its interval is told);
- its search is not the slowest (wall-clock; starts of Python and imports of torch are taken off for all).
--envs DIR holds the environments; where they are not there yet, pip makes them (a minute, network).
Takes about 20 minutes on 2 cores, nearly all of it the searches; --quick, the first workload alone, about 5. Nothing
else may run meanwhile: loadtune proposes nothing where the cores are busy, fournex stops a trial after 60 s.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from common import column, finish, interleaved, photographs, ratio, rig_contender
from rivals.contenders import TURN_S, Choice, ChosenScript
from rivals.environments import TOOLS, Tool, environment
from rivals.training import JOBS, Job, make_network

import autotrain
from autotrain.preparation import prepare_workload
from autotrain.settings import Settings
from autotrain.stats.summary import Estimate, summarize
from autotrain.task import Task

HERE = Path(__file__).parent
SEARCH_LIMIT_S = 1800.0
PLANNED = "90ep"
"""Training that autotrain is told to plan for; no rival asks."""

DEFAULT, OURS = "default PyTorch", "autotrain"
FIRST = "autotrain, filling its cache"
"""autotrain's loop as it runs in the first epoch, where its cache is not yet filled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a tool's search came to."""

    recommended: str
    choice: Choice = field(default_factory=Choice)
    seconds: float = 0.0
    """Wall-clock of the search without starts of Python and imports."""

    starts_s: float = 0.0
    """What those took."""

    says: str = ""
    saw: Any = None
    problem: str | None = None
    """Why there is no recommendation; the default is trained then."""


@dataclass(slots=True)
class Result:
    """What is known of a workload."""

    job: Job
    found: dict[str, Found]
    settings: Settings
    """autotrain's."""

    rates: dict[str, list[float]] = field(default_factory=dict)
    over: dict[str, Estimate] = field(default_factory=dict)
    """autotrain's rate over that of each other."""

    runs: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """Seconds per epoch of whole runs."""


def main() -> None:
    arguments = read_options()
    folder = photographs(arguments.data).resolve()
    images = warm_page_cache(folder)
    tools = [tool for tool in TOOLS if not tool.needs_cuda or torch.cuda.is_available()]
    for tool in TOOLS:
        if tool not in tools:
            print(f"{tool.name} is left out: it tunes CUDA devices only, and there is none")
    pythons = {tool: environment(tool, arguments.envs) for tool in tools}
    starts = {tool: start_seconds(tool, python) for tool, python in pythons.items()}
    print("each rival has its own environment, which shares this one's torch", torch.__version__)
    result: dict[str, Any] = {"images": images, "starts_s": {tool.name: starts[tool] for tool in tools}}
    missed: list[str] = []
    for job in JOBS[:1] if arguments.quick else JOBS:
        found = {DEFAULT: Found(recommended="")}
        found |= {tool.name: search(tool, pythons[tool], starts[tool], job, folder) for tool in tools}
        measured = compared(job, folder, found, quick=arguments.quick)
        show(measured, images)
        missed += misses(measured)
        result[job.name] = record(measured, images)
    finish("rivals", result, missed, arguments)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the first workload alone, fewer turns, no whole runs")
    parser.add_argument("--json", type=Path, help="write the result here too")
    parser.add_argument("--data", type=Path, help="folder of images, one folder per class; generated where not given")
    parser.add_argument("--envs", type=Path, default=HERE / ".rivals", help="folder of the rivals' environments")
    arguments = parser.parse_args()
    arguments.envs = arguments.envs.resolve()
    return arguments


def warm_page_cache(folder: Path) -> int:
    """Read all files once, so that no tool pays for cold ones; return how many images there are."""
    paths = [path for path in folder.glob("*/*") if path.is_file()]
    for path in paths:
        path.read_bytes()
    return len(paths)


def start_seconds(tool: Tool, python: Path) -> float:
    """Return what one start of Python with the imports of a trial takes."""
    seconds = []
    for _ in range(3):
        started = perf_counter()
        subprocess.run([python, "-c", f"import training, {tool.module}"], cwd=HERE / "rivals", check=True)
        seconds.append(perf_counter() - started)
    return statistics.median(seconds[1:])


def search(tool: Tool, python: Path, start_s: float, job: Job, folder: Path) -> Found:
    """Let a rival search in its environment."""
    with tempfile.TemporaryDirectory() as place:
        answer = Path(place) / "answer.json"
        started = perf_counter()
        try:
            ended = subprocess.run(
                [python, HERE / "rivals" / tool.script, answer],
                cwd=place,
                env=os.environ | {"RIVALS_JOB": job.name, "RIVALS_DATA": str(folder)},
                capture_output=True,
                text=True,
                timeout=SEARCH_LIMIT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Found(recommended="nothing", seconds=SEARCH_LIMIT_S, problem="the search did not end")
        if ended.returncode or not answer.exists():
            said = (ended.stderr.strip() or ended.stdout.strip() or "no word").splitlines()[-1]
            return Found(recommended="nothing", seconds=perf_counter() - started, problem=said)
        told = json.loads(answer.read_text())
    starts_s = told["starts"] * start_s
    return Found(
        recommended=told["recommended"],
        choice=Choice(**told["choice"]),
        seconds=max(0.0, told["seconds"] - starts_s),
        starts_s=starts_s,
        says=told["says"],
        saw=told["saw"],
    )


def compared(job: Job, folder: Path, found: Mapping[str, Found], *, quick: bool) -> Result:
    """Let autotrain search, and all take turns."""
    torch.manual_seed(0)
    task = Task(
        model=make_network(job, folder),
        dataset=folder,
        image_size=job.size,
        batch_size=job.batch_size,
        augmentation="trivial" if job.trivial else "crop",
        duration=PLANNED,
    )
    started = perf_counter()
    probed = autotrain.probe(task, progress=False)
    seconds = perf_counter() - started
    settings = probed.plan.settings
    changes = settings.changes(probed.session.default)
    words = ", ".join(f"{name}={value}" for name, value in changes.items()) or "keeps the default"
    result = Result(job=job, found={**found, OURS: Found(recommended=words, seconds=seconds)}, settings=settings)
    workload = prepare_workload(task)
    makers = {name: script_maker(job, folder, entry.choice) for name, entry in found.items()}
    makers[OURS] = rig_contender(workload, settings, turn_s=TURN_S)
    if settings.cache != Settings().cache:
        makers[FIRST] = rig_contender(workload, replace(settings, cache=Settings().cache), turn_s=TURN_S)
    rows = interleaved(list(makers.values()), 12 if quick else 30, warmup_s=1.5)
    names = list(makers)
    result.rates = {name: column(rows, place) for place, name in enumerate(names)}
    result.over = {name: ratio(rows, names.index(name), names.index(OURS)).ratio for name in found}
    if not quick:
        for name, entry in found.items():
            with closing(ChosenScript(job, folder, entry.choice)) as script:
                result.runs[name] = script.epochs(2)
        result.runs[OURS] = own_epochs(task, probed.plan)
    return result


def script_maker(job: Job, folder: Path, choice: Choice) -> Callable[[ExitStack], ChosenScript]:
    def make(stack: ExitStack) -> ChosenScript:
        made = ChosenScript(job, folder, choice)
        stack.callback(made.close)
        return made

    return make


def own_epochs(task: Task, plan: Any) -> tuple[float, ...]:
    """Train two epochs with autotrain; what lies between start and first epoch counts to that one."""
    started = perf_counter()
    fitted = autotrain.fit(replace(task, duration="2ep"), plan=plan, progress=False)
    later = fitted.history[-1].seconds
    return (perf_counter() - started - later, later)


def seconds_of(result: Result, name: str, images: int, epochs: int) -> float:
    """Return the seconds of search and training, from the measured rates."""
    rate = statistics.fmean(result.rates[name])
    first = statistics.fmean(result.rates[FIRST]) if name == OURS and FIRST in result.rates else rate
    return result.found[name].seconds + images / first + (epochs - 1) * images / rate


def paid_back(result: Result, name: str) -> float | None:
    """Return after how many thousand images a search has paid for itself against the default; None for never."""
    rate, default = statistics.fmean(result.rates[name]), statistics.fmean(result.rates[DEFAULT])
    return result.found[name].seconds / (1 / default - 1 / rate) / 1000 if rate > 1.01 * default else None


def told(over: Estimate) -> str:
    """Return a ratio in words, and whether it proves which is faster."""
    return f"{over:.2f}" + (", cannot tell" if over.low <= 1.0 <= over.high else "")


def show(result: Result, images: int) -> None:
    print(f"\n{result.job.name}, batches of {result.job.batch_size}")
    print(f"  {'tool':24s} {'search':>7s} {'+ starts':>8s}  {'images/s':30s} autotrain over it")
    for name, entry in result.found.items():
        rate = f"{summarize(result.rates[name]):.0f}"
        over = told(result.over[name]) if name in result.over else ""
        print(f"  {name:24s} {entry.seconds:5.0f} s {entry.starts_s:6.0f} s  {rate:30s} {over}")
    for name, entry in result.found.items():
        if entry.problem is not None:
            print(f"  {name} failed, so the default was trained: {entry.problem}")
        elif name != DEFAULT:
            print(f"  {name} recommends: {entry.recommended}{f' ({entry.says})' if entry.says else ''}")
    print(f"  search and training of {images:,} images (from the rates), seconds:")
    for name in result.found:
        one, ten = (seconds_of(result, name, images, count) for count in (1, 10))
        back = paid_back(result, name)
        after = (
            "" if name == DEFAULT else f"; pays back after {'never' if back is None else f'{back:.0f} thousand images'}"
        )
        run = " + ".join(f"{value:.1f}" for value in result.runs.get(name, ()))
        whole = f"; two epochs took {run}" if run else ""
        print(f"    {name:24s} 1 epoch {one:.0f}, 10 epochs {ten:.0f}{after}{whole}")


def misses(result: Result) -> list[str]:
    """Return the bars that are missed."""
    name = result.job.name
    missed = [f"{name}: against {other} {over:.3f}" for other, over in result.over.items() if over.value <= 1.0]
    slowest = max(entry.seconds for other, entry in result.found.items() if other != OURS)
    ours = result.found[OURS].seconds
    if ours > slowest:
        missed.append(f"{name}: autotrain's search took {ours:.0f} s, the slowest other {slowest:.0f} s")
    return missed


def record(result: Result, images: int) -> dict[str, Any]:
    """Return the workload's result as plain values."""
    tools = {
        name: {
            "recommended": entry.recommended,
            "changes": entry.choice.changes() if name != OURS else result.settings.as_dict(),
            "problem": entry.problem,
            "says": entry.says,
            "saw": entry.saw,
            "search_s": entry.seconds,
            "starts_s": entry.starts_s,
            "images_per_s": summarize(result.rates[name]).as_dict(),
            "autotrain_over": result.over[name].as_dict() if name in result.over else None,
            "seconds_for_1_epoch": seconds_of(result, name, images, 1),
            "seconds_for_10_epochs": seconds_of(result, name, images, 10),
            "epochs_s": result.runs.get(name),
        }
        for name, entry in result.found.items()
    }
    return {"batch_size": result.job.batch_size, "tools": tools, "rates": result.rates}


if __name__ == "__main__":
    main()
