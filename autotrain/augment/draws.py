"""Counter-based random numbers: every draw is a function of seed, epoch and position, never of a worker's own state.

The generator is Philox-4x64-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) as numpy has it.
"""

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

_MASK = (1 << 64) - 1
_BLOCK = 4
"""Numbers that Philox-4x64 gives per counter value."""

_SPARSE = 16
"""A span of this many times the positions in it is no longer drawn as a whole."""


class Purpose(IntEnum):
    """What a stream of numbers is for; streams of one seed and epoch are independent of each other."""

    ORDER = 0
    """The order of the samples in an epoch."""
    GEOMETRY = 1
    """Crop windows."""
    POLICY = 2
    """Flips, operators and magnitudes."""
    SAMPLE = 3
    """Seeds of per-sample transforms that are not ours."""
    BATCH = 4
    """Draws that belong to a whole batch, such as mixup; the position is the global step."""
    CHAINS = 5
    """AugMix's chains of operators and their weights."""
    JITTER = 6
    """Colour jitter."""
    ERASING = 7
    """Erased rectangles."""


def uniforms(seed: int, epoch: int, positions: NDArray[np.int64], *, count: int, purpose: int) -> NDArray[np.float64]:
    """Return numbers in [0, 1), float64 of shape ``(len(positions), count)``, one row per position.

    A row depends on seed, epoch, purpose, its position and ``count`` rounded up to a multiple of 4, on nothing else:
    not on the other positions. Seeds (and epochs) outside 64 bits are taken modulo 2**64. Source: Salmon et al. 2011.
    """
    positions = np.asarray(positions, dtype=np.int64).reshape(-1)
    if not len(positions):
        return np.empty((0, count))
    blocks = -(-count // _BLOCK)
    first, last = int(positions.min()), int(positions.max())
    if last - first < _SPARSE * len(positions):
        span = _rows(seed, epoch, first, last - first + 1, blocks=blocks, purpose=purpose)
        if len(span) == len(positions) and bool((np.diff(positions) == 1).all()):
            return span[:, :count]
        return span[positions - first, :count]
    starts = np.flatnonzero(np.diff(positions, prepend=positions[0] - 2) != 1)
    lengths = np.diff(starts, append=len(positions))
    runs = [
        _rows(seed, epoch, int(positions[start]), int(length), blocks=blocks, purpose=purpose)
        for start, length in zip(starts, lengths, strict=True)
    ]
    return np.concatenate(runs)[:, :count]


def sample_seeds(seed: int, epoch: int, positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return a seed in [0, 2**31) per position, int64 ``(len(positions),)``, for random transforms not ours."""
    drawn = uniforms(seed, epoch, positions, count=1, purpose=Purpose.SAMPLE)
    return (drawn[:, 0] * 2**31).astype(np.int64)


def permutation(seed: int, epoch: int, length: int) -> NDArray[np.int64]:
    """Return a uniformly random order of ``range(length)``, int64.

    It ranks one number per index, so that it depends on the Philox stream alone and not on numpy's shuffling algorithm.
    """
    drawn = _rows(seed, epoch, 0, -(-length // _BLOCK), blocks=1, purpose=Purpose.ORDER).reshape(-1)[:length]
    return np.argsort(drawn, kind="stable").astype(np.int64, copy=False)


def _rows(seed: int, epoch: int, first: int, rows: int, *, blocks: int, purpose: int) -> NDArray[np.float64]:
    """Draw ``rows`` consecutive positions from one generator; float64 ``(rows, blocks * 4)``."""
    key = np.array([int(seed) & _MASK, ((int(epoch) << 8) | int(purpose)) & _MASK], dtype=np.uint64)
    counter = (first * blocks) & ((1 << 256) - 1)
    width = blocks * _BLOCK
    return np.random.Generator(np.random.Philox(key=key, counter=counter)).random(rows * width).reshape(rows, width)
