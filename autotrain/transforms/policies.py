"""torchvision's policies as moves: TrivialAugmentWide, RandAugment and AutoAugment, of either version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from autotrain.transforms.move import OPERATORS, Move, Row

NAMES = tuple(name for name in OPERATORS if name not in ("Invert", "Hue"))
"""What TrivialAugmentWide and RandAugment draw from, in torchvision's order."""

_WITHOUT_MAGNITUDE = frozenset({"Identity", "AutoContrast", "Equalize", "Invert"})
_UNSIGNED = _WITHOUT_MAGNITUDE | {"Posterize", "Solarize"}
_AUTO_BINS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranges:
    """The largest magnitudes of a policy's operators."""

    shear: float
    translation: float
    rotation: float
    enhancement: float

    bits: int
    """How many bits posterising takes away at most."""

    relative: bool
    """Whether the translation is a share of the side rather than pixels."""

    def magnitude(self, name: str, place: int, *, bins: int, height: int, width: int) -> float:
        """Return the unsigned magnitude in a bin, in float32 as torchvision has it; of Solarize a share of 255."""
        if name in _WITHOUT_MAGNITUDE:
            return 0.0
        if name == "Posterize":
            return float((8 - torch.arange(bins) / ((bins - 1) / self.bits)).round()[place])
        if name == "Solarize":
            return float(torch.linspace(1.0, 0.0, bins)[place])
        if name.startswith("Translate"):
            side = (width if name == "TranslateX" else height) if self.relative else 1
            return float(torch.linspace(0.0, self.translation * side, bins)[place])
        largest = {"ShearX": self.shear, "ShearY": self.shear, "Rotate": self.rotation}.get(name, self.enhancement)
        return float(torch.linspace(0.0, largest, bins)[place])


WIDE = Ranges(shear=0.99, translation=32.0, rotation=135.0, enhancement=0.99, bits=6, relative=False)
"""TrivialAugmentWide's."""

STANDARD = Ranges(shear=0.3, translation=150.0 / 331.0, rotation=30.0, enhancement=0.9, bits=4, relative=True)
"""RandAugment's and AutoAugment's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyMove(Move):
    """What the policies have in common; version 1 draws arrays of one number, version 2 single ones."""

    ranges: Ranges = STANDARD
    """Magnitudes of its operators."""

    def number(self, count: int) -> int:
        """Draw a number below ``count``."""
        return int(torch.randint(count, () if self.modern else (1,)))

    def negative(self) -> bool:
        """Draw a sign."""
        return bool(torch.rand(()) <= 0.5) if self.modern else bool(torch.randint(2, (1,)))

    def put(self, row: Row, name: str, place: int, *, bins: int, height: int, width: int, sign: Any = None) -> None:
        """Add an operator with the magnitude in a bin; its sign is drawn unless ``sign`` (0: negative) is known."""
        magnitude = self.ranges.magnitude(name, place, bins=bins, height=height, width=width)
        if name == "Solarize":
            # Version 1 counts in levels from the start, which rounds otherwise.
            magnitude = 255.0 * magnitude if self.modern else float(torch.linspace(255.0, 0.0, bins)[place])
        if name not in _UNSIGNED and (self.negative() if sign is None else bool(sign == 0)):
            magnitude = -magnitude
        self.add(row, name, magnitude)


class TrivialAugment(PolicyMove):
    """TrivialAugmentWide."""

    def draw(self, row: Row, height: int, width: int) -> None:
        """Draw operator, bin and sign."""
        bins = self.transform.num_magnitude_bins
        name = NAMES[self.number(len(NAMES))]
        place = 0 if name in _WITHOUT_MAGNITUDE else self.number(bins)
        self.put(row, name, place, bins=bins, height=height, width=width)


class RandAugment(PolicyMove):
    """RandAugment."""

    def draw(self, row: Row, height: int, width: int) -> None:
        """Draw each operator and its sign."""
        bins, place = self.transform.num_magnitude_bins, self.transform.magnitude
        for _ in range(self.transform.num_ops):
            self.put(row, NAMES[self.number(len(NAMES))], place, bins=bins, height=height, width=width)


class AutoAugment(PolicyMove):
    """AutoAugment, whatever its policy."""

    def draw(self, row: Row, height: int, width: int) -> None:
        """Draw the pair of operators, which of the two happen, and their signs."""
        pairs = pairs_of(self.transform)
        chances: Any = None
        signs: Any = (None, None)
        if self.modern:
            pair = pairs[self.number(len(pairs))]
        else:
            chosen, chances, signs = self.transform.get_params(len(pairs))
            pair = pairs[chosen]
        for index, (name, probability, place) in enumerate(pair):
            chance = torch.rand(()) if chances is None else chances[index]
            if chance <= probability:
                self.put(row, name, place or 0, bins=_AUTO_BINS, height=height, width=width, sign=signs[index])


def pairs_of(transform: Any) -> list[Any]:
    """Return the pairs of an AutoAugment: each operator's name, probability and bin."""
    pairs: list[Any] = transform.policies if hasattr(transform, "policies") else transform._policies
    return pairs
