"""Augmentation policies: what is drawn for each sample, as plain numbers that either applier can use."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autotrain.augment.draws import Purpose, uniforms
from autotrain.augment.space import RAND, TRIVIAL, Space
from autotrain.errors import SettingsError, unknown

CROP_UNIFORMS = 22
"""Numbers that a crop window takes: area and aspect ratio for ten tries, then top and left."""

_POLICY_UNIFORMS = 8
"""The same under every policy, so that a sample's flip is too: the flip, then operator, bin and sign twice."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Parameters:
    """What augmentation does to each of ``n`` samples, independent of the image's content; small and picklable."""

    flip: NDArray[np.bool_]
    """Mirror left to right, after the crop and before the operators; shape ``(n,)``."""

    geometry: NDArray[np.float64]
    """Uniform numbers in [0, 1) for ``geometry.crop_window``, shape ``(n, 22)``; ``(n, 0)`` without a crop."""

    operators: NDArray[np.int8]
    """Indices into ``operators.OPERATORS``, applied from left to right; shape ``(n, depth)``."""

    magnitudes: NDArray[np.float32]
    """Signed magnitude of each operator in its own unit (pixels, share of the side, degrees...); ``(n, depth)``."""

    def __len__(self) -> int:
        return len(self.flip)

    def select(self, indices: "NDArray[np.int64] | slice | list[int]") -> "Parameters":
        """Return the parameters of some samples, in the order of ``indices``."""
        return Parameters(
            flip=self.flip[indices],
            geometry=self.geometry[indices],
            operators=self.operators[indices],
            magnitudes=self.magnitudes[indices],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A policy draws parameters; the base draws a crop and a flip where asked to, and no operators."""

    name: str
    """What settings call it."""

    strength: int
    """Rank among the policies; 0 is the weakest."""

    flips: bool = False
    """Mirrors half of the samples."""

    crops: bool = False
    """Takes a random window of each image; otherwise the evaluation geometry is used."""

    depth: int = 0
    """Operators per sample."""

    def draw(self, seed: int, epoch: int, positions: NDArray[np.int64]) -> Parameters:
        """Return the parameters for samples at ``positions`` (int64, shape ``(n,)``) in the order of ``epoch``.

        A sample's parameters depend on seed, epoch and its own position alone.
        """
        numbers = len(positions)
        drawn = uniforms(seed, epoch, positions, count=_POLICY_UNIFORMS, purpose=Purpose.POLICY)
        geometry = np.empty((numbers, 0))
        if self.crops:
            geometry = uniforms(seed, epoch, positions, count=CROP_UNIFORMS, purpose=Purpose.GEOMETRY)
        operators, magnitudes = self.operations(drawn[:, 1:])
        flip = drawn[:, 0] < 0.5 if self.flips else np.zeros(numbers, dtype=np.bool_)
        return Parameters(flip=flip, geometry=geometry, operators=operators, magnitudes=magnitudes)

    def operations(self, drawn: NDArray[np.float64]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        """Turn uniform numbers, shape ``(n, 7)``, into operators and signed magnitudes, each ``(n, depth)``."""
        return np.empty((len(drawn), 0), dtype=np.int8), np.empty((len(drawn), 0), dtype=np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrivialAugmentWide(Policy):
    """One operator per sample, its magnitude any of the bins (Müller & Hutter, ICCV 2021), as torchvision has it."""

    def operations(self, drawn: NDArray[np.float64]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        """Draw the operator, then its bin, then its sign."""
        bins = (drawn[:, 1:2] * TRIVIAL.magnitudes.shape[1]).astype(np.intp)
        return _pick(TRIVIAL, drawn[:, 0:1], bins, drawn[:, 2:3])


@dataclass(frozen=True, slots=True, kw_only=True)
class RandAugment(Policy):
    """``depth`` operators per sample at one magnitude (Cubuk et al., NeurIPS 2020), as torchvision has it."""

    level: int = 9
    """The bin, of 31, that every operator's magnitude is taken from."""

    def operations(self, drawn: NDArray[np.float64]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        """Draw for each step the operator and its sign."""
        choice = drawn[:, 0 : 3 * self.depth : 3]
        return _pick(RAND, choice, np.full(choice.shape, self.level), drawn[:, 2 : 3 * self.depth : 3])


def _pick(
    space: Space, choice: NDArray[np.float64], bins: NDArray[np.intp], sign: NDArray[np.float64]
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Look up operators and signed magnitudes; all arrays have shape ``(n, depth)``."""
    rows = (choice * len(space.operators)).astype(np.intp)
    negative = space.signed[rows] & (sign < 0.5)
    magnitudes = space.magnitudes[rows, bins]
    return space.operators[rows], np.where(negative, -magnitudes, magnitudes)


POLICIES: tuple[Policy, ...] = (
    Policy(name="none", strength=0),
    Policy(name="flip", strength=1, flips=True),
    Policy(name="crop", strength=2, flips=True, crops=True),
    TrivialAugmentWide(name="trivial", strength=3, flips=True, crops=True, depth=1),
    RandAugment(name="rand", strength=4, flips=True, crops=True, depth=2),
)
"""Every policy, weakest first; each includes the crop and the flip of the weaker ones."""


def policy(name: str) -> Policy:
    """Return the policy of this name.

    Raises:
        SettingsError: there is none.
    """
    for entry in POLICIES:
        if entry.name == name:
            return entry
    raise SettingsError(unknown("policy", name, [entry.name for entry in POLICIES]))
