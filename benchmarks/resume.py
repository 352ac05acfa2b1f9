"""Question: is anything lost when a training is killed?

A training that writes a checkpoint after every step is killed (SIGKILL) at random moments, so that many kills come
while one is being written, and started again each time until it ends. Bars, over 25 kills:
- the final weights are those of the training that was never killed, bit for bit;
- no checkpoint in the folder is ever unreadable.
Takes about 4 minutes; --quick (8 kills) about 2.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
from pathlib import Path
from time import monotonic, sleep

import torch
from common import finish, options, small_cnn

import autotrain
from autotrain.engine.checkpoint import CheckpointFolder, read_checkpoint
from autotrain.plan.plan import Plan
from autotrain.settings import Settings

KILLS, QUICK_KILLS = 25, 8
STEPS_BETWEEN = 6
"""Steps that a run makes at least before it is killed."""


def train(folder: Path) -> None:
    """Train, from the latest checkpoint if there is one; what the killed process does."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (256, 3, 32, 32), generator=generator, dtype=torch.uint8)
    model = torch.nn.Sequential(small_cnn(10), torch.nn.Dropout(0.1))
    autotrain.fit(
        model,
        (images, torch.arange(256) % 10),
        batch_size=16,
        duration="600step",
        augmentation="trivial",
        plan=Plan(settings=Settings(augmentation="trivial", workers=1)),
        checkpoints=folder,
        every="1step",
        resume="auto",
        progress=False,
    )
    torch.save(model.state_dict(), folder.with_suffix(".pt"))


def main() -> None:
    if sys.argv[1:2] == ["--train"]:
        train(Path(sys.argv[2]))
        return
    arguments = options(__doc__ or "")
    kills, missed = QUICK_KILLS if arguments.quick else KILLS, []
    draws = random.Random(0)
    with tempfile.TemporaryDirectory() as place:
        whole, killed = Path(place) / "whole", Path(place) / "killed"
        start(whole).wait()
        reached, unreadable, torn = [], 0, 0
        while len(reached) < kills:
            process, before = start(killed), latest(killed)
            while latest(killed) < before + STEPS_BETWEEN and process.poll() is None:
                sleep(0.01)
            end = monotonic() + draws.uniform(0.0, 0.3)
            while monotonic() < end and process.poll() is None:
                sleep(0.001)
            if process.poll() is not None:
                break
            process.kill()
            process.wait()
            torn += any(entry.name.startswith(".writing-") for entry in killed.iterdir())
            unreadable += sum(not readable(entry.path) for entry in CheckpointFolder(killed).saved())
            reached.append(latest(killed))
        start(killed).wait()
        one, other = (torch.load(entry.with_suffix(".pt"), weights_only=True) for entry in (whole, killed))
    same = all(torch.equal(value, other[name]) for name, value in one.items())
    print(f"{len(reached)} kills at steps {reached}, {torn} of them while a checkpoint was being written")
    print(f"final weights {'are equal bit for bit' if same else 'DIFFER'}; unreadable checkpoints: {unreadable}")
    if not same:
        missed.append("the final weights differ")
    if unreadable:
        missed.append(f"{unreadable} unreadable checkpoints")
    if len(reached) < kills:
        missed.append(f"the training ended after {len(reached)} kills")
    result = {"kills": reached, "while_writing": torn, "unreadable": unreadable, "equal": same}
    finish("resume", result, missed, arguments)


def start(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, __file__, "--train", folder])


def latest(folder: Path) -> int:
    """Return the step of the latest checkpoint, 0 for none."""
    saved = CheckpointFolder(folder).saved()
    return saved[0].step if saved else 0


def readable(path: Path) -> bool:
    """Tell whether a checkpoint can be read."""
    try:
        read_checkpoint(path)
    except autotrain.errors.CheckpointError:
        return False
    return True


if __name__ == "__main__":
    main()
