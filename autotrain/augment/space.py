"""What a policy draws from: the operators by number, and the magnitudes of each in bins. Free of torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

BINS = 31
"""Magnitude bins of an operator, as in torchvision."""


class Op(IntEnum):
    """Numbers of the operators: the index into ``operators.OPERATORS``, where their meaning is."""

    IDENTITY = 0
    SHEAR_X = 1
    SHEAR_Y = 2
    TRANSLATE_X = 3
    TRANSLATE_Y = 4
    ROTATE = 5
    BRIGHTNESS = 6
    COLOR = 7
    CONTRAST = 8
    SHARPNESS = 9
    POSTERIZE = 10
    SOLARIZE = 11
    AUTO_CONTRAST = 12
    EQUALIZE = 13
    TRANSLATE_X_RELATIVE = 14
    TRANSLATE_Y_RELATIVE = 15


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Space:
    """Operators that are drawn with equal chance, and their magnitudes."""

    operators: NDArray[np.int8]
    """Numbers (``Op``) of the operators, shape ``(k,)``."""

    magnitudes: NDArray[np.float32]
    """Unsigned magnitudes, shape ``(k, BINS)``; 0 for an operator that has none."""

    signed: NDArray[np.bool_]
    """Whether an operator's magnitude is negated half the time, shape ``(k,)``."""


def _linear(low: float, high: float) -> NDArray[np.float64]:
    return np.linspace(low, high, BINS)


def _bits(fewer: int) -> NDArray[np.float64]:
    """Bits to keep: from 8 down to ``8 - fewer``."""
    return np.round(8 - np.arange(BINS) / ((BINS - 1) / fewer))


def _space(signed: Mapping[Op, NDArray[np.float64]], unsigned: Mapping[Op, NDArray[np.float64]]) -> Space:
    """Put the operators in the order of their numbers."""
    ranges = {**signed, **unsigned}
    order = sorted(ranges)
    return Space(
        operators=np.array(order, dtype=np.int8),
        magnitudes=np.stack([ranges[op] for op in order]).astype(np.float32),
        signed=np.array([op in signed for op in order]),
    )


_NONE = np.zeros(BINS)

TRIVIAL = _space(
    signed={
        Op.SHEAR_X: _linear(0, 0.99),
        Op.SHEAR_Y: _linear(0, 0.99),
        Op.TRANSLATE_X: _linear(0, 32),
        Op.TRANSLATE_Y: _linear(0, 32),
        Op.ROTATE: _linear(0, 135),
        Op.BRIGHTNESS: _linear(0, 0.99),
        Op.COLOR: _linear(0, 0.99),
        Op.CONTRAST: _linear(0, 0.99),
        Op.SHARPNESS: _linear(0, 0.99),
    },
    unsigned={
        Op.IDENTITY: _NONE,
        Op.POSTERIZE: _bits(6),
        Op.SOLARIZE: _linear(1, 0),
        Op.AUTO_CONTRAST: _NONE,
        Op.EQUALIZE: _NONE,
    },
)
"""TrivialAugmentWide (Müller & Hutter, ICCV 2021) with torchvision's ranges."""

RAND = _space(
    signed={
        Op.SHEAR_X: _linear(0, 0.3),
        Op.SHEAR_Y: _linear(0, 0.3),
        Op.TRANSLATE_X_RELATIVE: _linear(0, 150 / 331),
        Op.TRANSLATE_Y_RELATIVE: _linear(0, 150 / 331),
        Op.ROTATE: _linear(0, 30),
        Op.BRIGHTNESS: _linear(0, 0.9),
        Op.COLOR: _linear(0, 0.9),
        Op.CONTRAST: _linear(0, 0.9),
        Op.SHARPNESS: _linear(0, 0.9),
    },
    unsigned={
        Op.IDENTITY: _NONE,
        Op.POSTERIZE: _bits(4),
        Op.SOLARIZE: _linear(1, 0),
        Op.AUTO_CONTRAST: _NONE,
        Op.EQUALIZE: _NONE,
    },
)
"""RandAugment (Cubuk et al., NeurIPS 2020) with torchvision's ranges."""
