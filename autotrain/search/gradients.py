"""What the first step of a candidate may differ by: measured against the same step with emulated rounding.

At random weights, bf16 moves the gradient of a network with batch statistics by 30 to 120% of its norm and that of a
transformer by 1%, so no fixed bound tells a fault from healthy rounding. Rounding every layer's values and gradients
in fp32 moves it by as much, within a tenth over a whole model: that is what a candidate's difference is held against.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from autotrain.search.trial import MOST_TRIES, Excerpts, FirstStep

WHOLE, WHOLE_FLOOR = 2.0, 0.02
"""Differences by rounding, and share of its norm, that the whole gradient may be off by."""

PART, PART_FEW, PART_FLOOR = 2.5, 40.0, 0.03
"""The same for one tensor; the first grows by the second over the root of its elements, where sums cancel by chance."""

LOSS, LOSS_FLOOR = 6.0, 0.05
"""The same for the loss of the first batch."""

RATIO = 8.0
"""Factor by which sizes may differ that rounding does not explain."""

STATE_RATIO = 16.0
"""The same for what an optimizer keeps, where squares of gradients are."""

UPDATE_RATIO = 10.0
"""The same for what is added to a parameter."""

NO_SIGNAL = 3.0
"""Differences by rounding above so many times a gradient's norm say that it is zero but for rounding."""

SMALL = 0.02
"""Part of what rounding does to the whole gradient that matters nowhere."""

NOTHING_KEPT = 40.0
"""Factor on what a buffer may be off by that keeps nothing but rounding: the mean behind another layer's statistics is
zero but for the order in which a kernel adds, of which emulated rounding knows little."""

SURE, LEAST_COSINE, LEAST_ELEMENTS = 0.1, 0.3, 16
"""Where rounding moves a gradient of so many elements by less, its update points the same way."""

CONTRARY = 0.5
"""Cosines below this are told as another direction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One comparison of a candidate with the default."""

    name: str
    share: float
    """Part of what is allowed that the candidate takes; above 1 it is disqualified."""

    problem: str | None = None
    """Why it is disqualified."""


class Noise:
    """Differences that emulated rounding makes to the first step of the default.

    Args:
        reference: the first step.
        draws: the same steps with emulated rounding.
    """

    def __init__(self, reference: FirstStep, draws: Sequence[FirstStep]) -> None:
        self.gradients = _distances(reference.gradients, [draw.gradients for draw in draws])
        self.statistics = _distances(reference.statistics, [draw.statistics for draw in draws])
        self.loss = max(_number(abs(draw.loss - reference.loss)) for draw in draws)
        names = reference.gradients
        self.whole = max(
            _number(math.hypot(*(_distance(draw.gradients, reference.gradients, name) for name in names)))
            for draw in draws
        )
        self._sizes = _sizes(reference.gradients)
        self._statistics_sizes = _sizes(reference.statistics)

    def signal(self, name: str) -> bool:
        """Tell whether a parameter's gradient is more than rounding; a bias before batch statistics has none."""
        size = self._sizes.get(name, 0.0)
        return size > SMALL * self.whole and self.gradients[name] <= NO_SIGNAL * size

    def kept(self, name: str) -> bool:
        """Tell whether what a buffer keeps is more than rounding; a mean after another layer's statistics is not."""
        size = self._statistics_sizes.get(name, 0.0)
        return size > 0.0 and self.statistics[name] <= NO_SIGNAL * size

    def may_move(self, name: str) -> bool:
        """Tell whether a parameter's way means something; behind a head of zeros there is no gradient at first."""
        return self.signal(name) or (self._sizes.get(name) == 0.0 and self.gradients[name] == 0.0)

    def sure(self, name: str) -> bool:
        """Tell whether rounding leaves a parameter's gradient where it points."""
        return self._sizes.get(name, 0.0) > 0.0 and self.gradients[name] <= SURE * self._sizes[name]


def first_checks(candidate: FirstStep, reference: FirstStep, noise: Noise) -> Iterator[Check]:
    """Compare first steps of the same weights on the same images, the plainest fault first."""
    yield _calibration(candidate)
    if not math.isfinite(reference.loss):
        return
    yield _loss(candidate, reference, noise)
    yield _missing(candidate, reference)
    yield _whole(candidate, reference, noise)
    yield _vanished(candidate, reference, noise)
    small = SMALL * noise.whole
    yield _tensors("gradient", candidate.gradients, reference.gradients, noise.gradients, _gradient_words, small=small)
    statistics = candidate.statistics, reference.statistics, noise.statistics
    yield _tensors("statistics", *statistics, _statistics_words, kept=noise.kept)
    yield from _states(candidate, reference)
    yield moves(_sizes(candidate.updates), _sizes(reference.updates), noise, "in the first step", name="update")
    yield _directions(candidate, reference, noise)


def moves(
    candidate: dict[str, float], reference: dict[str, float], noise: Noise, when: str, *, name: str = "movement"
) -> Check:
    """Compare how far each parameter went; those without a gradient to speak of may stay."""
    worst, problem = 0.0, None
    for parameter, theirs in reference.items():
        if theirs == 0.0 or not math.isfinite(theirs) or not noise.may_move(parameter):
            continue
        own = candidate.get(parameter, 0.0)
        share = max(own / theirs, theirs / own if own else math.inf) / UPDATE_RATIO
        if share > worst:
            worst = share
            problem = f"{parameter} moves {_times(own / theirs)} as far as with the default {when}"
            if own == 0.0:
                problem = f"{parameter} does not move {when}, where the default moves it"
    return Check(name=name, share=worst, problem=problem if worst > 1 else None)


def _calibration(candidate: FirstStep) -> Check:
    if candidate.calibration < MOST_TRIES:
        return Check(name="loss scaler", share=candidate.calibration / MOST_TRIES)
    return Check(
        name="loss scaler", share=math.inf, problem=f"the loss scaler skipped the first batch {MOST_TRIES} times"
    )


def _loss(candidate: FirstStep, reference: FirstStep, noise: Noise) -> Check:
    if not math.isfinite(candidate.loss):
        words = f"the loss is {candidate.loss} at step 1, where the default's is {reference.loss:.3f}"
        return Check(name="first loss", share=math.inf, problem=words)
    share = _share(abs(candidate.loss - reference.loss), LOSS * noise.loss + LOSS_FLOOR * abs(reference.loss))
    words = f"the loss of the first batch is {candidate.loss:.4g}, the default's {reference.loss:.4g}"
    return Check(name="first loss", share=share, problem=words if share > 1 else None)


def _missing(candidate: FirstStep, reference: FirstStep) -> Check:
    for name, theirs in reference.gradients.items():
        own = candidate.gradients.get(name)
        if own is None and bool(theirs.any()):
            words = f"{name} has no gradient, where the default's has"
        elif own is not None and not bool(own.isfinite().all()) and bool(theirs.isfinite().all()):
            words = f"the gradient of {name} is not finite, where the default's is"
        else:
            continue
        return Check(name="gradients present", share=math.inf, problem=words)
    return Check(name="gradients present", share=0.0)


def _whole(candidate: FirstStep, reference: FirstStep, noise: Noise) -> Check:
    own, theirs = (math.hypot(*_sizes(side.gradients).values()) for side in (candidate, reference))
    if theirs == 0.0 or not math.isfinite(theirs):
        return Check(name="whole gradient", share=0.0)
    away = math.hypot(*(_distance(candidate.gradients, reference.gradients, name) for name in reference.gradients))
    share = _share(away, WHOLE * noise.whole + WHOLE_FLOOR * theirs)
    if share <= 1:
        return Check(name="whole gradient", share=share)
    ratio = own / theirs
    if not 1 / RATIO <= ratio <= RATIO:
        words = f"the gradient is {_times(ratio)} the default's: its loss scale is wrong"
    else:
        words = (
            f"the gradient is {away / theirs:.0%} of its size away from the default's, where rounding moves it by "
            f"{noise.whole / theirs:.1%}; most of all {_farthest(candidate, reference)}"
        )
    return Check(name="whole gradient", share=share, problem=words)


def _farthest(candidate: FirstStep, reference: FirstStep) -> str:
    """Name the parameter nearest to the outputs among those that are off the most; what is before it gets its error."""
    away = {
        name: _distance(candidate.gradients, reference.gradients, name) / max(float(entry.norm()), 1e-30)
        for name, entry in reference.gradients.items()
        if entry.any()
    }
    total = math.hypot(*_sizes(reference.gradients).values())
    large = {name: value for name, value in away.items() if float(reference.gradients[name].norm()) > 1e-3 * total}
    most = max(large.values())
    name = [name for name, value in large.items() if value >= 0.7 * most][-1]
    return f"that of {name} (cosine {_cosine(candidate.gradients[name], reference.gradients[name]):.2f})"


def _vanished(candidate: FirstStep, reference: FirstStep, noise: Noise) -> Check:
    """Look for gradients that are far smaller than the default's, though rounding leaves their size alone."""
    worst, problem = 0.0, None
    own = _sizes(candidate.gradients)
    for name, theirs in _sizes(reference.gradients).items():
        if not noise.signal(name) or name not in own:
            continue
        share = theirs / own[name] / RATIO if own[name] else math.inf
        if share > worst:
            worst = share
            problem = f"the gradient of {name} is {_times(own[name] / theirs)} the default's"
            if own[name] == 0.0:
                problem = f"the gradient of {name} is zero, where the default's is not"
    return Check(name="gradient size", share=worst, problem=problem if worst > 1 else None)


def _tensors(
    name: str,
    candidate: Excerpts,
    reference: Excerpts,
    noise: dict[str, float],
    words: Callable[[str, torch.Tensor, torch.Tensor, float], str],
    *,
    small: float = 0.0,
    kept: Callable[[str], bool] = lambda name: True,  # noqa: ARG005 (called by its place)
) -> Check:
    worst, where = 0.0, ""
    for entry, theirs in reference.items():
        if entry not in candidate or not theirs.isfinite().all():
            continue
        size, factor = float(theirs.norm()), PART + PART_FEW / math.sqrt(max(1, theirs.numel()))
        if not kept(entry):
            factor *= NOTHING_KEPT
        allowed = factor * noise[entry] + PART_FLOOR * size + small
        share = _share(_distance(candidate, reference, entry), allowed)
        if share > worst:
            worst, where = share, entry
    problem = words(where, candidate[where], reference[where], noise[where]) if worst > 1 else None
    return Check(name=name, share=worst, problem=problem)


def _gradient_words(name: str, own: torch.Tensor, theirs: torch.Tensor, noise: float) -> str:
    size = max(float(theirs.norm()), 1e-30)
    cosine, away = _cosine(own, theirs), float((own - theirs).norm()) / size
    beside = f"where rounding moves it by {noise / size:.1%}"
    if cosine < CONTRARY:
        return f"the gradient of {name} points elsewhere than the default's (cosine {cosine:.2f}), {beside}"
    return f"the gradient of {name} is {away:.0%} of its size away from the default's, {beside}"


def _statistics_words(name: str, own: torch.Tensor, theirs: torch.Tensor, noise: float) -> str:
    del noise
    if not own.any():
        return f"{name} is not updated, where the default updates it"
    away = float((own - theirs).norm()) / max(float(theirs.norm()), 1e-30)
    return f"the first update of {name} is {away:.0%} of its size away from the default's"


def _states(candidate: FirstStep, reference: FirstStep) -> Iterator[Check]:
    """Compare what the optimizer keeps, by kind: a normalised update hides a wrong scale, its state does not."""
    own, theirs = _by_kind(candidate.states), _by_kind(reference.states)
    for name, entry in reference.states.items():
        if name not in candidate.states and entry.any():
            parameter, kind = name.split(": ")
            words = f"the optimizer keeps no {kind} for {parameter}, where the default's does"
            yield Check(name="optimizer state", share=math.inf, problem=words)
    for kind, size in theirs.items():
        if size and math.isfinite(size):
            ratio = own.get(kind, 0.0) / size
            share = max(ratio, 1 / ratio if ratio else math.inf) / STATE_RATIO
            words = (
                f"the optimizer's {kind} is {_times(ratio)} the default's after one step: the gradients' scale is wrong"
            )
            yield Check(name="optimizer state", share=share, problem=words if not share <= 1 else None)


def _by_kind(states: Excerpts) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for name, entry in states.items():
        found.setdefault(name.split(": ")[1], []).append(float(entry.norm()))
    return {kind: math.hypot(*sizes) for kind, sizes in found.items()}


def _directions(candidate: FirstStep, reference: FirstStep, noise: Noise) -> Check:
    worst, problem = 0.0, None
    for name, theirs in reference.updates.items():
        if theirs.numel() < LEAST_ELEMENTS or not noise.sure(name) or not theirs.any():
            continue
        cosine = _cosine(candidate.updates[name], theirs)
        share = (1 - cosine) / (1 - LEAST_COSINE)
        if share > worst:
            worst = share
            problem = f"the first update of {name} points elsewhere than the default's (cosine {cosine:.2f})"
    return Check(name="update direction", share=worst, problem=problem if worst > 1 else None)


def _distances(reference: Excerpts, draws: Sequence[Excerpts]) -> dict[str, float]:
    return {name: max(_number(_distance(draw, reference, name)) for draw in draws) for name in reference}


def _distance(own: Excerpts, theirs: Excerpts, name: str) -> float:
    entry = own.get(name)
    return float((theirs[name] if entry is None else entry - theirs[name]).norm())


def _sizes(entries: Excerpts) -> dict[str, float]:
    return {name: float(entry.norm()) for name, entry in entries.items()}


def _cosine(own: torch.Tensor, theirs: torch.Tensor) -> float:
    product = float(own.norm()) * float(theirs.norm())
    return float(own @ theirs) / product if product else 0.0


def _share(away: float, allowed: float) -> float:
    if away == 0.0 or math.isinf(allowed):
        return 0.0
    return away / allowed if allowed > 0 and math.isfinite(away) else math.inf


def _number(value: float) -> float:
    """Return infinity for what is no number: where emulated rounding breaks the model, nothing is known."""
    return math.inf if math.isnan(value) else value


def _times(ratio: float) -> str:
    return f"{ratio:,.0f} times" if ratio >= 10 else f"{ratio:.2g} times"
