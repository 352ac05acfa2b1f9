"""A Lightning script in the common style: it trains an image classifier on a folder of photographs.

python lightning_module.py photos --arch resnet18 --epochs 90
"""

import argparse
from pathlib import Path

import lightning
import torch
from torch import Tensor
from torch.nn import functional
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR
from torchvision import models, transforms
from torchvision.datasets import ImageFolder

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train an image classifier")
    parser.add_argument("data", type=Path, help="folder with train/ and val/, in each a folder per class")
    parser.add_argument("-a", "--arch", default="resnet18", help="a network of torchvision's")
    parser.add_argument("-j", "--workers", default=4, type=int, help="processes that load the images")
    parser.add_argument("-b", "--batch-size", default=256, type=int)
    parser.add_argument("--image-size", default=224, type=int, help="side of the images in pixels")
    parser.add_argument("--epochs", default=90, type=int)
    parser.add_argument("--lr", default=0.1, type=float)
    parser.add_argument("--folder", default=".", help="where Lightning keeps checkpoints and logs")
    return parser.parse_args()


class Classifier(lightning.LightningModule):
    """A network of torchvision's with its loss, its metrics and its optimizer."""

    def __init__(self, arch: str, classes: int, lr: float) -> None:
        super().__init__()
        self.lr = lr
        self.network = models.get_model(arch, num_classes=classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the outputs, an image per row."""
        return self.network(images)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """Return the loss of a batch."""
        images, labels = batch
        loss = functional.cross_entropy(self(images), labels)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        """Take up a batch in loss and accuracy."""
        images, labels = batch
        outputs = self(images)
        right = (outputs.argmax(dim=1) == labels).float().mean()
        self.log("val_loss", functional.cross_entropy(outputs, labels), batch_size=len(labels))
        self.log("val_accuracy", right, batch_size=len(labels), prog_bar=True)

    def configure_optimizers(self) -> dict:
        """Return SGD with a cosine, by epoch."""
        optimizer = SGD(self.parameters(), self.lr, momentum=0.9, weight_decay=1e-4)
        return {"optimizer": optimizer, "lr_scheduler": CosineAnnealingLR(optimizer, self.trainer.max_epochs)}


def main() -> None:
    args = options()
    size, resized = args.image_size, round(args.image_size * 256 / 224)
    augment = [transforms.RandomResizedCrop(size), transforms.RandomHorizontalFlip()]
    center = [transforms.Resize(resized), transforms.CenterCrop(size)]
    finish = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    train_set = ImageFolder(args.data / "train", transforms.Compose([*augment, *finish]))
    val_set = ImageFolder(args.data / "val", transforms.Compose([*center, *finish]))
    usual = {"batch_size": args.batch_size, "num_workers": args.workers, "pin_memory": torch.cuda.is_available()}
    train_loader = torch.utils.data.DataLoader(train_set, shuffle=True, drop_last=True, **usual)
    val_loader = torch.utils.data.DataLoader(val_set, **usual)

    model = Classifier(args.arch, len(train_set.classes), args.lr)
    trainer = lightning.Trainer(max_epochs=args.epochs, default_root_dir=args.folder)
    trainer.fit(model, train_loader, val_loader)


if __name__ == "__main__":
    main()
