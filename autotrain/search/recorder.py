"""The recorder: makes measurements and keeps all of them, growing the session that everything else is a function of."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, TypeVar

from autotrain.diagnose.demand import bound, predict
from autotrain.engine.loop import OUT_OF_MEMORY
from autotrain.engine.rig import Rig
from autotrain.errors import CandidateError
from autotrain.knobs.gradients import FULL
from autotrain.knobs.registry import KNOBS
from autotrain.measure.burst import CEILING, SCREENING, BurstOptions, MakeDrive, burst, gpu_conditions
from autotrain.measure.clock import Clock
from autotrain.measure.crew import apart, call_all, unsynced
from autotrain.measure.drive import FullDrive, InputDrive, Resident
from autotrain.measure.exchange import exchange
from autotrain.measure.failure import candidate
from autotrain.measure.heat import DISTURBED, Cost, Heat, HeatInterrupted, HeatOptions, Lane, heat, steady_rate
from autotrain.measure.isolate import Child
from autotrain.measure.measurement import Kind, Measurement, Window
from autotrain.measure.session import Failed, Session
from autotrain.search.check import check
from autotrain.search.duel import duel
from autotrain.search.events import Measured, Measuring, Noted, Observer, Skipped
from autotrain.search.guard import guard
from autotrain.settings import Settings
from autotrain.workload import Workload

log = logging.getLogger(__name__)

REPEATS = 2
"""How often a disturbed burst is measured again."""

PATIENCE = 2
"""Disturbed bursts, repeats or such as are too long for one, after which all is taken as it comes: the machine is busy
all the time, until a heat finds it quiet."""

LONG = 1.5
"""Factor of its limit from which on a burst, of few and long steps, is not measured again: that would cost as much as
a good part of the search."""

CHILD_S = 120.0
"""Seconds that a call in a child process may take beyond what it was given."""

Result = TypeVar("Result")


class Recorder:
    """Measures settings once, component by component or in full; use it in a ``with``, which ends its child process.

    Args:
        workload: what is trained.
        session: what is known so far.
        observer: is told of every measurement.
        clock: brings the time.
        isolate: run every measurement in a child process, not only those that may kill theirs.
    """

    def __init__(
        self, workload: Workload, session: Session, observer: Observer, clock: Clock, *, isolate: bool = False
    ) -> None:
        self.workload = workload
        self.session = session
        self.observer = observer
        self.clock = clock
        self.isolate = isolate
        self._resident = Resident()
        self._stack = ExitStack()
        self._child: Child | None = None
        self._heats = 0
        self._in_vain = 0

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()
        self._child = None

    @property
    def busy(self) -> bool:
        """Whether other programs use the machine all the time, so that nothing is gained by measuring again."""
        return self._in_vain >= PATIENCE

    def note(self, **changes: Any) -> None:
        """Change the session by copy."""
        self.session = replace(self.session, **changes)

    def run(
        self,
        function: Callable[..., Result],
        *arguments: Any,
        settings: Sequence[Settings],
        limit_s: float,
        report: Callable[[Any], None] | None = None,
        **options: Any,
    ) -> Result:
        """Call ``function(workload, *arguments, **options)``, in a child process where one of the settings is risky.

        Of several ranks all call what trains, and what needs the model where each has a part of it; the first one alone
        does the rest, on its part of the batches.

        Args:
            function: of a module; takes ``report=`` where that is given.
            arguments: after the workload.
            settings: all that it runs.
            limit_s: seconds that it is expected to take at most.
            report: is told what the function tells its own ``report``.
            options: of the function.

        Raises:
            CandidateError: a candidate failed, or the child died.
        """
        if self.workload.team.alone and (self.isolate or any(risky(entry) for entry in settings)):
            if self._child is None:
                self._child = self._stack.enter_context(Child())
            limit_s += CHILD_S
            return self._child.run(function, self.workload, *arguments, limit_s=limit_s, on_report=report, **options)
        if report is not None:
            options["report"] = report
        workload = self.workload
        if not workload.team.alone:
            if of_all_ranks(function, settings):
                result: Result = call_all(workload, function, *arguments, **options)
                return result
            workload = apart(workload)
        with unsynced(self.workload), candidate():
            return function(workload, *arguments, **options)

    def full(self, settings: Settings, *, options: BurstOptions = SCREENING) -> Measurement | None:
        """Return the full burst of settings, measured now if need be; None where they failed."""
        known = self.session.find(Kind.FULL, settings)
        if known is not None:
            return known
        return self._burst(settings, describe(settings, self.session.default), FullDrive, options)

    def compute(self, settings: Settings, *, options: BurstOptions = CEILING) -> Measurement | None:
        """Return the compute ceiling of settings, measured now if need be; None where they failed."""
        known = self.session.find(Kind.COMPUTE, settings)
        if known is not None:
            return known
        what = f"training alone, {describe(settings, self.session.default)}"
        return self._burst(replace(settings, workers=0), what, self._resident, options)

    def loading(self, settings: Settings, *, options: BurstOptions = CEILING) -> Measurement | None:
        """Return the input ceiling of settings, measured now if need be; None where they failed."""
        known = self.session.find(Kind.INPUT, settings)
        if known is not None:
            return known
        what = f"loading alone, {describe(settings, self.session.default)}"
        return self._burst(settings, what, InputDrive, options)

    def heat(
        self,
        contenders: Sequence[Settings],
        *,
        options: HeatOptions,
        alone: bool = False,
        costs: Sequence[Cost] | None = None,
    ) -> list[Measurement]:
        """Let settings run against each other; return what was measured, the first of them setting the scale.

        Args:
            contenders: the first was measured before, and keeps its rate.
            options: how long.
            alone: train on resident batches instead of loading.
            costs: what each training takes at a rate.
        """
        kind = Kind.COMPUTE if alone else Kind.FULL
        options = replace(options, again=not self.busy)
        wanted = [replace(entry, workers=0) for entry in contenders] if alone else list(contenders)
        self.observer(Measuring(what=f"{len(wanted)} side by side"))
        expected = [(predict(self.session, entry), bound(self.session, entry)) for entry in wanted]
        if alone:
            expected = [(None, None)] * len(wanted)
        try:
            result: Heat = self.run(
                heat,
                wanted,
                settings=wanted,
                limit_s=min(options.limit_s, 600.0),
                options=options,
                make_drive=self._resident if alone else FullDrive,
                costs=costs,
                seed=self.workload.seed + self._heats,
            )
        except CandidateError as problem:  # the child process died, and all of the heat with it
            suspects = [entry for entry in wanted[1:] if risky(entry)] or wanted[1:]
            for settings in suspects:
                self.failed(settings, str(problem))
            left = [place for place, entry in enumerate(wanted) if entry not in suspects]
            if len(left) < 2:
                return []
            costs = None if costs is None else [costs[place] for place in left]
            return self.heat([contenders[place] for place in left], options=options, alone=alone, costs=costs)
        except HeatInterrupted as stop:
            self._taken(kind, stop.heat, expected)
            raise
        self._heats += 1
        if result.other_cpu_share is not None and result.other_cpu_share <= DISTURBED:
            self._in_vain = 0
        crowded = [lane.settings for lane in result.lanes if lane.problem and OUT_OF_MEMORY in lane.problem]
        if crowded and len(wanted) > 2:
            return self._fewer(contenders, result, options, alone=alone, costs=costs)
        return self._taken(kind, result, expected)

    def _fewer(
        self,
        contenders: Sequence[Settings],
        result: Heat,
        options: HeatOptions,
        *,
        alone: bool,
        costs: Sequence[Cost] | None,
    ) -> list[Measurement]:
        """Run a heat again in pairs with the first: side by side, its contenders did not fit into memory."""
        found: list[Measurement] = []
        for place, settings in enumerate(contenders[1:], start=1):
            problem = result.lanes[place].problem
            if problem is not None and OUT_OF_MEMORY not in problem:
                self.failed(result.lanes[place].settings, problem)
                continue
            pair = None if costs is None else (costs[0], costs[place])
            measured = self.heat((contenders[0], settings), options=options, alone=alone, costs=pair)
            found += measured if not found else measured[1:]
        return found

    def _taken(
        self, kind: Kind, result: Heat, expected: Sequence[tuple[float | None, float | None]]
    ) -> list[Measurement]:
        """Take what a heat measured into the session."""
        alone = kind is Kind.COMPUTE
        scale = self._scale(kind, result.lanes[0])
        found = []
        for lane, (predicted, limit) in zip(result.lanes, expected, strict=True):
            if lane.problem is not None:
                self.failed(lane.settings, lane.problem, alone=alone)
            if lane.problem is not None or not lane.windows:
                continue
            measured = replace(
                self._from_lane(kind, lane, result),
                heat=self._heats,
                scale=scale * steady_rate(lane.windows) / _raw_rate(lane.windows),
                predicted=predicted,
                bound=limit,
            )
            found.append(measured)
        self.note(measurements=(*self.session.measurements, *found))
        for measured in sorted(found, key=lambda entry: -entry.rate.value):
            what = describe(measured.settings, self.session.default)
            what = f"training alone, {what}" if alone else what
            self.observer(Measured(what=what, measurement=measured, predicted=measured.predicted))
        return found

    def failed(self, settings: Settings, reason: str, *, pruned: bool = False, alone: bool = False) -> None:
        """Keep why settings were not measured."""
        entry = Failed(settings=settings, reason=reason, pruned=pruned, alone=alone)
        self.note(failures=(*self.session.failures, entry))
        self.observer(Skipped(settings=settings, reason=reason, failed=not pruned))

    def _burst(self, settings: Settings, what: str, make_drive: MakeDrive, options: BurstOptions) -> Measurement | None:
        self.observer(Measuring(what=what))
        predicted = limit = None
        if make_drive is FullDrive:
            predicted, limit = predict(self.session, settings), bound(self.session, settings)
        try:
            measured = self._undisturbed(settings, make_drive, options)
        except CandidateError as problem:
            self.failed(settings, str(problem))
            return None
        measured = replace(measured, predicted=predicted, bound=limit, page_cache=self._page_cache())
        self.note(measurements=(*self.session.measurements, measured))
        self.observer(Measured(what=what, measurement=measured, predicted=predicted))
        return measured

    def _undisturbed(self, settings: Settings, make_drive: MakeDrive, options: BurstOptions) -> Measurement:
        """Measure, and measure again while other programs disturb; the least disturbed burst counts."""
        best: Measurement | None = None
        for repeat in range(REPEATS + 1):
            measured: Measurement = self.run(
                one_burst, settings, settings=[settings], limit_s=60.0, make_drive=make_drive, options=options
            )
            measured = replace(measured, repeats=repeat)
            if best is None or (measured.other_cpu_share or 0.0) < (best.other_cpu_share or 0.0):
                best = measured
            if (measured.other_cpu_share or 0.0) <= DISTURBED:
                self._in_vain = 0
                break
            long = measured.wall_s > LONG * options.limit_s
            self._in_vain += repeat > 0 or long
            if repeat == REPEATS or self.busy or long:
                break
            share = measured.other_cpu_share or 0.0
            self.observer(Noted(words=f"other programs used {share:.0%} of the CPU: measured again"))
        assert best is not None
        return replace(best, repeats=repeat)

    def _from_lane(self, kind: Kind, lane: Lane, result: Heat) -> Measurement:
        return Measurement(
            kind=kind,
            settings=lane.settings,
            windows=lane.windows,
            startup_s=lane.startup_s,
            compile_s=lane.compile_s,
            warmup_steps=lane.warmup_steps,
            stationary=True,
            other_cpu_share=result.other_cpu_share,
            stopped_early=lane.left_behind,
            page_cache=self._page_cache(),
            repeats=result.repeats,
            **gpu_conditions(result.gpu),
        )

    def _scale(self, kind: Kind, first: Lane) -> float:
        known = self.session.find(kind, first.settings)
        if known is None or not first.windows:
            return 1.0
        return known.rate.value / steady_rate(first.windows)

    def _page_cache(self) -> str:
        return "" if self.session.cold_bytes_per_s is None else "warm"


def _raw_rate(windows: Sequence[Window]) -> float:
    return sum(entry.images for entry in windows) / sum(entry.wall_s for entry in windows)


def one_burst(workload: Workload, settings: Settings, *, make_drive: MakeDrive, options: BurstOptions) -> Measurement:
    """Measure settings alone."""
    with Rig(workload, settings) as rig:
        return burst(rig, make_drive=make_drive, options=options)


def of_all_ranks(function: Callable[..., Any], settings: Sequence[Settings]) -> bool:
    """Tell whether all ranks do something at once: what trains in step, and what needs a model that lies in parts."""
    parts = any(entry.sharding == FULL for entry in settings)
    return function in (heat, duel, one_burst, exchange) or (parts and function in (check, guard))


def risky(settings: Settings) -> bool:
    """Tell whether settings may kill the process that runs them."""
    return any(knob.risky(getattr(settings, knob.name)) for knob in KNOBS)


def describe(settings: Settings, default: Settings) -> str:
    """Return settings for people, as what differs from the default."""
    changes = settings.changes(default)
    if not changes:
        return "default"
    return ", ".join(value_words(name, value) for name, value in changes.items())


def value_words(name: str, value: object) -> str:
    """Return one setting in the shortest words that say which it is."""
    if name in ("workers", "threads", "prefetch"):
        return f"{value} {name if value != 1 else name.rstrip('s')}" if name != "prefetch" else f"prefetch {value}"
    if name == "placement":
        return f"augmenting on the {value}" if value == "device" else "augmenting in workers"
    if name == "pinning":
        return "pinned" if value else "not pinned"
    if name == "cache":
        return "no cache" if value == "none" else f"cached {'in RAM' if value == 'ram' else f'on {value}'}"
    if name == "loader":
        return f"loading {value}"
    if name == "augmentation" and value == "none":
        return "no augmentation"
    if name == "compile":
        return "not compiled" if value == "none" else f"compiled{'' if value == 'default' else f' ({value})'}"
    if name == "optimizer_kernel":
        return f"{value} optimizer kernel"
    if name == "cudnn_benchmark":
        return f"{'' if value else 'no '}cuDNN benchmark"
    if name == "sharding":
        return "whole copies" if value == "none" else "sharded"
    if name == "bucket_mib":
        return f"buckets of {value} MiB"
    if name == "gradient_precision":
        return f"gradients sent in {value}"
    if name == "gradient_views":
        return f"{'' if value else 'no '}gradient views"
    if name == "static_graph":
        return "static graph" if value else "any graph"
    if name == "micro_batches":
        return "whole batches" if value == 1 else f"{value} micro-batches"
    if name == "resize":
        return f"{value}'s resize" if value == "torch" else "Pillow's resize"
    return str(value).replace("_", "-")
