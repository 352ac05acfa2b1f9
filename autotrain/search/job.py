"""The facts of a workload that a session keeps."""

from __future__ import annotations

import torch

from autotrain.hardware.machine import Machine
from autotrain.measure.session import Job
from autotrain.workload import Workload

PLACES = 101
"""Places of the schedule that are kept."""


def job_facts(workload: Workload, machine: Machine) -> Job:
    """Return what people and plans want to know about a workload."""
    device = workload.device
    model = workload.model
    ranks = workload.team.world
    return Job(
        model=type(model).__name__,
        parameters=sum(entry.numel() for entry in model.parameters()),
        dataset=workload.source.name,
        samples=len(workload.source),
        samples_kind=workload.source.kind,
        batch_size=workload.batch_size,
        image_size=workload.image_size,
        device=device.type,
        device_name=torch.cuda.get_device_name(device) if device.type == "cuda" else machine.cpu.name,
        fingerprint=workload.fingerprint,
        seed=workload.seed,
        threads=torch.get_num_threads(),
        planned_images=planned_images(workload),
        schedule=schedule_shape(workload),
        processes=ranks.world_size,
        machines=max(1, ranks.world_size // ranks.local_world_size),
    )


def schedule_shape(workload: Workload) -> tuple[float, ...]:
    """Return the learning rate's factor at evenly spaced places of the planned training, first step to last."""
    last = workload.span.total - 1
    factor = workload.schedule.over(workload.span)
    return tuple(round(factor(round(place * last / (PLACES - 1))), 5) for place in range(PLACES))


def planned_images(workload: Workload) -> int:
    """Return how many images the planned training sees; 0 where it is planned by time."""
    span = workload.span
    return 0 if span.seconds is not None else span.total * workload.batch_size
