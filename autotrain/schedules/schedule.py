"""Learning-rate schedules: frozen descriptions whose factor is a pure function of the step."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from autotrain.errors import ScheduleError, unknown
from autotrain.schedules.functions import constant, cosine, linear
from autotrain.schedules.time import Unit, parse_time, to_steps

Resolution = Literal["step", "epoch"]
"""How often the factor changes: every step, or once an epoch as most training scripts do."""

_WARMUP_UNITS = (Unit.EPOCH, Unit.STEP, Unit.FRACTION)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """What the base learning rate is multiplied by at each step: a linear warm-up, then the variant's ``shape``.

    The warm-up of w steps starts at 1/w, not at zero, and reaches 1 at step w - 1; from there the shape goes on without
    a jump and is exactly at its end at step ``total``, one after the last: the last step still learns.
    Source of the warm-up: Goyal et al., Accurate, large minibatch SGD: training ImageNet in 1 hour, 2017.
    """

    warmup: str | None = None
    """Length of the warm-up in epochs, steps or share of the training; None for none."""

    resolution: Resolution = "step"
    """``epoch`` holds the factor for an epoch, and counts warm-up and training in whole epochs, rounded up."""

    def __post_init__(self) -> None:
        if self.resolution not in ("step", "epoch"):
            raise ScheduleError(f"schedule: {unknown('resolution', self.resolution, ('step', 'epoch'))}")
        if self.warmup is not None and parse_time(self.warmup).unit not in _WARMUP_UNITS:
            raise ScheduleError(f"schedule: warmup='{self.warmup}'; give epochs, steps or a share: 5ep, 0.05dur")

    def shape(self, progress: float) -> float:
        """Return the factor after the warm-up for a progress from 0 to 1; 1 unless a variant says otherwise."""
        return constant(progress)

    def factor(self, step: int, total: int, steps_per_epoch: int) -> float:
        """Return the factor for ``step``, which counts from 0 to ``total - 1``; ``total`` itself is the end point.

        Raises:
            ScheduleError: a count is not positive, ``step`` lies outside 0 to ``total``, or the warm-up is longer than
                the training.
        """
        _check(step, total, steps_per_epoch)
        warmup = _warmup_steps(self.warmup, total, steps_per_epoch)
        if self.resolution == "epoch":
            epochs = -(-total // steps_per_epoch)
            step = epochs if step == total else step // steps_per_epoch
            total, warmup = epochs, -(-warmup // steps_per_epoch)
        joint = max(0, warmup - 1)  # here both parts are 1
        return (step + 1) / warmup if step < joint else self.shape((step - joint) / (total - joint))


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant(Schedule):
    """The base learning rate throughout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmupCosine(Schedule):
    """A warm-up, then half a cosine wave down to ``final``."""

    warmup: str | None = "0.05dur"
    """Length of the warm-up in epochs, steps or share of the training; None for none."""

    final: float = 0.0
    """Factor at the end, 0 to 1."""

    def __post_init__(self) -> None:
        Schedule.__post_init__(self)
        _check_final(self.final)

    def shape(self, progress: float) -> float:
        """Return the cosine's factor."""
        return cosine(progress, end=self.final)


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmupLinear(Schedule):
    """A warm-up, then a straight line down to ``final``."""

    warmup: str | None = "0.05dur"
    """Length of the warm-up in epochs, steps or share of the training; None for none."""

    final: float = 0.0
    """Factor at the end, 0 to 1."""

    def __post_init__(self) -> None:
        Schedule.__post_init__(self)
        _check_final(self.final)

    def shape(self, progress: float) -> float:
        """Return the line's factor."""
        return linear(progress, end=self.final)


SCHEDULES: dict[str, Callable[[], Schedule]] = {
    "constant": Constant,
    "cosine": WarmupCosine,
    "linear": WarmupLinear,
}
"""Schedules by the name that people write."""


def parse_schedule(text: str) -> Schedule:
    """Return the schedule of this name, with its defaults.

    Raises:
        ScheduleError: there is no schedule of this name.
    """
    name = text.strip().lower()
    if name not in SCHEDULES:
        raise ScheduleError(unknown("schedule", text, SCHEDULES))
    return SCHEDULES[name]()


def _check(step: int, total: int, steps_per_epoch: int) -> None:
    if total < 1 or steps_per_epoch < 1:
        raise ScheduleError(f"schedule: total={total}, steps_per_epoch={steps_per_epoch}; both must be at least 1")
    if not 0 <= step <= total:
        raise ScheduleError(f"schedule: step {step} lies outside the training's 0 to {total}")


def _check_final(final: float) -> None:
    if not 0 <= final <= 1:
        raise ScheduleError(f"schedule: final={final}; it is a factor from 0 to 1")


def _warmup_steps(warmup: str | None, total: int, steps_per_epoch: int) -> int:
    if warmup is None:
        return 0
    # The units that a warm-up can have do not depend on the batch size.
    steps = to_steps(parse_time(warmup), steps_per_epoch=steps_per_epoch, batch_size=1, total_steps=total)
    if steps > total:
        raise ScheduleError(
            f"schedule: a warm-up of {warmup} is {steps} steps, but the training has {total}. "
            "Shorten it, or give a share such as 0.05dur"
        )
    return steps
