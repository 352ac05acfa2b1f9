"""Events of training, for whoever shows its progress or keeps its records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from autotrain.settings import Settings, Value


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRecord:
    """What an epoch of training came to."""

    epoch: int
    """Number of the epoch, from 1."""

    step: int
    """Steps done since the start of training."""

    images: int
    """Images trained on in this epoch."""

    seconds: float
    """Wall-clock seconds of its training steps."""

    wait_s: float
    """Of these, seconds in which training waited for images."""

    loss: float
    """Mean training loss."""

    lr: float
    """Learning rate of the first parameter group at the last step."""

    validation_s: float | None = None
    """Seconds of validation; None where there is no validation set."""

    validation_loss: float | None = None
    accuracy: float | None = None
    """Share of validation images classified rightly, 0 to 1; None for tasks without classes."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    """The user's own metrics, by name."""

    @property
    def images_per_s(self) -> float:
        """Rate of training, validation left out."""
        return self.images / self.seconds

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class FitStarted:
    """Training begins."""

    settings: Settings
    steps_per_epoch: int
    total_steps: int | None
    """None where training goes by wall-clock."""

    total_s: float | None
    """None where training goes by steps."""

    images: int
    """Training images per epoch."""

    validation_images: int
    """0 where there is no validation set."""

    lrs: tuple[float, ...] = ()
    """Learning rates of the schedule at evenly spaced places, from the first step to the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDone:
    """A step was taken; told a few times a second, not for every step."""

    step: int
    epoch: int
    """From 1."""

    progress: float
    """Share of the training that is done, 0 to 1."""

    loss: float
    lr: float
    images_per_s: float
    """Over the last moments."""

    wait_share: float
    """Share of the last moments in which training waited for images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochDone:
    """An epoch ended, validation included."""

    record: EpochRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """Training goes on from a checkpoint."""

    step: int
    """Steps that were done."""

    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSaved:
    """A checkpoint is being written, in the background."""

    step: int
    best: bool
    """Whether it is the best so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointFailed:
    """A checkpoint could not be written; training goes on, and tries again when the next is due."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Halved:
    """Memory ran out: from this step on a batch passes the model in more parts."""

    step: int
    parts: int
    batch_statistics: bool
    """Whether the model has some, so that from here on it learns from other batches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowedDown:
    """Training runs slower than its plan says; told once, until it has recovered."""

    step: int
    images_per_s: float
    """Over the last seconds."""

    expected: float
    """Images/s that the plan lets expect at least, or what the first seconds reached."""

    reasons: tuple[str, ...]
    """What was seen at the time, in words; none where nothing was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapted:
    """A training that had become slower has tried other loader settings."""

    step: int
    changes: Mapping[str, Value]
    """What it goes on with that is not as before; empty where nothing was faster."""

    tried: int
    """How many others were tried."""

    before: float
    """Images/s of the settings that it had."""

    images_per_s: float
    """Images/s of those that it goes on with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FitEnded:
    """Training ended."""

    seconds: float
    interrupted: bool


Trouble = Halved | SlowedDown | CheckpointFailed
"""What somebody has to be told of."""

FitEvent = FitStarted | Resumed | StepDone | EpochDone | CheckpointSaved | Adapted | Trouble | FitEnded
FitObserver = Callable[[FitEvent], None]


def silent(event: FitEvent) -> None:
    """Observe nothing."""
    del event


def all_of(observers: Sequence[FitObserver]) -> FitObserver:
    """Return an observer that tells several, one after the other."""

    def observe(event: FitEvent) -> None:
        for observer in observers:
            observer(event)

    return observe
