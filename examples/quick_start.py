"""Quick start: a model and a folder of images in, a trained model out.

    python examples/quick_start.py [FOLDER]

FOLDER holds one folder of images per class. Without one, a small set of images is made.
"""

import sys
from pathlib import Path

from make_images import make_images
from torchvision.models import resnet18

import autotrain


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else example_images()
    classes = sum(1 for entry in folder.iterdir() if entry.is_dir())

    result = autotrain.fit(resnet18(num_classes=classes), folder, image_size=64, duration="3ep")

    last = result.history[-1]
    print(f"Trained at {last.images_per_s:.0f} images/s; loss in the last epoch: {last.loss:.3f}.")


def example_images() -> Path:
    return make_images(Path(".demo/quick_start"), train=600, validation=100) / "train"


if __name__ == "__main__":  # loader workers that are spawned import this file
    main()
