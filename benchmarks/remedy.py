"""Question: does the diagnosis name constructed bottlenecks, and is the predicted gain of its remedy what it gives?

Bars:
- a dataset that sleeps in __getitem__ is called input-bound, a heavy model on resident tensors compute-bound;
- the predicted gain of the remedy is within 20% of what default and remedy then give in an interleaved comparison.
Takes about 6 minutes on 2 cores; --quick about 5.
"""

from __future__ import annotations

import time
from typing import Any

import torch
import torchvision
from common import finish, interleaved, options, ratio, rig_contender, small_cnn
from torch.utils.data import Dataset

import autotrain
from autotrain.diagnose.finding import Bottleneck
from autotrain.preparation import prepare_workload
from autotrain.settings import Settings
from autotrain.task import Task

WITHIN = 0.20


class Sleeping(Dataset[Any]):
    """Images that take their time, as from a slow disk or a network."""

    def __len__(self) -> int:
        return 4096

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        time.sleep(0.004)
        return torch.full((3, 32, 32), index % 251, dtype=torch.uint8), index % 10


def main() -> None:
    arguments = options(__doc__ or "")
    torch.manual_seed(0)
    images = torch.randint(0, 256, (512, 3, 96, 96), dtype=torch.uint8)
    labels = torch.randint(0, 10, (512,))
    resnet = torchvision.models.resnet18(num_classes=10)
    cases = {
        "sleeping dataset": (Task(model=small_cnn(10), dataset=Sleeping(), batch_size=32), Bottleneck.INPUT),
        "heavy model": (Task(model=resnet, dataset=(images, labels), batch_size=32), Bottleneck.COMPUTE),
        "heavy model on one thread": (
            Task(model=small_cnn(10), dataset=(images, labels), batch_size=32, settings=Settings(threads=1)),
            Bottleneck.COMPUTE,
        ),
    }
    missed, result = [], {}
    for name, (task, wanted) in cases.items():
        probed = autotrain.probe(task, progress=False)
        finding = probed.finding
        if finding is None or finding.bottleneck is not wanted:
            missed.append(f"{name}: called {finding.bottleneck.value if finding else None}, is {wanted.value}")
            continue
        entry: dict[str, Any] = {"bottleneck": finding.bottleneck.value, "evidence": finding.evidence}
        if finding.remedy is None or finding.predicted_gain is None:
            print(f"{name}: {finding.bottleneck.value}; {finding.remedy_words}")
        else:
            workload = prepare_workload(task)
            makers = [rig_contender(workload, settings) for settings in (probed.session.default, finding.remedy)]
            rows = interleaved(makers, 5 if arguments.quick else 10)
            gain = ratio(rows, 0, 1).ratio
            error = finding.predicted_gain / gain.value - 1
            print(f"{name}: {finding.bottleneck.value}; remedy {finding.remedy_words}")
            print(f"  predicted {finding.predicted_gain:.2f}, measured {gain:.2f}: off by {error:+.0%}")
            entry |= {"predicted": finding.predicted_gain, "measured": gain.as_dict(), "rows": rows}
            if abs(error) > WITHIN:
                missed.append(f"{name}: predicted {finding.predicted_gain:.2f}, measured {gain:.2f}")
        result[name] = entry
    finish("remedy", result, missed, arguments)


if __name__ == "__main__":
    main()
