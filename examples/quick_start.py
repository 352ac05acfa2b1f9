"""Quick start: a model and a folder of images in, a trained model out.

    python examples/quick_start.py [FOLDER]

FOLDER holds one folder of images per class. Without one, a small set of images is made.
"""

import sys
from pathlib import Path

import autotrain
from make_images import make_images
from torchvision.models import resnet18


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else example_images()
    classes = sum(1 for entry in folder.iterdir() if entry.is_dir())

    result = autotrain.fit(resnet18(num_classes=classes), folder, image_size=64, duration="3ep")

    print(f"Trained at {result.history[-1].images_per_s:.0f} images/s; the last epoch's loss is {result.history[-1].loss:.3f}.")


def example_images() -> Path:
    return make_images(Path(".demo/quick_start"), train=600, validation=100) / "train"


if __name__ == "__main__":  # loader workers that are spawned import this file
    main()
