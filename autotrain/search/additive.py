"""A Bayesian linear model of log seconds over settings: an effect per value of every knob, and one per pair of values.

Effects have normal priors, so the model is a Gaussian process whose covariance counts in which knobs two settings
agree. How much each knob matters is not known: it is averaged over draws from its prior, weighted by how well they
explain what was measured (MacKay, Information theory, inference, and learning algorithms, 2003, chapters 28 and 45).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.special import ndtr

Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]

PRIOR_DRAWS = 64
"""Draws of how much each knob matters."""

EFFECT_SD = (0.01, 0.6)
"""Range of the standard deviation of a knob's effects on log seconds: nothing to a factor of two and more."""

INTERACTION = (0.05, 1.0)
"""Range of what part of that the effects of pairs have."""

NOISE_SD = (0.01, 0.15)
"""Range of the standard deviation of a measurement's logarithm."""

OFFSET_SD = 1.0
"""Standard deviation of the level of all settings, about the mean of the measured ones."""


PREDICTED = (0.0, 1.0)
"""Range of how far a difference in predicted log seconds is to be believed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """Settings as the model sees them."""

    codes: Codes
    """Places of the values among the knobs' choices, one row per settings."""

    predicted: Array
    """Log seconds that somebody predicted for them; zeros where nobody did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """Draws of how much each knob matters, one row or entry per draw."""

    effects: Array
    """Variance of the effects, per knob."""

    interaction: Array
    """Part of it that pairs have."""

    noise: Array
    """Variance of a measurement."""

    belief: Array
    """How far predicted differences are believed."""

    @classmethod
    def drawn(cls, knobs: int, *, seed: int) -> Prior:
        """Draw anew."""
        rng = np.random.default_rng(seed)

        def spread(ends: tuple[float, float], *shape: int) -> Array:
            low, high = (math.log(end) for end in ends)
            return np.asarray(np.exp(rng.uniform(low, high, shape)))

        return cls(
            effects=spread(EFFECT_SD, PRIOR_DRAWS, knobs) ** 2,
            interaction=spread(INTERACTION, PRIOR_DRAWS) ** 2,
            noise=spread(NOISE_SD, PRIOR_DRAWS) ** 2,
            belief=rng.uniform(*PREDICTED, PRIOR_DRAWS),
        )

    def covariance(self, rows: Codes, columns: Codes) -> Array:
        """Return the prior covariance of settings, ``(draws, rows, columns)``.

        A pair's effects have the geometric mean of its knobs' variances; the sum over pairs of products is half of
        what the square of the sum has beyond the squares.
        """
        equal = (rows[:, None, :] == columns[None, :, :]).astype(np.float64)
        alone = np.moveaxis(equal @ self.effects.T, -1, 0)
        pairs = 0.5 * (np.square(np.moveaxis(equal @ np.sqrt(self.effects.T), -1, 0)) - alone)
        covariance: Array = OFFSET_SD**2 + alone + self.interaction[:, None, None] * pairs
        return covariance


def expected_improvement(measured: Points, logs: Array, running: Points, free: Points, *, seed: int) -> Array:
    """Return by how much free settings are expected to beat the best of those measured, in log seconds.

    The best is the one with the lowest mean, not with the luckiest measurement (Jones, Schonlau and Welch, Efficient
    global optimization of expensive black-box functions, Journal of Global Optimization 13, 1998). What is running
    counts as measured to be just what is expected of it: it narrows the doubt and moves no mean.
    """
    prior = Prior.drawn(measured.codes.shape[1], seed=seed)
    count, level = len(logs), float(measured.predicted.mean())
    known = np.concatenate([measured.codes, running.codes])
    covariance = prior.covariance(known, known)
    covariance += prior.noise[:, None, None] * np.eye(len(known))
    across = prior.covariance(free.codes, known)
    own = prior.covariance(free.codes[:1], free.codes[:1])[:, 0, 0]
    gains, evidence = [], []
    for place, belief in enumerate(prior.belief):
        rest = logs - logs.mean() - belief * (measured.predicted - level)
        factor = cholesky(covariance[place], lower=True, check_finite=False)
        # The leading block belongs to what is measured; running rows come after it.
        block = factor[:count, :count]
        weights = cho_solve((block, True), rest, check_finite=False)
        evidence.append(-0.5 * float(rest @ weights) - float(np.log(np.diag(block)).sum()))
        fitted = covariance[place][:count, :count] @ weights - prior.noise[place] * weights
        least = (fitted + belief * (measured.predicted - level)).min()
        means = across[place][:, :count] @ weights + belief * (free.predicted - level)
        left = solve_triangular(factor, across[place].T, lower=True, check_finite=False)
        deviations = np.sqrt(np.maximum(own[place] - np.square(left).sum(axis=0), 1e-12))
        scaled = (least - means) / deviations
        density = np.exp(-0.5 * scaled**2) / np.sqrt(2 * np.pi)
        gains.append(deviations * (scaled * ndtr(scaled) + density))
    shares = np.exp(np.array(evidence) - max(evidence))
    expected: Array = shares @ np.array(gains) / shares.sum()
    return expected
