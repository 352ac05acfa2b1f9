"""Intra-op threads: on a CPU, the loader's workers and torch's threads share the same cores."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from autotrain.hardware.machine import Machine
from autotrain.knobs.base import Choices, Effect, Knob, Side
from autotrain.settings import Value
from autotrain.workload import Workload
from autotrain.world import world


class Threads(Knob):
    """Threads of one operator in the training process; 0 leaves torch's own count."""

    name, effect, side = "threads", Effect.NUMERICS, Side.COMPUTE
    about = (
        "Threads of one operator in the training process, 0 for torch's own count; on a CPU a smaller number pays "
        "where loader workers need the cores."
    )

    def choices(self, workload: Workload, machine: Machine) -> Choices:
        """Offer halves of the usable cores, and one core left free for a worker, on a CPU."""
        if workload.device.type != "cpu":
            return Choices(allowed=(0,), left_out=((1, f"the work is done on {workload.device.type}"),))
        usable = world().cpu_budget(machine.cpu.usable)
        counts = {max(1, usable // 4), max(1, usable // 2), max(1, usable - 1), usable}
        return Choices(allowed=(0, *sorted(counts - {torch.get_num_threads()})))

    def flags(self, value: Value) -> AbstractContextManager[object]:
        """Set torch's thread count."""
        return _threads(int(value)) if value else nullcontext()


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
