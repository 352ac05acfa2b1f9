"""Heats: several live rigs take short turns, so that what disturbs the machine disturbs all of them alike.

A machine's speed drifts: on the 2-core virtual machine that this was built on, stretches of one second differ from the
next by 5 to 10%, stretches of 50 ms by little more, so ten seconds of turns of 50 ms compare two settings four times as
sharply as ten seconds of turns of one second.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from scipy.special import stdtrit

from autotrain.errors import CandidateError
from autotrain.hardware.gpu import GpuState, gpu_of, gpu_state
from autotrain.hardware.monitor import Monitor
from autotrain.measure.burst import MakeDrive
from autotrain.measure.clock import Clock
from autotrain.measure.contender import Contender, HeatOptions
from autotrain.measure.drive import FullDrive
from autotrain.measure.failure import candidate
from autotrain.measure.measurement import Kind, Window
from autotrain.settings import Settings
from autotrain.workload import Workload

__all__ = ["Contender", "Cost", "Heat", "HeatInterrupted", "HeatOptions", "Lane", "heat", "pooled", "steady_rate"]

DISTURBED = 0.2
"""Share of the cores' time that other programs may take in a round; beyond, the round is run again."""

STALLED = 1.5
"""Factor by which a contender's turn may take longer than its other turns before that is taken for a disturbance."""

LEAST_ROUND_S = 0.3
"""Rounds shorter than this are not judged by that share: the kernel counts CPU time in 10 ms."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a training under some settings takes, as a function of its rate: ``fixed_s + images / rate`` seconds."""

    fixed_s: float = 0.0
    """Start-up, compiling, filling a cache."""

    images: float = 1.0
    """Images that run at the measured rate."""

    def seconds(self, rate: float) -> float:
        """Return the seconds at a rate, in images/s."""
        return self.fixed_s + self.images / rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """What a heat saw of one contender."""

    settings: Settings
    windows: tuple[Window, ...] = ()
    """One per round, its turns taken together."""

    startup_s: float = 0.0
    compile_s: float = 0.0
    warmup_steps: int = 0
    problem: str | None = None
    """Why it failed; None where it did not."""

    left_behind: bool = False
    """Whether it left early because it was clearly slower."""

    @property
    def rates(self) -> tuple[float, ...]:
        """Images/s, by round."""
        return tuple(entry.images / entry.wall_s for entry in self.windows)

    @property
    def seconds(self) -> tuple[float, ...]:
        """How long its turns took, by round."""
        return tuple(entry.wall_s for entry in self.windows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heat:
    """The lanes, in the order in which the contenders were given."""

    kind: Kind
    lanes: tuple[Lane, ...]
    repeats: int = 0
    """Rounds that were run again because other programs disturbed them."""

    other_cpu_share: float | None = None
    """Share of the usable cores' time that went to other programs in the rounds that count."""

    gpu: GpuState | None = None
    """The GPU's state at the end; None where none is used."""

    def lane(self, settings: Settings) -> Lane:
        """Return the lane of settings."""
        return next(entry for entry in self.lanes if entry.settings == settings)


class HeatInterrupted(KeyboardInterrupt):
    """Ctrl-C during a heat; ``heat`` is what was seen by then."""

    def __init__(self, seen: Heat) -> None:
        super().__init__()
        self.heat = seen


@dataclass(slots=True)
class _Runner:
    """A contender's state within a heat."""

    settings: Settings
    cost: Cost
    stack: ExitStack
    contender: Contender | None = None
    windows: list[Window] = field(default_factory=list)
    problem: str | None = None
    left_behind: bool = False

    @property
    def running(self) -> bool:
        return self.contender is not None

    def stop(self, problem: str | None = None) -> None:
        if self.contender is not None:
            self.lane_facts = (self.contender.startup_s, self.contender.compile_s, self.contender.warmup_steps)
        self.problem = problem or self.problem
        self.contender = None
        self.stack.close()

    lane_facts: tuple[float, float, int] = (0.0, 0.0, 0)

    def lane(self) -> Lane:
        startup_s, compile_s, steps = self.lane_facts
        return Lane(
            settings=self.settings,
            windows=tuple(self.windows),
            startup_s=startup_s,
            compile_s=compile_s,
            warmup_steps=steps,
            problem=self.problem,
            left_behind=self.left_behind,
        )


def heat(
    workload: Workload,
    contenders: Sequence[Settings],
    *,
    options: HeatOptions = HeatOptions(),
    make_drive: MakeDrive = FullDrive,
    costs: Sequence[Cost] | None = None,
    seed: int = 0,
    clock: Clock | None = None,
    report: Callable[[tuple[float | None, ...]], None] | None = None,
    more: Callable[[Sequence[Sequence[Window]]], int] | None = None,
) -> Heat:
    """Let contenders run against each other: in each round all take their turns, in random order.

    Args:
        workload: what is trained.
        contenders: different settings; one that fails leaves the others running.
        options: how long, and when somebody is left behind.
        make_drive: what a step does: full training where not given.
        costs: what each training takes at a rate, by which they are compared; by the rate itself where not given.
        seed: of the order.
        clock: brings the time.
        report: is told the rates of each round, None for those who did not run.
        more: asked once, when all rounds are run, with every contender's windows, how many rounds are wanted in all.

    Raises:
        HeatInterrupted: Ctrl-C.
    """
    clock = clock or Clock(workload.team)
    order = random.Random(seed)
    costs = costs or [Cost() for _ in contenders]
    with ExitStack() as stack:
        runners = [
            _Runner(settings, cost, stack.enter_context(ExitStack()))
            for settings, cost in zip(contenders, costs, strict=True)
        ]
        kind = Kind.FULL
        for runner in runners:
            _make(workload, runner, options, make_drive, clock)
        for runner in runners:
            kind = _warm_up(runner, clock) or kind
        tally = _Tally()
        try:
            _rounds(runners, options, order, clock, tally, report, more)
        except KeyboardInterrupt as problem:
            raise HeatInterrupted(_seen(kind, runners, tally, None)) from problem
        device = gpu_of(workload.device)
        return _seen(kind, runners, tally, None if device is None else gpu_state(device))


def _seen(kind: Kind, runners: Sequence[_Runner], tally: _Tally, gpu: GpuState | None) -> Heat:
    for runner in runners:
        runner.stop()
    share = statistics.fmean(tally.shares) if tally.shares else None
    lanes = tuple(runner.lane() for runner in runners)
    return Heat(kind=kind, lanes=lanes, repeats=tally.repeats, other_cpu_share=share, gpu=gpu)


def _make(workload: Workload, runner: _Runner, options: HeatOptions, make_drive: MakeDrive, clock: Clock) -> None:
    try:
        with candidate(), clock.team.region():
            runner.contender = Contender(
                workload, runner.settings, runner.stack, options, make_drive=make_drive, clock=clock
            )
    except CandidateError as problem:
        runner.stop(str(problem))


def _warm_up(runner: _Runner, clock: Clock) -> Kind | None:
    """Return what the contender's steps do, None where it failed."""
    if runner.contender is None:
        return None
    kind = runner.contender.kind
    try:
        with candidate(), clock.team.region():
            runner.contender.warm_up()
    except CandidateError as problem:
        runner.stop(str(problem))
        return None
    return kind


@dataclass(slots=True)
class _Tally:
    repeats: int = 0
    shares: list[float] = field(default_factory=list)


def _rounds(
    runners: Sequence[_Runner],
    options: HeatOptions,
    order: random.Random,
    clock: Clock,
    tally: _Tally,
    report: Callable[[tuple[float | None, ...]], None] | None,
    more: Callable[[Sequence[Sequence[Window]]], int] | None,
) -> None:
    started, wanted, done = clock.agreed(), options.rounds, 0
    while any(runner.running for runner in runners) and not _alone(runners, options, done):
        if done >= wanted and more is not None:
            wanted = max(wanted, more([runner.windows for runner in runners]))
            more = None
        begun = clock.agreed()
        if done >= wanted or (done >= 2 and begun - started >= options.limit_s):
            break
        last_chance = not options.again or tally.repeats >= max(2, wanted // 2)
        # This round, the same again and those that are run in any case have to be over by the limit.
        longest_s = 0.0 if last_chance else (options.limit_s - (begun - started)) / max(2, 3 - done)
        if not _round(runners, options, order, clock, tally, longest_s=longest_s):
            continue
        done += 1
        if report is not None:
            report(tuple(_rates(runner)[-1] if runner.running and runner.windows else None for runner in runners))
        if options.behind is not None:
            _leave_behind(runners, options, done)


def _alone(runners: Sequence[_Runner], options: HeatOptions, done: int) -> bool:
    """Tell whether one is left of several, whose further rounds would compare it with nobody."""
    return len(runners) > 1 and done >= options.least_rounds and sum(runner.running for runner in runners) < 2


def _round(
    runners: Sequence[_Runner],
    options: HeatOptions,
    order: random.Random,
    clock: Clock,
    tally: _Tally,
    *,
    longest_s: float,
) -> bool:
    """Run a round; return whether it counts. One that others disturbed does not, unless it took longer than so long."""
    monitor, started = Monitor(clock.now, beside=clock.team.neighbours), clock.agreed()
    monitor.start()
    seen: dict[int, list[Window]] = {}
    for _ in range(options.turns):
        places = [place for place, runner in enumerate(runners) if runner.running]
        for place in order.sample(places, len(places)):
            contender = runners[place].contender
            assert contender is not None
            try:
                with candidate(), clock.team.region():
                    window = contender.turn()
                seen.setdefault(place, []).append(clock.team.shared(window))  # so that all decide alike
            except CandidateError as problem:
                runners[place].stop(str(problem))
    share = clock.team.largest(monitor.stop().other_cpu_share)
    if share > DISTURBED and LEAST_ROUND_S <= clock.agreed() - started <= longest_s:
        tally.repeats += 1
        return False
    tally.shares.append(share)
    for place, windows in seen.items():
        if runners[place].running:
            runners[place].windows.append(pooled(windows))
    return True


def _leave_behind(runners: Sequence[_Runner], options: HeatOptions, done: int) -> None:
    """End those whose training is slower than the leader's, beyond the noise of their common rounds."""
    running = [runner for runner in runners if runner.running]
    if done < 2 or len(running) < 2:
        return
    leader = min(running, key=lambda runner: statistics.median(_log_seconds(runner)))
    assert options.behind is not None
    for runner in running:
        if runner is leader:
            continue
        logs = [own - best for own, best in zip(_log_seconds(runner), _log_seconds(leader), strict=True)]
        mean = statistics.fmean(logs)
        reach = math.inf if len(logs) < options.least_rounds else _reach(logs)
        if mean - reach > math.log1p(options.behind) or min(logs) > math.log1p(options.hopeless):
            runner.left_behind = True
            runner.stop()


def _reach(logs: Sequence[float]) -> float:
    return float(stdtrit(len(logs) - 1, 0.975)) * statistics.stdev(logs) / math.sqrt(len(logs))


def _log_seconds(runner: _Runner) -> list[float]:
    return [math.log(runner.cost.seconds(rate)) for rate in _rates(runner)]


def _rates(runner: _Runner) -> list[float]:
    return [entry.images / entry.wall_s for entry in runner.windows]


def steady_rate(windows: Sequence[Window]) -> float:
    """Return images/s over all windows, without what a neighbour on the host took from one of them.

    Where the seconds of an image, those of waiting for it left out, are more than ``STALLED`` times the usual ones, no
    more than that counts. Waiting always counts: loaders deliver in bursts.
    """
    busy = [(entry.wall_s - entry.wait_s) / entry.images for entry in windows]
    most = STALLED * statistics.median_low(busy)
    seconds = sum(entry.wait_s + min(part, most) * entry.images for entry, part in zip(windows, busy, strict=True))
    return sum(entry.images for entry in windows) / seconds


def pooled(windows: Sequence[Window]) -> Window:
    """Return several windows as one."""
    first = windows[0]

    def total(name: str) -> float | None:
        parts = [getattr(entry, name) for entry in windows]
        return None if parts[0] is None else sum(parts)

    return replace(
        first,
        steps=sum(entry.steps for entry in windows),
        images=sum(entry.images for entry in windows),
        wall_s=sum(entry.wall_s for entry in windows),
        wait_s=sum(entry.wait_s for entry in windows),
        cpu_main_s=sum(entry.cpu_main_s for entry in windows),
        cpu_workers_s=sum(entry.cpu_workers_s for entry in windows),
        sync_s=total("sync_s"),
        transfer_s=total("transfer_s"),
    )
