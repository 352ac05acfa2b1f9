"""Question: how fast is autotrain's choice beside a default PyTorch script and the best hand-picked one?

Bars, per workload (small CNN at 64 px, batch 64; resnet18 at 96 px, batch 32), all contenders interleaved in one run:
- autotrain's choice is not slower than the default script: the ratio's 95% interval does not lie below 1;
- nor more than 5% slower than the best hand-picked script: that interval does not lie below 0.95.
Takes about 8 minutes on 2 cores; --quick about 5.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torchvision
from common import (
    PlainScript,
    column,
    finish,
    interleaved,
    options,
    photographs,
    ratio,
    rig_contender,
    small_cnn,
)

import autotrain
from autotrain.preparation import prepare_workload
from autotrain.stats.summary import summarize
from autotrain.task import Task

HAND = {
    "default script": {},
    "hand: workers": {"workers": -1},
    "hand: workers, channels-last": {"workers": -1, "channels_last": True},
    "hand: workers, channels-last, bf16": {"workers": -1, "channels_last": True, "bf16": True},
    "hand: channels-last, bf16": {"channels_last": True, "bf16": True},
}
"""Plain PyTorch scripts; -1 workers are as many as usable cores."""


def main() -> None:
    arguments = options(__doc__ or "")
    folder = photographs(arguments.data)
    result: dict[str, Any] = {}
    missed: list[str] = []
    for name, make, size, batch in (
        ("small CNN, 64 px", small_cnn, 64, 64),
        ("resnet18, 96 px", lambda classes: torchvision.models.resnet18(num_classes=classes), 96, 32),
    ):
        result[name] = workload(name, make, folder, size, batch, arguments.quick, missed)
    finish("quick", result, missed, arguments)


def workload(name: str, make: Any, folder: Path, size: int, batch: int, quick: bool, missed: list[str]) -> Any:
    classes = len([entry for entry in folder.iterdir() if entry.is_dir()])
    torch.manual_seed(0)
    task = Task(model=make(classes), dataset=folder, image_size=size, batch_size=batch, duration="90ep")
    probed = autotrain.probe(task, progress=False)
    chosen = probed.plan.settings
    cores = probed.session.cores

    def script(settings: dict[str, Any]) -> Any:
        workers = cores if settings.get("workers") == -1 else 0

        def build(stack: Any) -> PlainScript:
            made = PlainScript(make(classes), folder, size=size, batch_size=batch, **(settings | {"workers": workers}))
            stack.callback(made.close)
            return made

        return build

    makers = [*(script(settings) for settings in HAND.values()), rig_contender(prepare_workload(task), chosen)]
    rows = interleaved(makers, 20 if quick else 40)
    names = [*HAND, "autotrain"]
    rates = [summarize(column(rows, place)) for place in range(len(names))]
    hand = max(range(len(HAND)), key=lambda place: rates[place].value)
    against = [ratio(rows, place, len(HAND)).ratio for place in range(len(HAND))]
    print(f"\n{name}: autotrain chose {chosen.changes(probed.session.default) or 'the default'}")
    evidence = probed.plan.evidence
    proven = "" if evidence.ratio is None else f", {evidence.ratio:.2f}"
    print(f"probe: {probed.session.seconds:.0f} s, verdict {evidence.verdict}{proven}")
    for place, entry in enumerate(names):
        versus = f"autotrain is {against[place]:.2f} times that" if place < len(HAND) else ""
        print(f"  {entry:36s} {rates[place]:.0f} images/s  {versus}")
    if against[0].high < 1.0:
        missed.append(f"{name}: against the default script {against[0]:.3f}")
    if against[hand].high < 0.95:
        missed.append(f"{name}: against the best hand-picked script ({names[hand]}) {against[hand]:.3f}")
    return {
        "chosen": chosen.as_dict(),
        "probe_s": probed.session.seconds,
        "verdict": str(probed.plan.evidence.verdict),
        "best_by_hand": names[hand],
        "rates": dict(zip(names, [column(rows, place) for place in range(len(names))], strict=True)),
        "autotrain_over": dict(zip(HAND, [entry.as_dict() for entry in against], strict=True)),
    }


if __name__ == "__main__":
    main()
