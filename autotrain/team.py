"""The team: all ranks of a training, which decide together and fail together."""

from __future__ import annotations

import atexit
import gc
import logging
import os
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from autotrain.errors import AutotrainError, CandidateError, UnsupportedError, first_line
from autotrain.meeting import meet
from autotrain.world import World, place, world

log = logging.getLogger(__name__)

PATIENCE = "AUTOTRAIN_PATIENCE"
"""Variable with the seconds that a rank waits for the others before it takes them to be lost."""

PATIENCE_S = 600.0
"""The same where it is not set: storage may stall a rank that long."""

PLACES = 4
"""Numbers in a message; all have as many, so that what one rank says when it fails meets whatever the others say."""

Result = TypeVar("Result")

_FAILED, _INTERRUPTED = 1.0, 2.0
_TOLD = "_autotrain_told"
"""Attribute of an error that all ranks know of."""


class Team:
    """What the ranks of a training tell each other beside gradients, through host memory.

    A message is the same few numbers of every rank, whatever they are for. So a rank that fails in the midst of what
    all do together can say so wherever the others are: their next message, of any kind, raises there.

    Args:
        world: who this process is.
        group: of ``torch.distributed``, for tensors in host memory; None for one process alone.
    """

    def __init__(self, world: World = World(), group: Any = None) -> None:  # noqa: B008 (frozen)
        self.world = world
        self._group = group
        self._interrupted = False
        here = place(), os.getpid()
        others = () if group is None else self.everyone(here)
        self.neighbours = tuple(pid for where, pid in others if where == here[0] and pid != here[1])
        """Process numbers of the other ranks on this machine."""

    @property
    def alone(self) -> bool:
        """Whether there is one process only."""
        return self._group is None

    @property
    def leads(self) -> bool:
        """Whether this is rank 0, which tells people and writes files."""
        return self.world.rank == 0

    def gather(self, *values: float) -> list[list[float]]:
        """Return up to four numbers of every rank, by rank.

        Raises:
            CandidateError: a rank failed.
        """
        return self.begin(*values)()

    def begin(self, *values: float) -> Callable[[], list[list[float]]]:
        """Send numbers, and return a function that waits for those of all ranks; nothing may be sent in between."""
        if self._group is None:
            return lambda: [list(values)]
        return self._message(list(values), None)

    def first(self, value: float) -> float:
        """Return rank 0's number."""
        return value if self._group is None else self.gather(value)[0][0]

    def largest(self, value: float) -> float:
        """Return the largest number."""
        return max(row[0] for row in self.gather(value))

    def total(self, *values: float) -> list[float]:
        """Return the sums over the ranks."""
        return [sum(column) for column in zip(*self.gather(*values), strict=True)]

    @contextmanager
    def region(self) -> Iterator[None]:
        """Have what fails within the block on one rank fail on all; it may hold messages, as long as all have the same.

        Raises:
            CandidateError: it failed on another rank.
        """
        if self._group is None:
            yield
            return
        try:
            yield
        except Exception as problem:
            if not hasattr(problem, _TOLD):  # else all know
                self._fail(problem)
            raise
        self.gather()

    def together(self, function: Callable[[], Result]) -> Result:
        """Call a function on every rank; where it fails on one, it fails on all.

        Raises:
            CandidateError: it failed on another rank.
        """
        with self.region():
            return function()

    def interrupt(self) -> None:
        """Have this rank's next message interrupt all; a signal may come while others wait for this one."""
        self._interrupted = True

    def _fail(self, problem: Exception) -> None:
        setattr(problem, _TOLD, True)
        try:
            self._message([], first_line(problem))()
        except CandidateError:
            return  # it is told, and another one may have failed too

    def everyone(self, thing: Result) -> list[Result]:
        """Return a picklable thing of every rank, by rank."""
        if self._group is None:
            return [thing]
        found: list[Any] = [None] * self.world.world_size
        dist.all_gather_object(found, thing, group=self._group)
        return found

    def shared(self, thing: Result) -> Result:
        """Return rank 0's picklable thing."""
        return self.leaders(lambda: thing)

    def leaders(self, function: Callable[[], Result]) -> Result:
        """Return what a function gives on rank 0, which alone calls it; its errors are raised on all ranks."""
        if self._group is None:
            return function()
        answer: list[Any] = [None, None]
        if self.leads:
            try:
                answer[0] = function()
            except AutotrainError as problem:
                answer[1] = problem
        dist.broadcast_object_list(answer, group=self._group, group_src=0)
        if answer[1] is not None:
            raise answer[1]
        result: Result = answer[0]
        return result

    def _message(self, values: Sequence[float], problem: str | None) -> Callable[[], list[list[float]]]:
        stopped, self._interrupted = self._interrupted, False
        own = torch.zeros(1 + PLACES, dtype=torch.float64)
        own[0] = _INTERRUPTED if stopped else _FAILED if problem is not None else 0.0
        own[1 : 1 + len(values)] = torch.tensor(values, dtype=torch.float64)
        rows = [torch.empty_like(own) for _ in range(self.world.world_size)]
        work = dist.all_gather(rows, own, group=self._group, async_op=True)

        def wait() -> list[list[float]]:
            assert work is not None
            work.wait()
            worst = max(float(row[0]) for row in rows)
            if worst == _INTERRUPTED:
                raise KeyboardInterrupt
            if worst:
                self._raise(problem)
            return [row[1 : 1 + len(values)].tolist() for row in rows]

        return wait

    def _raise(self, own: str | None) -> None:
        """Exchange why it cannot go on, and raise."""
        said = self.everyone((socket.gethostname(), own))
        words = [f"rank {rank} on {host}: {line}" for rank, (host, line) in enumerate(said) if line is not None]
        error = CandidateError("; ".join(words))
        setattr(error, _TOLD, True)
        raise error

    def leave(self) -> None:
        """Let go of the other ranks."""
        self._group = None

    def __reduce__(self) -> tuple[type[Team], tuple[()]]:
        """A copy in another process is alone."""
        return Team, ()


ALONE = Team()
_joined: Team | None = None


def join(device: torch.device) -> Team:
    """Return the team of this process, met the first time through what torchrun set; ``ALONE`` without torchrun.

    Process groups that are there already are used, else they are made and stay until the process ends.

    Raises:
        UnsupportedError: torchrun's variables contradict each other.
        CandidateError: the other ranks could not be reached.
    """
    global _joined
    if _joined is None:
        facts = world()
        if not facts.is_distributed:
            return ALONE
        if not dist.is_initialized():
            _check_meeting(facts)
            if device.type == "cuda":
                torch.cuda.set_device(device)
            backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
            try:
                store = meet(facts, timeout=_patience())
                dist.init_process_group(
                    backend, store=store, rank=facts.rank, world_size=facts.world_size, timeout=_patience()
                )
            except (OSError, RuntimeError, ValueError) as problem:
                raise CandidateError(f"the other ranks could not be reached: {first_line(problem)}") from problem
            atexit.register(_leave, os.getpid())
        _joined = Team(facts, dist.new_group(backend="gloo", timeout=_patience()))
        log.info("rank %d of %d has met the others", facts.rank, facts.world_size)
    return _joined


def _check_meeting(facts: World) -> None:
    """Refuse ranks that are not told where to meet."""
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if name not in os.environ:
            raise UnsupportedError(
                f"environment: {name} is not set beside WORLD_SIZE={facts.world_size}. Start the ranks with torchrun"
            )


def _patience() -> timedelta:
    text = os.environ.get(PATIENCE)
    try:
        return timedelta(seconds=PATIENCE_S if not text else float(text))
    except ValueError as problem:
        raise UnsupportedError(f"environment: {PATIENCE}={text!r} is no number of seconds") from problem


def _leave(pid: int) -> None:
    """End the process groups while Python is whole; where something still holds one, torch may abort this process."""
    global _joined
    if os.getpid() != pid or not dist.is_initialized():  # in a worker that was forked, or ended by somebody else
        return
    if _joined is not None:
        _joined.leave()
        _joined = None
    gc.collect()
    dist.destroy_process_group()


def loss_of_ranks(problem: BaseException) -> bool:
    """Tell whether an error of torch's says that other ranks are gone, or too slow to answer."""
    if isinstance(problem, dist.DistError):
        return True
    return isinstance(problem, RuntimeError) and re.search(r"\bgloo\b", str(problem), re.IGNORECASE) is not None
