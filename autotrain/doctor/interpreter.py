"""How Python was built and started."""

from __future__ import annotations

import platform
import sys
import sysconfig
import tracemalloc
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreter:
    """Facts of the running interpreter."""

    version: str
    """Such as ``3.11.7``."""

    implementation: str
    """``CPython``, as a rule."""

    debug_build: bool
    """Built with ``--with-pydebug``."""

    free_threaded: bool
    """Built without a global lock."""

    lock_enabled: bool
    """Whether the global lock is in force."""

    development_mode: bool
    """Started with ``-X dev`` or ``PYTHONDEVMODE``."""

    tracing_memory: bool
    """Whether each allocation is traced."""

    traced: bool
    """Whether a debugger, profiler or coverage tool follows each line."""


def interpreter() -> Interpreter:
    """Look at this process."""
    locked = getattr(sys, "_is_gil_enabled", lambda: True)
    return Interpreter(
        version=platform.python_version(),
        implementation=platform.python_implementation(),
        debug_build=bool(sysconfig.get_config_var("Py_DEBUG")),
        free_threaded=bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
        lock_enabled=bool(locked()),
        development_mode=sys.flags.dev_mode,
        tracing_memory=tracemalloc.is_tracing(),
        traced=sys.gettrace() is not None or sys.getprofile() is not None,
    )
