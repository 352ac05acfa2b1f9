"""Make a learnable image dataset on disk: ten classes of drawn figures in photograph-like scenes, as JPEG files.

    python examples/make_images.py [FOLDER]

Figures vary in place, size, angle, colour and light; backgrounds in colour, texture and noise. Every image is a
function of seed, part and number alone, so it is the same whatever the number of processes.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import time
from pathlib import Path

import numpy as np
from PIL import Image

VERSION = 1
"""Of the drawings: raise it when they change, and folders made before are made anew."""

FOLDER = Path(__file__).resolve().parent.parent / ".demo" / "images"

FIGURES = {
    "bars": lambda u, v: np.minimum(np.sin(7 * u), 1 - np.hypot(u, v)),
    "checks": lambda u, v: np.minimum(np.sin(5 * u) * np.sin(5 * v), 0.9 - np.maximum(abs(u), abs(v))),
    "cross": lambda u, v: np.minimum(0.28 - np.minimum(abs(u), abs(v)), 1 - np.maximum(abs(u), abs(v))),
    "disc": lambda u, v: 0.85 - np.hypot(u, v),
    "dots": lambda u, v: np.minimum(np.cos(8 * u) * np.cos(8 * v) - 0.3, 1 - np.maximum(abs(u), abs(v))),
    "ring": lambda u, v: 0.2 - abs(np.hypot(u, v) - 0.75),
    "star": lambda u, v: 0.62 + 0.36 * np.cos(5 * np.arctan2(u, -v)) - np.hypot(u, v),
    "target": lambda u, v: np.minimum(np.cos(13 * np.hypot(u, v)), 1 - np.hypot(u, v)),
    "triangle": lambda u, v: 0.5 - np.maximum(v, 0.87 * abs(u) - 0.5 * v),
    "waves": lambda u, v: np.minimum(np.sin(8 * v + 2 * np.sin(5 * u)), 0.95 - np.maximum(abs(u), abs(v))),
}
"""Class and its shape: above 0 inside, with u to the right and v down, both -1 to 1 over the figure."""


def make_images(
    folder: str | Path = FOLDER,
    *,
    train: int = 2000,
    validation: int = 400,
    seed: int = 0,
    size: tuple[int, int] = (400, 300),
    processes: int | None = None,
) -> Path:
    """Make ``folder/train/CLASS/*.jpg`` and ``folder/val/CLASS/*.jpg`` unless they are there, and return the folder.

    The folder appears only when all its files are written, so an interrupted run leaves nothing that looks finished.
    """
    folder = Path(folder)
    about = {"version": VERSION, "train": train, "val": validation, "seed": seed, "size": list(size)}
    if _is_complete(folder, about):
        return folder
    started = time.monotonic()
    print(f"Making {train + validation:,} images in {os.path.relpath(folder)} ...", flush=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in folder.parent.glob(f"{folder.name}.half-made-*"):
        shutil.rmtree(left, ignore_errors=True)
    draft = folder.with_name(f"{folder.name}.half-made-{os.getpid()}")
    names = sorted(FIGURES)
    jobs = []
    for part, count in (("train", train), ("val", validation)):
        for name in names:
            (draft / part / name).mkdir(parents=True)
        jobs += [(draft, part, number, seed, size) for number in range(count)]
    processes = processes or _usable_cpus()
    if processes == 1:
        for job in jobs:
            _write_image(*job)
    else:
        with multiprocessing.Pool(processes) as pool:
            pool.starmap(_write_image, jobs, chunksize=50)
    (draft / "about.json").write_text(json.dumps(about))
    if folder.exists():
        shutil.rmtree(folder)
    draft.rename(folder)
    print(f"Made them in {time.monotonic() - started:.0f} s.", flush=True)
    return folder


def _usable_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _is_complete(folder: Path, about: dict[str, object]) -> bool:
    try:
        known = json.loads((folder / "about.json").read_text())
    except (OSError, ValueError):
        return False
    return known == about and all(
        sum(1 for _ in (folder / part).glob("*/*.jpg")) == about[part] for part in ("train", "val")
    )


def _write_image(folder: Path, part: str, number: int, seed: int, size: tuple[int, int]) -> None:
    names = sorted(FIGURES)
    name = names[number % len(names)]
    draws = np.random.default_rng([seed, part == "val", number])
    image = draw_image(name, draws, size)
    image.save(folder / part / name / f"{number:05d}.jpg", quality=85)


def draw_image(name: str, draws: np.random.Generator, size: tuple[int, int] = (400, 300)) -> Image.Image:
    """Draw one scene with a figure of the class ``name``, of about ``size`` (width, height) pixels."""
    width, height = (round(side * draws.uniform(0.85, 1.15)) for side in size)
    scene = _background(draws, width, height)
    for _ in range(draws.integers(2, 6)):  # clutter
        _paint(scene, "disc", draws, draws.uniform(0.04, 0.1), draws.uniform(0, 1, 2), draws.uniform(0, 1, 3))
    light = scene.mean() > 0.5
    colour = draws.uniform(0.0, 0.45, 3) if light else draws.uniform(0.55, 1.0, 3)
    centre = 0.5 + draws.uniform(-0.12, 0.12, 2)
    _paint(scene, name, draws, draws.uniform(0.28, 0.46), centre, colour)
    scene *= _lighting(draws, width, height)[..., None]
    grain = draws.standard_normal((height, width), dtype=np.float32) * np.float32(draws.uniform(0.015, 0.05))
    scene += grain[..., None]
    scene *= 255
    return Image.fromarray(np.clip(scene, 0, 255, out=scene).astype(np.uint8))


def _background(draws: np.random.Generator, width: int, height: int) -> np.ndarray:
    """Smooth colour with a texture of several grain sizes, float32 (height, width, 3); drawn at half the resolution."""
    wide, tall = width // 2, height // 2
    colours = _smooth(draws, 3, wide, tall, channels=3)
    base = draws.uniform(0.15, 0.85, 3).astype(np.float32)
    texture = sum(_smooth(draws, cells, wide, tall) / np.float32(cells**0.5) for cells in (8, 24, 72))
    scene = np.clip(base + 0.25 * (colours - 0.5) + 0.5 * (texture - texture.mean()), 0, 1)
    whole = Image.fromarray((scene * 255).astype(np.uint8)).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(whole, dtype=np.float32) / 255


def _smooth(draws: np.random.Generator, cells: int, width: int, height: int, channels: int = 1) -> np.ndarray:
    """Random values 0 to 1 on a coarse grid, interpolated to the image's size."""
    coarse = [Image.fromarray(draws.random((cells, cells), dtype=np.float32)) for _ in range(channels)]
    planes = [plane.resize((width, height), Image.Resampling.BICUBIC) for plane in coarse]
    return np.stack([np.asarray(plane) for plane in planes], axis=-1)


def _lighting(draws: np.random.Generator, width: int, height: int) -> np.ndarray:
    """Brightness that falls off in some direction, float32 (height, width)."""
    angle, strength, level = draws.uniform(0, 2 * np.pi), draws.uniform(0, 0.45), draws.uniform(0.8, 1.1)
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :] * np.float32(np.cos(angle))
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None] * np.float32(np.sin(angle))
    return np.float32(level) * (1 + np.float32(strength) * (x + y) / 2)


def _paint(
    scene: np.ndarray, name: str, draws: np.random.Generator, radius: float, centre: np.ndarray, colour: np.ndarray
) -> None:
    """Lay a figure over the scene, in place; ``radius`` is a share of the shorter side, ``centre`` of both sides."""
    height, width = scene.shape[:2]
    reach = radius * min(height, width)
    turn, squeeze, share = draws.uniform(-0.35, 0.35), draws.uniform(0.85, 1.15), draws.uniform(0.8, 1.0)
    column, row = centre[0] * width, centre[1] * height
    left, top = max(0, int(column - 1.7 * reach)), max(0, int(row - 1.7 * reach))
    patch = scene[top : int(row + 1.7 * reach) + 1, left : int(column + 1.7 * reach) + 1]
    tall, wide = patch.shape[:2]
    # The mask is computed at half the resolution and interpolated: four times faster, and smooth at the edge.
    x = ((np.arange(left, left + wide, 2) - column) / reach).astype(np.float32)[None, :]
    y = ((np.arange(top, top + tall, 2) - row) / reach).astype(np.float32)[:, None]
    sine, cosine = np.float32(np.sin(turn)), np.float32(np.cos(turn))
    u, v = (cosine * x + sine * y) * np.float32(squeeze), cosine * y - sine * x
    inside = FIGURES[name](u, v) * np.float32(reach / 4)
    mask = Image.fromarray(np.clip(0.5 + inside, 0, 1)).resize((wide, tall), Image.Resampling.BILINEAR)
    patch += np.asarray(mask)[..., None] * np.float32(share) * (colour.astype(np.float32) - patch)


def main() -> None:
    parser = argparse.ArgumentParser(description="Make ten classes of photograph-like JPEG files.")
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER)
    parser.add_argument("--train", type=int, default=2000, help="training images (default: 2000)")
    parser.add_argument("--validation", type=int, default=400, help="validation images (default: 400)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    folder = make_images(options.folder, train=options.train, validation=options.validation, seed=options.seed)
    print(f"{folder}: ready")


if __name__ == "__main__":
    main()
