"""What the engine's tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread(nothing_leaks: None) -> Iterator[None]:
    """Train on one thread: two that wait for each other take a hundred times as long where a core is busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
