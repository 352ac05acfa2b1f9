"""Question: does the 95% interval of a duel's ratio contain the true ratio as often as it says?

Noise is recorded on this machine (``noise.py``) and duels are replayed from it; all pairs of the recording that a duel
did not meet are the long run, independent of it, that tells the true ratio. Bars, over all recordings together and
2,000 duels of each:
- the interval contains the long run's ratio in 93 to 98% of duels;
- its half-width is at most 3% in the median.
Takes seconds.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from common import finish, options
from noise import OPTIONS, compared, places, recordings, replayed, sides

DUELS = 2000
LEAST, MOST = 0.93, 0.98
WIDEST = 0.03


def main() -> None:
    arguments = options(__doc__ or "")
    missed: list[str] = []
    result: dict[str, Any] = {}
    draws = np.random.default_rng(1)
    covered_all, widths_all = [], []
    for entry in recordings():
        baseline, candidate = sides(entry)
        truth = compared(baseline, candidate).ratio
        covered, widths = [], []
        for _ in range(DUELS):
            met = places(baseline.shape[1], OPTIONS, draws)
            ratio = replayed(baseline, candidate, OPTIONS, met).ratio
            others = np.setdiff1d(np.arange(baseline.shape[1]), met)
            long_run = compared(baseline[:, others], candidate[:, others]).ratio
            covered.append(ratio.low <= long_run.value <= ratio.high)
            widths.append(math.sqrt(ratio.high / ratio.low) - 1)
        share, width = float(np.mean(covered)), float(np.median(widths))
        print(f"{entry.name}: true ratio {truth:.3f}; {share:.1%} of intervals contain it, half-width {width:.1%}")
        result[entry.name] = {"truth": truth.as_dict(), "covered": share, "half_width": width}
        covered_all += covered
        widths_all += widths
    share, width = float(np.mean(covered_all)), float(np.median(widths_all))
    print(f"all: {share:.1%} contain the true ratio, half-width {width:.1%} in the median")
    if not LEAST <= share <= MOST:
        missed.append(f"{share:.1%} of intervals contain the true ratio")
    if width > WIDEST:
        missed.append(f"the median half-width is {width:.1%}")
    finish("coverage", result | {"all": {"covered": share, "half_width": width}}, missed, arguments)


if __name__ == "__main__":
    main()
