"""Summaries of raw samples that carry their doubt with them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number with its 95% interval and the count of samples behind it."""

    value: float
    """The estimate itself, in the unit of the samples."""

    low: float
    """Lower end of the 95% interval."""

    high: float
    """Upper end of the 95% interval."""

    n: int
    """Samples behind the estimate."""

    def __format__(self, spec: str) -> str:
        """Format like ``412 (400 to 421, n=24)``; ``spec`` is applied to each number, ``.0f`` where empty."""
        spec = spec or ".0f"
        return f"{self.value:{spec}} ({self.low:{spec}} to {self.high:{spec}}, n={self.n})"

    def __str__(self) -> str:
        return f"{self:.3g}"

    def as_dict(self) -> dict[str, float | int]:
        """Return value, low, high and n, for JSON and YAML."""
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n}
