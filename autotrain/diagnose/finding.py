"""Findings: one diagnosed bottleneck each, with its cause, evidence, remedy and predicted gain."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum

from autotrain.settings import Settings


class Bottleneck(Enum):
    """What a training step spends its time on."""

    INPUT = "input-bound"
    COMPUTE = "compute-bound"
    TRANSFER = "transfer-bound"
    LAUNCH = "launch-bound"
    COMMUNICATION = "communication-bound"
    SHARED_CORES = "shared cores"
    BALANCED = "balanced"


class Cause(StrEnum):
    """Why it spends its time there."""

    STORAGE = "slow storage"
    """Waiting for files, a network, or whatever the dataset waits for."""

    DECODING = "slow decoding"
    """Bytes to pixels of the right size."""

    AUGMENTATION = "heavy augmentation"
    """The policy's pixel work, or the dataset's own transforms."""

    COLLATION = "slow collation"
    """Samples to a batch."""

    DATASET = "the dataset's own code"
    """Work in ``__getitem__`` that cannot be looked into."""

    TRANSFER = "slow transfer"
    """Batches on their way to the device."""

    TINY_KERNELS = "tiny kernels"
    """Operators that take longer to issue than to do."""

    MODEL = "heavy model"
    """The arithmetic of forward pass, backward pass and update."""

    EXCHANGE = "exchange of gradients"
    """Ranks wait for each other's gradients while nothing else is to be done."""

    OVERSUBSCRIBED = "too many workers for the cores"
    """Processes and threads that want to run are more than the cores, and get in each other's way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What holds a job back under given settings, and what to do about it."""

    bottleneck: Bottleneck
    evidence: tuple[str, ...]
    """Plain sentences with the numbers that it rests on."""

    cause: Cause | None = None
    """Why; None where no single thing stands out, or the loading was not profiled."""

    relief: float | None = None
    """Images/s if the cause took no time at all, over those now: more than any remedy gives; None where not known."""

    remedy: Settings | None = None
    """Settings that relieve it; None where none of the legal ones would."""

    remedy_words: str = ""
    """The remedy for people."""

    predicted_gain: float | None = None
    """Images/s under the remedy over those now, as the contention model predicts."""

    @property
    def words(self) -> str:
        """The bottleneck and its cause, for people: ``input-bound: slow decoding``."""
        return f"{self.bottleneck.value}: {self.cause.value}" if self.cause else self.bottleneck.value
