"""The profile: where one loading process spends its time, stage by stage, and whether a step's time is overhead."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from autotrain.data.batch import HostBatch
from autotrain.data.reader import Reader
from autotrain.data.stages import Stage
from autotrain.data.stream import Stream
from autotrain.data.transfer import tensors_in
from autotrain.decode.decoder import decoder
from autotrain.engine.rig import Rig, warm_reader
from autotrain.errors import CandidateError
from autotrain.measure.clock import Clock
from autotrain.measure.drive import resident_batches
from autotrain.measure.failure import candidate
from autotrain.settings import Settings
from autotrain.workload import Workload

resource: Any
try:
    import resource
except ImportError:  # Windows
    resource = None

_calls = itertools.count(1)

LOADING_S = 0.8
"""Seconds of loading after which no further images are profiled."""

FEWEST_IMAGES, MOST_IMAGES = 8, 512

GROWTH_S = 0.6
"""Seconds of steps after which none is added."""

FEWEST_ROUNDS, MOST_ROUNDS = 3, 12

LONGEST_STEP_S = 0.25
"""A step that takes longer does so for its arithmetic, or there is no time to find out."""

LONGEST_OPERATOR_S = 5e-4
"""A step whose operators take longer than this on average does so for its arithmetic too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTime:
    """What a stage takes per image, in one process with one thread."""

    wall_s: float = 0.0
    """Seconds of wall-clock."""

    cpu_s: float = 0.0
    """CPU seconds."""

    wait_s: float = 0.0
    """Seconds of waiting for storage, a network, a lock; time that other programs took on the cores is not waiting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageProfile:
    """Where the time of loading an image goes, and how a step's time depends on the batch."""

    reading: StageTime
    """Getting the bytes of the file."""

    dataset: StageTime
    """``__getitem__`` of a dataset that cannot be looked into."""

    decoding: StageTime
    """Bytes, or what the dataset gave, to pixels of the right size."""

    augmenting: StageTime
    """The policy, or transforms of the dataset's own that are understood."""

    collating: StageTime
    """Samples to a batch."""

    images: int
    """Images that were profiled."""

    handed_bytes: float | None = None
    """Mean size of an image as a worker hands it over: in bytes, floats or whatever the dataset gives; None where it
    gives no tensors."""

    bytes_per_image: float | None = None
    """Mean size of an image file; None where the source gives no files."""

    step_s: float | None = None
    """Seconds of a step on a resident batch, at their best; None where growth was not measured."""

    step_growth: float | None = None
    """Time of a step with twice the batch over that with the batch: 1 where it is all overhead, 2 where it is all
    arithmetic; None where it was not measured (accelerators, long steps, batches that cannot be joined)."""

    operators: int | None = None
    """Operators that such a step issues."""

    def of_all(self, ranks: int) -> StageProfile:
        """Return the profile of one of several ranks per image of all: of each image another rank does the work."""
        stages: dict[str, Any] = {
            stage.value: StageTime(wall_s=entry.wall_s / ranks, cpu_s=entry.cpu_s / ranks, wait_s=entry.wait_s / ranks)
            for stage, entry in self.stages.items()
        }
        handed = None if self.handed_bytes is None else self.handed_bytes / ranks
        return replace(self, handed_bytes=handed, **stages)

    @property
    def stages(self) -> Mapping[Stage, StageTime]:
        """All stages by name."""
        return {stage: getattr(self, stage.value) for stage in Stage}

    @property
    def wall_s(self) -> float:
        """Seconds per image, all stages together."""
        return sum(entry.wall_s for entry in self.stages.values())

    @property
    def storage_s(self) -> float:
        """Seconds per image that storage takes: reading, and what dataset and decoder wait where they read."""
        return self.reading.wall_s + self.dataset.wait_s + self.decoding.wait_s

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> StageProfile:
        """Build a profile from what ``dataclasses.asdict`` gave."""
        return cls(**{**values, **{stage.value: StageTime(**values[stage.value]) for stage in Stage}})


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """What doubling the batch does to a step."""

    step_s: float
    double_s: float
    operators: int

    @property
    def growth(self) -> float:
        """Time of the step with twice the batch over that with the batch."""
        return self.double_s / self.step_s


class Stopwatch:
    """Notes wall-clock and CPU seconds under stages; a stage within another is taken from the outer one's time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._open: list[Stage] = []
        self._last = 0.0, 0.0, 0
        self._spent = {stage: [0.0, 0.0, 0.0] for stage in Stage}
        self.bytes = 0

    def over(self, function: Callable[..., Any], stage: Stage) -> Callable[..., Any]:
        """Return a function that does the same and has its time noted under the stage."""

        @wraps(function, assigned=(), updated=())
        def timed(*arguments: Any, **options: Any) -> Any:
            self._charge()
            self._open.append(stage)
            try:
                result = function(*arguments, **options)
            finally:
                self._charge()
                self._open.pop()
            if stage is Stage.READING and result is not None:
                self.bytes += len(result)
            return result

        return timed

    def per_image(self, images: int) -> dict[str, Any]:
        """Return what each stage took per image."""
        return {
            stage.value: StageTime(wall_s=wall / images, cpu_s=cpu / images, wait_s=wait / images)
            for stage, (wall, cpu, wait) in self._spent.items()
        }

    def reset(self) -> None:
        """Forget what was noted."""
        self._spent = {stage: [0.0, 0.0, 0.0] for stage in Stage}
        self.bytes = 0

    def _charge(self) -> None:
        now, cpu, gave_way = self._clock.now(), self._clock.cpu_s(), _times_given_way()
        if self._open:
            spent = self._spent[self._open[-1]]
            wall_s, cpu_s = now - self._last[0], cpu - self._last[1]
            spent[0] += wall_s
            spent[1] += cpu_s
            if gave_way > self._last[2]:
                spent[2] += max(0.0, wall_s - cpu_s)
        self._last = now, cpu, gave_way


def _times_given_way() -> int:
    """Return how often this thread gave up its core of its own accord, to wait, and was not driven off it.

    Where the system does not tell (Windows), every call counts as once more.
    """
    if resource is None:
        return next(_calls)
    usage = resource.getrusage(getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF))
    return int(usage.ru_nvcsw)


def profile(
    workload: Workload, settings: Settings, *, clock: Clock, step_s: float | None = None
) -> StageProfile | None:
    """Return where the time of loading goes under settings, and how a step grows with its batch.

    Takes about 1.5 s, and where images are slow as long as a few of them.

    Args:
        workload: what is loaded.
        settings: how.
        clock: brings the time.
        step_s: seconds of a step in full training, where known: a step whose growth would be no news is not repeated.

    Returns:
        None where the images cannot be loaded in this process: their decoder is another Pillow.

    Raises:
        DataError: a sample cannot be read.
        CandidateError: the settings failed.
    """
    if decoder(settings.decoder).misplaced() is not None:
        return None
    with _one_thread(), candidate():
        reader, subset = warm_reader(workload, settings)
        try:
            loaded = _loading(reader, workload.stream(subset=subset), clock)
        finally:
            reader.close()
    loading_s = loaded.wall_s * workload.batch_size
    if loading_s > LOADING_S or (step_s or 0.0) > LONGEST_STEP_S + loading_s:
        return loaded
    grown = step_growth(workload, settings, clock=clock)
    if grown is None:
        return loaded
    return replace(loaded, step_s=grown.step_s, step_growth=grown.growth, operators=grown.operators)


def step_growth(workload: Workload, settings: Settings, *, clock: Clock) -> Growth | None:
    """Return what twice the batch does to the time of a step on a resident batch.

    Returns:
        None on an accelerator, where the share of issuing tells the same; where a compiler would compile anew for the
        other batch; where a step or its operators are too long to be overhead; where the batch cannot be joined with
        itself.
    """
    if workload.device.type != "cpu" or settings.compile != Settings().compile:
        return None
    try:
        with candidate(), Rig(workload, replace(settings, workers=0)) as rig, rig.active():
            content = rig.transfer.finish(rig.move(resident_batches(rig, 1)[0]))
            return _growth(rig, content, clock)
    except CandidateError:
        return None


def _loading(reader: Reader, stream: Stream, clock: Clock) -> StageProfile:
    """Load by parts of a batch until there are enough images or the time is up."""
    stopwatch = Stopwatch(clock)
    reader.watch(stopwatch.over)
    reader[stream.part(0, 2)]  # imports and first touches
    stopwatch.reset()
    size, done, handed, started = min(FEWEST_IMAGES, stream.batch_size), 0, 0, clock.now()
    while done < MOST_IMAGES:
        batch = reader[stream.part(2 + done, size)]
        done += size
        if isinstance(batch, HostBatch):
            handed += sum(tensor.nbytes for tensor in tensors_in(batch.content))
        spent = clock.now() - started
        if spent >= LOADING_S and done >= FEWEST_IMAGES:
            break
        # From now on whole batches, as the collation is made for, where there is time for them.
        each = max(1e-6, spent / done)
        size = max(1, min(stream.batch_size, round((LOADING_S - spent) / 2 / each)))
    files = stopwatch.bytes / done if stopwatch.bytes else None
    return StageProfile(
        **stopwatch.per_image(done), images=done, handed_bytes=handed / done if handed else None, bytes_per_image=files
    )


def _growth(rig: Rig, content: Any, clock: Clock) -> Growth | None:
    double = _joined(content)

    def seconds(what: Any) -> float:
        started = clock.now()
        rig.step(what)
        return clock.now() - started

    rig.step(content)
    step_s = seconds(content)
    if step_s > LONGEST_STEP_S:
        return None
    step_s = min(step_s, seconds(content), seconds(content))
    with _Operators() as operators:
        rig.step(content)
    if step_s > LONGEST_OPERATOR_S * max(1, operators.count):
        return None
    rig.step(double)
    single_s: list[float] = []
    double_s: list[float] = []
    started = clock.now()
    while len(single_s) < MOST_ROUNDS and (len(single_s) < FEWEST_ROUNDS or clock.now() - started < GROWTH_S):
        single_s.append(seconds(content))
        double_s.append(seconds(double))
    return Growth(step_s=min(single_s), double_s=min(double_s), operators=operators.count)


class _Operators(TorchDispatchMode):
    """Counts the operators that run within it, those of the backward pass included."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        self.count += 1
        return func(*args, **(kwargs or {}))


def _joined(content: Any) -> Any:
    """Return a batch followed by itself: every tensor twice along its first dimension.

    Raises:
        CandidateError: there is something in it that is neither a tensor nor a container of such.
    """
    if isinstance(content, torch.Tensor):
        if content.ndim == 0:
            raise CandidateError("a number in the batch cannot be doubled")
        return torch.cat([content, content])
    if isinstance(content, dict):
        return {key: _joined(entry) for key, entry in content.items()}
    if isinstance(content, tuple) and hasattr(content, "_fields"):
        return type(content)(*(_joined(entry) for entry in content))
    if isinstance(content, tuple | list):
        return type(content)(_joined(entry) for entry in content)
    if isinstance(content, float):
        return content  # the share by which labels are mixed
    raise CandidateError(f"{type(content).__name__} in the batch cannot be doubled")


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a worker
    try:
        yield
    finally:
        torch.set_num_threads(threads)
