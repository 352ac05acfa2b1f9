"""The job as ``frx tune`` wants it: a script that reports its steps and reads its settings from the environment.

The step that is reported holds the wait for its batch. fournex counts reported steps only: with the loader outside, as
in the lines that ``frx init`` prints, it would not see what its own settings change.
"""

import os
from collections.abc import Iterator
from typing import Any

import fournex as frx
import torch
from torch import nn
from torch.utils.data import DataLoader
from training import given, make_dataset, make_network, make_optimizer


class Endless:
    """A loader epoch after epoch, as the steps of a trial may be more than an epoch has."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        self.loader = loader

    def __iter__(self) -> Iterator[Any]:
        while True:
            yield from self.loader


def main() -> None:
    frx.init(job_name="rivals")
    job, folder = given()
    read = os.environ.get
    workers = int(read("FRX_NUM_WORKERS", "0"))
    loader = DataLoader(
        make_dataset(job, folder),
        batch_size=job.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        pin_memory=read("FRX_PIN_MEMORY") == "true",
        prefetch_factor=int(read("FRX_PREFETCH_FACTOR", "2")) if workers else None,
        persistent_workers=workers > 0 and read("FRX_PERSISTENT_WORKERS") == "true",
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = make_network(job, folder).to(device).train()
    optimizer = make_optimizer(model.parameters())
    batches = iter(frx.instrument_dataloader(Endless(loader)))
    for step in range(int(read("FRX_TUNE_MAX_STEPS", "25"))):
        with frx.step_context(step=step, model=model):
            images, labels = next(batches)
            loss = nn.functional.cross_entropy(model(images.to(device)), labels.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if device.type == "cuda":
                torch.cuda.synchronize()
    frx.flush()


if __name__ == "__main__":
    main()
