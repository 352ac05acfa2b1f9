"""The demo (``make demo``): make images, probe a small network on them, train it with the plan."""

import os
import time
from pathlib import Path

from make_images import FIGURES, make_images
from network import small_resnet

import autotrain

EPOCHS = 10
PLAN = "plan.yaml"


def main() -> None:
    started = time.monotonic()
    folder = Path(os.path.relpath(make_images()))
    model = small_resnet(classes=len(FIGURES))
    task = {
        "validation": folder / "val",
        "image_size": 64,
        "batch_size": 64,
        "augmentation": "crop",
        "duration": f"{EPOCHS}ep",
        "seed": 0,
    }

    heading("1. Probe: what is the fastest way to train this network on this machine?")
    probed = autotrain.probe(model, folder / "train", **task)
    probed.plan.save(PLAN)
    print(f"The plan is in {PLAN}: made for people to read, change and keep under version control.")

    heading("2. Train with the plan")
    trained = autotrain.fit(model, folder / "train", plan=PLAN, **task)

    heading("3. Validation accuracy, epoch by epoch")
    for record in trained.history:
        print(f"{record.epoch:5d} {record.accuracy:7.1%}  {'#' * round(50 * record.accuracy)}")
    print(f"\nAll in {time.monotonic() - started:.0f} s.")


def heading(text: str) -> None:
    print(f"\n{text}\n{'-' * len(text)}", flush=True)


if __name__ == "__main__":  # loader workers that are spawned import this file
    main()
