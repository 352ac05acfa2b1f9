"""What all tests share: nothing leaks from a test, GPU tests need a GPU, and some images and models to work with."""

from __future__ import annotations

import gc
import importlib.util
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest

_given = os.environ.get("OPENBLAS_NUM_THREADS")
os.environ["OPENBLAS_NUM_THREADS"] = "1"  # several processes of tests share the cores, and idle threads would spin
import numpy  # noqa: E402, F401 (reads it)
import scipy.linalg  # noqa: E402, F401 (has a BLAS of its own)

del os.environ["OPENBLAS_NUM_THREADS"]
if _given is not None:
    os.environ["OPENBLAS_NUM_THREADS"] = _given
os.environ["AUTOTRAIN_PILLOW_SIMD"] = "/nonexistent/pillow-simd"  # tests do not depend on what a user has built

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as shells start what is to run in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)

ALONE = {
    *(f"integration/test_{name}.py" for name in ("doctor", "duel", "versus")),
    "unit/hardware/test_monitor.py",
    "unit/hardware/test_programs.py",
}
"""Files whose tests depend on how fast something is, or on what else runs."""

LONGEST = tuple(
    f"integration/test_{name}.py" for name in ("ranks", "probe", "resume", "two_hosts", "probing_ranks", "isolation")
)
"""Files that take a minute or so: they come first, so that no process is left with one of them at the end."""

GRACE_S = 5.0
"""How long processes and threads may take to end that were told to before the test ended."""

NOT_OURS = ("PYTEST_CURRENT_TEST", "TORCHINDUCTOR_CACHE_DIR")
"""Variables that pytest and torch (when its compiler's module is first imported) set by themselves."""


@dataclass(frozen=True, slots=True)
class Watch:
    """A process-wide state that a test leaves as it found it."""

    name: str
    """What the failure calls it."""

    module: str
    """Module that has it; looked at only where that is imported already."""

    read: Callable[[], Any]
    """Returns the state as a value that can be compared."""

    write: Callable[[Any], object]
    """Puts it back, so that one leak fails one test."""


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in NOT_OURS}


def _start_method() -> str:
    return multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]


def _set_environment(values: dict[str, str]) -> None:
    for name in _environment().keys() - values.keys():
        del os.environ[name]
    os.environ.update(values)


def _numpy_state() -> Any:
    import numpy as np

    name, keys, *rest = np.random.get_state()
    return name, keys.tobytes(), *rest


def _set_numpy_state(state: Any) -> None:
    import numpy as np

    name, keys, *rest = state
    np.random.set_state((name, np.frombuffer(keys, dtype=np.uint32), *rest))


def _torch_state() -> bytes:
    import torch

    return torch.default_generator.get_state().numpy().tobytes()


def _set_torch_state(state: bytes) -> None:
    import torch

    torch.default_generator.set_state(torch.frombuffer(bytearray(state), dtype=torch.uint8))


def _threads() -> int:
    import torch

    return torch.get_num_threads()


def _set_threads(count: int) -> None:
    import torch

    torch.set_num_threads(count)


def _modes() -> dict[str, Any]:
    import torch

    return {
        "grad mode": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "default dtype": torch.get_default_dtype(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "autocast on the CPU": torch.is_autocast_enabled("cpu"),
    }


def _set_modes(modes: dict[str, Any]) -> None:
    import torch

    torch.set_grad_enabled(modes["grad mode"])
    torch.set_default_dtype(modes["default dtype"])
    torch.use_deterministic_algorithms(modes["deterministic algorithms"])


def _backends() -> dict[str, Any]:
    import torch

    cudnn = torch.backends.cudnn
    return {
        "cudnn.enabled": cudnn.enabled,
        "cudnn.benchmark": cudnn.benchmark,
        "cudnn.deterministic": cudnn.deterministic,
        "cudnn.conv.fp32_precision": cudnn.conv.fp32_precision,
        "cuda.matmul.fp32_precision": torch.backends.cuda.matmul.fp32_precision,
        "mkldnn.enabled": torch.backends.mkldnn.enabled,
    }


def _set_backends(flags: dict[str, Any]) -> None:
    import torch

    cudnn = torch.backends.cudnn
    cudnn.enabled, cudnn.benchmark = flags["cudnn.enabled"], flags["cudnn.benchmark"]
    cudnn.deterministic = flags["cudnn.deterministic"]
    cudnn.conv.fp32_precision = flags["cudnn.conv.fp32_precision"]
    torch.backends.cuda.matmul.fp32_precision = flags["cuda.matmul.fp32_precision"]


WATCHES = (
    Watch("working directory", "os", os.getcwd, os.chdir),
    Watch("environment", "os", _environment, _set_environment),
    Watch("import path", "sys", lambda: list(sys.path), lambda entries: sys.path.__setitem__(slice(None), entries)),
    Watch(
        "Ctrl-C handler",
        "signal",
        lambda: signal.getsignal(signal.SIGINT),
        lambda handler: signal.signal(signal.SIGINT, handler),
    ),
    Watch("start method", "os", _start_method, lambda method: multiprocessing.set_start_method(method, force=True)),
    Watch("random state of random", "random", random.getstate, random.setstate),
    Watch("random state of numpy", "numpy.random", _numpy_state, _set_numpy_state),
    Watch("random state of torch", "torch", _torch_state, _set_torch_state),
    Watch("torch's thread count", "torch", _threads, _set_threads),
    Watch("torch's modes", "torch", _modes, _set_modes),
    Watch("torch's backend flags", "torch", _backends, _set_backends),
)
RANDOM = tuple(watch for watch in WATCHES if watch.name.startswith("random state"))


def _snapshot(watches: tuple[Watch, ...]) -> dict[str, Any]:
    return {watch.name: watch.read() for watch in watches if watch.module in sys.modules}


def _put_back(watches: tuple[Watch, ...], before: dict[str, Any]) -> list[str]:
    """Restore what has changed and return what that was."""
    changed = []
    for watch in watches:
        if watch.name not in before:
            continue
        now = watch.read()
        if now != before[watch.name]:
            changed.append(f"{watch.name}{_difference(before[watch.name], now)}")
            watch.write(before[watch.name])
    return changed


def _difference(before: Any, now: Any) -> str:
    if isinstance(before, dict):
        names = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
        return f" ({', '.join(names)})"
    return f" ({before} -> {now})" if isinstance(before, int | str) else ""


def _children() -> set[psutil.Process]:
    """Return this process's children, but for the two that Python's multiprocessing keeps."""
    kept = {
        getattr(getattr(resource_tracker, "_resource_tracker", None), "_pid", None),
        getattr(getattr(forkserver, "_forkserver", None), "_forkserver_pid", None),
    }
    return {child for child in psutil.Process().children() if child.pid not in kept}


def _live(processes: set[psutil.Process]) -> list[psutil.Process]:
    return [entry for entry in processes if entry.is_running() and entry.status() != psutil.STATUS_ZOMBIE]


def _left_processes(before: set[psutil.Process]) -> list[str]:
    left = _live(_children() - before)
    if left:
        gc.collect()
        _, left = psutil.wait_procs(left, timeout=GRACE_S)
    names = [f"process {entry.pid} ({entry.name()})" for entry in left]
    for entry in left:
        entry.kill()
    return names


def _left_threads(before: set[threading.Thread]) -> list[str]:
    """Name the new threads; ``_DummyThread`` is a native one of a library's that came by Python code."""
    left = [entry for entry in threading.enumerate() if entry not in before]
    left = [entry for entry in left if not isinstance(entry, threading._DummyThread) and "timeout" not in entry.name]
    if left:
        gc.collect()
    for entry in left:
        entry.join(GRACE_S / len(left))
    return [f"thread {entry.name}" for entry in left if entry.is_alive()]


@pytest.fixture(autouse=True)
def nothing_leaks() -> Iterator[None]:
    """Fail a test that leaves processes, threads or process-wide states behind; tests clean up after themselves."""
    processes, threads = _children(), set(threading.enumerate())
    before = _snapshot(WATCHES)
    yield
    leaks = _put_back(WATCHES, before) + _left_threads(threads) + _left_processes(processes)
    if leaks:
        pytest.fail(f"the test leaks: {'; '.join(leaks)}", pytrace=False)


@pytest.fixture(scope="session")
def traces() -> ModuleType:
    """The module beside this one that compares the world before and after; tests are no package to import it from."""
    spec = importlib.util.spec_from_file_location("traces", Path(__file__).with_name("traces.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def empty_home(
    nothing_leaks: None, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """Have home, temporary files and working directory be empty folders, in which every file is a trace.

    Their names are short: those of sockets, which lie among temporary files, end at 108 characters.
    """
    tmp_path_factory.getbasetemp()  # pytest's own folder is made now, not among what is watched
    with tempfile.TemporaryDirectory(prefix="home-") as name:
        home = Path(name)
        for folder in ("home", "tmp", "here"):
            (home / folder).mkdir()
        with monkeypatch.context() as within:
            within.setenv("HOME", str(home / "home"))
            within.delenv("XDG_CACHE_HOME", raising=False)
            within.setenv("TMPDIR", str(home / "tmp"))
            within.setattr(tempfile, "tempdir", None)
            within.chdir(home / "here")
            yield home


@pytest.fixture
def own_draws(nothing_leaks: None) -> Iterator[None]:
    """Let a test draw random numbers itself: the random states are put back at its end."""
    import torch  # noqa: F401  (its state is among those that are put back)

    before = _snapshot(RANDOM)
    yield
    _put_back(RANDOM, before)


@pytest.fixture
def one_thread(nothing_leaks: None) -> Iterator[None]:
    """Keep torch to one thread: two that wait for each other take a hundred times as long where a core is busy."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what depends on how fast something is; have what takes long begin first."""
    files = {item: str(item.path.relative_to(Path(__file__).parent)) for item in items}
    for item, file in files.items():
        if file in ALONE:
            item.add_marker(pytest.mark.alone)
    places = {file: place for place, file in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(files[item], len(LONGEST)))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a GPU where there is none; torch is imported for such tests only."""
    if item.get_closest_marker("gpu") is not None:
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")


@pytest.fixture(scope="session")
def jpeg_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 3 classes with 12 photograph-like JPEG files each, 80x60 to 120x90 pixels; the same in every run.

    Read only: it is shared by all tests.
    """
    import numpy as np
    from PIL import Image

    root = tmp_path_factory.mktemp("images")
    draws = np.random.default_rng(0)
    for number, name in enumerate(("apple", "boat", "cat")):
        (root / name).mkdir()
        for index in range(12):
            scale = draws.uniform(1.0, 1.5)
            size = round(80 * scale), round(60 * scale)
            coarse = Image.fromarray(draws.integers(40, 200, (4, 5, 3), dtype=np.uint8))
            pixels = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC)).astype(np.float32)
            pixels[..., number] += 40
            pixels += draws.normal(0, 8, pixels.shape)
            image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
            image.save(root / name / f"{index:02d}.jpg", quality=85)
    return root


@pytest.fixture
def tiny_model() -> Callable[..., Any]:
    """A function that makes a small convolutional network with batch statistics, equal in every call."""
    import torch
    from torch import nn

    def make(classes: int = 3, channels: int = 3) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            return nn.Sequential(
                nn.Conv2d(channels, 8, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(8),
                nn.ReLU(),
                nn.Conv2d(8, 16, 3, stride=2, padding=1),
                nn.ReLU(),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
                nn.Linear(16, classes),
            )

    return make
