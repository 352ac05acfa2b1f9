"""A task for the command line: a Python file that defines ``task``.

    python examples/make_images.py                      # makes the images that this task trains on
    autotrain probe examples/task.py --out plan.yaml
    autotrain fit examples/task.py --plan plan.yaml --duration 5ep
"""

from pathlib import Path

import torch
from autotrain import Task
from torchvision.models import resnet18

images = Path(__file__).resolve().parent.parent / ".demo" / "images"

task = Task(
    model=resnet18(num_classes=10),
    dataset=images / "train",
    validation=images / "val",
    optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4),
    image_size=64,
    batch_size=64,
    augmentation="crop",
    duration="10ep",
)
