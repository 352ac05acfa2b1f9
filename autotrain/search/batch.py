"""The largest batch that fits, as advice: the batch size decides about learning and is the user's."""

from __future__ import annotations

import logging
from time import perf_counter

import numpy as np
import torch

from autotrain.data.batch import HostBatch
from autotrain.engine.rig import Rig
from autotrain.errors import CandidateError
from autotrain.hardware.memory import memory_facts
from autotrain.measure.drive import synchronize
from autotrain.measure.session import LargestBatch
from autotrain.settings import Settings
from autotrain.workload import Workload
from autotrain.world import world

log = logging.getLogger(__name__)

KEEP_FREE = 0.1
"""Share of the memory that stays free on a CPU, where running out ends the process."""


def largest_batch(workload: Workload, settings: Settings, *, time_s: float) -> LargestBatch | None:
    """Double the batch until memory, dataset or time end it; return the largest tried and its rate.

    On CUDA running out of memory is met and survived. On a CPU it would end the process, so there the bytes that a
    batch keeps for the backward pass are counted, and no batch is tried that would not fit, beside those of the other
    ranks on the machine, which share its memory.

    Args:
        workload: what is trained.
        settings: under which settings.
        time_s: seconds after which no larger batch is tried.
    """
    try:
        with Rig(workload, settings) as rig:
            batch = rig.input.next()
            rig.input.close()
            if not _can_be_repeated(batch):
                return None
            with rig.active():
                return _double(rig, batch, time_s)
    except Exception as problem:  # whatever the user's model says to it: this is advice, and all else is done
        log.info("no advice on the batch size: %s", problem)
        return None


def _double(rig: Rig, batch: HostBatch, limit_s: float) -> LargestBatch:
    started = perf_counter()
    per_image = _kept_bytes(rig, batch) / batch.count if rig.device.type == "cpu" else None
    own_bytes = memory_facts().budget_bytes * (1 - KEEP_FREE) / world().local_world_size
    fits = int(own_bytes / per_image) if per_image else None
    reference = _rate(rig, batch, repeats=2)
    best, rate, repeats = batch.count, reference, 1
    while True:
        size = batch.count * repeats * 2
        if size * world().world_size > len(rig.workload.source):
            limit = "the dataset has no more images"
            break
        if fits is not None and size > fits:
            limit = "memory"
            break
        expected_s = 2 * size / max(rate, 1e-9)
        if perf_counter() - started + expected_s > limit_s:
            limit = "the time for this question"
            break
        repeats *= 2
        try:
            rate = _rate(rig, _repeated(batch, repeats), repeats=1)
        except (CandidateError, torch.OutOfMemoryError):
            limit = "memory"
            break
        except Exception as problem:
            log.info("no batch of %d: %s", batch.count * repeats, problem)
            limit = "the model takes no larger batch"
            break
        best = batch.count * repeats
    return LargestBatch(batch_size=best, images_per_s=rate, reference_per_s=reference, limit=limit, estimate=fits)


def _rate(rig: Rig, batch: HostBatch, *, repeats: int) -> float:
    moved = rig.move(batch)
    rig.train(moved)
    synchronize(rig.device)
    started = perf_counter()
    for _ in range(repeats):
        rig.train(moved)
    synchronize(rig.device)
    return batch.count * repeats / (perf_counter() - started)


def _can_be_repeated(batch: HostBatch) -> bool:
    content = batch.content
    return isinstance(content, tuple | list) and all(
        isinstance(entry, torch.Tensor) and len(entry) == batch.count for entry in content
    )


def _repeated(batch: HostBatch, times: int) -> HostBatch:
    content = tuple(torch.cat([entry] * times) for entry in batch.content)
    places = np.tile(np.arange(batch.count), times)
    return HostBatch(
        step=batch.step,
        epoch=batch.epoch,
        count=batch.count * times,
        content=content,
        parameters=None if batch.parameters is None else batch.parameters.select(places),
        windows=None if batch.windows is None else batch.windows[places],
    )


def _kept_bytes(rig: Rig, batch: HostBatch) -> int:
    """Return the bytes that the forward pass of a batch keeps for the backward pass, each storage counted once."""
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    content = rig.transfer.finish(rig.move(batch))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = rig.step.loss(content)
        total = sum(kept.values())
    del loss
    parameters = sum(entry.numel() * entry.element_size() for entry in rig.step.model.parameters())
    return max(1, total - parameters)
