"""The state of the world before and after: everything that a probe promises to leave as it was, and what differs."""

from __future__ import annotations

import contextlib
import copy
import gc
import logging
import multiprocessing
import os
import random
import re
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from torch import nn

GRACE_S = 5.0
"""How long processes, threads and files may take to go away that were told to."""

PYTHON_KEEPS = ("semaphore tracker", "resource tracker", "fork server")
"""What Python's multiprocessing starts once and keeps, as the design lists it."""

BY_THE_TEST = ("PYTEST_CURRENT_TEST", "TORCHINDUCTOR_CACHE_DIR")
"""Variables that pytest, and torch's compiler when its module is first imported, set by themselves."""


def world_state(
    model: nn.Module | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    folders: Sequence[Path] = (),
) -> dict[str, Any]:
    """Return all that is to be the same afterwards, as nested plain values."""
    gc.collect()
    return {
        **({} if model is None else {"model": of_model(model)}),
        **({} if optimizer is None else {"optimizer": of_optimizer(optimizer)}),
        "random states": _random_states(),
        "flags": _flags(),
        "python": _python(),
        "process": _process(),
        "files": {str(folder): _files(folder) for folder in folders},
    }


@contextlib.contextmanager
def unchanged(
    model: nn.Module | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    folders: Sequence[Path] = (),
) -> Iterator[None]:
    """Fail unless the world is the same afterwards; the message names everything that is not.

    HOME, the folder for temporary files and the working directory are looked at in any case: the caller has them point
    to empty folders, since other programs write to the usual ones meanwhile.
    """
    watched = (Path.home(), Path(tempfile.gettempdir()), Path.cwd(), *folders)
    before = world_state(model, optimizer, watched)
    yield
    until, after = time.monotonic() + GRACE_S, world_state(model, optimizer, watched)
    while differences(before, after) and time.monotonic() < until:
        time.sleep(0.05)
        after = world_state(model, optimizer, watched)
    found = differences(before, after)
    assert not found, "traces are left:\n" + "\n".join(found)


def differences(before: Any, after: Any, place: str = "") -> list[str]:
    """Return a line for every value that differs: where, and how."""
    if isinstance(before, dict) and isinstance(after, dict):
        found = []
        for name in dict.fromkeys((*before, *after)):
            where = f"{place} > {name}" if place else str(name)
            if name not in before:
                found.append(f"{where}: new ({_short(after[name])})")
            elif name not in after:
                found.append(f"{where}: gone")
            else:
                found += differences(before[name], after[name], where)
        return found
    if type(before) is type(after) and bool(before == after):
        return []
    return [f"{place}: {_short(before)} -> {_short(after)}"]


def _short(value: Any) -> str:
    words = f"{len(value)} bytes" if isinstance(value, bytes) else repr(value)
    return words if len(words) <= 120 else f"{words[:117]}..."


def of_tensor(tensor: torch.Tensor | None) -> Any:
    """Return the object, its memory, layout and bits."""
    if tensor is None:
        return None
    values = tensor.detach().cpu().clone(memory_format=torch.contiguous_format).view(-1).view(torch.uint8)
    return {
        "object": id(tensor),
        "memory": tensor.data_ptr(),
        "strides": tensor.stride(),
        "dtype": tensor.dtype,
        "device": str(tensor.device),
        "bits": values.numpy().tobytes(),
        "requires_grad": tensor.requires_grad,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return of_tensor(value)
    if isinstance(value, dict):
        return {id(key) if isinstance(key, torch.Tensor) else key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return copy.copy(value) if isinstance(value, set | bytearray) else value


def of_model(model: nn.Module) -> dict[str, Any]:
    """Return a model's tensors, modes, hooks and whatever else its modules hold."""
    internal = set(vars(nn.Module())) - {"training"}
    return {
        "parameters": {name: of_tensor(entry) for name, entry in model.named_parameters(remove_duplicate=False)},
        "gradients": {name: of_tensor(entry.grad) for name, entry in model.named_parameters()},
        "buffers": {name: of_tensor(entry) for name, entry in model.named_buffers(remove_duplicate=False)},
        "modules": {name: id(module) for name, module in model.named_modules()},
        "attributes": {
            name or "model": {key: _plain(value) for key, value in vars(module).items() if key not in internal}
            for name, module in model.named_modules()
        },
        "hooks": {
            name: {key: len(value) for key, value in vars(module).items() if key.endswith("_hooks")}
            for name, module in model.named_modules()
        },
        "class": type(model),
    }


def of_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return an optimizer's state, options and flags."""
    return {
        "state": (id(optimizer.state), _plain(dict(optimizer.state))),
        "groups": [
            {name: [id(part) for part in value] if name == "params" else _plain(value) for name, value in group.items()}
            for group in optimizer.param_groups
        ],
        "defaults": _plain(optimizer.defaults),
        "attributes": sorted(vars(optimizer)),
    }


def _random_states() -> dict[str, Any]:
    name, keys, *rest = np.random.get_state()
    return {
        "random": random.getstate(),
        "numpy": (name, keys.tobytes(), tuple(rest)),
        "torch": torch.get_rng_state().numpy().tobytes(),
        "cuda": [entry.numpy().tobytes() for entry in torch.cuda.get_rng_state_all()] if _cuda() else [],
    }


def _cuda() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_initialized()


PRECISIONS = (
    ("generic", "all"),
    ("cuda", "all"),
    ("cuda", "matmul"),
    ("cuda", "conv"),
    ("cuda", "rnn"),
    ("mkldnn", "all"),
    ("mkldnn", "matmul"),
    ("mkldnn", "conv"),
    ("mkldnn", "rnn"),
)


def _precisions() -> dict[str, str]:
    read = torch._C._get_fp32_precision_getter
    return {f"{backend} {operator}": read(backend, operator) for backend, operator in PRECISIONS}


def _inherited() -> dict[str, dict[str, str]]:
    """Return how the precisions read under others for all backends: which of them inherit shows in that alone."""
    own, found = torch.backends.fp32_precision, {}
    try:
        for value in ("ieee", "tf32"):
            torch.backends.fp32_precision = value
            found[f"under {value}"] = _precisions()
    finally:
        torch.backends.fp32_precision = own
    return found


def _read(read: Any) -> Any:
    try:
        return read()
    except RuntimeError as problem:  # torch refuses to tell where old and new flags were mixed
        return str(problem)[:60]


def _flags() -> dict[str, Any]:
    backends = torch.backends
    return {
        "fp32_precision": _precisions(),
        "inherited fp32_precision": _inherited(),
        "float32_matmul_precision": _read(torch.get_float32_matmul_precision),
        "cuda.matmul.allow_tf32": _read(lambda: backends.cuda.matmul.allow_tf32),
        "cudnn.allow_tf32": _read(lambda: backends.cudnn.allow_tf32),
        "cuda.matmul.reduced": (
            backends.cuda.matmul.allow_fp16_reduced_precision_reduction,
            backends.cuda.matmul.allow_bf16_reduced_precision_reduction,
        ),
        "cudnn": {name: getattr(backends.cudnn, name) for name in ("enabled", "benchmark", "deterministic")},
        "mkldnn": (backends.mkldnn.enabled, backends.mkldnn.deterministic),
        "attention": (backends.cuda.flash_sdp_enabled(), backends.cuda.math_sdp_enabled()),
        "deterministic": (torch.are_deterministic_algorithms_enabled(), torch.get_deterministic_debug_mode()),
        "default dtype": torch.get_default_dtype(),
        "default device": str(torch.get_default_device()),
        "grad mode": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_anomaly_enabled()),
        "autocast": (
            *(torch.is_autocast_enabled(kind) for kind in ("cpu", "cuda")),
            torch.get_autocast_dtype("cpu"),
            torch.is_autocast_cache_enabled(),
        ),
        "threads": torch.get_num_threads(),
        "interop threads": torch.get_num_interop_threads(),
        "sharing strategy": torch.multiprocessing.get_sharing_strategy(),
        "start method": multiprocessing.get_start_method(allow_none=True) or "fork",
    }


def _python() -> dict[str, Any]:
    loggers = {"root": logging.getLogger(), **logging.root.manager.loggerDict}
    return {
        "environment": {name: value for name, value in os.environ.items() if name not in BY_THE_TEST},
        "working directory": os.getcwd(),
        "import path": list(sys.path),
        "main module": id(sys.modules["__main__"]),
        "modules of one file": _doubles(),
        "signal handlers": {entry.name: signal.getsignal(entry) for entry in signal.Signals if entry.name != "SIGCHLD"},
        "blocked signals": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "warnings filters": list(warnings.filters),
        "logging handlers": {
            name: list(entry.handlers) for name, entry in loggers.items() if getattr(entry, "handlers", None)
        },
        "hooks": (sys.excepthook, threading.excepthook, sys.unraisablehook, sys.displayhook),
        "garbage collector": gc.isenabled(),
        "streams": (id(sys.stdin), id(sys.stdout), id(sys.stderr)),
    }


def _doubles() -> dict[str, list[str]]:
    """Return the files outside of installed packages that are imported under several names."""
    names: dict[str, list[str]] = {}
    for name, module in list(sys.modules.items()):
        place = getattr(module, "__file__", None)
        if isinstance(place, str) and "site-packages" not in place and not place.startswith(sys.base_prefix):
            names.setdefault(place, []).append(name)
    return {place: sorted(entries) for place, entries in names.items() if len(entries) > 1}


def _process() -> dict[str, Any]:
    return {
        "child processes": _children(),
        "threads": dict(Counter(entry.name for entry in threading.enumerate() if entry.is_alive())),
        "open files": dict(Counter(_open_files())),
        "shared memory": _shared_memory(),
        "nice": os.nice(0),
        "cores": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [],
    }


def _kept_by_python() -> set[int | None]:
    return {
        getattr(getattr(resource_tracker, "_resource_tracker", None), "_pid", None),
        getattr(getattr(forkserver, "_forkserver", None), "_forkserver_pid", None),
    }


def _children() -> dict[int, str]:
    kept, found = _kept_by_python(), {}
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if child.pid not in kept and child.status() != psutil.STATUS_ZOMBIE:
                found[child.pid] = child.name()
    return found


def _open_files() -> Iterator[str]:
    """Yield what every descriptor leads to; numbers of pipes and sockets are left out, being new each time."""
    tracker = getattr(getattr(resource_tracker, "_resource_tracker", None), "_fd", None)
    for entry in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else ():
        with contextlib.suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{entry}")
            if int(entry) != tracker and not target.startswith(f"/proc/{os.getpid()}/fd"):
                yield target.partition(":[")[0]


def _shared_memory() -> dict[str, str]:
    """Return what lies in /dev/shm, but for what other live processes have there.

    Python's semaphores do not say whose they are; they lose their names as soon as they are made.
    """
    found = {}
    for entry in Path("/dev/shm").iterdir() if os.path.isdir("/dev/shm") else ():
        owner = re.match(r"torch_(\d+)_", entry.name)
        if entry.name.startswith("sem.mp-"):
            continue
        if owner is None or int(owner[1]) == os.getpid() or not psutil.pid_exists(int(owner[1])):
            found[entry.name] = "there"
    return found


def _files(folder: Path) -> dict[str, Any]:
    found = {}
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            facts = path.lstat()
            found[str(path.relative_to(folder))] = (facts.st_mode, facts.st_size if path.is_file() else 0)
    return found
