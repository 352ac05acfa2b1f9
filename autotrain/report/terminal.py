"""Narrators: they tell on a console what happens, as it happens."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console

from autotrain.engine.events import (
    Adapted,
    CheckpointFailed,
    EpochDone,
    EpochRecord,
    FitEnded,
    FitEvent,
    FitStarted,
    Halved,
    Resumed,
    SlowedDown,
    StepDone,
)
from autotrain.measure.clock import Clock
from autotrain.measure.measurement import Kind
from autotrain.plan.values import OF_RANKS
from autotrain.report import story
from autotrain.report.lines import Line, heading, item, labelled, show
from autotrain.report.plot import area
from autotrain.report.status import StatusLine, new_console
from autotrain.report.trouble import log_trouble, trouble_words
from autotrain.report.words import bar, many, plain, time_words
from autotrain.search.events import (
    Diagnosed,
    Event,
    Interrupted,
    Measured,
    Measuring,
    Noted,
    Skipped,
    Stage,
    Started,
    Turn,
)
from autotrain.search.recorder import describe
from autotrain.settings import Settings

LEAST_SEEN_S = 2.0
"""Seconds of training after which the time that is left can be told."""

HEARTBEAT_S = 60.0
"""Without a terminal, a sign of life is written this often during a long epoch."""

FIRST_PAIRS = 4
"""Without a terminal, a duel's state is written after so many pairs, and whenever they have doubled."""


class Narrator:
    """What all narrators share: a console, lines that stay, and a status line that does not.

    Args:
        console: where to write; standard output where None.
        quiet: write nothing.
        clock: brings the time.
    """

    def __init__(self, console: Console | None = None, *, quiet: bool = False, clock: Clock | None = None) -> None:
        self.console = console or new_console()
        self.quiet = quiet
        self.clock = clock or Clock()
        self.status = StatusLine(self.console)
        self.since = self.clock.now()

    def __enter__(self) -> Self:
        self.since = self.clock.now()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.status.close()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the story began."""
        return self.clock.now() - self.since

    def tell(self, *lines: Line) -> None:
        """Write lines that stay."""
        show(self.console, lines)


class ProbeNarrator(Narrator):
    """Tells a probe; ``with ProbeNarrator() as observer``.

    Args:
        console: where to write; standard output where None.
        quiet: write nothing.
        verbose: name every candidate that was not worth a measurement, instead of counting them.
        clock: brings the time.
    """

    def __init__(
        self,
        console: Console | None = None,
        *,
        quiet: bool = False,
        verbose: bool = False,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(console, quiet=quiet, clock=clock)
        self.verbose = verbose
        self._default: Settings | None = None
        self._stage = ""
        self._pruned: list[str] = []
        self._turns: tuple[list[float], list[float]] = ([], [])
        self._told_pairs = 0
        self._heat: int | None = None

    def __call__(self, event: Event) -> None:
        """Tell one event."""
        if self.quiet:
            return
        match event:
            case Started():
                self.tell(*story.started(event))
                self.status.show("reading the files once, so that none is cold")
            case Stage():
                self._on_stage(event)
            case Measuring(what=what):
                self.status.show(f"measuring: {what}{self._pruned_words()}")
            case Measured():
                self._on_measured(event)
            case Diagnosed(finding=finding):
                self.tell(*story.diagnosed(finding))
            case Skipped():
                self._on_skipped(event)
            case Turn():
                self._on_turn(event)
            case Noted(words=words):
                self.tell(item(words))
            case Interrupted():
                self._flush()
                words = "interrupted: no more candidates; now the best so far is put to the proof"
                self.tell(Line(), item(f"{words} (Ctrl-C again keeps the default)", style="yellow"))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.quiet:
            self._flush()
        super().__exit__(kind, error, trace)

    def _on_stage(self, event: Stage) -> None:
        self._flush()
        self._stage = event.title
        self._turns, self._told_pairs = ([], []), 0
        self.tell(*story.stage(event.title, event.steps, self.elapsed_s))
        self.status.show(f"{event.title} ...")

    def _on_measured(self, event: Measured) -> None:
        heat = event.measurement.heat
        if heat is not None and heat != self._heat and event.measurement.repeats:
            self.tell(story.heat_disturbed(event.measurement))
        self._heat = heat if heat is not None else self._heat
        if self.verbose or not event.raced:
            self.tell(story.measured(event))
        if self._default is None and event.measurement.kind is Kind.FULL:
            self._default = event.measurement.settings
            self.tell(*story.time_split(event.measurement))
        self.status.show(f"{self._stage} ...{self._pruned_words()}")

    def _on_skipped(self, event: Skipped) -> None:
        words = describe(event.settings, self._default or Settings())
        if event.failed:
            self.tell(story.failed(words, event.reason))
        elif self.verbose:
            self.tell(item(f"not measured: {words}: {event.reason}", style="dim"))
        else:
            self._pruned.append(f"{words}: {event.reason}")

    def _on_turn(self, event: Turn) -> None:
        self._turns[0].append(event.baseline_rate)
        self._turns[1].append(event.candidate_rate)
        line = story.pair_line(event.pair, story.running_ratio(*self._turns))
        self.status.show(f"{line.text.strip()}, of {event.pairs} at most")
        if not self.status.visible and event.pair >= max(FIRST_PAIRS, 2 * self._told_pairs):
            self._told_pairs = event.pair
            self.tell(line)

    def _pruned_words(self) -> str:
        return f" ({len(self._pruned)} not worth it)" if self._pruned else ""

    def _flush(self) -> None:
        """Tell what is known only when a part is over."""
        pairs = len(self._turns[0])
        if pairs > self._told_pairs:
            self.tell(story.pair_line(pairs, story.running_ratio(*self._turns)))
            self._told_pairs = pairs
        if self._pruned:
            self.tell(story.pruned(len(self._pruned), self._pruned[-1]))
            self._pruned = []


class FitNarrator(Narrator):
    """Tells a training; ``with FitNarrator() as observer``."""

    def __init__(self, console: Console | None = None, *, quiet: bool = False, clock: Clock | None = None) -> None:
        super().__init__(console, quiet=quiet, clock=clock)
        self._started: FitStarted | None = None
        self._epochs = 0
        self._told_s = self.since
        self._first: tuple[float, float] | None = None
        """When a step was told first, and how much was done by then."""

    def __call__(self, event: FitEvent) -> None:
        """Tell one event; trouble even where quiet."""
        if self.quiet:
            log_trouble(event)
            return
        match event:
            case FitStarted():
                self._started = event
                self.tell(*_fit_started(event))
                self.status.show("starting ...")
            case Resumed():
                self.tell(item(f"goes on after step {event.step:,}, from {event.path.name}"))
            case Halved() | SlowedDown() | CheckpointFailed():
                self.tell(item(trouble_words(event), style="yellow"))
            case Adapted():
                self.tell(item(_adapted_words(event)))
            case StepDone():
                self._on_step(event)
            case EpochDone(record=record):
                self._epochs += 1
                self._told_s = self.clock.now()
                self.tell(Line(lead="  ", text=_epoch_words(record, self._total_epochs())))
            case FitEnded():
                self.status.close()
                self.tell(_fit_ended(event, self._epochs))

    def _on_step(self, event: StepDone) -> None:
        left_s = self._left_s(event.progress)
        left = "" if left_s is None else f", {time_words(left_s)} left"
        waiting = f", wait {event.wait_share:.0%}" if event.wait_share >= 0.05 else ""
        words = (
            f"epoch {event.epoch} {bar(event.progress, width=6)} {event.progress:4.0%}{left}  loss {event.loss:.3f}  "
            f"lr {event.lr:.2g}  {plain(event.images_per_s)} images/s{waiting}"
        )
        self.status.show(words)
        if not self.status.visible and self.clock.now() - self._told_s >= HEARTBEAT_S:
            self._told_s = self.clock.now()
            self.tell(Line(lead="  ", text=words))

    def _left_s(self, progress: float) -> float | None:
        """Return the seconds that training still takes, from those since it was told of first; None for not known."""
        if self._started is not None and self._started.total_s is not None:
            return (1.0 - progress) * self._started.total_s
        now = self.clock.now()
        if self._first is None:
            self._first = now, progress
        since, done = self._first
        if progress <= done or now - since < LEAST_SEEN_S:
            return None
        return (now - since) * (1.0 - progress) / (progress - done)

    def _total_epochs(self) -> int | None:
        """Return the number of epochs, the last of which may be a part; None where training goes by time."""
        if self._started is None or self._started.total_steps is None:
            return None
        return -(-self._started.total_steps // self._started.steps_per_epoch)


def _fit_started(event: FitStarted) -> list[Line]:
    if event.total_steps is not None:
        epochs = event.total_steps / event.steps_per_epoch
        length = f"{many(event.total_steps, 'step')}, {epochs:.4g} epochs of {many(event.images, 'image')}"
    else:
        length = f"{time_words(event.total_s or 0.0)}, in epochs of {many(event.images, 'image')}"
    validation = f"{many(event.validation_images, 'image')} after every epoch" if event.validation_images else "none"
    usual = Settings().as_dict()
    settings = ", ".join(
        f"{name} {str(value).lower()}"
        for name, value in event.settings.as_dict().items()
        if name not in OF_RANKS or value != usual[name]  # as plans have it
    )
    return [
        *heading("Training"),
        labelled("length", length),
        labelled("validation", validation),
        labelled("settings", settings),
        *_schedule(event.lrs),
        Line(),
    ]


def _schedule(lrs: Sequence[float]) -> list[Line]:
    """Return a plot of the learning rate over the training."""
    if not lrs:
        return []
    rows = [labelled("" if number else "schedule", "").lead + f"|{row}" for number, row in enumerate(area(lrs))]
    words = f"learning rate {lrs[0]:.2g} at first, {max(lrs):.2g} at most, {lrs[-1]:.2g} at last"
    return [*(Line(lead=row) for row in rows), labelled("", words)]


def _epoch_words(record: EpochRecord, total: int | None) -> str:
    number = f"{record.epoch:>{len(str(total))}}/{total}" if total else str(record.epoch)
    parts = [f"epoch {number}", f"loss {record.loss:.3f}"]
    if record.validation_loss is not None:
        parts.append(f"val {record.validation_loss:.3f}")
    if record.accuracy is not None:
        parts.append(f"accuracy {record.accuracy:5.1%}")
    seconds = record.seconds + (record.validation_s or 0.0)
    return "  ".join([*parts, f"{plain(record.images_per_s):>5} images/s", time_words(seconds)])


def _adapted_words(event: Adapted) -> str:
    tried = f"step {event.step:,}: tried {many(event.tried, 'other loader setting')}"
    if not event.changes:
        return f"{tried}, none is faster than {plain(event.before)} images/s"
    changes = ", ".join(f"{name} {value}" for name, value in event.changes.items())
    return f"{tried}, goes on with {changes}: {plain(event.images_per_s)} instead of {plain(event.before)} images/s"


def _fit_ended(event: FitEnded, epochs: int) -> Line:
    length = f"{many(epochs, 'whole epoch')} in {time_words(event.seconds)}"
    if event.interrupted:
        return item(f"interrupted after {length}; the weights so far are kept", style="yellow")
    return Line(lead="  ", text=f"trained {many(epochs, 'epoch')} in {time_words(event.seconds)}", style="green")
