"""The main loop: the plan's settings, a learning rate that moves every step, and nothing else on the hot path."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from torch import nn

from autotrain.data.batch import HostBatch
from autotrain.engine.adapt import Adapter
from autotrain.engine.average import Average
from autotrain.engine.course import Course
from autotrain.engine.evaluate import Score, check_metrics, evaluate
from autotrain.engine.events import (
    CheckpointFailed,
    CheckpointSaved,
    EpochDone,
    EpochRecord,
    FitEnded,
    FitObserver,
    FitStarted,
    Halved,
    Resumed,
    StepDone,
    silent,
)
from autotrain.engine.held_out import HeldOut
from autotrain.engine.keeper import Found, Keeper
from autotrain.engine.pulse import Pulse
from autotrain.engine.rig import Rig
from autotrain.engine.signals import Signals
from autotrain.engine.state import bring_back, bring_back_average, bring_back_random, first_not_finite, live_state
from autotrain.engine.tally import Tally
from autotrain.engine.watch import Watch
from autotrain.errors import CandidateError, TaskError, first_line
from autotrain.hardware.gpu import gpu_of
from autotrain.hardware.machine import machine_facts
from autotrain.knobs.micro_batches import has_batch_statistics, indivisible
from autotrain.settings import Settings
from autotrain.stats.summary import Estimate
from autotrain.team import loss_of_ranks
from autotrain.training import Training
from autotrain.workload import Workload

log = logging.getLogger(__name__)

OUT_OF_MEMORY = "out of memory"

PLACES = 48
"""How many learning rates stand for the whole schedule when training begins."""

TELL_S = 0.25
"""Seconds between two reports of progress; each one waits for the device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What a training came to."""

    history: tuple[EpochRecord, ...]
    steps: int
    seconds: float
    """Wall-clock of the training, earlier runs that it went on from included."""

    interrupted: bool
    signal: int | None = None
    """Number of the signal that ended it early."""

    ema: nn.Module | None = None
    """The moving average of the model, where one was asked for."""

    unsaved: str | None = None
    """Why the training is not kept up to its end; None where it is, or where none was to be kept."""


def train(
    workload: Workload,
    settings: Settings,
    *,
    observer: FitObserver = silent,
    training: Training = Training(),
    found: Found | None = None,
    facts: Mapping[str, Any] | None = None,
    expected: Estimate | None = None,
) -> Trained:
    """Train the user's model under the settings; an interrupt ends it early and says so in the result.

    Args:
        workload: what to train.
        settings: how.
        observer: is told of every event.
        training: what is kept of it.
        found: the checkpoint that it goes on from.
        facts: plain values that go into every checkpoint, such as the plan.
        expected: images/s that it is expected to run at.

    Raises:
        TaskError: model, labels or loss do not fit, or the training diverged at its first steps.
        CheckpointError: the folder for checkpoints cannot be used, or the one to go on from does not fit.
    """
    begun = perf_counter()  # a bell does not wait for the model to move and the loader to start
    course = Course(workload)
    start = 0 if found is None else int(found.contents["step"])
    with ExitStack() as stack:
        rig = stack.enter_context(
            Rig(workload, settings, borrow=False, start=start, stop=course.total_steps, clip_norm=training.clip_norm)
        )
        stack.enter_context(rig.active())
        base_lrs = [group["lr"] for group in rig.optimizer.param_groups]
        stack.callback(_set_lrs, rig, base_lrs)
        keeper = None
        if training.folder is not None:
            facts = {"settings": settings.as_dict(), **(facts or {})}
            keeper = workload.team.together(lambda: _keeper(training, workload, facts))
            if keeper is not None:
                stack.callback(keeper.close)
        signals = stack.enter_context(Signals(terminate=training.folder is not None))
        run = _Run(rig, course, observer, keeper, signals, training, expected=expected, begun=begun)
        if found is not None:
            run.go_on(found)
        return run.run()


def _keeper(training: Training, workload: Workload, facts: dict[str, Any]) -> Keeper | None:
    """Return what writes the checkpoints; of several ranks the first one does."""
    return Keeper(training, workload, facts=facts) if workload.team.leads else None


def _set_lrs(rig: Rig, lrs: list[Any]) -> None:
    for group, lr in zip(rig.optimizer.param_groups, lrs, strict=True):
        group["lr"] = lr


class _Run:
    """One training from its first step to its last."""

    def __init__(
        self,
        rig: Rig,
        course: Course,
        observer: FitObserver,
        keeper: Keeper | None,
        signals: Signals,
        training: Training = Training(),
        *,
        expected: Estimate | None = None,
        begun: float | None = None,
    ) -> None:
        self.rig, self.course, self.observer = rig, course, observer
        self.keeper, self.signals = keeper, signals
        self.team = rig.workload.team
        self.pulse = Pulse(self.team)
        self.keeps = training.folder is not None
        self.signal = 0
        """Number of the signal that ends the training, on whichever rank it came."""

        self.agreed_s: float | None = None
        """Seconds of training so far, where several ranks have to agree on them."""
        self.base_lrs = [float(group["lr"]) for group in rig.optimizer.param_groups]
        self.history: list[EpochRecord] = []
        self.step = 0
        self.earlier_s = 0.0
        self.started = perf_counter() if begun is None else begun
        self.lr = self.base_lrs[0]
        self.whole = True
        """Whether no step is under way: what is live then can be gone on from."""

        self.unclosed = False
        """Whether a signal came before the last epoch was evaluated."""

        self.checked = False
        """Whether the first batch of this process was looked at."""

        self.announced = False
        """Whether several ranks have been told that a checkpoint is due after the step that is under way."""

        self.watch = Watch(expected, gpu=gpu_of(rig.device), beside=rig.workload.team.neighbours)
        fills = rig.settings.cache != Settings().cache  # the first epoch, which fills it, is slower
        self.unwatched = course.steps_per_epoch if fills else 1 + rig.settings.workers * rig.settings.prefetch
        """Steps at the begin of a process that say nothing of its pace."""

        self.watched_from = self.unwatched
        self.mark = perf_counter()
        """When the last step was over, or the end of an epoch."""
        machine = machine_facts()
        if training.adapt and not self.team.alone:
            log.warning("adapt: not with several processes, whose steps wait for each other")
        self.adapter = Adapter(rig, machine) if training.adapt and self.team.alone else None
        self.held_out = None if rig.workload.validation is None else HeldOut(rig, machine)
        self.training = training
        self.ema: Average | None = None
        if training.ema is not None:
            if rig.sharded:
                raise TaskError("ema: not with sharding = full; train without it, or with whole copies of the model")
            self.ema = Average(rig.step.model, training.ema)
        self.epoch = self._tally()
        self.resumed: Resumed | None = None
        if keeper is not None:
            keeper.begin(0, 0.0, None)

    def go_on(self, found: Found) -> None:
        """Take up what a checkpoint holds."""
        contents = found.contents
        bring_back(self.rig, contents, where=str(found.path))
        if self.team.world.rank:
            bring_back_random(self.rig, contents, rank=self.team.world.rank, ranks=self.team.world.world_size)
        if self.ema is not None:
            bring_back_average(self.ema, contents["ema"], where=str(found.path))
        self.step, self.earlier_s = contents["step"], contents["elapsed_s"]
        self.lr = contents.get("lr", self.lr)
        planned = contents.get("settings", {}).get("micro_batches", 1)
        if contents["parts"] > planned:  # memory ran out then; else what the plan says holds
            self.rig.step.parts = max(self.rig.step.parts, contents["parts"])
        self.course.go_on(contents["trained_s"], contents["progress"], contents.get("pause_s"))
        self.history = [EpochRecord(**record) for record in contents["history"]]
        sums = dict(contents["epoch"])
        mean, losses = sums.pop("loss"), contents.get("losses", [])
        if len(losses) == self.team.world.world_size:  # a sum of means would be rounded otherwise than the mean of sums
            mean = losses[self.team.world.rank]
        self.epoch = Tally(mean.to(self.rig.device), perf_counter() - sums.pop("seconds"), **sums)
        if self.keeper is not None:
            self.keeper.begin(self.step, self.earlier_s, contents["best"])
        self.watched_from = self.step + self.unwatched
        self.resumed = Resumed(step=self.step, path=found.path)
        contents.clear()  # as large as the training itself, and of no more use

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
                lrs=tuple(self.base_lrs[0] * factor for factor in self.course.shape(PLACES)),
            )
        )
        if self.resumed is not None:
            self.observer(self.resumed)
        interrupted = False
        if not self.team.alone:
            self.pulse.start(self.live_s, due=self._due(self.step + 1))
            self.agreed_s = self.team.first(self.live_s)
        try:
            interrupted = not self._epochs()
        except KeyboardInterrupt:
            interrupted = True
            self.signal = self.signals.number or 0
            if self.signals.number is None and self.team.alone:  # nobody is in a hurry: a callback wants it to end
                self._keep_rest()
        except Exception as problem:
            self._failed(problem)
            interrupted = True
        else:
            self.pulse.rest()
            self._keep_end()
        self._settle()
        self.rig.collect()
        self.observer(FitEnded(seconds=self.elapsed_s, interrupted=interrupted))
        return Trained(
            history=tuple(self.history),
            steps=self.step,
            seconds=self.elapsed_s,
            interrupted=interrupted,
            signal=(self.signal or None) if interrupted else None,
            ema=None if self.ema is None else self.ema.module,
            unsaved=None if self.keeper is None else self.keeper.unsaved,
        )

    def _epochs(self) -> bool:
        """Train to the end, or until a signal; return whether it is the end."""
        ended = self.course.ended(self.step, self.elapsed_s)
        if self.epoch.steps and (ended or self.step % self.course.steps_per_epoch == 0):
            self._close_epoch()  # an earlier run was ended before it could
            ended = ended or self.course.ended(self.step, self.elapsed_s)
        self.mark = perf_counter()
        while not ended and not self._told():
            ended = self._epoch()
        return ended and not self.unclosed

    def _failed(self, problem: Exception) -> None:
        """Keep what can be kept of a training that something has ended; raise that, unless a signal is behind it.

        Raises:
            CandidateError: other ranks are gone.
        """
        if not self.team.alone:
            if not isinstance(problem, RuntimeError | CandidateError) or not loss_of_ranks(problem):
                raise problem
            raise CandidateError(
                f"step {self.step}: other processes are gone or do not answer ({first_line(problem)}). Start all "
                "again; with checkpoints and resume='auto' they go on from the last one"
            ) from problem
        if not isinstance(problem, TaskError):  # which is about what is trained: nobody wants to go on with that
            self._keep_rest()
        if self.signals.number is None or not isinstance(problem, RuntimeError | CandidateError):
            raise problem
        self.signal = self.signals.number  # it went to the workers too, and killed them

    @property
    def elapsed_s(self) -> float:
        """Seconds of training so far, the same on all ranks."""
        return self.live_s if self.agreed_s is None else self.agreed_s

    @property
    def live_s(self) -> float:
        """Seconds of training so far, by this process's clock."""
        return self.earlier_s + perf_counter() - self.started

    def _epoch(self) -> bool:
        """Train to the end of the epoch, or until a signal; return whether the training has ended."""
        recent = self._tally()
        per_epoch = self.course.steps_per_epoch
        while not self._told():
            loss, images, wait_s, due = self._step()
            self.epoch.add(loss, images, wait_s)
            recent.add(loss, images, wait_s)
            ended = self.course.ended(self.step, self.elapsed_s)
            if perf_counter() - recent.started >= TELL_S or self.step == 1:
                self._tell(recent, float(loss))
                recent = self._tally()
            if self.step % per_epoch == 0 or ended:
                self._close_epoch()
                self.mark = perf_counter()
                return ended or self.course.ended(self.step, self.elapsed_s)
            if due:
                self._keep(best=False)
        return False

    def _told(self) -> bool:
        """Tell whether a signal ends the training; several ranks agree on that after a step."""
        if self.team.alone:
            self.signal = self.signals.number or 0
        return bool(self.signal)

    def _due(self, step: int) -> bool:
        """Tell whether a checkpoint is due after a step; of several ranks the first one knows."""
        return self.keeper is not None and self.keeper.due(step, self.live_s)

    def _step(self) -> tuple[torch.Tensor, int, float, bool]:
        rig, started = self.rig, perf_counter()
        batch = self._next()
        wait_s = perf_counter() - started
        factor = self.course.factor(self.step, self.elapsed_s)
        for group, base in zip(rig.optimizer.param_groups, self.base_lrs, strict=True):
            group["lr"] = base * factor
        self.lr = self.base_lrs[0] * factor
        if not self.checked:
            self._check(batch)
        self.whole = False
        loss = self._train(batch)
        if self.ema is not None:
            self.ema.update_parameters(rig.step.model)
        self.step += 1
        self.whole = True
        now = perf_counter()
        due = self._beat(now - self.mark)  # so what is told in between counts, and with it the wait for the device
        self.mark = now
        if self.adapter is not None:
            adapted = self.adapter.stepped(self.step, batch.count)
            if adapted is not None:
                self.observer(adapted)
        return loss, rig.images(batch), wait_s, due

    def _check(self, batch: HostBatch) -> None:
        """Find what does not fit together before a step is taken."""
        if self.step == 0:
            self.rig.check(batch)
        if self.held_out is not None:
            check_metrics(self.rig, self.held_out, self.training)
        self.checked = True

    def _beat(self, step_s: float) -> bool:
        """Agree with the other ranks, if any, on what follows from a step; return whether a checkpoint is due."""
        if self.team.alone:
            self.course.stepped(step_s)
            return self._due(self.step)
        by_time = self.keeper is not None and self.keeper.by_time
        due_next = self._due(self.step + 1) and not (by_time and self.announced)  # which is written only now
        self.announced = due_next
        beat = self.pulse.beat(self.live_s, step_s, signal=self.signals.number or 0, due_next=due_next)
        self.signal = beat.signal
        self.agreed_s = beat.elapsed_s
        if beat.step_s:
            self.course.stepped(beat.step_s)
        return beat.due

    def _next(self) -> HostBatch:
        """Return the next batch, from the loader of before where one that is only tried fails."""
        try:
            return self.rig.input.next()
        except CandidateError:
            if self.adapter is None or not self.adapter.retreat(self.step):
                raise
        return self.rig.input.next()

    def _train(self, batch: HostBatch) -> torch.Tensor:
        """Train on a batch, in halves where it does not fit into memory."""
        while True:
            try:
                return self.rig.train(self.rig.move(batch))
            except CandidateError as problem:
                words = str(problem)
                if OUT_OF_MEMORY not in words:
                    raise
                if not self.rig.step.repeatable:
                    raise CandidateError(f"step {self.step}: {words}. Take a smaller batch") from problem
            self._halve(words, batch.count)  # out of the handler, whose traceback holds on to what filled the memory

    def _halve(self, words: str, images: int) -> None:
        rig, parts = self.rig, 2 * self.rig.step.parts
        statistics = has_batch_statistics(rig.step.model)
        reason = indivisible(rig.workload)
        if self.training.halve is False or parts > images:
            raise CandidateError(f"step {self.step}: {words}. Take a smaller batch")
        if reason is not None:
            raise CandidateError(f"step {self.step}: {words}, and {reason}. Take a smaller batch")
        if statistics and not self.training.halve:
            raise CandidateError(
                f"step {self.step}: {words}. In halves the model's batch statistics would be those of smaller batches: "
                "allow that with halve=True, or take a smaller batch"
            )
        rig.step.again()
        if rig.device.type == "cuda":
            torch.cuda.empty_cache()
        rig.step.parts = parts
        self.observer(Halved(step=self.step, parts=parts, batch_statistics=statistics))

    def _tally(self) -> Tally:
        return Tally(torch.zeros((), device=self.rig.device), perf_counter())

    def _tell(self, recent: Tally, loss: float) -> None:
        seconds = perf_counter() - recent.started
        if self.step == 1 and loss != loss:
            raise TaskError("the loss of the first step is not a number: check the images' values and the loss")
        trying = self.adapter is not None and self.adapter.busy
        if self.step > self.watched_from and not trying:
            slow = self.watch.look(self.step, recent.images, seconds, recent.wait_s)
            if slow is not None:
                self.observer(slow)
                if self.adapter is not None:
                    self.adapter.ask()
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

    def _close_epoch(self) -> None:
        epoch = self.epoch
        if self.adapter is not None:
            self.adapter.hold()
        mean_loss = self._mean(epoch.loss) / epoch.steps
        started = perf_counter()
        seconds = started - epoch.started
        score = self._evaluate() if self.rig.workload.validation is not None else None
        if score is None and self.rig.workload.validation is not None:  # a signal came
            self.unclosed = True
            return
        record = EpochRecord(
            epoch=(self.step - 1) // self.course.steps_per_epoch + 1,
            step=self.step,
            images=epoch.images,
            seconds=seconds,
            wait_s=self.team.largest(epoch.wait_s),
            loss=mean_loss,
            lr=self.lr,
            validation_s=perf_counter() - started if score else None,
            validation_loss=score.loss if score else None,
            accuracy=score.accuracy if score else None,
            metrics=score.metrics if score else {},
        )
        self.history.append(record)
        self.epoch = self._tally()
        if self.agreed_s is not None:
            self.agreed_s = self.team.first(self.live_s)
        self.observer(EpochDone(record=record))
        if self.keeps:
            self._settle()  # what could not be written is not the best so far
            best = self.keeper is not None and self.keeper.is_best(record)
            wanted = self.team.gather(best, best or self._due(self.step))[0]
            if wanted[1]:
                self._keep(best=bool(wanted[0]))
        if self.adapter is not None:
            self.adapter.begin()
        rows = self.team.gather(perf_counter() - started, self.live_s)
        self.course.paused(max(pause_s for pause_s, _ in rows))
        if self.agreed_s is not None:
            self.agreed_s = rows[0][1]

    def _evaluate(self) -> Score | None:
        average = None if self.ema is None else self.ema.module
        told = self._told if self.keeps else None  # else nobody would go on with the evaluation
        return evaluate(self.rig, held_out=self.held_out, model=average, metrics=self.training.metrics, told=told)

    def _mean(self, loss: torch.Tensor) -> float:
        """Return the mean of a sum of losses over the ranks; each has weighed its own by its part of the batches."""
        return self.team.total(float(loss))[0] / self.team.world.world_size

    def _keep_rest(self) -> None:
        """Keep the training as it is, where no step is under way, and say nothing of what fails in that."""
        if not self.whole or not self.step:
            return
        try:
            self._keep_end()
        except Exception as problem:
            log.warning("step %d cannot be kept: %s", self.step, first_line(problem))

    def _keep(self, *, best: bool) -> None:
        self._settle()
        state = live_state(self.rig)
        ranks = self.team.everyone((state["random"], self.epoch.loss.cpu()))
        losses = [loss for _, loss in ranks]
        sums = {**self.epoch.as_dict(), "loss": torch.stack(losses).mean()}
        if self.keeper is None:
            return
        lost = first_not_finite(self.rig.step.model, state["model"])
        if lost is not None:
            reason = f"step {self.step}: '{lost}' has weights that are no finite numbers, so no checkpoint is written"
            if self.keeper.refuse(reason, elapsed_s=self.elapsed_s):
                self.observer(CheckpointFailed(reason=reason))
            return
        contents = {
            **state,
            "others": [random for random, _ in ranks[1:]],
            "losses": losses,
            "history": [record.as_dict() for record in self.history],
            "epoch": sums,
            "parts": self.rig.step.parts,
            "ema": None if self.ema is None else self.ema.state_dict(),
            "lr": self.lr,
            "trained_s": self.course.trained_s,
            "pause_s": self.course.pause_s,
            "progress": self.course.progress(self.step, self.elapsed_s),
        }
        self.keeper.save(contents, step=self.step, elapsed_s=self.elapsed_s, best=best)
        self.observer(CheckpointSaved(step=self.step, best=best))

    def _keep_end(self) -> None:
        self._settle()
        if not self.keeps:
            return
        if self.team.first(self.keeper is not None and not self.keeper.saved_last(self.step)):
            self._keep(best=False)

    def _settle(self) -> None:
        """Wait for the checkpoint that is being written, and tell if it could not be."""
        if self.keeper is None:
            return
        problem = self.keeper.settle()
        if problem is not None:
            self.observer(CheckpointFailed(reason=problem))
