"""What a recipe may add to a policy: colour jitter, erased rectangles and mixed batches.

Their draws have streams and columns of their own: switching one on changes neither the policy's draws nor those of the
others.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from autotrain.augment.draws import Purpose, uniforms
from autotrain.augment.policy import CROP_UNIFORMS, Erasing, Parameters
from autotrain.augment.space import Op
from autotrain.errors import TaskError

_JITTER = (Op.BRIGHTNESS, Op.CONTRAST, Op.COLOR, Op.HUE)
_LARGEST_HUE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Extras:
    """What is done beside the policy; nothing by default.

    An image is cropped and mirrored, goes through the policy's operators, is jittered, then erased; last, the batch is
    mixed.

    Raises:
        TaskError: a value is out of its range.
    """

    color_jitter: tuple[float, float, float, float] | None = None
    """Reach of brightness, contrast and saturation (factors between ``max(0, 1 - reach)`` and ``1 + reach``) and of hue
    (at most 0.5, in turns), applied in random order: torchvision's ``ColorJitter``."""

    erasing: float = 0.0
    """Probability of an erased rectangle: torchvision's ``RandomErasing`` (Zhong et al., AAAI 2020) with its scale and
    ratio, filled with the mean colour."""

    mixup: float = 0.0
    """Alpha of mixup's Beta distribution (Zhang et al., ICLR 2018); 0 is off."""

    cutmix: float = 0.0
    """Alpha of cutmix's Beta distribution (Yun et al., ICCV 2019); 0 is off. With both on, each batch draws one."""

    def __post_init__(self) -> None:
        if self.color_jitter is not None:
            _check_jitter(self.color_jitter)
        if not (_is_number(self.erasing) and 0 <= self.erasing <= 1):
            raise TaskError(f"erasing: {self.erasing!r} is not a probability. Give a number from 0 to 1")
        for name, value in (("mixup", self.mixup), ("cutmix", self.cutmix)):
            if not (_is_number(value) and value >= 0):
                raise TaskError(
                    f"{name}: {value!r} is not an alpha of the Beta distribution. Give a number above 0, or 0 for none"
                )

    @property
    def per_sample(self) -> bool:
        """Whether images are changed one by one: jittered or erased."""
        return self.jitters or self.erasing > 0

    @property
    def jitters(self) -> bool:
        """Whether there is any colour jitter."""
        return self.color_jitter is not None and any(self.color_jitter)

    @property
    def mixes(self) -> bool:
        """Whether batches are mixed."""
        return self.mixup > 0 or self.cutmix > 0

    def extend(self, parameters: Parameters, *, seed: int, epoch: int, positions: NDArray[np.int64]) -> Parameters:
        """Return a policy's parameters with jitter and erasing added.

        A sample's depend on seed, epoch and its own position alone.
        """
        operators, magnitudes, erasing = parameters.operators, parameters.magnitudes, parameters.erasing
        if self.jitters:
            added = self._jitter(seed, epoch, positions)
            operators = np.concatenate([operators, added[0]], axis=1)
            magnitudes = np.concatenate([magnitudes, added[1]], axis=1)
        if self.erasing > 0:
            drawn = uniforms(seed, epoch, positions, count=1 + CROP_UNIFORMS, purpose=Purpose.ERASING)
            erasing = Erasing(applied=drawn[:, 0] < self.erasing, rectangles=drawn[:, 1:])
        return replace(parameters, operators=operators, magnitudes=magnitudes, erasing=erasing)

    def _jitter(
        self, seed: int, epoch: int, positions: NDArray[np.int64]
    ) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        """Draw four magnitudes and their order; the identity takes the place of what is off."""
        assert self.color_jitter is not None
        drawn = uniforms(seed, epoch, positions, count=2 * len(_JITTER), purpose=Purpose.JITTER)
        reach = np.array(self.color_jitter, dtype=np.float64)
        low = -reach
        low[:3] = np.maximum(low[:3], -1.0)
        magnitudes = (low + (reach - low) * drawn[:, :4]).astype(np.float32)
        operators = np.where(reach > 0, np.array(_JITTER), Op.IDENTITY).astype(np.int8)
        order = np.argsort(drawn[:, 4:], axis=1, kind="stable")
        return operators[order], np.take_along_axis(magnitudes, order, axis=1)


def _check_jitter(reach: object) -> None:
    if not (isinstance(reach, tuple | list) and len(reach) == len(_JITTER) and all(map(_is_number, reach))):
        raise TaskError(
            f"color_jitter: {reach!r} is not four numbers. Give brightness, contrast, saturation and hue, such as "
            "(0.4, 0.4, 0.4, 0.1)"
        )
    if min(reach) < 0:
        raise TaskError(f"color_jitter: {min(reach)} is below 0. Give 0 for what is to stay as it is")
    if reach[3] > _LARGEST_HUE:
        raise TaskError(f"color_jitter: a hue of {reach[3]} is more than half a turn. Give at most {_LARGEST_HUE}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
