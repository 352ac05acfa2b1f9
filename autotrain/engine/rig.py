"""The rig: the live objects for a workload and settings. The one place that makes a description live."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from time import perf_counter
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import nn
from torch.optim import Optimizer

from autotrain.cache.cache import Cache
from autotrain.data.batch import HostBatch
from autotrain.data.caching import WarmSet, open_cache
from autotrain.data.interrupt import uninterrupted
from autotrain.data.loader import HANG_S, Loader, LoaderOptions
from autotrain.data.reader import Reader
from autotrain.data.stream import Ticket, seeded
from autotrain.data.transfer import DeviceBatch, Transfer
from autotrain.engine.compiled import Compiled, failure_of_compiler
from autotrain.engine.heap import kept_heap
from autotrain.engine.lease import (
    ModelLease,
    OptimizerLease,
    lay_out_state,
    move_state,
    restore_kernel,
    restore_strides,
)
from autotrain.engine.micro_batches import split
from autotrain.engine.parallel import own_group, tell_of_statistics, waited
from autotrain.engine.restore import seed_everything, untouched
from autotrain.engine.sharded import collect, sharded_copy
from autotrain.engine.step import Step, check_loss, ran_out
from autotrain.errors import CandidateError, TaskError
from autotrain.knobs.gradients import FULL
from autotrain.knobs.registry import KNOBS
from autotrain.settings import Settings
from autotrain.team import loss_of_ranks
from autotrain.workload import Workload, check_fit

log = logging.getLogger(__name__)

FILL_S = 4.0
"""Seconds after which a cache that is filled for measuring is large enough, however few samples it holds."""

FILL_PART = 32
"""Samples that are read at once to fill it."""


def make_reader(workload: Workload, settings: Settings, cache: Cache | None = None) -> Reader:
    """Return the reader of a workload under settings, with or without a cache."""
    options: dict[str, Any] = {}
    for knob in KNOBS:
        knob.reader_options(getattr(settings, knob.name), options)
    return Reader(workload.source, workload.recipe(settings.augmentation), cache=cache, **options)


def loader_options(settings: Settings, *, hang_s: float = HANG_S) -> LoaderOptions:
    """Return how a loader runs under settings."""
    options: dict[str, Any] = {"hang_s": hang_s}
    for knob in KNOBS:
        knob.loader_options(getattr(settings, knob.name), options)
    return LoaderOptions(**options)


def make_transfer(workload: Workload, settings: Settings) -> Transfer:
    """Return the way to the workload's device under settings."""
    options: dict[str, Any] = {}
    for knob in KNOBS:
        knob.transfer_options(getattr(settings, knob.name), options)
    suffix = workload.pipeline.suffix if workload.pipeline is not None else None
    return Transfer(
        workload.device,
        mean=workload.mean,
        std=workload.std,
        image_size=workload.image_size,
        fill=workload.fill,
        erased_values=suffix.fill if suffix is not None else (),
        **options,
    )


def warm_reader(workload: Workload, settings: Settings) -> tuple[Reader, NDArray[np.int64] | None]:
    """Return a reader for measuring, and the samples in its cache where it has one, filled."""
    if settings.cache == Settings().cache or workload.cache_problem is not None:
        return make_reader(workload, settings), None
    assert workload.warm is not None
    warm = workload.warm.open(settings.cache, workload.content(settings))
    reader = make_reader(workload, settings, warm.cache)
    if not warm.filled:
        _fill(reader, warm)
    return reader, warm.indices


def _fill(reader: Reader, warm: WarmSet) -> None:
    started = perf_counter()
    places = np.arange(len(warm.indices), dtype=np.int64)
    done = 0
    while done < len(places) and (not done or perf_counter() - started < FILL_S):
        part = places[done : done + FILL_PART]
        reader[Ticket(step=0, epoch=0, positions=part, indices=warm.indices[part])]
        done += len(part)
    warm.indices, warm.filled = warm.indices[:done], True


class InputSide:
    """The live input path: reader and loader of a workload under settings.

    While a probe measures, a cache is a filled one of a part of the samples, and the stream is made of those.
    """

    def __init__(
        self,
        workload: Workload,
        settings: Settings,
        *,
        start: int = 0,
        stop: int | None = None,
        hang_s: float = HANG_S,
    ) -> None:
        self.options = loader_options(settings, hang_s=hang_s)
        self._cache: Cache | None = None
        subset = None
        if workload.warm is not None:
            reader, subset = warm_reader(workload, settings)
        else:
            if workload.cache_problem is None:
                self._cache = open_cache(settings.cache, workload.content(settings), workload.cache_dir)
            reader = make_reader(workload, settings, self._cache)
        self._reader, self._stream = reader, workload.stream(subset=subset)
        try:
            self.loader = Loader(reader, self._stream, self.options, start=start, stop=stop)
        except BaseException:
            self._close_cache()
            raise

    def restart(self, settings: Settings, *, start: int, stop: int | None, hang_s: float) -> None:
        """Go on at a step with a loader under other settings that concern nothing but the loader."""
        self.loader.close()
        self.options = loader_options(settings, hang_s=hang_s)
        self.loader = Loader(self._reader, self._stream, self.options, start=start, stop=stop)

    @property
    def stock(self) -> int:
        """Batches that may lie ready: workers times prefetch."""
        return self.options.workers * self.options.prefetch

    def next(self) -> HostBatch:
        """Return the next batch in host memory.

        Raises:
            StopIteration: the stream has ended.
        """
        return next(self.loader)

    def close(self) -> None:
        """End the workers, and let go of decoder and cache."""
        self.loader.close()
        self._reader.close()
        self._close_cache()

    def _close_cache(self) -> None:
        if self._cache is not None:
            self._cache.close()
            self._cache = None


class Rig:
    """Model, optimizer, step and transfer of a workload under settings; entered, it also holds the loader.

    Args:
        workload: what to train.
        settings: how.
        borrow: train on copies of the model's tensors and give the user's back on exit; False trains the user's own.
        start: first step of the stream.
        stop: step after the last one; None goes on without end.
        clip_norm: largest norm of the gradient.

    Within ``with rig.active():`` the model holds the rig's tensors and the process has the rig's flags; several rigs
    can live side by side, one active at a time.
    """

    def __init__(
        self,
        workload: Workload,
        settings: Settings,
        *,
        borrow: bool = True,
        start: int = 0,
        stop: int | None = None,
        clip_norm: float | None = None,
    ) -> None:
        self.workload = workload
        self.settings = settings
        self.device = workload.device
        self.startup_s = 0.0
        self._borrow = borrow
        self._range = start, stop
        self._clip_norm = clip_norm
        self._stack = ExitStack()
        self._input: InputSide | None = None
        self._step: Step | None = None
        self._transfer: Transfer | None = None
        self._model_lease: ModelLease | None = None
        self._optimizer_lease: OptimizerLease | None = None
        self._compiled: Compiled | None = None
        self._group: dist.ProcessGroup | None = None
        self.sharded = settings.sharding == FULL and not workload.team.alone
        """Whether the live model is a copy of the user's that lies in parts on the ranks."""

    def __enter__(self) -> Rig:
        started = perf_counter()
        try:
            self._build_compute()
        except BaseException:
            self.__exit__()
            raise
        self.startup_s = perf_counter() - started
        return self

    def __exit__(self, *exc: object) -> None:
        if self._input is not None:
            self._input.close()
            self._input = None
        self._stack.close()
        if self._step is not None:
            self._step.close()
        self._step = self._transfer = self._group = None
        self._model_lease = self._optimizer_lease = self._compiled = None
        if self.sharded:
            gc.collect()  # what lies in parts refers to itself by torch's hooks
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    @property
    def input(self) -> InputSide:
        """The live input path, started when first asked for."""
        if self._input is None:
            start, stop = self._range
            hang_s = HANG_S if self._borrow else 0.0  # storage may stall a training, a candidate may not hang
            self._input = InputSide(self.workload, self.settings, start=start, stop=stop, hang_s=hang_s)
        return self._input

    def reload(self, settings: Settings, *, start: int, hang_s: float = 0.0) -> None:
        """Go on at a step with a loader under other settings; those may differ in workers and prefetch only.

        A worker that gives nothing for ``hang_s`` seconds is then taken to hang; 0 waits for ever.
        """
        self.input.restart(settings, start=start, stop=self._range[1], hang_s=hang_s)
        self.settings = settings

    @property
    def step(self) -> Step:
        """The training step."""
        assert self._step is not None, "the rig is not entered"
        return self._step

    @property
    def optimizer(self) -> Optimizer:
        """The live optimizer."""
        return self.step.optimizer

    @property
    def compiled(self) -> bool:
        """Whether a compiler is at work in the first step."""
        return self._compiled is not None

    @property
    def transfer(self) -> Transfer:
        """The way to the device."""
        assert self._transfer is not None, "the rig is not entered"
        return self._transfer

    @contextmanager
    def active(self) -> Iterator[Rig]:
        """Have the model hold this rig's tensors and the process this rig's flags; both are put back on leaving.

        Raises:
            CandidateError: another rank has failed, and this one has waited for it in vain.
        """
        with ExitStack() as stack:
            stack.enter_context(untouched(self.device))
            stack.enter_context(kept_heap(self.device))
            for knob in KNOBS:
                stack.enter_context(knob.flags(getattr(self.settings, knob.name)))
            if self._compiled is not None:
                stack.enter_context(self._compiled.files())
            for lease in (self._model_lease, self._optimizer_lease):
                if lease is not None:
                    with uninterrupted():
                        lease.lend()
                        stack.callback(_take_back, lease)
            torch.set_grad_enabled(True)
            seed_everything(self.workload.rank_seed, self.device)
            try:
                yield self
            except RuntimeError as problem:
                if self._group is None or not loss_of_ranks(problem):
                    raise
                raise waited(self.workload.team, problem) from problem

    def images(self, batch: HostBatch | DeviceBatch) -> int:
        """Return the images of a batch, of all ranks together."""
        return batch.count if self.workload.team.alone else self.workload.batch_size

    def move(self, batch: HostBatch) -> DeviceBatch:
        """Copy a batch to the device.

        Raises:
            CandidateError: memory ran out.
        """
        try:
            return self.transfer.move(batch)
        except RuntimeError as problem:
            if ran_out(problem):
                raise CandidateError(f"out of memory on {self.device}") from problem
            raise

    def train(self, batch: DeviceBatch, *, parts: int = 1) -> torch.Tensor:
        """Finish a batch on the device and take one optimizer step with it; return the loss, still on the device.

        Args:
            batch: as ``move`` returned it.
            parts: train on the first of so many parts of the batch, the rest is thrown away; 1 for all of it.

        Raises:
            CandidateError: memory ran out.
        """
        try:
            content = self.transfer.finish(batch)
            loss = self.step(content if parts == 1 else split(content, parts)[0][0])
            if self._compiled is not None:
                self._compiled.rest()
            return loss
        except IndexError as problem:
            if "out of bounds" in str(problem):  # torch's words, on a CPU, for a label that is no class of the model's
                raise TaskError(
                    f"step {batch.step}: a label does not fit the model's outputs ({problem}). "
                    "Give the model as many outputs as there are classes, or mend the labels"
                ) from problem
            raise
        except RuntimeError as problem:
            if ran_out(problem):
                where = " in the update, which cannot be done again" if self.step.updating else ""
                raise CandidateError(f"out of memory on {self.device}{where}") from problem
            if self.compiled and (words := failure_of_compiler(problem)):
                raise CandidateError(words) from problem
            raise

    def check(self, batch: HostBatch) -> None:
        """Run model and loss once on a batch and check that all fits; the rig must be active.

        Memory that runs out is left to the training of the batch, which can do something about it.

        Raises:
            TaskError: the model raised, or outputs and labels do not fit.
        """
        try:
            content = self.transfer.finish(self.transfer.move(batch))
            if self.workload.task.step is not None:
                if self._borrow:  # in training mode, which moves the statistics of a model that is not borrowed
                    self._try("step", lambda: self.step.loss(content), content)
                return
            parts = self.step.parts
            for part in [content] if parts == 1 else [part for part, _ in split(content, parts)]:
                self._check_part(part)
        except RuntimeError as problem:
            if not ran_out(problem):
                raise
            log.info("the first batch is not checked: out of memory on %s", self.device)

    def _check_part(self, content: Any) -> None:
        self.step.model.eval()
        try:
            with seeded(), torch.no_grad(), self.step.context():
                outputs = self._try("model", lambda: self.step.model(content[0]), content)
                check_fit(self.workload, outputs, content[1])
                check_loss(self._try("loss", lambda: self.workload.loss_of(outputs, content[1]), content))
        finally:
            self.step.model.train()

    def _try(self, what: str, call: Any, content: Any) -> Any:
        try:
            return call()
        except TaskError:
            raise
        except Exception as problem:
            if ran_out(problem) or loss_of_ranks(problem):
                raise
            images = content[0] if isinstance(content, tuple | list) and content else content
            shape = f" on images of shape {tuple(images.shape)}" if isinstance(images, torch.Tensor) else ""
            line = str(problem).strip().splitlines() or [type(problem).__name__]
            raise TaskError(
                f"the {what} raised {type(problem).__name__}{shape}: {line[0]}. "
                "Check that the model takes such images and the loss such labels"
            ) from problem

    def _build_compute(self) -> None:
        workload, settings, device = self.workload, self.settings, self.device
        model = workload.model
        restore: Any = None
        if self._borrow:
            self._group = own_group(workload.team, device)
            if self._group is not None:
                self._stack.callback(dist.destroy_process_group, self._group)
        elif not workload.team.alone:
            tell_of_statistics(workload, parts=settings.micro_batches)
        if self.sharded:
            model = self._sharded_copy()
        elif self._borrow:
            self._model_lease = ModelLease(model, device)
            self._model_lease.lend()
            self._stack.callback(self._model_lease.end)
        else:
            model.to(device)
            model.train()
            model.zero_grad(set_to_none=True)  # the first step must not add to gradients of the user's
            restore = restore_strides(model)
            self._stack.callback(restore)
        for knob in () if self.sharded else KNOBS:  # parts have a layout of their own
            knob.model(model, getattr(settings, knob.name))
        optimizer = workload.make_optimizer([entry for entry in model.parameters() if entry.requires_grad])
        if self.sharded:
            self._set_optimizer(optimizer)
        elif not self._borrow:
            move_state(optimizer, device)
            self._stack.callback(lay_out_state, optimizer)
            self._stack.callback(restore)  # callbacks run backwards: the parameters first, their state after them
            self._stack.callback(restore_kernel(optimizer))
            self._set_optimizer(optimizer)
        self._step = self._make_step(model, optimizer)
        self._transfer = make_transfer(workload, settings)
        if self._model_lease is not None:
            self._model_lease.take_back()
            if optimizer is workload.task.optimizer:
                self._optimizer_lease = OptimizerLease(optimizer, device)
                self._optimizer_lease.lend()
                try:
                    self._set_optimizer(optimizer)
                finally:
                    self._optimizer_lease.take_back()
            else:
                self._set_optimizer(optimizer)

    def _set_optimizer(self, optimizer: Optimizer) -> None:
        for knob in KNOBS:
            knob.optimizer(optimizer, getattr(self.settings, knob.name))

    def _sharded_copy(self) -> nn.Module:
        compressed = self.settings.gradient_precision != Settings().gradient_precision
        workload = self.workload
        return sharded_copy(workload.model, workload.team, self.device, compressed=compressed, group=self._group)

    def collect(self) -> None:
        """Write what a sharded training came to into the user's model; all ranks do it together."""
        if self.sharded:
            collect(self.step.model, self.workload.model)

    def _make_step(self, model: nn.Module, optimizer: Optimizer) -> Step:
        contexts, scalers = [], []
        options: dict[str, Any] = {}
        compiler_options: dict[str, Any] = {}
        parallel: dict[str, Any] = {"group": self._group}
        for knob in KNOBS:
            value = getattr(self.settings, knob.name)
            knob.step_options(value, options)
            knob.compiler_options(value, compiler_options)
            knob.parallel_options(value, parallel)
            contexts.append(knob.step_context(value, self.device))
            scalers.append(knob.scaler(value, self.device))
        if compiler_options:
            self._compiled = Compiled(model, own_files=self._borrow, **compiler_options)
            self._stack.callback(self._compiled.close)
        return Step(
            self.workload,
            model,
            optimizer,
            contexts=[make for make in contexts if make is not None],
            scaler=next((scaler for scaler in scalers if scaler is not None), None),
            clip_norm=self._clip_norm,
            forward=self._compiled,
            parallel=parallel,
            **options,
        )


def _take_back(lease: ModelLease | OptimizerLease) -> None:
    with uninterrupted():
        lease.take_back()
