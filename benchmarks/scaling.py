"""Question: what do ranks lose to each other, what does their agreement cost, and what is to be expected of more?

Two ranks on one core each, in one run: in turns, in random order, rank 0 trains alone, both train without knowing of
each other, both train together. What two strangers lose beside one is the machine's (shared memory, caches, clocks);
what the two ranks lose beside the strangers is the exchange of gradients. Bars, on the small CNN and resnet18:
- two ranks reach at least 90% of the rate that the model of scaling gives them, from that of two strangers, the size
  of the gradients and the speed of the link between them;
- the agreement of ranks after every step costs at most 2% of a step: the time within it, in the median with the upper
  end of its interval, and the interval of the rate with it over that without may not lie below 98%;
- the messages of a probe take at most 5% of its time.
Told besides: efficiency beside one rank; what the model says of 8 and 64 GPUs, their step and their links assumed. With
several GPUs the ranks take one each (up to 8).
Takes about 5 minutes; --quick about 2.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
import torch.distributed as dist
import torchvision
from common import finish, options, small_cnn
from torch import nn

import autotrain
from autotrain.diagnose.scaling import BUCKET, Link, link_of, scaled
from autotrain.engine.pulse import Pulse
from autotrain.engine.rig import Rig
from autotrain.knobs.gradients import gradient_bytes
from autotrain.measure.clock import Clock
from autotrain.measure.crew import apart
from autotrain.measure.drive import RESIDENT, ComputeDrive, resident_batches
from autotrain.preparation import prepare_workload
from autotrain.settings import Settings
from autotrain.stats.compare import compare
from autotrain.stats.summary import summarize
from autotrain.task import Task
from autotrain.team import Team, join

OF_THE_MODEL, PER_STEP, PER_PROBE = 0.90, 0.02, 0.05
ROUNDS, QUICK_ROUNDS = 60, 20
TURN_S = 0.4

MACHINES = (
    (8, "one machine with NVLink, 150 GB/s", Link(bytes_per_s=150e9, latency_s=5e-6)),
    (64, "eight such machines with 400 Gb/s between them", Link(bytes_per_s=400e9 / 8, latency_s=2e-5)),
    (64, "eight such machines with 25 Gb/s between them", Link(bytes_per_s=25e9 / 8, latency_s=5e-5)),
)
"""What is assumed where nothing is at hand; a ring crosses each machine's network once, in each direction."""

RESNET50 = ("resnet50, 256 images of 224 px on a GPU", 0.1, 25_557_032 * 4)
"""A step that is named: 2,560 images/s in bf16 is of the order that one H100 trains at; size of its gradients."""


def model_of(name: str) -> tuple[nn.Module, int, int]:
    """Return a model, a rank's images in a step, and their side."""
    if name == "resnet18":
        return torchvision.models.resnet18(num_classes=10), 8, 64
    return small_cnn(10), 32, 64


def main() -> None:
    if "RANK" in os.environ:
        as_rank(Path(sys.argv[1]), quick=sys.argv[2] == "quick")
        return
    arguments = options(__doc__ or "")
    ranks = min(8, torch.cuda.device_count()) if torch.cuda.device_count() > 1 else 2
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "found.json"
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
        subprocess.run(
            [*launcher, __file__, str(kept), "quick" if arguments.quick else "full"],
            check=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        found = json.loads(kept.read_text())
    missed: list[str] = []
    for name, result in found["models"].items():
        if result["beside_strangers"]["value"] < OF_THE_MODEL * result["modelled"]:
            beside = f"{result['beside_strangers']['value']:.2f} of the rate of strangers"
            missed.append(f"{name}: {beside}, where the model says {result['modelled']:.2f}")
        if result["within_agreement"]["high"] > PER_STEP:
            missed.append(f"{name}: agreement takes {result['within_agreement']['value']:.2%} of a step")
        if result["agreement"]["high"] < 1 - PER_STEP:
            missed.append(f"{name}: with agreement {result['agreement']['value']:.3f} of the rate without")
    if found["probe"]["share"] > PER_PROBE:
        missed.append(f"messages took {found['probe']['share']:.1%} of a probe")
    found["expected"] = expected()
    finish("scaling", found, missed, arguments)


def expected() -> dict[str, Any]:
    """Return and tell what the model of scaling says of machines that are not at hand."""
    name, step_s, size = RESNET50
    rows: dict[str, Any] = {}
    print(f"\n{name}, {step_s * 1e3:.0f} ms a step, {size / 2**20:.0f} MiB of gradients (assumed, not measured):")
    for ranks, words, link in MACHINES:
        for precision, travels in (("fp32", size), ("bf16", size // 2)):
            one = scaled(step_s, travels, ranks, link, bucket=BUCKET * travels // size)
            rows[f"{ranks} GPUs, {words}, {precision}"] = one.efficiency
            print(
                f"  {ranks:2} GPUs, {words}, gradients in {precision}: {one.exchange_s * 1e3:.1f} ms of exchange, "
                f"{one.exposed_s * 1e3:.1f} of them not hidden; efficiency {one.efficiency:.1%}"
            )
    return rows


def as_rank(kept: Path, *, quick: bool) -> None:
    """Measure as one of the ranks; rank 0 tells and keeps what was found."""
    torch.set_num_threads(1)
    if torch.cuda.device_count() < 2:
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(os.environ["RANK"]) % len(cores)]})
    device = "cuda" if torch.cuda.device_count() > 1 else "cpu"
    found: dict[str, Any] = {"models": {}}
    for name in ("small CNN", "resnet18"):
        found["models"][name] = measured(name, device, QUICK_ROUNDS if quick else ROUNDS)
    found["link"] = link = linked(join(torch.device(device)))
    for name, result in found["models"].items():
        ranks = result["ranks"]
        one = scaled(result["strangers_s"], result["bytes"], ranks, Link(**link), hides=device == "cuda")
        result["modelled"] = one.efficiency
        measured_ratio = result["beside_strangers"]["value"]
        tell(f"{name}: the model says {one.efficiency:.3f} of the rate of strangers, measured {measured_ratio:.3f}")
    found["probe"] = probed(device)
    if os.environ["RANK"] == "0":
        kept.write_text(json.dumps(found))


def tell(words: str) -> None:
    """Print, on rank 0."""
    if os.environ["RANK"] == "0":
        print(words, flush=True)


def measured(name: str, device: str, rounds: int) -> dict[str, Any]:
    """Train alone, as strangers and together in turns; return rates and what agreement costs."""
    model, images, size = model_of(name)
    team = join(torch.device(device))
    ranks = team.world.world_size
    data = torch.randint(0, 256, (images * ranks * RESIDENT, 3, size, size), dtype=torch.uint8)
    labels = torch.arange(len(data)) % 10
    task = Task(model=model, dataset=(data, labels), batch_size=images * ranks, device=device, augmentation="none")
    workload = prepare_workload(task, team=team)
    settings = Settings(augmentation="none")
    rates: dict[str, list[float]] = {"alone": [], "strangers": [], "together": []}
    agreed: list[tuple[float, float, float]] = []
    draws = random.Random(0)
    with ExitStack() as stack:
        lone = stack.enter_context(Rig(apart(workload), settings))
        shared = stack.enter_context(Rig(workload, settings))
        drives = {}
        for rig, which in ((lone, ("alone", "strangers")), (shared, ("together",))):
            with rig.active():
                drive = ComputeDrive(rig, Clock(), resident_batches(rig, RESIDENT))
                for _ in range(2):
                    drive.step()
                drives.update(dict.fromkeys(which, drive))
        with lone.active():
            steps = round(team.first(max(1.0, TURN_S / turn(drives["alone"], 2, Clock()))))
        for _ in range(rounds):
            for kind in draws.sample(sorted(rates), len(rates)):
                works = kind != "alone" or team.leads
                with drives[kind].rig.active():
                    team.gather()
                    seconds = team.largest(turn(drives[kind], steps, Clock()) if works else 0.0)
                rates[kind].append(images * (1 if kind == "alone" else ranks) / seconds)
        with shared.active():
            for _ in range(rounds):
                agreed.append(agreement(drives["together"], team, steps))
    strangers = compare(rates["alone"], [rate / ranks for rate in rates["strangers"]]).ratio
    together = compare(rates["alone"], [rate / ranks for rate in rates["together"]]).ratio
    beside = compare(rates["strangers"], rates["together"]).ratio
    alone_s = images / sorted(rates["alone"])[rounds // 2]
    agreement_ratio = compare([1 / without for without, _, _ in agreed], [1 / having for _, having, _ in agreed]).ratio
    within = summarize([beats / having for _, having, beats in agreed])
    tell(
        f"{name}, {images} images of {size} px per rank and step ({alone_s * 1e3:.1f} ms), {ranks} ranks, each beside "
        f"one alone: strangers {strangers:.3f}, together {together:.3f}; together beside strangers {beside:.3f}; "
        f"with agreement after each step {agreement_ratio:.3f} of the rate without, {within:.3%} of the time within it"
    )
    return {
        "ranks": ranks,
        "rates": rates,
        "strangers": strangers.as_dict(),
        "efficiency": together.as_dict(),
        "beside_strangers": beside.as_dict(),
        "agreement": agreement_ratio.as_dict(),
        "within_agreement": within.as_dict(),
        "strangers_s": images * ranks / sorted(rates["strangers"])[rounds // 2],
        "bytes": gradient_bytes(model),
    }


def turn(drive: ComputeDrive, steps: int, clock: Clock) -> float:
    """Return the seconds of some steps."""
    started = clock.now()
    for _ in range(steps):
        drive.step()
    drive.synchronize()
    return clock.now() - started


def agreement(drive: ComputeDrive, team: Team, steps: int) -> tuple[float, float, float]:
    """Return the seconds of a turn without agreement, of one with it, and those within it; the slowest rank's count.

    The two turns come in random order.
    """
    within = [0.0]

    def without() -> float:
        team.gather()
        return turn(drive, steps, Clock())

    def having() -> float:
        pulse = Pulse(team)
        team.gather()
        started = perf_counter()
        pulse.start(0.0, due=False)
        for _ in range(steps):
            drive.step()
            begun = perf_counter()
            pulse.beat(0.0, 0.0, signal=0, due_next=False)
            within[0] += perf_counter() - begun
        drive.synchronize()
        seconds = perf_counter() - started
        pulse.rest()
        return seconds

    first = team.first(random.random()) < 0.5
    spent = {order: team.largest(having() if order else without()) for order in (first, not first)}
    return spent[False], spent[True], team.largest(within[0])


def linked(team: Team) -> dict[str, float]:
    """Return what the link between the ranks is, from the exchange of little and of much."""
    device = torch.device("cuda" if torch.cuda.device_count() > 1 else "cpu")
    spent = []
    for size in (1 << 12, 1 << 24):
        tensor = torch.zeros(size // 4, device=device)
        seconds = []
        for _ in range(20):
            team.gather()
            started = perf_counter()
            dist.all_reduce(tensor)
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds.append(team.largest(perf_counter() - started))
        spent.append((size, sorted(seconds)[len(seconds) // 2]))
    link = link_of(spent[0], spent[1], team.world.world_size)
    each = f"{link.bytes_per_s / 1e9:.2f} GB/s, {link.latency_s * 1e6:.0f} microseconds a message"
    tell(f"\nlink between the ranks: {each}")
    return {"bytes_per_s": link.bytes_per_s, "latency_s": link.latency_s}


def probed(device: str) -> dict[str, float]:
    """Probe with all ranks; return what the messages between them took of it, waiting for a slower rank included."""
    model, images, size = model_of("small CNN")
    ranks = int(os.environ["WORLD_SIZE"])
    data = torch.randint(0, 256, (2048, 3, size, size), dtype=torch.uint8)
    spent: list[float] = []
    with watched(Team, "gather", spent), watched(Team, "shared", spent):
        started = perf_counter()
        autotrain.probe(
            model,
            (data, torch.arange(2048) % 10),
            batch_size=images * ranks,
            device=device,
            augmentation="crop",
            duration="100ep",
            budget="60s",
            progress=False,
        )
        seconds = perf_counter() - started
    share = sum(spent) / seconds
    tell(f"a probe of {seconds:.0f} s: {len(spent):,} messages took {sum(spent):.1f} s, {share:.1%}")
    return {"seconds": seconds, "messages": len(spent), "messages_s": sum(spent), "share": share}


@contextmanager
def watched(kind: type, name: str, spent: list[float]) -> Iterator[None]:
    """Note the seconds of a method's calls."""
    own: Callable[..., Any] = getattr(kind, name)

    def timed(*arguments: Any, **given: Any) -> Any:
        started = perf_counter()
        try:
            return own(*arguments, **given)
        finally:
            spent.append(perf_counter() - started)

    setattr(kind, name, timed)
    try:
        yield
    finally:
        setattr(kind, name, own)


if __name__ == "__main__":
    main()
