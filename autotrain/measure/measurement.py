"""What a burst saw: raw windows, and statistics derived from them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from functools import lru_cache
from typing import Any

from autotrain.settings import Settings
from autotrain.stats.summary import Estimate, summarize_rate


class Kind(Enum):
    """Which part of a training step a burst runs."""

    FULL = "full"
    """Load, transfer and train: the real thing."""

    COMPUTE = "compute"
    """Train on batches that lie on the device already: the compute ceiling."""

    INPUT = "input"
    """Load without training: the input ceiling."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A stretch of consecutive steps, closed by one synchronisation with the device."""

    steps: int
    images: int
    wall_s: float
    """Wall-clock seconds of the stretch."""

    wait_s: float
    """Of these, seconds in which the training process was blocked on the loader."""

    cpu_main_s: float
    """CPU seconds of the training process, all threads."""

    cpu_workers_s: float
    """CPU seconds of the loader's workers."""

    sync_s: float | None = None
    """Of these, seconds of waiting for the device at the end, when all work was issued; None on a CPU."""

    transfer_s: float | None = None
    """Of these, seconds of copying to the device, beside other work on CUDA; None where nothing is copied."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """A burst of one settings, raw."""

    kind: Kind
    settings: Settings
    windows: tuple[Window, ...]
    startup_s: float
    """Seconds from building the rig to its first batch or step."""

    warmup_steps: int
    stationary: bool
    """Whether step times had settled when timing began; False where the time for warming up ran out."""

    losses: tuple[float, ...] = ()
    """Training losses of all steps from the start, warm-up included."""

    peak_bytes: int | None = None
    """Largest memory in use on the device; None on a CPU."""

    other_cpu_share: float | None = None
    """Share of the usable cores' time that went to other programs."""

    issue_share: float | None = None
    """Median share of a step's time that the host takes to issue it; None on a CPU."""

    gpu_utilisation: int | None = None
    """Share of the time in which the GPU ran something, in percent, at the end; None on a CPU."""

    gpu_clock_mhz: int | None = None
    """Clock of the GPU's multiprocessors at the end; None on a CPU."""

    gpu_temperature_c: int | None = None
    """Temperature of the GPU at the end; None on a CPU."""

    gpu_throttled: tuple[str, ...] = ()
    """Why the GPU's clock was lower at the end than it could be; empty when it was not."""

    stopped_early: bool = False
    """Whether it was given up as clearly behind."""

    compile_s: float = 0.0
    """Seconds of the first step beyond those of a usual one, where a compiler was at work."""

    page_cache: str = ""
    """Where the files came from: ``warm`` (from memory, being read before), ``fresh``; empty without files."""

    repeats: int = 0
    """How often it was measured again because other programs disturbed it."""

    predicted: float | None = None
    """Images/s that the contention model had predicted; None where it could not."""

    bound: float | None = None
    """Images/s that the settings could not exceed, by the measured demands; None where they were not known."""

    heat: int | None = None
    """Number of the heat in which it ran interleaved with others; None where it ran alone."""

    scale: float = 1.0
    """What its heat's rates are multiplied with, so that a contender common to two heats has one rate in both."""

    @property
    def rate(self) -> Estimate:
        """Images per second, pooled over the windows, on the scale of the session."""
        return _rate(self.windows, self.scale)

    @property
    def images(self) -> int:
        """Images in all windows."""
        return sum(entry.images for entry in self.windows)

    @property
    def wall_s(self) -> float:
        """Timed seconds."""
        return sum(entry.wall_s for entry in self.windows)

    @property
    def wait_share(self) -> float:
        """Share of the time blocked on the loader, 0 to 1."""
        return sum(entry.wait_s for entry in self.windows) / self.wall_s

    @property
    def cpu_main_per_image_s(self) -> float:
        """CPU seconds of the training process per image."""
        return sum(entry.cpu_main_s for entry in self.windows) / self.images

    @property
    def cpu_workers_per_image_s(self) -> float:
        """CPU seconds of the workers per image."""
        return sum(entry.cpu_workers_s for entry in self.windows) / self.images

    @property
    def sync_share(self) -> float | None:
        """Share of the time that the host waited for the device; near 0 the device starves. None on a CPU."""
        times = [entry.sync_s for entry in self.windows if entry.sync_s is not None]
        return sum(times) / self.wall_s if times else None

    @property
    def transfer_share(self) -> float | None:
        """Share of the time that copies to the device took; None where nothing is copied."""
        times = [entry.transfer_s for entry in self.windows if entry.transfer_s is not None]
        return sum(times) / self.wall_s if times else None

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return values | {
            "kind": self.kind.value,
            "settings": self.settings.as_dict(),
            "windows": [asdict(entry) for entry in self.windows],
            "losses": list(self.losses),
            "gpu_throttled": list(self.gpu_throttled),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Measurement:
        """Build a measurement from what ``as_dict`` gave."""
        return cls(
            **{
                **values,
                "kind": Kind(values["kind"]),
                "settings": Settings.from_dict(values["settings"]),
                "windows": tuple(Window(**entry) for entry in values["windows"]),
                "losses": numbers(values["losses"]),
                "gpu_throttled": tuple(values.get("gpu_throttled", ())),
            }
        )


def numbers(values: Iterable[float | None]) -> tuple[float, ...]:
    """Return numbers as they were before JSON, which has null for what is not finite."""
    return tuple(math.nan if value is None else value for value in values)


@lru_cache(maxsize=4096)
def _rate(windows: tuple[Window, ...], scale: float) -> Estimate:
    """Return the pooled rate; kept, because a search asks for the same bursts' rates thousands of times."""
    return summarize_rate([entry.images for entry in windows], [entry.wall_s / scale for entry in windows])
