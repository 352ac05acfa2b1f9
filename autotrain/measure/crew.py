"""The crew: ranks beside the first one measure what that one asks for, at the same time as it does."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any

import torch.distributed as dist
from torch import nn

from autotrain.data.caching import WarmSets
from autotrain.engine.heap import kept_heap
from autotrain.engine.restore import untouched
from autotrain.errors import AutotrainError
from autotrain.measure.drive import Resident
from autotrain.measure.failure import RanksLostError, answered, candidate
from autotrain.team import ALONE, Team
from autotrain.workload import Workload

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A function of a module that every rank is to call on its workload."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    options: Mapping[str, Any]
    augmentation: str
    """Policy of the workload at that time."""


def call_all(workload: Workload, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Call ``function(workload, *arguments, **options)`` on all ranks at once, and return what it gives here.

    The others are in ``follow``. A ``report`` is told on this rank alone.

    Raises:
        CandidateError: it failed on some rank.
        RanksLostError: a rank is gone.
    """
    told = {name: value for name, value in options.items() if name != "report"}
    team = workload.team
    with answered():
        team.shared(Call(function=function, arguments=arguments, options=told, augmentation=workload.augmentation))
    with _interrupting(team), candidate(), team.region():
        return function(workload, *arguments, **options)


def dismiss(team: Team, problem: AutotrainError | None = None) -> None:
    """End ``follow`` on the other ranks; it raises the problem there, if there is one.

    Raises:
        RanksLostError: a rank is gone.
    """
    with answered():
        team.shared(problem)


def follow(workload: Workload, *, warm: WarmSets) -> None:
    """Do what rank 0 asks for until it needs nothing more.

    Args:
        workload: as on rank 0.
        warm: filled caches for measuring.

    Raises:
        AutotrainError: rank 0 came to an end with it.
        RanksLostError: a rank is gone.
    """
    workload = replace(workload, warm=warm)
    resident = Resident()
    with untouched(workload.device), kept_heap(workload.device), _ignoring():
        while True:
            with answered():
                call = workload.team.shared(None)
            if call is None:
                return
            if isinstance(call, AutotrainError):
                raise call
            _serve(replace(workload, augmentation=call.augmentation), call, resident)


def apart(workload: Workload) -> Workload:
    """Return the workload of one rank, as if it were alone with its part of each batch."""
    ticket = workload.stream().ticket(0)
    return replace(workload, team=ALONE, batch_size=len(ticket.positions))


@contextmanager
def unsynced(workload: Workload) -> Iterator[None]:
    """Have batch statistics that all ranks share be those of this rank alone, while the others do something else."""
    layers = [layer for layer in workload.model.modules() if isinstance(layer, nn.SyncBatchNorm)]
    if workload.team.alone or not layers:
        yield
        return
    before = [layer.process_group for layer in layers]
    group = dist.new_group([workload.team.world.rank], backend="gloo", use_local_synchronization=True)
    try:
        for layer in layers:
            layer.process_group = group
        yield
    finally:
        for layer, own in zip(layers, before, strict=True):
            layer.process_group = own
        dist.destroy_process_group(group)


def _serve(workload: Workload, call: Call, resident: Resident) -> None:
    options = {name: resident if isinstance(value, Resident) else value for name, value in call.options.items()}
    try:
        with candidate(), workload.team.region():
            call.function(workload, *call.arguments, **options)
    except RanksLostError:
        raise
    except (AutotrainError, KeyboardInterrupt) as problem:
        log.debug("%s: %s", call.function.__name__, problem)  # rank 0 knows


@contextmanager
def _interrupting(team: Team) -> Iterator[None]:
    """Have Ctrl-C wait for the next message, so that it finds all ranks at the same place."""

    def note(number: int, frame: FrameType | None) -> None:
        del number, frame
        team.interrupt()

    with _handling(note):
        yield


@contextmanager
def _ignoring() -> Iterator[None]:
    """Leave Ctrl-C, which reaches all ranks, to rank 0."""
    with _handling(signal.SIG_IGN):
        yield


@contextmanager
def _handling(handler: Any) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
