"""A task for the command line: a Python file that defines ``task``.

    python examples/make_images.py                      # makes the images that this task trains on
    autotrain probe examples/task.py --out plan.yaml
    autotrain fit examples/task.py --plan plan.yaml --duration 5ep

The model is on the CPU and the dataset is a path: making a task costs nothing, and autotrain does the rest.
"""

from collections.abc import Iterable
from pathlib import Path

import torch
from torchvision.models import resnet18

from autotrain import Task

images = Path(__file__).resolve().parent.parent / ".demo" / "images"


def sgd(parameters: Iterable[torch.Tensor]) -> torch.optim.Optimizer:
    """Return the optimizer that the task trains with."""
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)


task = Task(
    model=resnet18(num_classes=10),
    dataset=images / "train",
    validation=images / "val",
    optimizer=sgd,
    image_size=64,
    batch_size=64,
    augmentation="crop",
    duration="10ep",
)
