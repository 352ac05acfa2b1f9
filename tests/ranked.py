"""What the ranks of a test do, started by torchrun as ``python ranked.py JOB,JOB FOLDER``, and one process alone."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import Dataset, get_worker_info

import autotrain
from autotrain.engine import loop, parallel
from autotrain.engine import sharded as engine_sharded
from autotrain.engine.events import FitEvent, StepDone
from autotrain.engine.rig import Rig
from autotrain.measure.failure import candidate
from autotrain.plan.plan import Plan
from autotrain.preparation import prepare_workload
from autotrain.settings import Settings
from autotrain.task import Task
from autotrain.team import join
from autotrain.workload import Workload

SIDE, BATCH, STEPS = 16, 10, 4
"""Pixels, images in a step of all ranks, steps in an epoch."""

DEVICE = os.environ.get("DEVICE", "cpu")

Job = Callable[[Path], None]
left_open: Any = None


def data(count: int = BATCH * STEPS + 3, *, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images and labels."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    return images, torch.arange(count) % 3


def network(*between: nn.Module) -> nn.Module:
    """Return a model without batch statistics."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.GroupNorm(2, 8),
        nn.ReLU(),
        *between,
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 3),
    )


class Events:
    """Keeps what is told, and does something after a step."""

    def __init__(self, at: int = 0, action: Callable[[], object] = lambda: None) -> None:
        self.seen: list[FitEvent] = []
        self._at, self._action = at, action

    def __call__(self, event: FitEvent) -> None:
        """Keep an event."""
        self.seen.append(event)
        if isinstance(event, StepDone) and event.step == self._at:
            self._action()


def train(model: nn.Module, settings: Settings = Settings(), **options: Any) -> autotrain.api.FitResult:
    """Train a few epochs under given settings."""
    given: dict[str, Any] = {
        "dataset": data(),
        "validation": data(25, seed=1),
        "batch_size": BATCH,
        "device": DEVICE,
        "duration": "2ep",
        "progress": False,
        "augmentation": "crop",
        "optimizer": lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9),
    }
    settings = Settings(**{**settings.as_dict(), "augmentation": "crop"})
    return autotrain.fit(model, plan=Plan(settings=settings), **{**given, **options})


def facts(result: autotrain.api.FitResult) -> dict[str, Any]:
    """Return what a training came to, but for how long it took."""
    return {
        "weights": result.model.state_dict(),
        "losses": [entry.loss for entry in result.history],
        "validation": [(entry.validation_loss, entry.accuracy) for entry in result.history],
        "images": [entry.images for entry in result.history],
        "steps": result.steps,
    }


def rank() -> int:
    """Return this process's number."""
    return int(os.environ.get("RANK", "0"))


def keep(folder: Path, name: str, found: Any) -> None:
    """Write what a rank found."""
    torch.save(found, folder / f"{name}-{rank()}.pt")


SHORT = torch.OutOfMemoryError("out of memory, as the test wants it")


class Grows(nn.Module):
    """Runs out of memory on rank 1 where more than so many images come at once, from a pass in training on."""

    def __init__(self, most: int, *, problem: RuntimeError = SHORT, after: int = 0) -> None:
        super().__init__()
        self.most, self.problem, self.left = most, problem, after

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the images."""
        if self.training and rank() == 1 and len(images) > self.most:
            self.left -= 1
            if self.left < 0:
                raise self.problem
        return images


class Raises(nn.Module):
    """Fails on rank 1 in a pass in training."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.left = at

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the images."""
        self.left -= self.training
        if rank() == 1 and not self.left:
            raise ValueError("a label that nobody knows")
        return images


class Skips(nn.Module):
    """Has one parameter that nobody uses, and one that rank 0 alone uses."""

    def __init__(self) -> None:
        super().__init__()
        self.never, self.first = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the images, on rank 0 by way of a parameter."""
        return images * self.first if rank() == 0 else images


def equal(folder: Path) -> None:
    """Train one step, some epochs, and those in micro-batches."""
    keep(folder, "step", facts(train(network(), duration="1step")))
    keep(folder, "epochs", facts(train(network(nn.Identity()))))
    keep(folder, "parts", facts(train(network(), Settings(micro_batches=2), clip_norm=0.5, ema=0.9)))
    keep(folder, "loader", facts(train(network(), Settings(workers=1))))


def wide() -> nn.Module:
    """Return a model with more than 2 MiB of gradients, which make several buckets."""
    torch.manual_seed(0)
    return nn.Sequential(network()[:-1], nn.Linear(32, 18_000), nn.ReLU(), nn.Linear(18_000, 3))


WAYS = {
    "plain": Settings(),
    "views": Settings(gradient_views=True),
    "static": Settings(static_graph=True),
    "buckets": Settings(bucket_mib=1),
    "all": Settings(gradient_views=True, static_graph=True, bucket_mib=1),
    "bf16": Settings(gradient_precision="bf16"),
}
"""How gradients may travel."""


@contextmanager
def watched(made: list[dict[str, Any]]) -> Iterator[None]:
    """Keep the options of every DistributedDataParallel that is made."""
    own = parallel.DistributedDataParallel

    def make(module: nn.Module, **options: Any) -> Any:
        made.append({name: value for name, value in options.items() if isinstance(value, bool | int)})
        return own(module, **options)

    parallel.DistributedDataParallel = make  # type: ignore[assignment, misc]
    try:
        yield
    finally:
        parallel.DistributedDataParallel = own  # type: ignore[misc]


def ways(folder: Path) -> None:
    """Train with gradients that travel in every way, and tell which torch was asked for."""
    made: list[dict[str, Any]] = []
    with watched(made):
        for name, settings in WAYS.items():
            keep(folder, f"ways-{name}", facts(train(wide(), settings)))
    keep(folder, "made", made)


def statistics(folder: Path) -> None:
    """Train a model with batch statistics, and tell what is said."""
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("autotrain.engine.parallel").addHandler(handler)
    train(network(nn.BatchNorm2d(8)), duration="1step")
    train(network(), duration="1step")
    keep(folder, "statistics", said)


def workload_of(model: nn.Module) -> Workload:
    """Return a workload of all ranks."""
    given: dict[str, Any] = {"dataset": data(), "batch_size": BATCH, "device": DEVICE, "optimizer": sgd}
    return replace(prepare_workload(Task(model=model, **given)), team=join(torch.device(DEVICE)))


def tried(folder: Path) -> None:
    """Try candidates, some of which fail on rank 1 in the midst of a step, and tell what comes of each."""
    parallel.WAIT_S = 6.0
    for name, at, settings in (
        ("fails", 5, Settings()),
        ("runs", 0, Settings()),
        ("fails-in-parts", 5, Settings(sharding="full")),
        ("fails-first-in-parts", 1, Settings(sharding="full")),
        ("runs-in-parts", 0, Settings(sharding="full")),
    ):
        workload = workload_of(network(Raises(at)))
        started = time.monotonic()
        said, done = "", 0
        try:
            with candidate(), workload.team.region(), Rig(workload, settings) as rig, rig.active():
                for _ in range(8):
                    done += 1
                    rig.train(rig.move(rig.input.next()))
        except autotrain.errors.CandidateError as problem:
            said = str(problem)
        seconds = time.monotonic() - started
        whole = torch.ones(1)
        dist.all_reduce(whole)  # what all others travel by
        keep(folder, f"tried-{name}", {"said": said, "steps": done, "seconds": seconds, "whole": float(whole)})


def released(folder: Path) -> None:
    """Close rigs without Python's collector, and tell what of them is left."""
    gc.collect()
    gc.disable()
    left = {}
    for name, borrow in (("borrowed", True), ("own", False)):
        model = network()
        with Rig(workload_of(model), Settings(), borrow=borrow) as rig:
            with rig.active():
                for _ in range(4):
                    rig.train(rig.move(rig.input.next()))
                momentum = next(iter(rig.optimizer.state.values()))["momentum_buffer"]
            seen = {"step": rig.step, "wrapper": rig.step._parallel._parallel, "optimizer": rig.optimizer}  # type: ignore[union-attr]
            watched_things = {key: weakref.ref(thing) for key, thing in {**seen, "momentum": momentum}.items()}
            del seen, momentum
        del rig, model
        left[name] = [key for key, thing in watched_things.items() if thing() is not None]
    gc.enable()
    keep(folder, "released", left)


def steps(folder: Path) -> None:
    """Train some epochs."""
    keep(folder, "steps", facts(train(network(nn.GroupNorm(2, 8)))))


def sharded(folder: Path) -> None:
    """Train what lies in parts on the ranks: some epochs, and in micro-batches."""
    engine_sharded.UNIT = 1
    parts = Settings(sharding="full")
    keep(folder, "sharded", facts(train(network(nn.Identity()), parts)))
    halves = Settings(sharding="full", micro_batches=2, gradient_precision="fp32")
    keep(folder, "sharded-parts", facts(train(network(), halves, clip_norm=0.5)))
    model = network()
    keep(folder, "class", type(train(model, parts, duration="1step").model).__name__)
    try:
        train(network(), parts, ema=0.9)
    except autotrain.errors.AutotrainError as problem:
        keep(folder, "sharded-refused", str(problem))
    with Rig(workload_of(network()), parts) as rig, rig.active():
        batch = rig.move(rig.input.next())
        rig.step.parts = 5
        try:
            rig.train(batch)
        except autotrain.errors.CandidateError as problem:
            keep(folder, "too-many-parts", str(problem))


def moved(folder: Path) -> None:
    """Go on from the latest checkpoint, in parts where there are several ranks, and stop after some epochs."""
    engine_sharded.UNIT = 1
    given = {"checkpoints": folder / "kept", "resume": "auto", "duration": os.environ["UNTIL"]}
    keep(folder, "end", facts(adam(**given)))


def adam(**options: Any) -> autotrain.api.FitResult:
    """Train with an optimizer that keeps two moments, at a constant rate."""
    options |= {"optimizer": lambda given: torch.optim.AdamW(given, lr=0.01), "schedule": "constant"}
    return train(network(), Settings(sharding="full"), **options)


def synced(folder: Path) -> None:
    """Train a model whose batch statistics are those of all ranks together; torch has that on GPUs only."""
    model = nn.SyncBatchNorm.convert_sync_batchnorm(network(nn.BatchNorm2d(8)))
    keep(folder, "synced", facts(train(model)))


def odd(folder: Path) -> None:
    """Train what fits in halves only, from the first step or the second one on, and what leaves parameters out."""
    events, made = Events(), list[dict[str, Any]]()
    keep(folder, "halved", facts(train(network(Grows(3)), callbacks=[events])))
    keep(folder, "events", [type(event).__name__ for event in events.seen])
    events = Events()
    late = network(Grows(3, problem=RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"), after=1))
    with watched(made):
        keep(folder, "late", facts(train(late, Settings(static_graph=True), callbacks=[events])))
    keep(folder, "late-events", [type(event).__name__ for event in events.seen])
    keep(folder, "late-made", made)
    model = network(Skips())
    train(model)
    keep(folder, "skips", model.state_dict())
    try:
        train(network(), dataset=folder / "nowhere")
    except autotrain.errors.AutotrainError as problem:
        keep(folder, "refused", str(problem))


def stopped(folder: Path) -> None:
    """Go on from the latest checkpoint; die, or be told to end, where the test wants it."""
    loop.TELL_S = 0.0
    who, at, number = (int(os.environ.get(f"STOP_{name}", "-1")) for name in ("RANK", "STEP", "SIGNAL"))
    model = network(nn.Dropout(0.2)) if "DROPOUT" in os.environ else network()
    first_life = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"
    dies = Stops(at, number if rank() == who and first_life else 0)
    model.register_forward_pre_hook(dies)
    found = facts(train(model, duration="6ep", checkpoints=folder / "kept", resume="auto", every="2step"))
    keep(folder, "end", found)


class Fragile(Dataset[tuple[torch.Tensor, int]]):
    """Samples that take their time, and end the worker that loads them on rank 1."""

    def __init__(self) -> None:
        self.images, self.labels = data(200)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, place: int) -> tuple[torch.Tensor, int]:
        if rank() == 1 and get_worker_info() is not None:
            os._exit(7)
        time.sleep(0.002)
        return self.images[place].float() / 255, int(self.labels[place])


def probed(folder: Path) -> None:
    """Probe on all ranks, and train with what was found."""
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fixed = {"precision": "fp32", "memory_format": "contiguous", "optimizer_kernel": "own", "micro_batches": 1}
    fixed |= {"gradient_views": False, "gradient_precision": "fp32", "loader": "processes"}
    fixed |= {"cache": "none", "threads": 0}
    given: dict[str, Any] = {"batch_size": BATCH, "device": DEVICE, "budget": "18s", "progress": False}
    result = autotrain.probe(model, Fragile(), duration="50ep", fix=fixed, **given)
    keep(folder, "untouched", all(torch.equal(before[name], value) for name, value in model.state_dict().items()))
    keep(folder, "failures", [entry.reason for entry in result.session.failures])
    keep(folder, "kinds", [entry.kind.name for entry in result.session.measurements])
    keep(folder, "plan", result.plan.to_yaml())
    fitted = autotrain.fit(model, Fragile(), duration="1ep", plan=result.plan, batch_size=BATCH, progress=False)
    keep(folder, "end", fitted.steps)


def prepared(folder: Path) -> None:
    """Train in a loop of the user's own; a second job is never closed."""
    global left_open
    plan = Plan(settings=Settings(augmentation="crop", workers=1))
    given: dict[str, Any] = {"validation": data(25, seed=1), "batch_size": BATCH, "device": DEVICE, "clip_norm": 0.5}
    found: dict[str, Any] = {"refused": ""}
    model = network()
    with autotrain.prepare(model, data(), plan=plan, optimizer=sgd, **given) as job:
        found["losses"] = [float(job.step(*batch)) for _ in range(2) for batch in job.loader]
        found["sizes"] = [len(labels) for _, labels in job.validation or ()]
        score = job.evaluate()
        found["validation"] = score.loss, score.accuracy
        try:
            job.update()
        except autotrain.errors.UnsupportedError as problem:
            found["refused"] = str(problem)
    try:
        parts = Plan(settings=Settings(augmentation="crop", sharding="full"))
        autotrain.prepare(network(), data(), plan=parts, optimizer=sgd, **given).close()
    except autotrain.errors.UnsupportedError as problem:
        found["parts"] = str(problem)
    keep(folder, "prepared", {**found, "weights": model.state_dict()})
    left_open = autotrain.prepare(model, data(), plan=plan, optimizer=sgd, **given)
    left_open.step(*next(iter(left_open.loader)))


def sgd(parameters: Any) -> torch.optim.Optimizer:
    """Return the optimizer."""
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9)


class Stops:
    """Sends this process a signal before one of its forward passes in training."""

    def __init__(self, at: int, number: int) -> None:
        self.left, self.number = at, number

    def __call__(self, model: nn.Module, given: Sequence[Any]) -> None:
        """Count a pass."""
        if model.training:
            time.sleep(float(os.environ.get("SLOW_S", "0")))
        if model.training and self.number > 0:
            self.left -= 1
            if not self.left:
                os.kill(os.getpid(), self.number)


def whole(folder: Path) -> None:
    """Train with dropout from beginning to end."""
    loop.TELL_S = 0.0
    model = network(nn.Dropout(0.2))
    keep(folder, "whole", facts(train(model, duration="6ep", checkpoints=folder / "whole", every="2step")))


def clock(folder: Path) -> None:
    """Train by the clock; the first rank is held up at the end of each epoch, and the other one tells more often."""
    loop.TELL_S = 0.0 if rank() else 1e9
    own = loop._Run._keep

    def slowly(self: Any, *, best: bool) -> None:
        own(self, best=best)
        if not rank():
            time.sleep(0.3)

    loop._Run._keep = slowly  # type: ignore[method-assign]
    rates: list[float] = []

    def optimizer(parameters: Any) -> torch.optim.Optimizer:
        made = sgd(parameters)
        made.register_step_pre_hook(lambda own, *given: rates.append(own.param_groups[0]["lr"]))
        return made

    try:
        result = train(network(), optimizer=optimizer, duration="4s", checkpoints=folder / "clock", every="1s")
    finally:
        loop._Run._keep = own  # type: ignore[method-assign]
    keep(folder, "clock", {**facts(result), "rates": rates, "seconds": result.seconds})


def began(folder: Path) -> None:
    """Train the first epoch of what others go on with."""
    keep(folder, "began", facts(adam(checkpoints=folder / "began", duration="1ep")))


JOBS: dict[str, Job] = {
    entry.__name__: entry
    for entry in (
        *(
            began,
            clock,
            equal,
            moved,
            odd,
            prepared,
            probed,
            released,
            sharded,
            statistics,
            steps,
            stopped,
            synced,
            tried,
        ),
        *(ways, whole),
    )
}

if __name__ == "__main__":
    torch.set_num_threads(1)
    signal.alarm(200)
    for job in sys.argv[1].split(","):
        JOBS[job](Path(sys.argv[2]))
