"""Emulated rounding: what a gradient changes by when every layer keeps fewer bits, in arithmetic that keeps more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from autotrain.settings import Settings

BITS = {"bf16": 8, "fp16": 11, "tf32": 11}
"""Significant bits of the arithmetic; IEEE 754 for fp16."""

BITS_OF_ORDER = 16
"""Bits that stay when sums are only taken in another order: fp32 has 24, long sums lose half of the rest."""

BITS_OF_DEVICE = 11
"""The same off the CPU, where torch lets convolutions of the default run in TF32."""

_FULL_BITS = 24


def shared_bits(candidate: Settings, reference: Settings, device: torch.device) -> int:
    """Return the significant bits that two ways to compute the same may be expected to agree on, before any sum."""
    least = BITS_OF_ORDER if device.type == "cpu" else BITS_OF_DEVICE
    return min(BITS.get(side.precision, least) for side in (candidate, reference))


def rounded(values: torch.Tensor, bits: int, *, chance: bool = False) -> torch.Tensor:
    """Return float32 values with ``bits`` significant bits and their full range; other types as they are.

    Args:
        values: any shape.
        bits: 1 to 23, the leading one counted.
        chance: round up or down at random, by the distance to either, instead of to the nearest.
    """
    if values.dtype != torch.float32:
        return values
    unit = 1 << (_FULL_BITS - bits)
    whole = values.contiguous().view(torch.int32)
    added = torch.randint_like(whole, unit) if chance else unit // 2
    return ((whole + added) & -unit).view(torch.float32).reshape(values.shape)


class _Rounding(torch.autograd.Function):
    """Rounds values on their way forward and gradients on their way back."""

    @staticmethod
    def forward(context: Any, values: torch.Tensor, bits: int, chance: bool) -> torch.Tensor:
        context.options = bits, chance
        return rounded(values, bits, chance=chance).clone()  # no view, which layers that work in place would refuse

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        bits, chance = context.options
        return rounded(gradients[0], bits, chance=chance), None, None


@contextmanager
def rounding(model: nn.Module, bits: int, *, chance: bool = False) -> Iterator[None]:
    """Round the model's weights, inputs and every layer's outputs, and the gradients that come back through them.

    The weights stay rounded: for a model whose tensors are lent and thrown away.
    """

    def inputs(module: nn.Module, values: tuple[Any, ...]) -> tuple[Any, ...]:
        del module
        return tuple(_each(entry, bits, chance) for entry in values)

    def outputs(module: nn.Module, values: Any, result: Any) -> Any:
        del module, values
        return _each(result, bits, chance)

    with torch.no_grad():
        for entry in model.parameters():
            own = entry.to_local() if isinstance(entry, DTensor) else entry
            own.copy_(rounded(own, bits, chance=chance))
    handles = [model.register_forward_pre_hook(inputs)]
    handles += [module.register_forward_hook(outputs) for module in model.modules() if not any(module.children())]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _each(values: Any, bits: int, chance: bool) -> Any:
    if isinstance(values, torch.Tensor):
        return _Rounding.apply(values, bits, chance) if values.dtype == torch.float32 else values
    if type(values) in (tuple, list):
        return type(values)(_each(entry, bits, chance) for entry in values)
    return values
