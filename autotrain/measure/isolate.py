"""Isolation: a measuring function runs in a child process, whose crash, hang or kill is a result like any other."""

from __future__ import annotations

import logging
import multiprocessing.util
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.reduction import send_handle
from typing import Any, TypeVar

import torch

from autotrain import errors
from autotrain.data.interrupt import uninterrupted
from autotrain.data.workers import _tied_to, clear_memory, lives
from autotrain.engine.restore import read_flags
from autotrain.errors import AutotrainError, CandidateError
from autotrain.measure.child import Call, Done, Load, Raised, Report, State
from autotrain.measure.folder import Folder
from autotrain.measure.parcel import examine, main_script, stripped, write
from autotrain.workload import Workload

log = logging.getLogger(__name__)

T = TypeVar("T")

START_S = 180.0
"""Seconds in which a child must be there, with torch imported and the workload read."""

POLL_S = 0.2
"""Between two looks at whether a silent child still lives: what it has forked may hold its pipe open."""

LAST_WORDS_S = 0.5
"""What a hanging child is given to say where it hangs."""

DYING_S = 5.0
"""What a child that has closed its pipe is given to come to its end, by which its exit code is its own."""

CODE = """
from multiprocessing.connection import Connection
from multiprocessing.spawn import prepare
connection = Connection({descriptor})
prepare(connection.recv())
from autotrain.measure.child import serve
serve(connection, {parent}, tied={tied})
"""


def why_not(workload: Workload) -> str | None:
    """Return why a workload cannot be measured in a child process, or None where it can."""
    return _no_process() or examine(workload)[0]


def _no_process() -> str | None:
    if sys.platform == "win32":
        return "child processes need a POSIX system"
    return None if sys.executable else "Python runs embedded in another program here, and cannot be started again"


class Child:
    """A child process that runs measuring functions one after another; started when first needed, anew after it died.

    It is a fresh interpreter that inherits nothing but environment, working directory and import path. It ends with
    this process, however that ends, and its own workers with it. What it prints is dropped. Files that compilers and
    temporary files leave lie in a folder that is removed with it.

    Args:
        environ: environment variables of the child's, beside this process's own.
    """

    def __init__(self, *, environ: Mapping[str, str] | None = None) -> None:
        self._environ = dict(environ or {})
        self._process: _Process | None = None
        self._workload: Workload | None = None
        self._parcel: Workload | None = None

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """Process number, None while there is no process."""
        return None if self._process is None else self._process.pid

    def run(
        self,
        function: Callable[..., T],
        workload: Workload,
        *arguments: Any,
        limit_s: float,
        on_report: Callable[[Any], object] | None = None,
        **options: Any,
    ) -> T:
        """Return ``function(workload, *arguments, **options)``, called in the child.

        Args:
            function: at the top level of a module.
            workload: sent once, as long as it is the same object.
            arguments: whatever can be pickled, as must the result.
            limit_s: seconds after which the call is given up; starting the child does not count.
            on_report: given what the function hands to its ``report``, which it gets as one more option.
            options: keyword arguments of the function.

        Raises:
            AutotrainError: the function raised it.
            CandidateError: the function raised something else, or the process died or did not come to an end.
        """
        try:
            process = self._ready(workload)
            call = Call(
                function=function,
                arguments=arguments,
                options=options,
                reports=on_report is not None,
                state=_state(),
            )
            process.send(call)
            result: T = process.receive(limit_s, on_report)
        except BaseException as problem:
            if isinstance(problem, CandidateError) or not isinstance(problem, AutotrainError):
                self.close()  # an error of a device may last as long as the process: the next call gets another one
            raise
        return result

    def close(self) -> None:
        """End the child and whatever it has started, and remove its files."""
        process, parcel = self._process, self._parcel
        self._process = self._workload = self._parcel = None
        with uninterrupted():
            if process is not None:
                process.end()
            if parcel is not None and parcel.warm is not None:
                parcel.warm.close()

    def _ready(self, workload: Workload) -> _Process:
        """Return a live process that has the workload."""
        if self._process is not None and self._workload is workload and self._process.alive:
            return self._process
        problem, needs_main = examine(workload)
        problem = _no_process() or problem
        if problem is not None:
            raise CandidateError(f"cannot be measured in a process of its own: {problem}")
        if self._process is not None and (needs_main > self._process.has_main or not self._process.alive):
            self.close()
        if self._process is None:
            with uninterrupted():
                self._process = _Process(self._environ, with_main=needs_main)
        if self._parcel is not None and self._parcel.warm is not None:
            self._parcel.warm.close()
        self._parcel = stripped(workload)
        self._process.load(self._parcel)
        self._workload = workload
        return self._process


class _Process:
    """One life of a child: the process, the pipe to it, and the folder for its files."""

    def __init__(self, environ: Mapping[str, str], *, with_main: bool) -> None:
        self.has_main = with_main
        self._folder = Folder()
        ours, theirs = Pipe()
        self._connection = ours
        tied = _tied_to() is not None
        code = CODE.format(descriptor=theirs.fileno(), parent=os.getpid(), tied=tied)
        options = getattr(multiprocessing.util, "_args_from_interpreter_flags")()  # noqa: B009 - unknown to stubs
        try:
            with open(self._folder.output, "wb") as output:
                self._popen = subprocess.Popen(
                    [sys.executable, *options, "-c", code],
                    env={**os.environ, **self._folder.environ, **environ},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    pass_fds=(theirs.fileno(),),
                    process_group=0,  # Ctrl-C in a terminal is not for it, and whatever it starts ends with it
                )
        except BaseException as problem:
            ours.close()
            self._folder.remove()
            if isinstance(problem, OSError):
                raise CandidateError(f"no process could be started for it ({problem})") from problem
            raise
        finally:
            theirs.close()
        self.pid = self._popen.pid
        preparation = {"name": "autotrain", "sys_path": list(sys.path), "sys_argv": list(sys.argv)}
        with suppress(OSError):  # it is dead already, which the next answer tells
            ours.send(preparation | (main_script() if with_main else {}))

    @property
    def alive(self) -> bool:
        """Whether the process still runs; one that has ended is not reaped, so that its number stays taken."""
        if self._popen.returncode is not None:
            return False
        if not hasattr(os, "waitid"):
            return self._popen.poll() is None
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        except ChildProcessError:
            return False

    def load(self, workload: Workload) -> None:
        """Give it a workload and wait until it has read it."""
        try:
            number = write(workload)
        except Exception as problem:
            line = str(problem).strip().splitlines() or [type(problem).__name__]
            raise CandidateError(f"cannot be sent to a process of its own: {line[0]}") from problem
        try:
            self.send(Load())
            with suppress(OSError):
                send_handle(self._connection, number, self.pid)
        finally:
            os.close(number)
        self.receive(START_S, None)

    def send(self, message: Load | Call) -> None:
        """Send a message; a process that is dead already is noticed when it is to answer."""
        content = pickle.dumps(message)
        with suppress(OSError):
            self._connection.send_bytes(content)

    def receive(self, limit_s: float, on_report: Callable[[Any], object] | None) -> Any:
        """Return what the process answers.

        Raises:
            AutotrainError: the answer is an error.
            CandidateError: there is none.
        """
        until = time.monotonic() + limit_s
        while True:
            message = self._next(until)
            if message is None:
                raise CandidateError(f"ran longer than {limit_s:g} s and was ended{self._where_it_hangs()}")
            if isinstance(message, Done):
                return message.result
            if isinstance(message, Raised):
                log.debug("in the child process:\n%s", message.trace)
                raise _error(message)
            if isinstance(message, Report) and on_report is not None:
                on_report(message.content)

    def _next(self, until: float) -> Any:
        """Return the next message, None where none came in time."""
        while True:
            left = until - time.monotonic()
            if left <= 0:
                return None
            try:
                dead = not self.alive
                if self._connection.poll(0 if dead else min(left, POLL_S)):
                    return pickle.loads(self._connection.recv_bytes())
            except (EOFError, OSError):
                dead = True
            if dead:
                raise CandidateError(self._obituary())

    def _obituary(self) -> str:
        died = _wait_until(lambda: not self.alive, DYING_S)
        code, last = self._reap(), self._folder.last_words()
        if not died:
            return f"the process closed its connection but went on, and was ended{last}"
        if code == -signal.SIGKILL:
            return f"the process was killed, most likely out of memory (signal {-code})"
        if code < 0:
            name = (signal.strsignal(-code) or "").lower()
            return f"the process died: {name} (signal {-code}){last}"
        return f"the process ended with exit code {code}{last}"

    def _where_it_hangs(self) -> str:
        """Return in which function, which the child's fault handler says when it is aborted."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGABRT)
        _wait_until(lambda: not self.alive, LAST_WORDS_S)
        return self._folder.last_words(crash_only=True)

    def end(self) -> None:
        """End the process and its group, and remove its folder and what its workers may have left in memory."""
        self._reap()
        self._connection.close()
        started = self._folder.processes()
        _wait_until(lambda: not any(lives(pid) for pid in started), DYING_S)
        clear_memory(started)
        self._folder.remove()

    def _reap(self) -> int:
        """End the process and its group where they still run; return the exit code of the process."""
        if self._popen.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)  # before it is waited for, while the number is still its own
            self._popen.wait()
        return int(self._popen.returncode)


def _wait_until(condition: Callable[[], bool], limit_s: float) -> bool:
    until = time.monotonic() + limit_s
    while not (met := condition()) and time.monotonic() < until:
        time.sleep(0.01)
    return met


def _state() -> State:
    return State(
        threads=torch.get_num_threads(),
        dtype=torch.get_default_dtype(),
        deterministic=torch.are_deterministic_algorithms_enabled(),
        flags=read_flags(),
    )


def _error(raised: Raised) -> AutotrainError:
    kind = getattr(errors, raised.kind, None) if raised.kind else None
    if isinstance(kind, type) and issubclass(kind, AutotrainError):
        return kind(raised.message)
    return CandidateError(raised.message)
