"""The process's random generators: seeded for a while, compared, and put back."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


class seeded:
    """Within the block Python's, NumPy's and torch's CPU generators are seeded; afterwards they are as before."""

    def __init__(self, seed: int | None = None) -> None:
        self._seed = seed
        self._before: tuple[Any, Any, torch.Tensor] | None = None

    def __enter__(self) -> seeded:
        self._before = (random.getstate(), np.random.get_state(), torch.default_generator.get_state())
        if self._seed is not None:
            seed_generators(self._seed)
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._before is not None
        python, numpy, torch_state = self._before
        random.setstate(python)
        np.random.set_state(numpy)
        torch.default_generator.set_state(torch_state)


def seed_generators(seed: int) -> None:
    """Seed Python's, NumPy's and torch's CPU generator; about 7 microseconds, where torch.manual_seed takes 100."""
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    torch.default_generator.manual_seed(seed)


def drawn_so_far() -> tuple[Any, ...]:
    """Return the states of the three generators as a value: equal as long as nobody has drawn."""
    name, keys, *rest = np.random.get_state()
    return (
        random.getstate(),
        name,
        np.asarray(keys).tobytes(),
        *rest,
        torch.default_generator.get_state().numpy().tobytes(),
    )
