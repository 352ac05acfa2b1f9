"""Plan: the chosen settings with their evidence and provenance, as people review and version them."""

import os
from dataclasses import asdict, dataclass, field
from typing import Any

from autotrain.errors import PlanError
from autotrain.plan.evidence import Evidence
from autotrain.plan.files import read_text, write_text
from autotrain.plan.provenance import Provenance, differences
from autotrain.plan.read import SCHEMA, read_plan
from autotrain.plan.values import check_settings
from autotrain.plan.write import write_plan
from autotrain.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How to run a training job, and why so. ``Plan(settings=...)`` alone is a plan given by hand.

    Raises:
        PlanError: a setting has a value that no plan can hold.
    """

    settings: Settings
    """The chosen settings."""

    evidence: Evidence = field(default_factory=Evidence)
    """What was measured."""

    provenance: Provenance = field(default_factory=Provenance)
    """Where, when and for what it was measured."""

    seed: int = 0
    """Seed of the image order and of every random draw, 0 to 2**64 - 1."""

    def __post_init__(self) -> None:
        reason = check_settings(self.settings)
        if reason is not None:
            raise PlanError(f"plan: {reason}")

    def to_yaml(self) -> str:
        """Return the plan as text for people; measured numbers are rounded to four significant digits.

        Raises:
            PlanError: the plan holds what ``from_yaml`` would refuse, such as a rate that is not finite.
        """
        text = write_plan(self.settings, evidence=self.evidence, provenance=self.provenance, seed=self.seed)
        read_plan(text, where="plan")
        return text

    @classmethod
    def from_yaml(cls, text: str, *, where: str = "plan") -> "Plan":
        """Return the plan that ``text`` describes; only ``schema`` and ``settings`` must be there.

        Raises:
            PlanError: the text is no valid plan; the message begins with ``where`` and the line.
        """
        contents = read_plan(text, where=where)
        return cls(
            settings=contents.settings,
            evidence=contents.evidence,
            provenance=contents.provenance,
            seed=contents.seed,
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the plan to ``path``; a file that is there is replaced at once or, after a failure, kept.

        Raises:
            PlanError: the place cannot be written, or the plan is one that ``to_yaml`` refuses.
        """
        write_text(path, self.to_yaml())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Plan":
        """Return the plan in the file at ``path``.

        Raises:
            PlanError: there is no such file, or it holds no valid plan.
        """
        return cls.from_yaml(read_text(path), where=os.fspath(path))

    def differences(self, provenance: Provenance) -> tuple[str, ...]:
        """Return a plain sentence for each way in which ``provenance`` differs from this plan's own, for a warning."""
        return differences(self.provenance, provenance)

    def as_dict(self) -> dict[str, Any]:
        """Return everything the plan holds, unrounded, as values that JSON can write."""
        evidence = asdict(self.evidence)
        evidence["verdict"] = str(self.evidence.verdict)
        evidence["left_out"] = [
            {"knob": knob, "value": value, "reason": reason} for knob, value, reason in self.evidence.left_out
        ]
        provenance = asdict(self.provenance)
        provenance["versions"] = dict(self.provenance.versions)
        return {
            "schema": SCHEMA,
            "seed": self.seed,
            "settings": self.settings.as_dict(),
            "evidence": evidence,
            "provenance": provenance,
        }
