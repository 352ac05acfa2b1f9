"""Question: how much faster do the scripts of examples/before train once ten lines are changed, as in examples/after?

Both scripts of a pair run as they are, in processes of their own, in turns and in random order, on the same folder of
images; before with a worker per usable core, after with the plan of one probe. Told: images/s of the training steps
from the second epoch on (the first one fills a cache), seconds of whole runs with the probe and without, and after how
many epochs the probe has paid for itself. Bar, per script and network:
- the lower end of the 95% interval of the ratio, after over before, is above 1.
--lightning PYTHON names an interpreter that has Lightning, where this one has not; else its script is left out.
Takes about 25 minutes on 2 cores; --quick, the first network alone and fewer turns, about 10. Nothing else may run
meanwhile: threads that wait for each other on a busy core take many times as long.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from types import ModuleType
from typing import Any

from common import ROOT, finish, photographs

from autotrain.hardware.machine import machine_facts
from autotrain.stats.compare import compare
from autotrain.stats.summary import summarize

SCRIPTS = ("plain", "lightning_module")
BEFORE, AFTER = "before", "after"
EPOCHS, ROUNDS, QUICK_ROUNDS = 4, 6, 4
LIMIT_S = 1800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """What the scripts are told to train."""

    arch: str
    image_size: int
    batch_size: int

    @property
    def name(self) -> str:
        """What people call it."""
        return f"{self.arch}, {self.image_size} px"

    @property
    def arguments(self) -> list[str]:
        """The command line's share."""
        return ["--arch", self.arch, "--image-size", str(self.image_size), "--batch-size", str(self.batch_size)]


NETWORKS = (
    Network(arch="shufflenet_v2_x0_5", image_size=64, batch_size=32),
    Network(arch="resnet18", image_size=64, batch_size=32),
)


def main() -> None:
    if len(sys.argv) > 1 and sys.argv[1] == "--child":
        child(*sys.argv[2:5], arguments=sys.argv[5:])
        return
    arguments = read_options()
    folder = photographs(arguments.data).resolve()
    folder = folder.parent if folder.name == "train" else folder
    networks = NETWORKS[:1] if arguments.quick else NETWORKS
    rounds = arguments.rounds or (QUICK_ROUNDS if arguments.quick else ROUNDS)
    result: dict[str, Any] = {"epochs": arguments.epochs, "rounds": rounds}
    missed: list[str] = []
    for script in SCRIPTS:
        python = interpreter(script, arguments.lightning)
        if python is None:
            print(f"{script}: left out, Lightning is not installed here: name an interpreter with --lightning")
            continue
        for network in networks:
            name = f"{script}, {network.name}"
            result[name] = found = measured(script, network, folder, python, arguments.epochs, rounds)
            show(name, found, arguments.epochs)
            if found["ratio"]["low"] <= 1:
                missed.append(f"{name}: the ratio's interval begins at {found['ratio']['low']:.3f}")
    finish("examples", result, missed, arguments)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the first network alone, fewer turns")
    parser.add_argument("--json", type=Path, help="write the result here too")
    parser.add_argument("--data", type=Path, help="folder with train/ and val/; generated where not given")
    parser.add_argument("--lightning", type=Path, help="an interpreter that has Lightning")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of each run, the first of which is not counted")
    parser.add_argument("--rounds", type=int, help="runs of each side")
    return parser.parse_args()


def interpreter(script: str, lightning: Path | None) -> Path | None:
    """Return what runs a script, or None."""
    if script == "plain":
        return Path(sys.executable)
    if lightning is not None:
        return lightning.absolute()
    return Path(sys.executable) if importlib.util.find_spec("lightning") is not None else None


def measured(script: str, network: Network, folder: Path, python: Path, epochs: int, rounds: int) -> dict[str, Any]:
    """Run both sides in turns; return their rates and seconds."""
    draws = random.Random(0)
    cores = max(1, machine_facts().cpu.usable)
    with tempfile.TemporaryDirectory() as scratch:
        run = functools.partial(start, python, script, network, folder, epochs, Path(scratch))
        probed = run(AFTER, [], plan=True)
        plan = ["--plan", str(Path(scratch) / "plan.yaml")]
        own = {BEFORE: ["--workers", str(cores)], AFTER: plan}
        runs: dict[str, list[dict[str, Any]]] = {BEFORE: [], AFTER: []}
        for _ in range(rounds):
            for side in draws.sample((BEFORE, AFTER), 2):
                runs[side].append(run(side, own[side]))
        settings = Path(scratch, "plan.yaml").read_text()
    rates = {side: [entry["rate"] for entry in found] for side, found in runs.items()}
    return {
        **{side: summarize(values).as_dict() for side, values in rates.items()},
        "ratio": compare(rates[BEFORE], rates[AFTER]).ratio.as_dict(),
        "seconds": {side: statistics.median(entry["seconds"] for entry in found) for side, found in runs.items()},
        "epoch_s": {side: statistics.median(entry["epoch_s"] for entry in found) for side, found in runs.items()},
        "probed_s": probed["seconds"],
        "prepare_s": probed["prepare_s"],
        "runs": runs,
        "plan": settings,
    }


def show(name: str, found: dict[str, Any], epochs: int) -> None:
    """Print a row in words."""

    def rate(entry: dict[str, Any]) -> str:
        return f"{entry['value']:.0f} ({entry['low']:.0f} to {entry['high']:.0f})"

    ratio, seconds, epoch_s = found["ratio"], found["seconds"], found["epoch_s"]
    saved = epoch_s[BEFORE] - epoch_s[AFTER]
    print(f"{name}: {rate(found[BEFORE])} images/s before, {rate(found[AFTER])} after,", end=" ")
    print(f"{ratio['value']:.2f}x ({ratio['low']:.2f} to {ratio['high']:.2f}, n={ratio['n']})")
    print(f"  {epochs} epochs: {seconds[BEFORE]:.0f} s before, {seconds[AFTER]:.0f} s after with the plan,", end=" ")
    print(f"{found['probed_s']:.0f} s with the probe, which took {found['prepare_s']:.0f} s")
    print(f"  an epoch and its validation: {epoch_s[BEFORE]:.1f} s before, {epoch_s[AFTER]:.1f} s after", end="")
    print(f"; the probe pays back after {found['prepare_s'] / saved:.0f} epochs" if saved > 0 else "", flush=True)


# One run, in a process of its own


def start(
    python: Path,
    script: str,
    network: Network,
    folder: Path,
    epochs: int,
    scratch: Path,
    side: str,
    arguments: Sequence[str],
    *,
    plan: bool = False,
) -> dict[str, Any]:
    """Run a script; return its rate in images/s, the seconds of an epoch and those of the whole."""
    record = scratch / "record.json"
    keep = scratch / "plan.yaml" if plan else Path(os.devnull)
    place = ["--checkpoint", str(scratch / "best.pt")] if script == "plain" else ["--folder", str(scratch)]
    command = [
        *(str(python), str(Path(__file__).resolve()), "--child"),
        *(str(ROOT / "examples" / side / f"{script}.py"), str(record), str(keep)),
        *(str(folder), "--epochs", str(epochs), *network.arguments, *place, *arguments),
    ]
    ended = subprocess.run(
        command,
        cwd=scratch,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    if ended.returncode:
        raise SystemExit(f"{side}/{script}.py failed:\n{ended.stdout[-2000:]}{ended.stderr[-4000:]}")
    found = json.loads(record.read_text())
    later = list(zip(found["trained_s"][1:], found["validated_s"][1:], strict=True))
    return {
        "rate": found["images"] * len(later) / sum(trained for trained, _ in later),
        "epoch_s": statistics.median(trained + validated for trained, validated in later),
        **found,
    }


def child(script: str, record: str, plan: str, *, arguments: Sequence[str]) -> None:
    """Run a script's ``main`` with a clock at its epochs, and write down what the clock said."""
    module = load(script)
    clock: dict[str, Any] = {"trained_s": [], "validated_s": [], "images": 0, "prepare_s": 0.0}
    if hasattr(module, "lightning"):
        module.lightning.Trainer = functools.partial(module.lightning.Trainer, callbacks=[lightning_clock(clock)])
    else:
        module.train, module.validate = plain_clocks(module, clock)
    if hasattr(module, "autotrain"):
        module.autotrain.prepare = timed_prepare(module.autotrain.prepare, clock, plan)
    sys.argv = [script, *arguments]
    size = int(arguments[arguments.index("--batch-size") + 1])
    started = perf_counter()
    module.main()
    clock["seconds"] = perf_counter() - started
    clock["images"] *= size
    Path(record).write_text(json.dumps(clock))


def load(script: str) -> ModuleType:
    """Import a script under a name of its own, which its loader's workers find too."""
    sys.path.insert(0, str(Path(script).parent))
    return importlib.import_module(Path(script).stem)


def plain_clocks(module: ModuleType, clock: dict[str, Any]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return the script's ``train`` and ``validate`` with a clock."""

    def timed(function: Callable[..., Any], place: str) -> Callable[..., Any]:
        def call(loader: Any, *rest: Any) -> Any:
            started = perf_counter()
            result = function(loader, *rest)
            clock[place].append(perf_counter() - started)
            if place == "trained_s":
                clock["images"] = len(loader)
            return result

        return call

    return timed(module.train, "trained_s"), timed(module.validate, "validated_s")


def lightning_clock(clock: dict[str, Any]) -> Any:
    """Return a callback with a clock; Lightning validates between an epoch's last batch and its end."""
    import lightning

    class Clock(lightning.Callback):
        """Takes the time of epochs and validations."""

        started = validating = 0.0

        def on_train_epoch_start(self, *_: Any) -> None:
            """Begin an epoch."""
            self.started = perf_counter()

        def on_validation_start(self, *_: Any) -> None:
            """Begin a validation."""
            self.validating = perf_counter()

        def on_train_epoch_end(self, trainer: Any, *_: Any) -> None:
            """End both."""
            clock["trained_s"].append(self.validating - self.started)
            clock["validated_s"].append(perf_counter() - self.validating)
            clock["images"] = trainer.num_training_batches

    return Clock()


def timed_prepare(prepare: Callable[..., Any], clock: dict[str, Any], plan: str) -> Callable[..., Any]:
    """Return ``prepare`` with a clock, which keeps the plan."""

    def call(*given: Any, **options: Any) -> Any:
        started = perf_counter()
        job = prepare(*given, **options)
        clock["prepare_s"] = perf_counter() - started
        if plan != os.devnull:
            job.plan.save(plan)
        return job

    return call


if __name__ == "__main__":
    main()
