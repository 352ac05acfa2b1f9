"""What several tests make: sessions and bursts whose rates and shares are known, and folders of odd image files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from autotrain.hardware.machine import machine_facts
from autotrain.measure.measurement import Kind, Measurement, Window
from autotrain.measure.session import Job, Session
from autotrain.settings import Settings

MACHINE = machine_facts()
JOB = Job(
    model="ResNet",
    parameters=1,
    dataset="photos",
    samples=100,
    samples_kind="image files",
    batch_size=8,
    image_size=64,
    device="cpu",
    device_name="a CPU",
    fingerprint="0123",
    seed=0,
    threads=2,
    planned_images=1000,
)
WINDOWS, IMAGES = 9, 96
PNG = 5


def measured(
    kind: Kind,
    rate: float,
    *,
    wait: float = 0.0,
    main: float = 1.0,
    workers: float = 0.0,
    sync: float | None = None,
    transfer: float | None = None,
    spread: float = 0.0,
    **facts: Any,
) -> Measurement:
    """Return a burst at a rate in images/s; the rest are shares of its wall-clock, and fields of the measurement."""

    def window(seconds: float) -> Window:
        return Window(
            steps=3,
            images=IMAGES,
            wall_s=seconds,
            wait_s=wait * seconds,
            cpu_main_s=main * seconds,
            cpu_workers_s=workers * seconds,
            sync_s=None if sync is None else sync * seconds,
            transfer_s=None if transfer is None else transfer * seconds,
        )

    windows = tuple(window(IMAGES / rate * (1 + spread * (number % 3 - 1))) for number in range(WINDOWS))
    usual = {"settings": Settings(), "startup_s": 0.1, "warmup_steps": 2, "stationary": True}
    return Measurement(kind=kind, windows=windows, **(usual | facts))


def session(*measurements: Measurement, device: str = "cpu", batch_size: int = 8, **facts: Any) -> Session:
    """Return a session of bursts on two cores; the rest are fields of it."""
    job = replace(JOB, device=device, batch_size=batch_size)
    usual = {"job": job, "default": Settings(), "cores": 2}
    return Session(machine=MACHINE, measurements=measurements, **(usual | facts))


def odd_photographs(root: Path, length: int, modes: Mapping[int, str]) -> Path:
    """Write photograph-like JPEG files of three classes, large enough for reduced decoding; the sixth is a PNG.

    Args:
        root: the folder.
        length: how many.
        modes: Pillow's mode of those that are not RGB; a PNG can be transparent.
    """
    draws = np.random.default_rng(0)
    for index in range(length):
        place = root / f"class{index % 3}"
        place.mkdir(exist_ok=True)
        coarse = Image.fromarray(draws.integers(0, 256, (5, 6, 3), dtype=np.uint8))
        image = coarse.resize((160 + index, 130 - index), Image.Resampling.BICUBIC).convert(modes.get(index, "RGB"))
        image.save(place / f"{index:02d}.{'png' if index == PNG else 'jpg'}", quality=90)
    return root
