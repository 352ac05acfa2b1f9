"""The compiled forward pass: torch.compile around a model that stays as it is, and nothing of it left behind."""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from autotrain.knobs.compile import GRAPHS

FOLDERS = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")
"""Variables that say where torch's compiler and Triton keep what they make."""

PREFIXES = ("TORCHINDUCTOR_", "_TORCHINDUCTOR_", "TRITON_")
"""Of variables that the two set themselves."""

_MODULES = ("torch._dynamo", "torch._inductor", "torch._functorch")
"""Where the compiler's own errors come from."""


class Compiled:
    """``compiled(images)`` is ``model(images)``, compiled at the first call; the first backward pass compiles its half.

    The model keeps its class, names and attributes: what is compiled is a function around it. Without graph breaks
    all code that the compiler keeps hangs on that function, and goes with it.

    Args:
        model: the live model.
        mode: torch.compile's: default, reduce-overhead or max-autotune.
        own_files: keep the compiler's files in a folder of this object's own, which ``close`` removes; False leaves
            them where the user has them, for the next training.
    """

    def __init__(self, model: nn.Module, *, mode: str, own_files: bool) -> None:
        self._folder = (
            TemporaryDirectory(prefix="autotrain-compile-", ignore_cleanup_errors=True) if own_files else None
        )
        self._graphs = mode in GRAPHS and torch.cuda.is_available()
        self._mode = mode
        self._function = _around(model)
        self._call: Callable[[Any], Any] | None = None
        self._had_workers = self._had_monitor = False
        self._codes: set[int] = set()

    def __call__(self, images: Any) -> Any:
        """Return the model's outputs."""
        if self._call is None:
            self._call = self._compile()
        if self._graphs:
            torch.compiler.cudagraph_mark_step_begin()  # what the last run gave may be written over
        return self._call(images)

    @contextmanager
    def files(self) -> Iterator[None]:
        """Have the compiler's files in the folder that they belong in; the environment is as before on leaving."""
        before = _variables()
        if self._folder is not None:
            os.environ[FOLDERS[0]] = self._folder.name
            os.environ[FOLDERS[1]] = os.path.join(self._folder.name, "triton")
        try:
            yield
        finally:
            for name in _variables().keys() - before.keys():
                del os.environ[name]
            os.environ.update(before)

    def rest(self) -> None:
        """End the compiler's worker processes and threads, unless the user's own compiling had started them before."""
        if self._call is None:
            return
        if not self._had_workers and _has_workers():
            compiling = sys.modules["torch._inductor.async_compile"]
            compiling.shutdown_compile_workers()
            if compiling.AsyncCompile.pool.cache_info().currsize:
                compiling.AsyncCompile.pool().shutdown()
                compiling.AsyncCompile.pool.cache_clear()
        monitor = _monitor()
        if monitor is not None and not self._had_monitor:
            monitor.exit()  # of a progress bar that the compiler makes, and does not show

    def close(self) -> None:
        """Drop the compiled code, and remove what is on disk; models that the user compiled keep theirs."""
        if self._call is not None:
            self.rest()
            _forget(self._function.__code__, self._codes)
            self._call = None
        if self._folder is not None:
            if "torch._inductor.utils" in sys.modules:
                sys.modules["torch._inductor.utils"].clear_caches()  # they name files in the folder
            self._folder.cleanup()

    def _compile(self) -> Callable[[Any], Any]:
        from torch._inductor import list_mode_options

        self._had_workers = _has_workers()
        self._had_monitor = _monitor() is not None
        self._codes = _known_codes()
        options: dict[str, Any] = {**list_mode_options(self._mode)}
        if self._folder is not None:
            options["cpp_cache_precompile_headers"] = False  # they lie outside the folder
        # Sizes are constants: batches are of one size, parts of a batch of two at most.
        call: Callable[[Any], Any] = torch.compile(self._function, dynamic=False, options=options)
        return call


def failure_of_compiler(problem: Exception) -> str | None:
    """Return what to say of an error of the compiler's own, None for any other."""
    if not type(problem).__module__.startswith(_MODULES):
        return None
    line = str(problem).strip().splitlines() or [""]
    return f"the compiler failed: {type(problem).__name__}: {line[0]}"


def _has_workers() -> bool:
    compiling = sys.modules.get("torch._inductor.async_compile")
    return compiling is not None and bool(compiling._pool_set or compiling.AsyncCompile.pool.cache_info().currsize)


def _monitor() -> Any:
    """Return the thread that watches progress bars, if it runs; one that has ended is kept by its module."""
    monitor = getattr(getattr(sys.modules.get("tqdm"), "tqdm", None), "monitor", None)
    return monitor if monitor is not None and monitor.is_alive() else None


def _variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(PREFIXES)}


def _around(model: nn.Module) -> types.FunctionType:
    """Return a function that calls the model, with a code object of its own, on which the compiler hangs its work."""

    def forward(images: Any) -> Any:
        return model._call_impl(images)  # hooks included; calling the model itself may lead here

    code = forward.__code__.replace(co_name="forward")
    return types.FunctionType(code, forward.__globals__, "forward", None, forward.__closure__)


def _known_codes() -> set[int]:
    """Return what the compiler has seen already, of the user's."""
    from torch._dynamo import convert_frame

    return convert_frame.input_codes.seen_ids | convert_frame.output_codes.seen_ids


def _forget(code: types.CodeType, but: set[int]) -> None:
    """Drop what was compiled for a function, and for the parts of the model that a graph break had compiled apart."""
    from torch._C._dynamo.eval_frame import reset_code
    from torch._dynamo import convert_frame

    reset_code(code)
    for weak in (*convert_frame.input_codes.seen, *convert_frame.output_codes.seen):
        seen = weak()
        if seen is not None and id(seen) not in but:
            reset_code(seen)
