"""Question: how often does a duel claim a gain where there is none, and how often does it find one that is there?

Noise is recorded on this machine (``noise.py``) and duels are replayed from it. Bars:
- of 2,000 duels between equals, at most 2.5% claim a gain;
- with a planted gain of 5%, at least 80% of 2,000 find it;
- of twenty live probes in which all candidates are equal, at most one claims a gain.
Takes about 11 minutes on 2 cores; --quick (probes of 20 s) about 8.
"""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from common import finish, options, small_cnn
from noise import OPTIONS, places, recordings, replayed, sides

import autotrain
from autotrain.knobs.base import Choices
from autotrain.knobs.threads import Threads
from autotrain.plan.evidence import Verdict as Outcome
from autotrain.settings import Settings
from autotrain.stats.compare import Verdict
from autotrain.task import Task

DUELS, GAIN = 2000, 1.05
MOST_FALSE, LEAST_FOUND = 0.025, 0.80
PROBES, MOST_CLAIMS = 20, 1
EQUALS = tuple(range(0, 12))
"""Values of a knob that does nothing, so that all candidates are equal."""


def main() -> None:
    arguments = options(__doc__ or "")
    missed: list[str] = []
    result: dict[str, Any] = {"replayed": {}, "options": repr(OPTIONS)}
    draws = np.random.default_rng(0)
    for entry in recordings():
        if not entry.equal:
            continue
        false, found, lengths = 0, 0, []
        for _ in range(DUELS):
            one, other = sides(entry)
            if draws.random() < 0.5:  # so that the truth is 1 exactly, whatever one of the two rigs had going for it
                one, other = other, one
            drawn = replayed(one, other, OPTIONS, places(one.shape[1], OPTIONS, draws))
            false += drawn.verdict is Verdict.FASTER
            lengths.append(drawn.ratio.n)
            planted = other * np.asarray([[GAIN], [1 / GAIN]])
            met = replayed(one, planted, OPTIONS, places(one.shape[1], OPTIONS, draws))
            found += met.verdict is Verdict.FASTER
        print(
            f"{entry.name}: {len(entry.baseline)} recorded pairs; of {DUELS} duels {false / DUELS:.2%} claim a gain, "
            f"{found / DUELS:.1%} find one of {GAIN - 1:.0%}; {np.median(lengths):.0f} pairs in the median"
        )
        result["replayed"][entry.name] = {"false": false / DUELS, "found": found / DUELS, "pairs": np.median(lengths)}
        if false / DUELS > MOST_FALSE:
            missed.append(f"{entry.name}: {false / DUELS:.2%} false gains")
        if found / DUELS < LEAST_FOUND:
            missed.append(f"{entry.name}: {found / DUELS:.1%} of planted gains found")
    claims = probes(arguments.quick)
    result["live"] = claims
    claimed = sum(entry["verdict"] == Outcome.FASTER.value for entry in claims)
    print(f"live: {claimed} of {len(claims)} probes among equals claim a gain")
    if claimed > MOST_CLAIMS:
        missed.append(f"{claimed} of {len(claims)} live probes among equals claim a gain")
    finish("null", result, missed, arguments)


def probes(quick: bool) -> list[dict[str, Any]]:
    """Probe a task again and again whose only open knob does nothing."""
    torch.manual_seed(0)
    images, labels = torch.randint(0, 256, (512, 3, 32, 32), dtype=torch.uint8), torch.randint(0, 10, (512,))
    found = []
    offered = Choices(allowed=EQUALS)
    fixed = {name: value for name, value in Settings().as_dict().items() if name not in ("threads", "augmentation")}
    for number in range(PROBES):
        task = Task(model=small_cnn(10), dataset=(images, labels), batch_size=32, seed=number)
        with patch.object(Threads, "choices", lambda *_: offered), patch.object(Threads, "flags", _nothing):
            probed = autotrain.probe(task, progress=False, budget="20s" if quick else "30s", fix=fixed)
        record = probed.session.final_duel
        ratio = None if probed.session.final_ratio is None else probed.session.final_ratio.as_dict()
        words = f"{probed.session.final_ratio:.3f}" if ratio else "no duel"
        print(f"  probe {number + 1}: {probed.plan.evidence.verdict.value}, {words}")
        found.append(
            {
                "verdict": probed.plan.evidence.verdict.value,
                "ratio": ratio,
                "seconds": probed.session.seconds,
                "rates": None if record is None else [record.baseline_rates, record.candidate_rates],
            }
        )
    return found


def _nothing(self: Threads, value: object) -> Any:
    from contextlib import nullcontext

    del self, value
    return nullcontext()


if __name__ == "__main__":
    main()
