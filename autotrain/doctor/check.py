"""A check: it looks at facts and gives a problem, or a fact that is as it should be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from autotrain.doctor.facts import Facts


class Severity(StrEnum):
    """What a problem does to training."""

    CRASH = "may crash"
    SLOW = "slows training"
    NOTE = "worth knowing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something in the environment that costs."""

    severity: Severity
    """What it does."""

    what: str
    """In a few words, with the figure that matters."""

    evidence: str
    """Where it was seen, with figures."""

    cost: str
    """What it costs, measured here or by the source."""

    remedy: str
    """How to mend it, in words."""

    command: str = ""
    """A line to type for it; empty where there is none."""

    source: str = ""
    """Address of who says so; empty where it was measured here or follows from the evidence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fine:
    """Nothing to mend."""

    fact: str
    """What was looked at and found, with figures."""


class NotDone(Exception):
    """Raised by a check, or by the facts that it asks for, where it cannot be done; the message says why."""


Outcome: TypeAlias = Fine | Problem | Sequence[Problem]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing to look at."""

    name: str
    """One word or two with a hyphen, by which reports call it and ``--skip`` leaves it out."""

    look: Callable[[Facts], Outcome]
    """Looks at it; raises ``NotDone`` where that is not possible. No problems in a sequence means fine."""
