"""A plain PyTorch script in the common style: it trains an image classifier on a folder of photographs.

python plain.py photos --arch resnet18 --epochs 90
"""

import argparse
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import SGD
from torch.optim.lr_scheduler import StepLR
from torchvision import models, transforms
from torchvision.datasets import ImageFolder

import autotrain

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train an image classifier")
    parser.add_argument("data", type=Path, help="folder with train/ and val/, in each a folder per class")
    parser.add_argument("-a", "--arch", default="resnet18", help="a network of torchvision's")
    parser.add_argument("--plan", help="file of an earlier probe; without one the script begins with a probe")
    parser.add_argument("-b", "--batch-size", default=256, type=int)
    parser.add_argument("--image-size", default=224, type=int, help="side of the images in pixels")
    parser.add_argument("--epochs", default=90, type=int)
    parser.add_argument("--lr", default=0.1, type=float)
    parser.add_argument("--momentum", default=0.9, type=float)
    parser.add_argument("--weight-decay", default=1e-4, type=float)
    parser.add_argument("--print-freq", default=10, type=int, help="steps between two lines")
    parser.add_argument("--checkpoint", default="checkpoint.pt", help="where the best weights are kept")
    return parser.parse_args()


class Meter:
    """The mean of a number that is told batch by batch."""

    def __init__(self) -> None:
        self.total, self.count = 0.0, 0

    def update(self, value: float, count: int) -> None:
        """Take up the mean of some images."""
        self.total += value * count
        self.count += count

    @property
    def mean(self) -> float:
        """The mean so far."""
        return self.total / max(1, self.count)


def main() -> None:
    args = options()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    size, resized = args.image_size, round(args.image_size * 256 / 224)
    augment = [transforms.RandomResizedCrop(size), transforms.RandomHorizontalFlip()]
    center = [transforms.Resize(resized), transforms.CenterCrop(size)]
    finish = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    train_set = ImageFolder(args.data / "train", transforms.Compose([*augment, *finish]))
    val_set = ImageFolder(args.data / "val", transforms.Compose([*center, *finish]))

    model = models.get_model(args.arch, num_classes=len(train_set.classes)).to(device)
    criterion = nn.CrossEntropyLoss()
    optimizer = SGD(model.parameters(), args.lr, momentum=args.momentum, weight_decay=args.weight_decay)
    usual = {"batch_size": args.batch_size, "loss": criterion, "optimizer": optimizer, "duration": f"{args.epochs}ep"}
    job = autotrain.prepare(model, train_set, validation=val_set, plan=args.plan, **usual)
    train_loader, val_loader = job.loader, job.validation
    scheduler = StepLR(optimizer, step_size=30, gamma=0.1)

    best = 0.0
    for epoch in range(args.epochs):
        train(train_loader, model, job, epoch, device, args.print_freq)
        top1 = validate(val_loader, model, criterion, device)
        scheduler.step()
        if top1 >= best:
            best = top1
            torch.save({"epoch": epoch + 1, "arch": args.arch, "model": model.state_dict()}, args.checkpoint)
    job.close()
    print(f"best top-1 accuracy {best:.2f}%")


def train(loader, model, job, epoch, device, print_freq) -> None:
    losses, waits = Meter(), Meter()
    model.train()
    started = asked = time.perf_counter()
    for step, (images, labels) in enumerate(loader, start=1):
        waits.update(time.perf_counter() - asked, 1)
        images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
        loss = job.step(images, labels)
        losses.update(loss.item(), len(images))
        if step % print_freq == 0 or step == len(loader):
            rate = losses.count / (time.perf_counter() - started)
            print(
                f"epoch {epoch} step {step}/{len(loader)}  loss {losses.mean:.3f}  "
                f"waited {waits.mean:.3f} s  {rate:.0f} images/s",
                flush=True,
            )
        asked = time.perf_counter()


@torch.no_grad()
def validate(loader, model, criterion, device) -> float:
    losses, top1, top5 = Meter(), Meter(), Meter()
    model.eval()
    for images, labels in loader:
        images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
        outputs = model(images)
        losses.update(criterion(outputs, labels).item(), len(images))
        one, five = accuracy(outputs, labels, (1, 5))
        top1.update(one, len(images))
        top5.update(five, len(images))
    print(f"validation: loss {losses.mean:.3f}  top-1 {top1.mean:.2f}%  top-5 {top5.mean:.2f}%")
    return top1.mean


def accuracy(outputs: Tensor, labels: Tensor, ranks: tuple[int, ...]) -> list[float]:
    """Return the percentages of images whose label is among the so many largest outputs."""
    largest = outputs.topk(min(max(ranks), outputs.shape[1])).indices
    hits = largest == labels[:, None]
    return [100 * hits[:, :rank].any(dim=1).float().mean().item() for rank in ranks]


if __name__ == "__main__":
    main()
