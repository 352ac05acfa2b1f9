"""The tail of a chain that can move to the device: drawn in the worker, done to the batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision import transforms as v1
from torchvision.transforms import v2

from autotrain.augment.batch import apply_batch
from autotrain.augment.policy import Parameters
from autotrain.transforms.crop import Crop, cut
from autotrain.transforms.move import Move, Row
from autotrain.transforms.moves import Erase, Flip, move
from autotrain.transforms.steps import Form, Step

_TO_FLOAT = frozenset({v1.ToTensor, v2.ToTensor, v1.ConvertImageDtype, v2.ConvertImageDtype, v2.ToDtype})
_NORMALIZE = frozenset({v1.Normalize, v2.Normalize})
_LAYOUT = frozenset(
    {nn.Identity, v1.PILToTensor, v1.ToPILImage, v2.Identity, v2.PILToTensor, v2.ToImage, v2.ToPILImage}
    | {v2.ToPureTensor}
    | _TO_FLOAT
)
"""Classes that leave the levels as they are, as long as the image stays in bytes or stays float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suffix:
    """Steps that the device can do in the worker's place, with the draws that the worker's own would have made."""

    start: int
    """How many steps of the chain stay before it."""

    moves: tuple[Move, ...]
    """Its random steps, in the order in which they draw."""

    mean: tuple[float, ...]
    """Per channel or one for all, of images scaled to 0..1."""

    std: tuple[float, ...]
    """Likewise. 1/255 where the user's transforms convert to float32 without scaling."""

    fill: tuple[float, ...] = ()
    """What erased rectangles hold after normalising, likewise; empty where nothing is erased."""

    @property
    def depth(self) -> int:
        """Operators per row of parameters."""
        return sum(entry.depth for entry in self.moves)

    def begin(self, levels: Tensor) -> tuple[Tensor, Row]:
        """Draw from torch's default generator what is to be done to one image; cut it, and return both.

        Args:
            levels: uint8, ``(c, h, w)``, of any strides.

        Raises:
            ValueError: the image is too small to be cut.
        """
        row, (height, width) = Row(), levels.shape[1:]
        fill: tuple[int, ...] = (0,)
        for entry in self.moves:
            entry.draw(row, height, width)
            if isinstance(entry, Crop):
                (height, width), fill = entry.size, entry.fill
        return (levels if row.window is None else cut(levels, row.window, fill)), row

    def stack(self, rows: Sequence[Row]) -> Parameters:
        """Return the parameters of a batch."""
        operators = np.zeros((len(rows), self.depth), dtype=np.int8)
        magnitudes = np.zeros((len(rows), self.depth), dtype=np.float32)
        for place, row in enumerate(rows):
            for step, (operator, magnitude) in enumerate(row.operations):
                operators[place, step], magnitudes[place, step] = operator, magnitude
        return Parameters(
            flip=np.array([row.flip for row in rows], dtype=np.bool_),
            geometry=np.empty((len(rows), 0)),
            operators=operators,
            magnitudes=magnitudes,
        )

    def erased(self, rows: Sequence[Row]) -> NDArray[np.int64] | None:
        """Return what is erased of each image: top, left, height and width, ``(n, 4)``, zeros for nothing."""
        if not self.fill:
            return None
        return np.array([row.erased or (0, 0, 0, 0) for row in rows], dtype=np.int64)

    def finish(self, images: Tensor, parameters: Parameters, erased: NDArray[np.int64] | None = None) -> Tensor:
        """Return a uint8 batch ``(n, c, h, w)`` as the chain gives it: float32, within rounding.

        The plain definition; a transfer keeps the constants on the device.
        """
        device = images.device
        deviation = torch.tensor(self.std, device=device).view(-1, 1, 1)
        shift = torch.tensor(self.mean, device=device).view(-1, 1, 1) / deviation
        floats = apply_batch(images, parameters).to(torch.float32).mul_(1.0 / (255.0 * deviation)).sub_(shift)
        if erased is None:
            return floats
        return erase(floats, erased, torch.tensor(self.fill, device=device).view(-1, 1, 1))


def erase(images: Tensor, windows: NDArray[np.int64], values: Tensor) -> Tensor:
    """Return float images ``(n, c, h, w)`` with ``values`` in a window ``(n, 4)`` of each, without a wait for CUDA."""
    edges = torch.from_numpy(windows)
    if images.device.type == "cuda":
        edges = edges.pin_memory().to(images.device, non_blocking=True)
    top, left, height, width = edges[:, :, None, None, None].unbind(1)
    rows = torch.arange(images.shape[2], device=images.device)[:, None]
    columns = torch.arange(images.shape[3], device=images.device)
    inside = (rows >= top) & (rows < top + height) & (columns >= left) & (columns < left + width)
    return torch.where(inside, values, images)


def find_suffix(steps: tuple[Step, ...]) -> Suffix | str:
    """Return the longest tail that can move, or words that say why there is none.

    It begins before the conversion to float32 and goes to the end, so that the batch crosses to the device in bytes.
    """
    places = [place for place, step in enumerate(steps) if step.before.raw and step.after is Form.FLOAT]
    if not places or steps[-1].after is not Form.FLOAT:
        return "the samples do not end as float32 tensors"
    if len(places) > 1:
        return "the samples are converted to float32 more than once"
    convert = places[0]
    if steps[convert].kind not in _TO_FLOAT:
        return f"{steps[convert]} is not known"
    tail = _Tail()
    for step in reversed(steps[convert + 1 :]):
        if not (tail.take(step) or tail.take_normalize(step)):
            return f"{steps[convert]} cannot move without {step}, which comes after it"
    start = convert
    while start and tail.take(steps[start - 1]):
        start -= 1
    scaled = bool(getattr(steps[convert].transform, "scale", True))
    mean, std = tail.constants(scaled=scaled)
    if not all(std):
        return "it divides by 0"
    fill = tail.fill(mean, std, scaled=scaled)
    return Suffix(start=start, moves=tuple(reversed(tail.moves)), mean=mean, std=std, fill=fill)


class _Tail:
    """Steps gathered from the last one backwards, as long as one row of parameters can say what they do."""

    def __init__(self) -> None:
        self.moves: list[Move] = []
        self._normalize: Any = None
        self._erase: Erase | None = None
        self._erased_last = False

    def take(self, step: Step) -> bool:
        """Add a step that moves pixels or changes levels in bytes; tell whether that is possible."""
        if step.kind in _LAYOUT and step.before.raw == step.after.raw and step.after is not Form.OTHER:
            return True
        entry = move(step)
        if entry is None or not self._may_precede(entry):
            return False
        if isinstance(entry, Erase):
            if self._erase is not None:
                return False
            self._erase, self._erased_last = entry, self._normalize is None
        self.moves.append(entry)
        return True

    def _may_precede(self, entry: Move) -> bool:
        """Tell whether a row can say that a move comes before those that were taken.

        Images are cut, then mirrored, then goes the rest; a window is found in what is mirrored before it.
        """
        if isinstance(entry, Crop):
            return not any(isinstance(later, Crop) for later in self.moves)
        if any(isinstance(later, Flip) for later in self.moves):
            return False
        return isinstance(entry, Flip) or not any(isinstance(later, Crop) for later in self.moves)

    def take_normalize(self, step: Step) -> bool:
        """Add the normalising, once."""
        if step.kind not in _NORMALIZE or self._normalize is not None or step.before is not Form.FLOAT:
            return False
        self._normalize = step.transform
        return True

    def constants(self, *, scaled: bool) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return mean and std of images scaled to 0..1, whatever the user's chain scales to."""
        mean: tuple[float, ...] = (0.0,)
        std: tuple[float, ...] = (1.0,)
        if self._normalize is not None:
            mean, std = _numbers(self._normalize.mean), _numbers(self._normalize.std)
        unit = 1.0 if scaled else 255.0
        return tuple(entry / unit for entry in mean), tuple(entry / unit for entry in std)

    def fill(self, mean: tuple[float, ...], std: tuple[float, ...], *, scaled: bool) -> tuple[float, ...]:
        """Return what erased rectangles hold in the end, given the constants of images scaled to 0..1."""
        if self._erase is None:
            return ()
        values = np.array(self._erase.values)
        if not self._erased_last:
            values = (values / (1.0 if scaled else 255.0) - np.array(mean)) / np.array(std)
        return tuple(values.tolist())


def _numbers(values: Any) -> tuple[float, ...]:
    return tuple(torch.as_tensor(values, dtype=torch.float64).reshape(-1).tolist())
