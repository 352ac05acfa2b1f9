"""Contenders: live rigs that take turns, their workers frozen in between."""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import dataclass, replace

from autotrain.engine.rig import Rig
from autotrain.measure.burst import BurstOptions, MakeDrive, discard, fixed, run_window
from autotrain.measure.clock import Clock
from autotrain.measure.drive import FullDrive
from autotrain.measure.measurement import Kind, Window
from autotrain.settings import Settings
from autotrain.workload import Workload

LONG_STEP_S = 0.15
"""Step time from which on a turn's begin matters little, and a second turn in a round costs more than it tells."""

LONGEST = 2.0
"""Factor of the time for warming up after which that ends, even where the loader's stock is not used up."""

LED_IN = 2
"""Fewest timed steps of a turn that begins with an untimed one, so that not half of the time goes there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatOptions:
    """How a heat is run."""

    rounds: int = 8
    """Rounds of those who stay to the end; each contender has all its turns of a round between those of the others."""

    turns: int = 2
    """Turns of each contender in a round."""

    turn_s: float = 0.1
    """Shortest turn; one step where a step takes longer."""

    turn_steps: int = 4
    """Fewest steps of a turn on a device that works asynchronously."""

    lead_in_s: float = LONG_STEP_S
    """Longest step that opens, untimed, each turn of a contender with workers: once thawed, those need some 10 ms until
    each has a core of its own again. Where steps are longer that is too little to pay for one."""

    warmup_s: float = 0.5
    """Untimed seconds of each contender before the first round, at least."""

    least_rounds: int = 3
    """Rounds before somebody may be left behind."""

    behind: float | None = 0.03
    """A contender leaves when its training takes longer than the leader's by more than this share, beyond the noise;
    None keeps all to the end."""

    hopeless: float = 0.3
    """Share by which it leaves after two rounds already, if it was slower by that in each."""

    again: bool = True
    """Whether a round that other programs disturb is run again."""

    limit_s: float = math.inf
    """Seconds after which no further round begins; two rounds are run in any case."""


class Contender:
    """One live rig of a heat, whose workers are frozen while it is not its turn.

    A loader left to itself would fill its stock while others run, on their time, and then serve its own turn from it.
    Frozen by SIGSTOP its state is the same when its turn comes again. Where workers cannot be frozen (Windows), each
    turn first drains twice the stock instead.
    """

    def __init__(
        self,
        workload: Workload,
        settings: Settings,
        stack: ExitStack,
        options: HeatOptions,
        *,
        make_drive: MakeDrive = FullDrive,
        clock: Clock | None = None,
    ) -> None:
        self.settings = settings
        self.startup_s = self.compile_s = 0.0
        self.warmup_steps = 0
        self._clock = clock or Clock(workload.team)
        self._options = options
        self._leads_in = False
        started = self._clock.now()
        self._rig = stack.enter_context(Rig(workload, settings))
        with self._rig.active():
            self._drive = make_drive(self._rig, self._clock)
        self._loads = self._drive.kind is not Kind.COMPUTE
        if self._loads:
            self._rig.input.loader.pause()
            stack.callback(lambda: self._rig.input.loader.resume())
        self.startup_s = self._clock.now() - started
        least = options.turn_steps if self._drive.asynchronous else 1
        self._window = BurstOptions(window_s=options.turn_s, window_steps=least)

    @property
    def kind(self) -> Kind:
        """What a step does."""
        return self._drive.kind

    def warm_up(self) -> None:
        """Run untimed until the loader's stock is used up and the time is over; the first step's compiling is timed.

        All contenders are to be made before the first warms up: workers are forked when one is made, and after a fork
        the first write to each page of this process, weights and gradients of everybody included, copies the page.
        """
        if self._loads:
            self._rig.input.loader.resume()
        with self._rig.active():
            started = self._clock.now()
            discard(self._drive, 1)
            first_s = self._clock.now() - started
            steps, begun, spent_s = 1, self._clock.agreed(), 0.0
            while steps < 2 + self._drive.stock or spent_s < self._options.warmup_s:
                discard(self._drive, 1)
                steps += 1
                spent_s = self._clock.agreed() - begun
                if spent_s > LONGEST * self._options.warmup_s:
                    break
            usual_s = spent_s / max(1, steps - 1)
        if self._rig.step.compiled:
            self.compile_s = max(0.0, first_s - usual_s)
        self.startup_s += first_s - self.compile_s
        self.warmup_steps = steps
        self._leads_in = self._drive.stock > 0 and usual_s <= self._options.lead_in_s
        if self._leads_in:
            self._window = replace(self._window, window_steps=max(LED_IN, self._window.window_steps))
        self._window = fixed(self._window, usual_s, self._clock)
        self._pause()

    def turn(self) -> Window:
        """Take a turn."""
        frozen = self._rig.input.loader.resume() if self._loads else True
        try:
            with self._rig.active():
                if not frozen:
                    discard(self._drive, 2 * self._drive.stock)
                elif self._leads_in:
                    discard(self._drive, 1)
                return run_window(self._drive, self._window, self._clock)
        finally:
            self._drive.losses.clear()
            self._pause()

    def _pause(self) -> None:
        if self._loads:
            self._rig.input.loader.pause()
