"""How a training is run beside its settings: what is kept of it, and what it goes on from."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autotrain.errors import TaskError, unknown
from autotrain.schedules.time import parse_time

AUTO, NEVER = "auto", "never"


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """Options of ``fit`` that say nothing about the machine.

    Raises:
        TaskError: a value that cannot be meant.
        ScheduleError: ``every`` is no duration.
    """

    clip_norm: float | None = None
    """Largest norm of the gradient; None leaves it as it is."""

    ema: float | None = None
    """Decay per step of an exponential moving average of the weights, such as 0.9998, which is what is then evaluated
    and lies beside the trained model in the result; None keeps none."""

    halve: bool | None = None
    """Whether a batch that does not fit into memory, at whatever step, passes the model in halves from then on. None:
    unless the model has batch statistics, which would be those of smaller batches; True: even then; False: never."""

    adapt: bool = False
    """Whether a training that runs slower than its plan tries other numbers of workers and of batches kept ready, from
    the end of the epoch on and on its own steps; the images stay the same."""

    metrics: Mapping[str, Any] = field(default_factory=dict)
    """Metrics of the validation set by name: objects with ``update(outputs, labels)``, ``compute()`` and ``reset()``,
    such as torchmetrics has. A dict that one computes becomes several numbers, ``name_key``; with several processes
    a metric has to compute over all, as torchmetrics' do."""

    log: str | Path | Sequence[str | Path] = ()
    """Where every epoch is written down: a ``.jsonl`` or ``.csv`` file, a folder for TensorBoard, or several."""

    callbacks: Sequence[Callable[[Any], None]] = ()
    """Are told of every event of the training (``autotrain.engine.events``), beside what shows its progress."""

    checkpoints: str | Path | None = None
    """Folder in which the training is kept, so that it can go on after whatever ends it; None keeps nothing."""

    every: str = "1ep"
    """How often a checkpoint is written: in epochs, steps, samples, wall-clock time or shares of the training. One is
    written at the end, and when the training is stopped, in any case."""

    keep: int = 3
    """How many of the last checkpoints stay."""

    best_by: str | None = None
    """``accuracy`` (the more the better), ``validation_loss`` (the less) or a number of ``metrics`` (the more, unless
    ``higher_is_better`` is false there): the checkpoint of the best epoch stays too; where None, accuracy, or the loss
    where there is none."""

    resume: str | Path = NEVER
    """``auto`` goes on from the folder's latest checkpoint where there is one; a path from that checkpoint; ``never``
    begins anew, in a folder that has none."""

    def __post_init__(self) -> None:
        if self.clip_norm is not None and not 0 < self.clip_norm < math.inf:
            raise TaskError(f"clip_norm: {self.clip_norm} is no norm that a gradient can be kept to; give more than 0")
        if self.ema is not None and not 0 <= self.ema < 1:
            raise TaskError(f"ema: {self.ema} is no decay from 0 to below 1, such as 0.9998")
        if self.keep < 1:
            raise TaskError(f"keep: {self.keep} checkpoints; at least the last one is kept, so give 1 or more")
        if self.best_by is not None and self.best_by not in BETTER and self._source(self.best_by) is None:
            raise TaskError(f"best_by: {unknown('metric', self.best_by, (*BETTER, *self.metrics))}")
        for name, metric in self.metrics.items():
            if name in RECORDED:
                raise TaskError(
                    f"metrics: every epoch has a number '{name}'; name yours otherwise, such as 'own_{name}'"
                )
            missing = [method for method in ("update", "compute", "reset") if not hasattr(metric, method)]
            if missing:
                raise TaskError(f"metrics: '{name}' has no {missing[0]}(); give objects as torchmetrics has them")
        if self.resume == AUTO and self.checkpoints is None:
            raise TaskError("resume: 'auto' looks for checkpoints, so name their folder: checkpoints='runs/mine'")
        parse_time(self.every)

    @property
    def folder(self) -> Path | None:
        """Where checkpoints lie."""
        return None if self.checkpoints is None else Path(self.checkpoints)

    @property
    def logs(self) -> tuple[Path, ...]:
        """Where every epoch is written down."""
        paths = (self.log,) if isinstance(self.log, str | Path) else self.log
        return tuple(Path(path) for path in paths)

    def better(self, name: str) -> float:
        """Return 1 where more of a metric is better, -1 where less is."""
        if name in BETTER:
            return BETTER[name]
        return -1.0 if getattr(self._source(name), "higher_is_better", None) is False else 1.0

    def _source(self, name: str) -> Any:
        """Return the metric that a number is computed by, a part of a collection where it is; None if there is none."""
        if name in self.metrics:
            return self.metrics[name]
        for own, metric in self.metrics.items():
            if name.startswith(f"{own}_"):
                return getattr(metric, name.removeprefix(f"{own}_"), metric)
        return None


BETTER = {"accuracy": 1.0, "validation_loss": -1.0}
"""Metrics by which a checkpoint can be the best, and which way is better."""

RECORDED = frozenset(
    (
        *("epoch", "step", "images", "seconds", "wait_s", "images_per_s", "loss", "lr"),
        *("validation_s", "validation_loss", "accuracy", "metrics"),
    )
)
"""Names in an epoch's record and in the logs, which no metric can have."""
