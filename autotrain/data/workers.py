"""Worker processes: torch's loader, started so that they end with this process and know nothing of its main script."""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import sys
import threading
import time
import warnings
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from multiprocessing.connection import wait
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

import PIL
import psutil
import torch
from torch.utils.data import DataLoader, Dataset, Sampler
from torch.utils.data._utils import signal_handling

from autotrain.data.batch import Failure, HostBatch
from autotrain.data.feed import Feed, LoaderOptions
from autotrain.data.interrupt import uninterrupted
from autotrain.data.reader import Reader
from autotrain.data.stream import Ticket
from autotrain.errors import CandidateError, DataError, first_line

MAIN = "__main__"

LIST = "AUTOTRAIN_WORKERS"
"""Variable with the file in which workers enter their numbers, for whoever clears up after them."""

LOOK_S = 0.2
"""Between two looks at whether workers live, where batches come through a thread that pins them."""

DYING_S = 2.0
"""What a worker that has let go of its pipes is given to come to its end, before which nobody knows of what."""

MEMORY = "/dev/shm"
"""Where shared memory has its names; a worker gives a batch's one for an instant, and may be killed in it."""


class ProcessFeed(Feed):
    """Batches read by worker processes.

    Raises:
        DataError: workers do not start by fork, and the reader cannot be given to them.
    """

    def __init__(self, reader: Reader, tickets: Iterator[Ticket], options: LoaderOptions) -> None:
        super().__init__(reader, tickets, options)
        self.start_method = options.start_method or ("spawn" if options.pillow else usual_start_method())
        fresh = _check_start(reader, self.start_method, options.pillow)
        dataset: Any = reader if options.pillow is None else PillowReader(reader, options.pillow)
        with warnings.catch_warnings():
            # Asking for more workers than cores is what a probe does on purpose; forking beside torch's own threads
            # is what torch's loader does by default.
            warnings.filterwarnings("ignore", message="This DataLoader will create")
            warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*fork.*")
            loader: DataLoader[Any] = DataLoader(
                dataset,
                sampler=_Tickets(tickets),
                batch_size=None,
                num_workers=options.workers,
                prefetch_factor=options.prefetch,
                pin_memory=options.pin,
                multiprocessing_context=self.start_method,
                worker_init_fn=partial(prepare_worker, parent=_tied_to()),
                timeout=options.hang_s,
                generator=torch.Generator(),  # torch's loader would otherwise draw from the process's own
            )
            try:
                with _ctrl_c_waits(), _fresh_start(options.pillow) if fresh else contextlib.nullcontext():
                    iterator: Any = iter(loader)
                    self._iterator = iterator
                    self.pids = tuple(worker.pid for worker in iterator._workers)
                    _unwatch(iterator)
                    self._batches = iterator._data_queue = _Batches(iterator._data_queue, iterator._workers)
            except RuntimeError as problem:
                _raise_death(problem)
                raise
            except KeyboardInterrupt:  # on leaving, when all have started
                self.close()
                raise

    def next(self) -> HostBatch | Failure:
        """Return the next batch.

        Raises:
            CandidateError: a worker died or hangs.
        """
        try:
            if self.pids:
                self._batches.check()
            batch: HostBatch | Failure = next(self._iterator)
        except RuntimeError as problem:
            _raise_death(problem)
            raise
        except (OSError, EOFError) as problem:  # the pipe to a worker that died while it handed over a batch
            raise CandidateError(f"a loader worker died ({type(problem).__name__}: {problem})") from problem
        return batch

    def pause(self) -> bool:
        """Freeze the workers by SIGSTOP, where there is that."""
        return self._signal("SIGSTOP")

    def resume(self) -> bool:
        """Let frozen workers go on."""
        return self._signal("SIGCONT")

    def _signal(self, name: str) -> bool:
        number = getattr(signal, name, None)
        if number is None:
            return not self.pids
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        return True

    def close(self) -> None:
        """End the workers and wait for them."""
        self.resume()
        iterator, self._iterator = self._iterator, iter(())
        shutdown = getattr(iterator, "_shutdown_workers", None)
        if shutdown is not None:
            _end_together(iterator)
            with contextlib.suppress(AttributeError):
                shutdown()
            clear_memory([worker.pid for worker in iterator._workers])
        self.pids = ()


def _end_together(iterator: Any) -> None:
    """Kill the other workers where one has died: it may have held a lock that they, and torch, would wait for."""
    if all(worker.exitcode is None for worker in iterator._workers):
        return
    for worker in iterator._workers:
        worker.kill()
    iterator._workers_done_event = threading.Event()  # which torch is going to set, under that lock


def clear_memory(pids: Collection[int]) -> None:
    """Remove the shared memory that workers have left named, having been killed or having ended while they shared it.

    Args:
        pids: their process numbers; those of live processes are passed over.
    """
    names = [name for name in _listed(MEMORY) if name.startswith("torch_")] if pids else []
    for name in names:
        owner = name.split("_")[1]
        if owner.isdecimal() and int(owner) in pids and not lives(int(owner)):
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(MEMORY, name))


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def lives(pid: int) -> bool:
    """Return whether a process runs; one that has ended and waits to be reaped does not."""
    try:
        return bool(psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD))
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True


def _end(code: int) -> str:
    """Return how a worker came to its end."""
    if code >= 0:
        return f"ended with exit code {code}"
    advice = ". The system does that where memory is short: take fewer workers" if code == -signal.SIGKILL else ""
    return f"was killed by signal: {signal.strsignal(-code) or -code}{advice}"


def _raise_death(problem: RuntimeError) -> None:
    """Turn what torch says of a worker's death or silence into a candidate's failure."""
    if isinstance(problem.__cause__, CandidateError):
        raise problem.__cause__
    line = first_line(problem)
    if "DataLoader worker" in line or "DataLoader timed out" in line:
        raise CandidateError(line) from problem


def _unwatch(iterator: Any) -> None:
    """Let torch's signal handler forget the workers: it would raise for a dead one wherever this process is just then.

    That may be in another training's step, or while the other workers are being ended.
    """
    if getattr(iterator, "_worker_pids_set", False):
        iterator._worker_pids_set = False
        _handler("_remove_worker_pids")(id(iterator))


class _Batches:
    """The queue of batches, which tells of a worker's death at once and hands a batch over whole.

    Torch has SIGCHLD raise an error wherever Python happens to be, be it in a ``finally``; here a death is looked for.
    Ctrl-C, which torch would let leave a batch's memory half open, waits while one is taken over, and comes through
    while one is waited for.

    Args:
        results: torch's queue; where batches are pinned, a thread fills it, which sees no signals.
        workers: the processes.
    """

    def __init__(self, results: Any, workers: Sequence[Any]) -> None:
        self._results = results
        self._workers = tuple(workers)
        self._reader = getattr(results, "_reader", None)

    def check(self) -> None:
        """Raise a CandidateError where a worker has died."""
        for worker in self._workers:
            if worker.exitcode is not None:
                raise CandidateError(f"DataLoader worker (pid {worker.pid}) {_end(worker.exitcode)}")

    def get(self, timeout: float) -> Any:
        """Return the next batch, as the queue does."""
        if self._reader is None:
            return self._pinned(timeout)
        ready = wait([self._reader, *(worker.sentinel for worker in self._workers)], timeout)
        if self._reader not in ready:
            if ready:
                self._explain()
            raise queue.Empty
        with uninterrupted():
            try:
                return self._results.get(timeout=timeout)
            except Exception:  # the pipe to a worker that died while it handed over a batch, by whatever name
                self._explain()
                raise

    def _explain(self) -> None:
        """Raise a CandidateError where a worker has died, or is about to: its pipes close before it has ended."""
        until = time.monotonic() + DYING_S
        while time.monotonic() < until:
            self.check()
            time.sleep(0.01)

    def _pinned(self, timeout: float) -> Any:
        until = time.monotonic() + timeout
        while True:
            try:
                return self._results.get(timeout=min(LOOK_S, max(until - time.monotonic(), 0.0)))
            except queue.Empty:
                self.check()
                if time.monotonic() >= until:
                    raise


def _handler(name: str) -> Any:
    return getattr(signal_handling, name)  # unknown to stubs


class _Tickets(Sampler[Ticket]):
    """The stream's tickets, as torch's loader wants them."""

    def __init__(self, tickets: Iterator[Ticket]) -> None:
        self._tickets = tickets

    def __iter__(self) -> Iterator[Ticket]:
        return self._tickets


class PillowReader(Dataset[HostBatch | Failure]):
    """A reader that gives batches only where Pillow comes from a certain folder.

    Args:
        reader: makes the batches.
        folder: holds the package ``PIL``.
    """

    def __init__(self, reader: Reader, folder: str) -> None:
        self._reader = reader
        self._folder = folder

    def __getitem__(self, ticket: Ticket) -> HostBatch | Failure:
        problem = pillow_problem(self._folder)
        if problem is not None:
            return Failure(kind="CandidateError", message=problem)
        return self._reader[ticket]


def pillow_problem(folder: str) -> str | None:
    """Return which Pillow this process runs where it is not the one from a folder, else None."""
    home = os.path.dirname(os.path.dirname(os.path.abspath(PIL.__file__)))
    if home == os.path.abspath(folder):
        return None
    return f"asked for the Pillow in {folder}, but Pillow {PIL.__version__} from {home} runs"


def usual_start_method() -> str:
    """Return how workers start here: fork on Linux (fast, and nothing needs pickling), spawn elsewhere."""
    return "fork" if sys.platform.startswith("linux") else "spawn"


def spawn_problem(reader: Reader) -> str | None:
    """Return why workers that start anew, without the main script, cannot be given a reader; None where they can."""
    problem, homes = _pickled(reader)
    return problem or _missing(reader, homes)


def _missing(reader: Reader, homes: dict[str, str]) -> str | None:
    for home, what in homes.items():
        reason = None
        if home == MAIN:
            reason = f"uses {what}, which the main script defines, and fresh workers do not run that script"
        elif not _can_be_imported(home):
            reason = f"uses {what} of {home}, a module that workers cannot import"
        if reason is not None:
            return f"the dataset {reader.source.name} {reason}: define it in a module that can be imported"
    return None


def _check_start(reader: Reader, method: str, pillow: str | None) -> bool:
    """Refuse what workers could not be given; return whether they may start without the main script."""
    if method == "fork":
        if pillow is not None:
            raise DataError(f"forked workers run the Pillow of this process, not that in {pillow}: start them by spawn")
        return False
    problem, homes = _pickled(reader)
    missing = _missing(reader, homes)
    if problem is None and pillow is None:
        return missing is None  # else multiprocessing runs the script in each worker, which may define what is missing
    if problem is not None or missing is not None:
        raise DataError(f"workers here start by '{method}': {problem or missing}")
    return True


class _References(pickle.Pickler):
    """Pickles into nothing and notes the home of every class and function that is pickled by name."""

    def __init__(self) -> None:
        super().__init__(_Nowhere(), protocol=pickle.HIGHEST_PROTOCOL)
        self.homes: dict[str, str] = {}

    def reducer_override(self, entry: Any) -> Any:
        if isinstance(entry, type | FunctionType | BuiltinFunctionType):
            home = getattr(entry, "__module__", None)
            if isinstance(home, str):
                self.homes.setdefault(home, entry.__qualname__)
        return NotImplemented


class _Nowhere:
    def write(self, data: Any) -> int:
        return len(data)


def _pickled(reader: Reader) -> tuple[str | None, dict[str, str]]:
    """Return why a reader cannot be pickled, or None, and the modules that reading it back imports, with an example."""
    references = _References()
    try:
        references.dump(reader)
    except Exception as problem:
        return (
            f"the dataset {reader.source.name} cannot be pickled ({first_line(problem)}): define its class at the top "
            "level of a module, or use workers=0"
        ), references.homes
    return None, references.homes


def _can_be_imported(module: str) -> bool:
    package = module.partition(".")[0]
    return any(finder.find_spec(package, None) is not None for finder in sys.meta_path)


@contextlib.contextmanager
def _fresh_start(first_on_path: str | None) -> Iterator[None]:
    """Have multiprocessing tell the processes that start within nothing of the main script, and of another import path.

    It reads both from ``sys``. Both are put back at once: the workers are given them while they are being started.
    """
    main, path = sys.modules[MAIN], sys.path
    try:
        sys.modules[MAIN] = ModuleType(MAIN)
        if first_on_path is not None:
            sys.path = [os.path.abspath(first_on_path), *path]
        yield
    finally:
        sys.modules[MAIN] = main
        sys.path = path


@contextlib.contextmanager
def _ctrl_c_waits() -> Iterator[None]:
    """Hold Ctrl-C back; workers started within never see it, not even before they can ignore it.

    The mask is for them: this process may have other threads, to which the kernel would give the signal.
    """
    with uninterrupted():
        if not hasattr(signal, "pthread_sigmask"):
            yield
            return
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _tied_to() -> int | None:
    """Return this process's number where workers may end with the thread that starts them, None elsewhere."""
    return os.getpid() if threading.current_thread() is threading.main_thread() else None


def prepare_worker(number: int, *, parent: int | None = None) -> None:
    """Let the training process alone answer Ctrl-C; workers end with it.

    Args:
        number: the worker's, from torch's loader.
        parent: process number of the training process, where the worker may end with the thread that started it.
            A worker that is frozen when that process is killed would otherwise stay for good.
    """
    del number
    if os.name == "posix":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if parent is not None and sys.platform.startswith("linux"):
        getattr(torch.multiprocessing, "_prctl_pr_set_pdeathsig")(signal.SIGKILL)  # noqa: B009 - unknown to stubs
        if os.getppid() != parent:  # it died before that was set
            os._exit(1)
    if LIST in os.environ:
        with contextlib.suppress(OSError), open(os.environ[LIST], "a") as entries:
            entries.write(f"{os.getpid()}\n")
