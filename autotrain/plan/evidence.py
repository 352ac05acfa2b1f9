"""Evidence: what was measured before a plan was chosen, and what each of its settings is worth."""

from dataclasses import dataclass
from enum import StrEnum

from autotrain.settings import Value
from autotrain.stats.summary import Estimate

LeftOut = tuple[str, Value, str]
"""A choice that was not measured: knob, value, reason."""


class Verdict(StrEnum):
    """What the evidence says about a plan's settings against the default."""

    FASTER = "faster"
    """They beat the default in a duel."""

    INCONCLUSIVE = "inconclusive"
    """Nothing beat the default beyond the noise, so the default stays."""

    NOT_PROVEN = "not proven"
    """The probe was interrupted before the duel decided."""

    GIVEN = "given"
    """A person chose them; nothing was measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Worth:
    """What one changed setting was measured to be worth."""

    setting: str
    """Name of the setting."""

    value: Value
    """Its value in the plan."""

    instead_of: Value
    """The value that it replaces."""

    alone: Estimate | None = None
    """Images/s of the default with this setting alone, over the default's, in interleaved turns; None where unknown."""

    within: Estimate | None = None
    """Images/s of the plan over the plan with this setting taken back, in interleaved turns; None where unknown."""

    ratio: Estimate | None = None
    """The same as ``within``, but from two bursts apart from each other, in which the machine's drift is mixed."""

    note: str = ""
    """What a reader should know about it, in a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What stands behind a plan. The defaults say that its settings were given by hand."""

    verdict: Verdict = Verdict.GIVEN
    """The outcome of the duel with the default."""

    default_rate: Estimate | None = None
    """Images/s with the default settings."""

    chosen_rate: Estimate | None = None
    """Images/s with the plan's settings."""

    ratio: Estimate | None = None
    """Chosen over default, from the duel's pairs."""

    usual_rate: Estimate | None = None
    """Images/s of the default with as many workers as usable cores, the usual hand setting."""

    bottleneck: str = ""
    """What holds back the job as it was given."""

    findings: tuple[str, ...] = ()
    """The diagnosis, in plain sentences."""

    bursts: int = 0
    """Bursts that were measured."""

    probe_s: float = 0.0
    """Seconds that the probe took."""

    largest_batch: str = ""
    """Advice on the batch size, in a sentence; may be empty."""

    worth: tuple[Worth, ...] = ()
    """What each changed setting is worth."""

    left_out: tuple[LeftOut, ...] = ()
    """Choices that were not measured, each with the reason."""
