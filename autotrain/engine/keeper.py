"""The keeper: when a checkpoint is due, what goes into it, and what a training goes on from."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import autotrain
from autotrain.engine.checkpoint import CheckpointFolder, Saved, read_checkpoint
from autotrain.engine.events import EpochRecord
from autotrain.errors import CheckpointError, TaskError
from autotrain.schedules.time import Unit, parse_time, to_steps
from autotrain.training import AUTO, NEVER, Training
from autotrain.workload import Workload

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A checkpoint to go on from."""

    path: Path
    contents: dict[str, Any]

    @property
    def plan(self) -> str | None:
        """The plan that it was trained with, in YAML."""
        plan = self.contents.get("plan")
        return plan if isinstance(plan, str) else None


def find(training: Training) -> Found | None:
    """Return the checkpoint that a training is to go on from, None where it begins anew.

    Raises:
        CheckpointError: the one that is named is not there, none in the folder can be read, it would leave later ones
            behind, or the training is to begin anew in a folder that has some.
    """
    if training.resume == NEVER:
        if _saved(training):
            raise CheckpointError(
                f"{training.folder}: there are checkpoints of a training. Go on with resume='auto', or name another "
                "folder"
            )
        return None
    if training.resume == AUTO:
        assert training.folder is not None
        latest = CheckpointFolder(training.folder).latest()
        if latest is None:
            return None
        found = Found(path=latest[0].path, contents=latest[1])
    else:
        path = Path(training.resume)
        found = Found(path=path, contents=read_checkpoint(path))
    later = [entry for entry in _saved(training) if entry.step > int(found.contents["step"])]
    if later and training.resume != AUTO:  # those that auto passes over are damaged
        raise CheckpointError(
            f"{found.path}: {training.folder} has later checkpoints (step {later[0].step}). "
            "Name another folder for what goes on from here"
        )
    return found


def _saved(training: Training) -> list[Saved]:
    return [] if training.folder is None else CheckpointFolder(training.folder).saved()


def check(training: Training, workload: Workload, found: Found | None) -> None:
    """Refuse what does not go together, before anything is probed.

    Raises:
        TaskError: metrics or a best checkpoint are asked for that nothing is there to compute.
        CheckpointError: the checkpoint is another training's.
    """
    if workload.validation is None:
        for name, asked in {"metrics": bool(training.metrics), "best_by": training.best_by is not None}.items():
            if asked:
                raise TaskError(f"{name}: computed on a validation set, and there is none; give one: validation=...")
    elif workload.task.step is not None and (training.metrics or training.best_by == "accuracy"):
        raise TaskError(
            "metrics: a step of your own returns a loss and no outputs, so nothing but validation_loss is known"
        )
    if found is None:
        return
    own = {"fingerprint": workload.fingerprint, "seed": workload.seed}
    words = {"fingerprint": "model, data or batch size", "seed": "seed"}
    for name, value in own.items():
        if found.contents.get(name) != value:
            raise CheckpointError(
                f"{found.path}: belongs to another training, its {words[name]} is not this one's. "
                "Name another folder, or train with what it was made with"
            )


class Keeper:
    """Writes the checkpoints of one training.

    Args:
        training: says where, how often and how many.
        workload: what is trained.
        facts: what goes into every checkpoint besides, such as the plan.
    """

    def __init__(self, training: Training, workload: Workload, *, facts: dict[str, Any]) -> None:
        assert training.folder is not None
        self._folder = CheckpointFolder(training.folder, keep=training.keep)
        self._folder.claim()
        self._facts = {
            "autotrain": autotrain.__version__,
            "fingerprint": workload.fingerprint,
            "seed": workload.seed,
            **facts,
        }
        self._training = training
        self._every_s, self._every_steps = _every(training, workload)
        self._last_s = 0.0
        self._last_step: int | None = None
        self.best: float | None = None
        self._kept_best: float | None = None
        self._writing_best: float | None = None
        self._writing = False
        self.unsaved: str | None = None
        """Why the last checkpoint could not be written."""

    def begin(self, step: int, elapsed_s: float, best: float | None) -> None:
        """Note where the training begins or goes on."""
        self._last_s, self._last_step = elapsed_s, step
        self.best = self._kept_best = best

    @property
    def by_time(self) -> bool:
        """Whether it writes by the clock."""
        return self._every_s is not None

    def refuse(self, reason: str, *, elapsed_s: float) -> bool:
        """Note why a checkpoint is not written, the one before being settled; return whether that is news."""
        news = self.unsaved is None
        self._last_s, self.best, self.unsaved = elapsed_s, self._kept_best, reason
        return news

    def due(self, step: int, elapsed_s: float) -> bool:
        """Tell whether a checkpoint is to be written after this step."""
        if self._every_s is not None:
            return elapsed_s - self._last_s >= self._every_s
        assert self._every_steps is not None
        return step % self._every_steps == 0

    def is_best(self, record: EpochRecord) -> bool:
        """Tell whether an epoch's score is the best so far, and note it if so."""
        name = self._training.best_by or ("accuracy" if record.accuracy is not None else "validation_loss")
        scores = {"accuracy": record.accuracy, "validation_loss": record.validation_loss, **record.metrics}
        value = scores.get(name)
        if value is None or value != value:
            return False
        worth = self._training.better(name) * value
        if self.best is not None and worth <= self.best:
            return False
        self.best = worth
        return True

    def save(self, contents: dict[str, Any], *, step: int, elapsed_s: float, best: bool) -> None:
        """Write a checkpoint in the background; the one before is to be settled."""
        whole = {**self._facts, **contents, "elapsed_s": elapsed_s, "best": self.best}
        self._folder.save(whole, step=step, best=best)
        self._last_s, self._last_step = elapsed_s, step
        self._writing, self._writing_best = True, self.best if best else self._kept_best

    def settle(self) -> str | None:
        """Wait until the last checkpoint is written; return why it could not be, None where all is well."""
        if not self._writing:
            return None
        self._writing, self.unsaved = False, None
        try:
            self._folder.wait()
            self._kept_best = self._writing_best
        except CheckpointError as problem:
            self._last_step, self.best, self.unsaved = None, self._kept_best, str(problem)
        return self.unsaved

    def saved_last(self, step: int) -> bool:
        """Tell whether the last checkpoint is that of this step."""
        return self._last_step == step

    def close(self) -> None:
        """Wait until nothing is being written, and let other trainings write there."""
        try:
            self._folder.close()
        except CheckpointError as problem:  # only on the way out of an error: else it was settled before
            log.warning("%s", problem)


def _every(training: Training, workload: Workload) -> tuple[float | None, int | None]:
    """Return the seconds between two checkpoints, or the steps."""
    time, span = parse_time(training.every), workload.span
    if time.unit is Unit.SECOND:
        return time.value, None
    if time.unit is Unit.FRACTION and span.seconds is not None:
        return time.value * span.seconds, None
    return None, to_steps(
        time,
        steps_per_epoch=workload.stream().steps_per_epoch,
        batch_size=workload.batch_size,
        total_steps=span.total,
    )
