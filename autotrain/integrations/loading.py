"""autotrain's input path for the loops of other libraries: batches in host memory, an epoch per iteration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from autotrain.application import applicable
from autotrain.data.batch import HostBatch
from autotrain.data.transfer import DeviceBatch
from autotrain.engine.rig import InputSide, make_transfer
from autotrain.errors import TaskError, unknown
from autotrain.hardware.machine import Machine
from autotrain.knobs.base import Side
from autotrain.knobs.registry import KNOBS
from autotrain.plan.plan import Plan
from autotrain.preparation import prepare_workload
from autotrain.settings import Settings
from autotrain.task import Task
from autotrain.team import Team
from autotrain.workload import AUTO, Workload
from autotrain.world import World


def open_workload(
    model: nn.Module, dataset: Any, options: Mapping[str, Any], *, plan: Plan, device: str, world: World
) -> Workload:
    """Return the workload whose input path is wanted; whoever trains brings loss, optimizer and the other ranks.

    Where the plan divides batches into parts, the workload's batches are such parts.

    Raises:
        AutotrainError: dataset, options and plan do not fit each other.
    """
    for name in options:
        if name not in Task.__dataclass_fields__:
            raise TaskError(unknown("option", name, Task.__dataclass_fields__))
    task = Task(model=model, dataset=dataset, device=device, **options)
    if task.augmentation in (None, AUTO):
        task = replace(task, augmentation=plan.settings.augmentation)
    workload = prepare_workload(task, team=Team(world))
    parts = plan.settings.micro_batches
    if workload.batch_size % parts:
        raise TaskError(f"batch_size: {workload.batch_size} images cannot be divided into {parts} equal parts")
    return replace(workload, batch_size=workload.batch_size // parts)


def input_settings(plan: Plan, workload: Workload, machine: Machine) -> Settings:
    """Return the settings that the input path is made of, as they can run here; the others have their defaults.

    Raises:
        PlanError: they cannot run here.
    """
    own = Settings().as_dict()
    wanted = plan.settings.as_dict() | {"augmentation": workload.augmentation}
    inputs = {
        knob.name: wanted[knob.name]
        for knob in KNOBS
        if knob.side_of(wanted[knob.name]) is not Side.COMPUTE or knob.name == "memory_format"
    }
    settings = Settings(**{**own, **inputs})  # type: ignore[arg-type]
    made = replace(plan.provenance, task="", model="", batch_size=0, processes=0)  # those are the trainer's
    reduced = replace(plan, settings=settings, provenance=made)
    return applicable(reduced, workload, machine, name="the plan").settings


class Epochs:
    """Training batches, an epoch per iteration; ``len`` is the batches of one.

    Workers go on from one epoch into the next. An iteration that was left early starts the next epoch afresh.

    Args:
        workload: whose batches.
        settings: of the input path.
        parts: batches that make up one step; an epoch has as many as make whole steps.
        epoch: the first iteration's.
    """

    def __init__(self, workload: Workload, settings: Settings, *, parts: int = 1, epoch: int = 0) -> None:
        self.epoch = epoch
        self._settings = settings
        self._workload = workload
        self._in_stream = workload.stream().steps_per_epoch
        self._length = self._in_stream // parts * parts
        self._transfer = make_transfer(workload, settings)
        self._input: InputSide | None = None
        self._next = -1
        """Step that the workers bring next."""

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[HostBatch]:
        step = self.epoch * self._in_stream
        end = step + self._length
        self.epoch += 1
        side = self._at(step)
        while step < end:
            batch = side.next()
            step += 1
            self._next = step
            yield batch

    def _at(self, step: int) -> InputSide:
        if self._input is None:
            self._input, self._next = InputSide(self._workload, self._settings, start=step), step
        left = step - self._next
        if left and left == self._in_stream - self._length:  # what an epoch leaves out is less than starting anew
            for _ in range(left):
                self._input.next()
        elif left:
            self._input.restart(self._settings, start=step, stop=None, hang_s=0.0)
        return self._input

    def move(self, batch: HostBatch) -> DeviceBatch:
        """Copy a batch to the device; on CUDA beside the work that is under way."""
        return self._transfer.move(batch)

    def finish(self, batch: DeviceBatch) -> Any:
        """Do the device's share: augment, scale, normalise; return images and labels."""
        return self._transfer.finish(batch)

    def close(self) -> None:
        """End the workers."""
        if self._input is not None:
            self._input.close()
            self._input = None
