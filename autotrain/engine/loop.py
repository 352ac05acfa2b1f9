"""The main loop: the plan's settings, a learning rate that moves every step, and nothing else on the hot path."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter

import torch

from autotrain.engine.evaluate import evaluate
from autotrain.engine.events import EpochDone, EpochRecord, FitEnded, FitObserver, FitStarted, StepDone, silent
from autotrain.engine.rig import Rig
from autotrain.errors import CandidateError, TaskError
from autotrain.schedules.time import Unit, to_steps
from autotrain.settings import Settings
from autotrain.workload import Workload

TELL_S = 0.25
"""Seconds between two reports of progress; each one waits for the device."""

FINE = 1_000_000
"""Steps that a training by wall-clock is cut into for its schedule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What a training came to."""

    history: tuple[EpochRecord, ...]
    steps: int
    seconds: float
    interrupted: bool


@dataclass(slots=True)
class _Tally:
    """Sums since some moment; the loss stays on the device."""

    loss: torch.Tensor
    started: float
    steps: int = 0
    images: int = 0
    wait_s: float = 0.0

    def add(self, loss: torch.Tensor, images: int, wait_s: float) -> None:
        self.loss += loss
        self.steps += 1
        self.images += images
        self.wait_s += wait_s


class Course:
    """How far a training is and what its learning rate is there: by steps, or by wall-clock."""

    def __init__(self, workload: Workload) -> None:
        self.schedule = workload.schedule
        self.steps_per_epoch = workload.stream().steps_per_epoch
        self.total_steps: int | None = None
        self.total_s: float | None = None
        duration = workload.duration
        if duration.unit is Unit.SECOND:
            self.total_s = duration.value
        else:
            self.total_steps = to_steps(duration, steps_per_epoch=self.steps_per_epoch, batch_size=workload.batch_size)

    def progress(self, step: int, elapsed_s: float) -> float:
        """Return the share that is done, 0 to 1."""
        if self.total_s is not None:
            return min(1.0, elapsed_s / self.total_s)
        assert self.total_steps is not None
        return step / self.total_steps

    def factor(self, step: int, elapsed_s: float) -> float:
        """Return what the base learning rate is multiplied by."""
        if self.total_s is not None:
            return self.schedule.factor(int(FINE * self.progress(step, elapsed_s)), FINE, FINE)
        assert self.total_steps is not None
        return self.schedule.factor(step, self.total_steps, self.steps_per_epoch)

    def ended(self, step: int, elapsed_s: float) -> bool:
        """Tell whether no further step is to be taken."""
        return self.progress(step, elapsed_s) >= 1.0


def train(
    workload: Workload,
    settings: Settings,
    *,
    observer: FitObserver = silent,
    clip_norm: float | None = None,
) -> Trained:
    """Train the user's model under the settings; an interrupt ends it early and says so in the result.

    Raises:
        TaskError: model, labels or loss do not fit, or the training diverged at its first steps.
    """
    course = Course(workload)
    with Rig(workload, settings, borrow=False, stop=course.total_steps, clip_norm=clip_norm) as rig, rig.active():
        base_lrs = [group["lr"] for group in rig.optimizer.param_groups]
        try:
            return _Run(rig, course, observer).run()
        except RuntimeError as problem:
            if "DataLoader worker" in str(problem):  # raised by torch wherever the training happens to be
                raise CandidateError(
                    f"{str(problem).splitlines()[0]} A loader process was killed, by the system where memory is short: "
                    "take fewer workers"
                ) from problem
            raise
        finally:
            for group, lr in zip(rig.optimizer.param_groups, base_lrs, strict=True):
                group["lr"] = lr


class _Run:
    """One training from its first step to its last."""

    def __init__(self, rig: Rig, course: Course, observer: FitObserver) -> None:
        self.rig, self.course, self.observer = rig, course, observer
        self.base_lrs = [float(group["lr"]) for group in rig.optimizer.param_groups]
        self.history: list[EpochRecord] = []
        self.step = 0
        self.started = perf_counter()
        self.lr = self.base_lrs[0]

    def run(self) -> Trained:
        """Train to the end."""
        validation = self.rig.workload.validation
        self.observer(
            FitStarted(
                settings=self.rig.settings,
                steps_per_epoch=self.course.steps_per_epoch,
                total_steps=self.course.total_steps,
                total_s=self.course.total_s,
                images=self.course.steps_per_epoch * self.rig.workload.batch_size,
                validation_images=len(validation) if validation is not None else 0,
            )
        )
        interrupted = False
        try:
            while not self.course.ended(self.step, self.elapsed_s):
                self._epoch()
        except KeyboardInterrupt:
            interrupted = True
        self.observer(FitEnded(seconds=self.elapsed_s, interrupted=interrupted))
        return Trained(history=tuple(self.history), steps=self.step, seconds=self.elapsed_s, interrupted=interrupted)

    @property
    def elapsed_s(self) -> float:
        """Seconds since training began."""
        return perf_counter() - self.started

    def _epoch(self) -> None:
        epoch, recent = self._tally(), self._tally()
        per_epoch = self.course.steps_per_epoch
        while True:
            loss, images, wait_s = self._step()
            epoch.add(loss, images, wait_s)
            recent.add(loss, images, wait_s)
            ended = self.course.ended(self.step, self.elapsed_s)
            if perf_counter() - recent.started >= TELL_S or self.step == 1:
                self._tell(recent, float(loss))
                recent = self._tally()
            if self.step % per_epoch == 0 or ended:
                break
        mean_loss = float(epoch.loss) / epoch.steps
        seconds = perf_counter() - epoch.started
        self._close_epoch(epoch, mean_loss, seconds)

    def _step(self) -> tuple[torch.Tensor, int, float]:
        rig, started = self.rig, perf_counter()
        batch = rig.input.next()
        wait_s = perf_counter() - started
        factor = self.course.factor(self.step, self.elapsed_s)
        for group, base in zip(rig.optimizer.param_groups, self.base_lrs, strict=True):
            group["lr"] = base * factor
        self.lr = self.base_lrs[0] * factor
        if self.step == 0:
            rig.check(batch)
        loss = rig.train(rig.move(batch))
        self.step += 1
        return loss, batch.count, wait_s

    def _tally(self) -> _Tally:
        return _Tally(torch.zeros((), device=self.rig.device), perf_counter())

    def _tell(self, recent: _Tally, loss: float) -> None:
        seconds = perf_counter() - recent.started
        if self.step == 1 and loss != loss:
            raise TaskError("the loss of the first step is not a number: check the images' values and the loss")
        self.observer(
            StepDone(
                step=self.step,
                epoch=(self.step - 1) // self.course.steps_per_epoch + 1,
                progress=self.course.progress(self.step, self.elapsed_s),
                loss=loss,
                lr=self.lr,
                images_per_s=recent.images / seconds,
                wait_share=min(1.0, recent.wait_s / seconds),
            )
        )

    def _close_epoch(self, epoch: _Tally, mean_loss: float, seconds: float) -> None:
        started = perf_counter()
        score = evaluate(self.rig) if self.rig.workload.validation is not None else None
        record = EpochRecord(
            epoch=(self.step - 1) // self.course.steps_per_epoch + 1,
            step=self.step,
            images=epoch.images,
            seconds=seconds,
            wait_s=epoch.wait_s,
            loss=mean_loss,
            lr=self.lr,
            validation_s=perf_counter() - started if score else None,
            validation_loss=score.loss if score else None,
            accuracy=score.accuracy if score else None,
        )
        self.history.append(record)
        self.observer(EpochDone(record=record))
