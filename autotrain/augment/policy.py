"""Augmentation policies: what is drawn for each sample, as plain numbers that either applier can use."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from autotrain.augment.draws import Purpose, uniforms
from autotrain.augment.space import AUGMIX, AUTO, RAND, SEVERITY, TRIVIAL, Space
from autotrain.errors import SettingsError, unknown

Indices: TypeAlias = "NDArray[np.int64] | slice | list[int]"
"""Places in a batch."""

CROP_UNIFORMS = 22
"""Numbers that a crop window takes: area and aspect ratio for ten tries, then top and left."""

_POLICY_UNIFORMS = 8
"""The same under every policy, so that a sample's flip is too: the flip, then operator, bin and sign twice."""

WEIGHT_STEPS = 1 << 15
"""Weights of images are multiples of one over this: products with levels, and their sums, are then exact in float32,
and a blend has the same bits in any order and on any device."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Chains:
    """What AugMix does to each of ``n`` samples: chains of operators side by side, whose results are blended."""

    operators: NDArray[np.int8]
    """Indices into ``operators.OPERATORS``, applied from left to right; shape ``(n, chains, depth)``."""

    magnitudes: NDArray[np.float32]
    """Signed magnitude of each operator; ``(n, chains, depth)``."""

    weights: NDArray[np.float32]
    """Weight of the image itself, then of each chain's result; ``(n, 1 + chains)``, each row's sum is 1."""

    def select(self, indices: Indices) -> "Chains":
        """Return the chains of some samples."""
        return Chains(
            operators=self.operators[indices], magnitudes=self.magnitudes[indices], weights=self.weights[indices]
        )


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Erasing:
    """Which of ``n`` samples lose a rectangle, and where."""

    applied: NDArray[np.bool_]
    """Whether a sample does; shape ``(n,)``."""

    rectangles: NDArray[np.float64]
    """Uniform numbers in [0, 1) for ``geometry.erased_window``, shape ``(n, 22)``."""

    def select(self, indices: Indices) -> "Erasing":
        """Return the same of some samples."""
        return Erasing(applied=self.applied[indices], rectangles=self.rectangles[indices])


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

    chains: Chains | None = None
    """What comes between the flip and the operators, under AugMix."""

    erasing: Erasing | None = None
    """What comes after the operators, where a recipe erases."""

    def __len__(self) -> int:
        return len(self.flip)

    @property
    def idle(self) -> bool:
        """Whether they leave every image as its crop made it."""
        erased = self.erasing is not None and bool(self.erasing.applied.any())
        return not (self.flip.any() or self.operators.any() or self.chains is not None or erased)

    def select(self, indices: Indices) -> "Parameters":
        """Return the parameters of some samples, in the order of ``indices``."""
        return Parameters(
            flip=self.flip[indices],
            geometry=self.geometry[indices],
            operators=self.operators[indices],
            magnitudes=self.magnitudes[indices],
            chains=None if self.chains is None else self.chains.select(indices),
            erasing=None if self.erasing is None else self.erasing.select(indices),
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
    """Operators that a sample goes through one after the other."""

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
        chains = self.chains(seed, epoch, positions)
        return Parameters(flip=flip, geometry=geometry, operators=operators, magnitudes=magnitudes, chains=chains)

    def operations(self, drawn: NDArray[np.float64]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        """Turn uniform numbers, shape ``(n, 7)``, into operators and signed magnitudes, each ``(n, depth)``."""
        return np.empty((len(drawn), 0), dtype=np.int8), np.empty((len(drawn), 0), dtype=np.float32)

    def chains(self, seed: int, epoch: int, positions: NDArray[np.int64]) -> Chains | None:  # noqa: ARG002
        """Draw chains of operators, where a policy has them."""
        return None


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


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoAugment(Policy):
    """One pair of operators per sample, each applied with its own chance (Cubuk et al., CVPR 2019), as torchvision has
    it for ImageNet."""

    def operations(self, drawn: NDArray[np.float64]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        """Draw the pair, then whether either is applied, then both signs; the identity takes the place of one that is
        not."""
        rows = (drawn[:, 0] * len(AUTO.operators)).astype(np.intp)
        applied = drawn[:, 1:3] < AUTO.probabilities[rows]
        negative = AUTO.signed[rows] & (drawn[:, 3:5] < 0.5)
        magnitudes = np.where(negative, -AUTO.magnitudes[rows], AUTO.magnitudes[rows])
        return np.where(applied, AUTO.operators[rows], np.int8(0)), np.where(applied, magnitudes, np.float32(0))


@dataclass(frozen=True, slots=True, kw_only=True)
class AugMix(Policy):
    """A blend of the image with chains of one to ``depth`` operators (Hendrycks et al., ICLR 2020), as torchvision has
    it: severity 3, any weights equally likely (its ``alpha`` of 1), all operators."""

    width: int = 3
    """Chains."""

    def chains(self, seed: int, epoch: int, positions: NDArray[np.int64]) -> Chains:
        """Draw the weights, then the chains' lengths, then operators, bins and signs."""
        number, steps = len(positions), self.width * self.depth
        count = 2 * self.width + 3 * steps
        drawn = uniforms(seed, epoch, positions, count=count, purpose=Purpose.CHAINS)
        shares, lengths, choice, bins, sign = np.split(drawn, np.cumsum([self.width, self.width, steps, steps]), axis=1)
        operators, magnitudes = _pick(AUGMIX, choice, (bins * SEVERITY).astype(np.intp), sign)
        shape = (number, self.width, self.depth)
        used = np.arange(self.depth) <= (lengths * self.depth).astype(np.intp)[:, :, None]
        return Chains(
            operators=np.where(used, operators.reshape(shape), np.int8(0)),
            magnitudes=np.where(used, magnitudes.reshape(shape), np.float32(0)),
            weights=_weights(shares),
        )


def _weights(drawn: NDArray[np.float64]) -> NDArray[np.float32]:
    """Turn uniform numbers ``(n, chains)`` into weights ``(n, 1 + chains)`` of the image and of its chains.

    The first is the chains' share of the blend, Beta(1, 1). The others, put in order, cut the unit interval into
    pieces whose lengths are Dirichlet(1, ..., 1). What rounding down leaves over goes to the image itself.
    """
    cuts = np.sort(drawn[:, 1:], axis=1)
    pieces = np.diff(cuts, axis=1, prepend=0.0, append=1.0)
    steps = np.floor(drawn[:, :1] * pieces * WEIGHT_STEPS)
    own = WEIGHT_STEPS - steps.sum(axis=1, keepdims=True)
    return (np.concatenate([own, steps], axis=1) / WEIGHT_STEPS).astype(np.float32)


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
    AutoAugment(name="autoaugment", strength=5, flips=True, crops=True, depth=2),
    AugMix(name="augmix", strength=6, flips=True, crops=True, depth=3),
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
