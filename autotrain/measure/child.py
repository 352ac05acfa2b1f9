"""The child's end of an isolated measurement: it calls functions with a workload until its parent ends it."""

from __future__ import annotations

import faulthandler
import os
import pickle
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle
from typing import Any

import torch

from autotrain.data.workers import prepare_worker
from autotrain.engine.restore import Flags, write_flags
from autotrain.errors import AutotrainError, first_line
from autotrain.workload import Workload

if sys.platform != "win32":
    import resource

PARENT_S = 1.0
"""Between two looks at whether the parent still lives, where the kernel does not tell."""

FIRST_VICTIM = "500"
"""Added to this process's badness of 0 to 1000: the kernel, out of memory, is to choose it and not its parent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The process-wide state of the parent that a measurement depends on."""

    threads: int
    """Intra-op threads."""

    dtype: torch.dtype
    """Default of new tensors."""

    deterministic: bool
    """Whether torch refuses algorithms that are not deterministic."""

    flags: Flags


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Asks the child to read a workload from a file, whose descriptor follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """Asks the child to call a function with the workload it has."""

    function: Callable[..., Any]
    """At the top level of a module; takes the workload first."""

    arguments: tuple[Any, ...]
    options: dict[str, Any]
    reports: bool
    """Whether the function is given ``report``, which sends what it is called with to the parent."""

    state: State


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Something that the function says on its way."""

    content: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The function returned; or the workload is there."""

    result: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Raised:
    """The function raised."""

    kind: str
    """The error's class, where it is one of autotrain's own; empty for others."""

    message: str
    """Its message; for others one line with the class."""

    trace: str
    """For the log."""


def serve(connection: Connection, parent: int, *, tied: bool) -> None:
    """Do what the parent asks for until it closes the connection.

    Args:
        connection: to the parent; its other end is a socket too.
        parent: its process number.
        tied: whether this process may end with the thread that started it.
    """
    prepare_worker(0, parent=parent if tied else None)
    if not (tied and sys.platform.startswith("linux")):
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    _expect_the_worst()
    os.set_inheritable(connection.fileno(), False)
    workload: Workload | None = None
    while True:
        try:
            message = pickle.loads(connection.recv_bytes())
        except EOFError:
            return
        if isinstance(message, Load):
            if workload is not None and workload.warm is not None:
                workload.warm.close()
            answer, workload = _answer(lambda: load(recv_handle(connection)))
        else:
            answer = _call(connection, message, workload)
        connection.send_bytes(answer)


def load(number: int) -> Workload:
    """Read a workload from an open file; tensors in host memory are mapped from it, and copied where written to."""
    try:
        # Written by the parent an instant ago, by code and not from data.
        if sys.platform.startswith("linux"):
            found: Workload = torch.load(f"/proc/self/fd/{number}", mmap=True, weights_only=False)
        else:
            with open(number, "rb", closefd=False) as file:
                file.seek(0)
                found = torch.load(file, weights_only=False)
    finally:
        os.close(number)
    return found


def _call(connection: Connection, call: Call, workload: Workload | None) -> bytes:
    assert workload is not None, "a call before its workload"
    options = dict(call.options)
    if call.reports:
        options["report"] = lambda content: connection.send_bytes(pickle.dumps(Report(content=content)))

    def act() -> Any:
        torch.set_num_threads(call.state.threads)
        torch.set_default_dtype(call.state.dtype)
        torch.use_deterministic_algorithms(call.state.deterministic)
        write_flags(call.state.flags)
        return pickle.dumps(Done(result=call.function(workload, *call.arguments, **options)))

    answer, result = _answer(act)
    return answer if result is None else bytes(result)


def _answer(act: Callable[[], Any]) -> tuple[bytes, Any]:
    """Return the message about what has been done, and its result, None where it raised."""
    try:
        return pickle.dumps(Done()), act()
    except BaseException as problem:
        own = isinstance(problem, AutotrainError)
        raised = Raised(
            kind=type(problem).__name__ if own else "",
            message=str(problem) if own else _line(problem),
            trace="".join(traceback.format_exception(problem)),
        )
        return pickle.dumps(raised), None


def _line(problem: BaseException) -> str:
    name, words = type(problem).__name__, first_line(problem)
    return name if words in ("", name) else f"{name}: {words}"


def _expect_the_worst() -> None:
    """Have a crash leave its place in the code on stderr and no core file; be the first to go when memory is short."""
    faulthandler.enable(all_threads=False)
    if sys.platform != "win32":
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    with suppress(OSError), open("/proc/self/oom_score_adj", "r+") as file:
        if int(file.read()) < int(FIRST_VICTIM):
            file.seek(0)
            file.write(FIRST_VICTIM)


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_S)
    os.killpg(0, 9)
