"""Findings: one diagnosed bottleneck each, with evidence, remedy and predicted gain."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from autotrain.settings import Settings


class Bottleneck(Enum):
    """What a training step spends its time on."""

    INPUT = "input-bound"
    COMPUTE = "compute-bound"
    TRANSFER = "transfer-bound"
    LAUNCH = "launch-bound"
    SHARED_CORES = "shared cores"
    BALANCED = "balanced"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What holds a job back under given settings, and what to do about it."""

    bottleneck: Bottleneck
    evidence: tuple[str, ...]
    """Plain sentences with the numbers that it rests on."""

    remedy: Settings | None = None
    """Settings that relieve it; None where none of the legal ones would."""

    remedy_words: str = ""
    """The remedy for people."""

    predicted_gain: float | None = None
    """Images/s under the remedy over those now, as the contention model predicts."""
