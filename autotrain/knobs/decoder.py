"""Decoder: what turns the bytes of image files into pixels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

from autotrain.augment.policy import policy
from autotrain.data.images import OTHER_PILLOW
from autotrain.data.reader import ON_DEVICE, Reader, Recipe
from autotrain.data.samples import Source
from autotrain.data.workers import spawn_problem
from autotrain.decode.decoder import DECODERS, decoder, full_name
from autotrain.decode.simd import installed
from autotrain.hardware.machine import Machine
from autotrain.knobs.base import Choices, Effect, Knob, Side
from autotrain.settings import Settings, Value
from autotrain.workload import Workload

_fresh_worker_problems: WeakKeyDictionary[Source, str | None] = WeakKeyDictionary()
"""Why workers that start anew cannot be given a dataset; kept as long as it lives, since it takes pickling it."""


class DecoderChoice(Knob):
    """Full decoders that agree with Pillow bit for bit are exact; scaled and GPU decoders are not."""

    name, effect, side = "decoder", Effect.NUMERICS, Side.INPUT
    known = tuple(entry.name for entry in DECODERS)
    about = "What turns image files into pixels; it pays where decoding is what a step waits for."
    meanings = {
        "pillow": "Pillow, as torchvision's datasets use it.",
        "simplejpeg": "libjpeg-turbo straight into an array; the same pixels as Pillow, faster for JPEG files.",
        "torchvision": "torchvision's libjpeg-turbo, straight into a tensor; the same pixels as Pillow.",
        "pillow_draft": (
            "Pillow at a half, a quarter or an eighth of the size where the crop allows; pays for photographs much "
            "larger than the crops, other rounding."
        ),
        "simplejpeg_scaled": (
            "simplejpeg at a half, a quarter or an eighth of the size where the crop allows; likewise."
        ),
        "pillow_simd": (
            "Pillow-SIMD in worker processes of its own; faster resizing on x86-64 (autotrain simd builds it)."
        ),
        "pillow_simd_draft": "Pillow-SIMD, at a reduced size where the crop allows.",
        "dali": "NVIDIA DALI's decoder on the CPU, a batch at a time; needs the extra dali.",
        "nvjpeg": "The GPU decodes; pays where cores are scarce and the GPU has time left.",
    }

    def effect_of(self, value: Value) -> Effect:
        """Return EXACT for the full decoders that a test holds equal to Pillow."""
        return Effect.EXACT if decoder(str(value)).exact else Effect.NUMERICS

    def side_of(self, value: Value) -> Side:
        """Return BOTH where the device decodes."""
        return Side.BOTH if value == ON_DEVICE else Side.INPUT

    def risky(self, value: Value) -> bool:
        """Name nvJPEG, whose native decoder reads files that nobody has checked."""
        return value == ON_DEVICE

    def choices(self, workload: Workload, machine: Machine) -> Choices:
        """Offer what is installed and suits the device and the dataset."""
        del machine
        allowed, left_out = [], []
        for entry in DECODERS:
            reason = _unfit(entry.name, workload) or entry.unavailable()
            if reason and entry.name != Settings().decoder:
                left_out.append((entry.name, reason))
            else:
                allowed.append(entry.name)
        return Choices(allowed=tuple(allowed), left_out=tuple(left_out))

    def legal(self, settings: Settings, workload: Workload, machine: Machine) -> str | None:
        """Refuse what cannot run where the settings would have it run."""
        del machine
        name = settings.decoder
        if name == Settings().decoder:
            return None
        if name == ON_DEVICE and settings.placement == "worker" and policy(settings.augmentation).depth:
            return "images that the device decodes cannot be augmented in workers"
        if name.startswith(OTHER_PILLOW) and (settings.workers == 0 or settings.loader != "processes"):
            return "Pillow-SIMD needs worker processes, which alone can have another Pillow than this one"
        return _unfit(name, workload) or decoder(name).unavailable()

    def canonical(self, settings: Settings, workload: Workload) -> Settings:
        """Fold where nothing is decoded; a cache holds whole images, whatever size the next crop has."""
        if not workload.encoded:
            return self.fold(settings, when=True, to=Settings().decoder)
        if settings.cache != "none" or not workload.takes_windows(settings):
            return replace(settings, decoder=full_name(settings.decoder))
        return settings

    def reader_options(self, value: Value, options: dict[str, Any]) -> None:
        """Name the decoder."""
        options["decoder"] = value

    def loader_options(self, value: Value, options: dict[str, Any]) -> None:
        """Start workers with Pillow-SIMD where it is asked for."""
        if str(value).startswith(OTHER_PILLOW):
            options["pillow"] = str(installed() or "")


def _unfit(name: str, workload: Workload) -> str | None:
    if not workload.encoded:
        return "the dataset decodes its images itself"
    if name == ON_DEVICE and workload.device.type != "cuda":
        return "needs a CUDA device"
    if name.startswith(OTHER_PILLOW):
        return _fresh_worker_problem(workload.source, workload.recipe(workload.augmentation))
    if workload.pipeline is not None and decoder(name).batched:
        return "the dataset's own transforms take one image at a time"
    return None


def _fresh_worker_problem(source: Source, recipe: Recipe) -> str | None:
    if installed() is None:
        return None
    if source not in _fresh_worker_problems:
        _fresh_worker_problems[source] = spawn_problem(Reader(source, recipe))
    return _fresh_worker_problems[source]
