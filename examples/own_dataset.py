"""A dataset of your own, with transforms of your own.

    python examples/own_dataset.py

autotrain takes any map-style dataset (``__getitem__`` and ``__len__``) and leaves its transforms alone. Two ways to
write one, which differ in what autotrain may move about:

- ``Finished``: the transforms end in a normalised float tensor. All of them stay in the loader's workers, just as
  written; autotrain chooses the number of workers, and what happens once a batch is made.
- ``Pictures``: the dataset gives PIL images, and the task names the augmentation. autotrain can then measure it in the
  workers and on the device; images travel as bytes and are normalised on the device, once per batch.

The transforms of torchvision's own datasets (``ImageFolder``, ``CIFAR10``...) are understood, so those can be cached
and moved too; a class of your own may do anything, so it is left as it is.

Random transforms draw from torch's generator, which autotrain seeds for every sample: the same images reach the model,
whatever the number of workers.
"""

from pathlib import Path

from make_images import make_images
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision import models, transforms

import autotrain

SIZE = 64


class Pictures(Dataset[tuple[Image.Image, int]]):
    """Image files, opened one by one; the class is the name of the folder."""

    def __init__(self, folder: Path) -> None:
        self.files = sorted(folder.glob("*/*.jpg"))
        self.classes = sorted({file.parent.name for file in self.files})

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        file = self.files[index]
        return Image.open(file).convert("RGB"), self.classes.index(file.parent.name)


class Finished(Dataset[tuple[Tensor, int]]):
    """The same, with a pipeline of its own down to the normalised tensor."""

    def __init__(self, folder: Path) -> None:
        self.pictures = Pictures(folder)
        self.transform = transforms.Compose(
            [
                transforms.RandomResizedCrop(SIZE, scale=(0.35, 1.0)),
                transforms.RandomHorizontalFlip(),
                transforms.ColorJitter(brightness=0.2, contrast=0.2),
                transforms.ToTensor(),
                transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
            ]
        )

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = self.pictures[index]
        return self.transform(image), label


def network() -> nn.Module:
    return models.resnet18(num_classes=10)


def main() -> None:
    folder = make_images(Path(".demo/quick_start"), train=600, validation=100) / "train"

    own = autotrain.probe(network(), Finished(folder), duration="5ep", budget="60s")
    own.plan.save(".demo/finished.yaml")

    open_to_change = autotrain.probe(
        network(), Pictures(folder), image_size=SIZE, augmentation="crop", duration="5ep", budget="60s"
    )
    open_to_change.plan.save(".demo/pictures.yaml")


if __name__ == "__main__":  # loader workers that are spawned import this file
    main()
