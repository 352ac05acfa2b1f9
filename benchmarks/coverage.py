"""Question: does the 95% interval of a duel's ratio contain the true ratio as often as it says?

Noise is recorded on this machine (``noise.py``); every other stretch of a recording is the long run that tells the true
ratio, duels are replayed from the rest. Bars, over all recordings together and 2,000 duels of each:
- the interval contains the long run's ratio in 93 to 98% of duels;
- its half-width is at most 3% in the median.
Takes seconds.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from common import finish, options
from noise import OPTIONS, compared, recordings, replayed, stretches

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
        long_run, rest = stretches(entry)
        truth = compared(*long_run).ratio
        covered, widths = [], []
        for _ in range(DUELS):
            ratio = replayed(*rest, OPTIONS, draws).ratio
            covered.append(ratio.low <= truth.value <= ratio.high)
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
