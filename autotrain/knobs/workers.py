"""Workers: loader processes beside the training process."""

from __future__ import annotations

import multiprocessing
from typing import Any

from autotrain.hardware.machine import Machine
from autotrain.knobs.base import Choices, Effect, Knob, Side
from autotrain.settings import Settings, Value
from autotrain.workload import Workload
from autotrain.world import world

BATCH_SHARE_OF_SHM = 0.5
"""Part of /dev/shm that batches in flight may fill."""


class Workers(Knob):
    """Candidates come from the CPUs that this process may really use, and twice as many for datasets that wait."""

    name, effect, side = "workers", Effect.EXACT, Side.INPUT
    about = (
        "Processes or threads that load batches beside the training, 0 for none; they pay until loading keeps up "
        "with training, and cost where they take its cores."
    )

    def choices(self, workload: Workload, machine: Machine) -> Choices:
        """Offer powers of two up to twice the usable cores, and the cores themselves."""
        del workload
        if multiprocessing.current_process().daemon:
            return Choices(allowed=(0,), left_out=((1, "a daemonic process may not start others"),))
        usable = world().cpu_budget(machine.cpu.usable)
        counts = {0, usable, max(1, usable - 1), 2 * usable}
        power = 1
        while power < usable:
            counts.add(power)
            power *= 2
        return Choices(allowed=tuple(sorted(counts)))

    def legal(self, settings: Settings, workload: Workload, machine: Machine) -> str | None:
        """Refuse more batches in flight than shared memory holds."""
        free = machine.memory.shm_bytes
        if not settings.workers or free is None or workload.image_size is None:
            return None
        batch_bytes = workload.batch_size * workload.channels * workload.image_size**2
        needed = settings.workers * settings.prefetch * batch_bytes
        if needed > BATCH_SHARE_OF_SHM * free:
            return f"{needed / 2**20:.0f} MiB of batches in flight, but /dev/shm has {free / 2**20:.0f} MiB free"
        return None

    def loader_options(self, value: Value, options: dict[str, Any]) -> None:
        """Set the number of processes."""
        options["workers"] = value
