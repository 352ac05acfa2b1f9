"""Datasets with transforms of their own: what is deterministic is kept, what can move is left to the device."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors

from autotrain.cache.cache import Cache
from autotrain.data.images import UNREADABLE, unreadable
from autotrain.data.samples import Source
from autotrain.data.stages import Over, Stage
from autotrain.decode.decoder import decoder
from autotrain.decode.resize import resize_window
from autotrain.errors import AutotrainError, DataError, first_line
from autotrain.transforms.generators import seed_generators
from autotrain.transforms.move import Row
from autotrain.transforms.pipeline import Pipeline, as_bytes

_ARRAY, _TENSOR, _TV_IMAGE, _PICTURE = range(4)
"""What a cached image was."""

_MODES = ("L", "RGB")


class TransformedSource(Source):
    """Samples as the dataset gives them, and the stages of how it makes them.

    Args:
        dataset: the user's own, whose samples are the reference.
        name: what people read.
        pipeline: the same samples in stages.
    """

    kind = "samples with transforms of their own"

    def __init__(self, dataset: Any, name: str, pipeline: Pipeline) -> None:
        super().__init__(dataset, name)
        self.pipeline = pipeline

    def encoded(self, index: int) -> bytes | None:
        """Return the image file's bytes, where the dataset reads files."""
        path = self.pipeline.path(index)
        if path is None:
            return None
        with open(path, "rb") as file:
            return file.read()

    def label(self, index: int) -> Any | None:
        """Return the target, where it is known without reading the image."""
        return self.pipeline.label(index)

    def where(self, index: int) -> str:
        """Return the file's path, or the sample's number."""
        return self.pipeline.path(index) or super().where(index)


class StagedReader:
    """Makes samples stage by stage, with another decoder, a cache, or the end of the chain left to the device.

    Args:
        on_device: leave the movable tail to the device.
        decoder_name: what decodes image files.
        kernel: what resizes crops that are understood: ``pillow`` or ``torch``.
        cache: keeps what the deterministic head of the chain gives; None keeps nothing.
    """

    def __init__(self, *, on_device: bool, decoder_name: str, kernel: str, cache: Cache | None) -> None:
        self.on_device = on_device
        self.decoder = decoder(decoder_name)
        self.kernel = kernel
        self.cache = cache
        self._apart = False  # whether to go stage by stage even where the dataset itself gives the same

    @property
    def idle(self) -> bool:
        """Whether samples are simply the dataset's own."""
        return not (self.on_device or self._apart) and self.cache is None and self.decoder.name == "pillow"

    def whole(self, source: TransformedSource, index: int, seed: int) -> tuple[Any, Any]:
        """Return a finished sample, everything random seeded before.

        Raises:
            DataError: it cannot be made.
        """
        sample: tuple[Any, Any] = self._guarded(source, index, seed, self._whole)
        return sample

    def head(self, source: TransformedSource, index: int, seed: int) -> tuple[Tensor, Any, Row]:
        """Return the image in bytes, (c, h, w), its label and the draws of what is to be done to it on the device.

        Raises:
            DataError: it cannot be made.
        """
        made: tuple[Tensor, Any, Row] = self._guarded(source, index, seed, self._head)
        return made

    def watch(self, over: Over) -> None:
        """Go stage by stage from now on, under a stopwatch."""
        self._apart = True
        stages = {
            "whole": Stage.AUGMENTING,
            "head": Stage.AUGMENTING,
            "_own": Stage.DATASET,
            "_base": Stage.DECODING,
            "_by_window": Stage.DECODING,
        }
        for name, stage in stages.items():
            setattr(self, name, over(getattr(self, name), stage))

    def _whole(self, source: TransformedSource, index: int, seed: int) -> tuple[Any, Any]:
        seed_generators(seed)
        image, label = self._prefixed(source, index)
        return source.pipeline.rest(image), label

    def _head(self, source: TransformedSource, index: int, seed: int) -> tuple[Tensor, Any, Row]:
        pipeline = source.pipeline
        assert pipeline.suffix is not None
        kept = self._kept(index) if pipeline.suffix.start <= pipeline.prefix else None
        if kept is not None:
            torch.default_generator.manual_seed(seed)  # from which alone the suffix draws; other generators take longer
            levels, row = pipeline.suffix.begin(pipeline.checked(_levels(kept)))
            return levels, int(kept[2]), row
        seed_generators(seed)
        if self.cache is None and pipeline.geometry is not None and self._resizes:
            levels, label = self._by_window(source, index)
        else:
            image, label = self._prefixed(source, index)
            levels = pipeline.head(image)
        levels, row = pipeline.suffix.begin(levels)
        return levels, label, row

    @property
    def _resizes(self) -> bool:
        """Whether a crop that is understood is worth doing here: at reduced size, or by another kernel."""
        return self.decoder.scaled or self.kernel != "pillow"

    def _by_window(self, source: TransformedSource, index: int) -> tuple[Tensor, Any]:
        geometry = source.pipeline.geometry
        data = source.encoded(index)
        assert geometry is not None
        assert data is not None
        decoded = self.decoder.decode(data, channels=3, choose=geometry.choose, size=geometry.size)
        out = np.empty((geometry.size, geometry.size, 3), dtype=np.uint8)
        resize_window(decoded.pixels, decoded.window, geometry.size, out, kernel=self.kernel)
        return torch.from_numpy(out).permute(2, 0, 1), source.label(index)

    def _prefixed(self, source: TransformedSource, index: int) -> tuple[Any, Any]:
        kept = self._kept(index)
        if kept is not None:
            return _thawed(kept), int(kept[2])
        image, label = self._base(source, index)
        image = source.pipeline.apply_prefix(image)
        if self.cache is not None:
            frozen = _frozen(image, label)
            if frozen is not None:
                self.cache.put(index, frozen)
        return image, label

    def _kept(self, index: int) -> tuple[NDArray[Any], ...] | None:
        return None if self.cache is None else self.cache.get(index)

    def _base(self, source: TransformedSource, index: int) -> tuple[Any, Any]:
        if self.decoder.name == "pillow" and not self._apart:
            return self._own(source, index)
        data = source.encoded(index)
        if data is None:
            return self._own(source, index)
        pixels = self.decoder.decode(data, channels=3).pixels
        return pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels), source.label(index)

    def _own(self, source: TransformedSource, index: int) -> tuple[Any, Any]:
        return source.pipeline.base(index)

    def _guarded(self, source: TransformedSource, index: int, seed: int, make: Any) -> Any:
        try:
            return make(source, index, seed)
        except AutotrainError:
            raise
        except UNREADABLE as problem:
            if source.pipeline.path(index) is not None:
                raise unreadable(source, index, problem, self.decoder) from problem
            raise _raised(source, index, problem) from problem
        except Exception as problem:
            raise _raised(source, index, problem) from problem


def _raised(source: Source, index: int, problem: Exception) -> DataError:
    return DataError(f"{source.where(index)}: the dataset raised {type(problem).__name__}: {first_line(problem)}")


def _frozen(image: Any, label: Any) -> tuple[NDArray[Any], ...] | None:
    """Return an image and its class number as arrays; None for those that arrays do not say."""
    if isinstance(label, bool) or not isinstance(label, int):
        return None
    if isinstance(image, Image.Image):
        if image.mode not in _MODES:
            return None
        kind, pixels = _PICTURE, np.asarray(image)
    elif isinstance(image, tv_tensors.Image):
        kind, pixels = _TV_IMAGE, image.as_subclass(Tensor).numpy()
    elif isinstance(image, Tensor):
        kind, pixels = _TENSOR, image.numpy()
    elif isinstance(image, np.ndarray):
        kind, pixels = _ARRAY, image
    else:
        return None
    return np.ascontiguousarray(pixels), np.asarray(kind), np.asarray(label)


def _levels(kept: tuple[NDArray[Any], ...]) -> Tensor:
    """Return the image that was frozen as bytes ``(c, h, w)``."""
    return as_bytes(torch.from_numpy(kept[0].copy()) if int(kept[1]) in (_TENSOR, _TV_IMAGE) else kept[0])


def _thawed(kept: tuple[NDArray[Any], ...]) -> Any:
    """Return the image that was frozen; transforms may write to it."""
    pixels, kind = kept[0], int(kept[1])
    if kind == _PICTURE:
        return Image.fromarray(pixels)
    if kind == _ARRAY:
        return pixels.copy()
    tensor = torch.from_numpy(pixels.copy())
    return tv_tensors.Image(tensor) if kind == _TV_IMAGE else tensor
