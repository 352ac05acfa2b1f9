"""What a policy draws from: the operators by number, and the magnitudes of each in bins. Free of torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

BINS = 31
"""Magnitude bins of an operator in TrivialAugmentWide and RandAugment, as in torchvision."""

FEWER_BINS = 10
"""The same in AutoAugment and AugMix."""

SEVERITY = 3
"""The lowest bins that AugMix draws from."""


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
    INVERT = 16
    HUE = 17
    SHEAR_X_BILINEAR = 18
    SHEAR_Y_BILINEAR = 19
    ROTATE_BILINEAR = 20


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Space:
    """Operators that are drawn with equal chance, and their magnitudes."""

    operators: NDArray[np.int8]
    """Numbers (``Op``) of the operators, shape ``(k,)``."""

    magnitudes: NDArray[np.float32]
    """Unsigned magnitudes, shape ``(k, bins)``; 0 for an operator that has none."""

    signed: NDArray[np.bool_]
    """Whether an operator's magnitude is negated half the time, shape ``(k,)``."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SubPolicies:
    """Pairs of operators that are drawn with equal chance; each operator is then applied with its own."""

    operators: NDArray[np.int8]
    """Numbers (``Op``) of the operators, shape ``(k, 2)``."""

    probabilities: NDArray[np.float64]
    """Chance of each to be applied, shape ``(k, 2)``."""

    magnitudes: NDArray[np.float32]
    """Unsigned magnitudes, shape ``(k, 2)``; 0 for an operator that has none."""

    signed: NDArray[np.bool_]
    """Whether an operator's magnitude is negated half the time, shape ``(k, 2)``."""


def _linear(low: float, high: float, *, bins: int = BINS) -> NDArray[np.float64]:
    return np.linspace(low, high, bins)


def _bits(fewer: int, *, most: int = 8, bins: int = BINS) -> NDArray[np.float64]:
    """Bits to keep: from ``most`` down to ``most - fewer``."""
    return np.round(most - np.arange(bins) / ((bins - 1) / fewer))


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

_FEWER = {
    "shear": _linear(0, 0.3, bins=FEWER_BINS),
    "rotate": _linear(0, 30, bins=FEWER_BINS),
    "blend": _linear(0, 0.9, bins=FEWER_BINS),
    "solarize": _linear(1, 0, bins=FEWER_BINS),
    "shift": _linear(0, 1 / 3, bins=FEWER_BINS),
    "none": np.zeros(FEWER_BINS),
}

_AUTO_SIGNED = {
    Op.SHEAR_X: _FEWER["shear"],
    Op.ROTATE: _FEWER["rotate"],
    Op.COLOR: _FEWER["blend"],
    Op.CONTRAST: _FEWER["blend"],
    Op.SHARPNESS: _FEWER["blend"],
}
_AUTO_UNSIGNED = {
    Op.POSTERIZE: _bits(4, bins=FEWER_BINS),
    Op.SOLARIZE: _FEWER["solarize"],
    Op.AUTO_CONTRAST: _FEWER["none"],
    Op.EQUALIZE: _FEWER["none"],
    Op.INVERT: _FEWER["none"],
}

_Step: TypeAlias = tuple[Op, float, int]
"""An operator, its probability and its bin; the bin means nothing to an operator without magnitude."""

_IMAGENET: tuple[tuple[_Step, _Step], ...] = (
    ((Op.POSTERIZE, 0.4, 8), (Op.ROTATE, 0.6, 9)),
    ((Op.SOLARIZE, 0.6, 5), (Op.AUTO_CONTRAST, 0.6, 0)),
    ((Op.EQUALIZE, 0.8, 0), (Op.EQUALIZE, 0.6, 0)),
    ((Op.POSTERIZE, 0.6, 7), (Op.POSTERIZE, 0.6, 6)),
    ((Op.EQUALIZE, 0.4, 0), (Op.SOLARIZE, 0.2, 4)),
    ((Op.EQUALIZE, 0.4, 0), (Op.ROTATE, 0.8, 8)),
    ((Op.SOLARIZE, 0.6, 3), (Op.EQUALIZE, 0.6, 0)),
    ((Op.POSTERIZE, 0.8, 5), (Op.EQUALIZE, 1.0, 0)),
    ((Op.ROTATE, 0.2, 3), (Op.SOLARIZE, 0.6, 8)),
    ((Op.EQUALIZE, 0.6, 0), (Op.POSTERIZE, 0.4, 6)),
    ((Op.ROTATE, 0.8, 8), (Op.COLOR, 0.4, 0)),
    ((Op.ROTATE, 0.4, 9), (Op.EQUALIZE, 0.6, 0)),
    ((Op.EQUALIZE, 0.0, 0), (Op.EQUALIZE, 0.8, 0)),
    ((Op.INVERT, 0.6, 0), (Op.EQUALIZE, 1.0, 0)),
    ((Op.COLOR, 0.6, 4), (Op.CONTRAST, 1.0, 8)),
    ((Op.ROTATE, 0.8, 8), (Op.COLOR, 1.0, 2)),
    ((Op.COLOR, 0.8, 8), (Op.SOLARIZE, 0.8, 7)),
    ((Op.SHARPNESS, 0.4, 7), (Op.INVERT, 0.6, 0)),
    ((Op.SHEAR_X, 0.6, 5), (Op.EQUALIZE, 1.0, 0)),
    ((Op.COLOR, 0.4, 0), (Op.EQUALIZE, 0.6, 0)),
    ((Op.EQUALIZE, 0.4, 0), (Op.SOLARIZE, 0.2, 4)),
    ((Op.SOLARIZE, 0.6, 5), (Op.AUTO_CONTRAST, 0.6, 0)),
    ((Op.INVERT, 0.6, 0), (Op.EQUALIZE, 1.0, 0)),
    ((Op.COLOR, 0.6, 4), (Op.CONTRAST, 1.0, 8)),
    ((Op.EQUALIZE, 0.8, 0), (Op.EQUALIZE, 0.6, 0)),
)


def _sub_policies(pairs: Sequence[tuple[_Step, _Step]]) -> SubPolicies:
    ranges = {**_AUTO_SIGNED, **_AUTO_UNSIGNED}
    return SubPolicies(
        operators=np.array([[op for op, _, _ in pair] for pair in pairs], dtype=np.int8),
        probabilities=np.array([[probability for _, probability, _ in pair] for pair in pairs]),
        magnitudes=np.array([[ranges[op][place] for op, _, place in pair] for pair in pairs], dtype=np.float32),
        signed=np.array([[op in _AUTO_SIGNED for op, _, _ in pair] for pair in pairs]),
    )


AUTO = _sub_policies(_IMAGENET)
"""AutoAugment's policy for ImageNet (Cubuk et al., CVPR 2019) with torchvision's ranges."""

AUGMIX = _space(
    signed={
        Op.SHEAR_X_BILINEAR: _FEWER["shear"],
        Op.SHEAR_Y_BILINEAR: _FEWER["shear"],
        Op.TRANSLATE_X_RELATIVE: _FEWER["shift"],
        Op.TRANSLATE_Y_RELATIVE: _FEWER["shift"],
        Op.ROTATE_BILINEAR: _FEWER["rotate"],
        Op.BRIGHTNESS: _FEWER["blend"],
        Op.COLOR: _FEWER["blend"],
        Op.CONTRAST: _FEWER["blend"],
        Op.SHARPNESS: _FEWER["blend"],
    },
    unsigned={
        Op.POSTERIZE: _bits(4, most=4, bins=FEWER_BINS),
        Op.SOLARIZE: _FEWER["solarize"],
        Op.AUTO_CONTRAST: _FEWER["none"],
        Op.EQUALIZE: _FEWER["none"],
    },
)
"""AugMix (Hendrycks et al., ICLR 2020) with torchvision's ranges; it alone interpolates."""
