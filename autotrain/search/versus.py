"""Versus: two settings that somebody has chosen meet in a duel; nothing is searched."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

from autotrain.data.caching import WarmSets
from autotrain.engine.heap import kept_heap
from autotrain.engine.restore import untouched
from autotrain.errors import CandidateError
from autotrain.hardware.machine import Machine
from autotrain.knobs.registry import Space, canonical, illegal
from autotrain.measure.burst import SCREENING
from autotrain.measure.clock import Clock
from autotrain.measure.session import Session
from autotrain.search.budget import Budget
from autotrain.search.check import check
from autotrain.search.events import Observer, Stage, silent
from autotrain.search.job import job_facts
from autotrain.search.probe import CHECK_S, warm_files, warm_samples
from autotrain.search.proof import Proof
from autotrain.search.recorder import Recorder
from autotrain.search.tournament import Tournament
from autotrain.settings import Settings
from autotrain.workload import Workload
from autotrain.world import world

BUDGET_S = 60.0
"""Seconds where no budget is given."""


def versus(
    workload: Workload,
    machine: Machine,
    first: Settings,
    second: Settings,
    *,
    budget_s: float | None = None,
    isolate: bool = False,
    observer: Observer = silent,
    clock: Clock | None = None,
) -> Session:
    """Measure two settings of a task and let them meet in a duel; return the session, whose default is the first.

    Model, random states, flags and threads are as before afterwards. Its ``final_duel`` is missing where the duel
    failed, and ``failures`` says why, and where both settings are the same, which is then ``chosen``. Numerics are not
    compared.

    Raises:
        AutotrainError: one of the settings does not run here.
    """
    clock = clock or Clock()
    budget = Budget(budget_s or BUDGET_S, clock)
    sides = (first, second)
    if first == second:
        return replace(_session(workload, machine, first), chosen=first)
    with (
        untouched(workload.device),
        kept_heap(workload.device),
        closing(WarmSets(warm_samples(workload), workload.cache_dir)) as warm,
    ):
        workload = replace(workload, warm=warm)
        session = _session(workload, machine, first)
        with Recorder(workload, session, observer, clock, isolate=isolate) as recorder:
            observer(Stage(title="both plans"))
            warm_files(recorder)
            for side in sides:
                recorder.run(check, side, settings=[side], limit_s=CHECK_S)
                if recorder.full(side, options=SCREENING) is None:
                    raise CandidateError(f"it failed here: {recorder.session.failures[-1].reason}")
            _wait_for_samples(recorder, first, machine)
            space = Space(default=first, choices={}, members=sides)
            tournament = Tournament(recorder, space, budget, observer)
            Proof(recorder, tournament, budget, observer).wins(second)
            recorder.note(seconds=budget.spent_s)
            return recorder.session


def _session(workload: Workload, machine: Machine, first: Settings) -> Session:
    cores = world().cpu_budget(machine.cpu.usable)
    return Session(machine=machine, job=job_facts(workload, machine), default=first, cores=cores)


def _wait_for_samples(recorder: Recorder, settings: Settings, machine: Machine) -> None:
    """Measure loading without workers: the longer a sample is waited for, the longer a fair turn is."""
    alone = canonical(replace(settings, workers=0), recorder.workload)
    if illegal(alone, recorder.workload, machine) is None:
        recorder.loading(alone)
