"""What people call: probe, fit and prepare. Composition only."""

from __future__ import annotations

import logging
import signal
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from autotrain.application import applicable, here, made_for_others, met, sharding, with_policy
from autotrain.diagnose.finding import Finding
from autotrain.engine import events as fit_events
from autotrain.engine.events import EpochRecord, FitObserver
from autotrain.engine.keeper import Found, check, find
from autotrain.engine.loop import Trained, train
from autotrain.errors import SettingsError, TaskError, unknown
from autotrain.hardware.machine import Machine
from autotrain.knobs.base import Effect
from autotrain.knobs.registry import default_settings
from autotrain.measure.failure import answered
from autotrain.measure.session import Session
from autotrain.plan.plan import Plan
from autotrain.prepared import Prepared, make_live
from autotrain.search.budget import parse_budget
from autotrain.search.events import Observer, silent
from autotrain.search.planner import make_plan
from autotrain.search.probe import COMPILE, ProbeOptions, assist_probe, finding_of, run_probe
from autotrain.search.samplers import SAMPLERS
from autotrain.settings import Settings, Value
from autotrain.task import Task
from autotrain.team import Team
from autotrain.training import Training
from autotrain.workload import Workload

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger("autotrain")

PROOF_S = 30.0
"""Seconds in which a plan that was made with another number of processes is put to the proof."""

ALLOWED = {Effect.EXACT.value: Effect.EXACT, Effect.NUMERICS.value: Effect.NUMERICS}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """What a probe gives."""

    plan: Plan
    """The chosen settings with evidence and provenance."""

    session: Session
    """All measurements."""

    finding: Finding | None
    """The default's bottleneck; None where the probe was interrupted before it was known."""

    def save_report(self, path: Path | str) -> None:
        """Write all that was measured as one HTML page that opens offline.

        Raises:
            PlanError: the place cannot be written.
        """
        from autotrain.report.html.page import save_report

        save_report(path, self.session, self.plan, self.finding)

    def _repr_html_(self) -> str:
        """Return the verdict and the rates behind it, for a notebook."""
        from autotrain.report.html.page import summary_snippet

        return summary_snippet(self.session, self.plan, self.finding)


@dataclass(frozen=True, slots=True, kw_only=True)
class FitResult:
    """What a training gives."""

    model: nn.Module
    """The user's own model, trained."""

    ema: nn.Module | None
    """A copy of it whose weights are the moving average, where ``ema`` was given."""

    plan: Plan
    """What it was trained with."""

    session: Session | None
    """The probe's measurements; None where a plan was given."""

    history: tuple[EpochRecord, ...]
    """One record per epoch."""

    steps: int
    seconds: float
    """Wall-clock of the training, probing left out."""

    interrupted: bool

    unsaved: str | None = None
    """Why the training's last checkpoint is not there; None where it is, or where none was asked for."""

    def plot(self, path: Path | str | None = None) -> Figure:
        """Return loss, scores and learning rate by epoch as a matplotlib figure; written to a file if one is named.

        Raises:
            TaskError: matplotlib is not installed, the file cannot be written, or no epoch has ended.
        """
        from autotrain.report.plot import figure

        return figure(self.history, path)


def probe(
    model: nn.Module | Task,
    dataset: Any = None,
    *,
    budget: str = "auto",
    allow: str = "numerics",
    fix: Mapping[str, Value] | None = None,
    study: Path | str | None = None,
    optuna_sampler: str = "auto",
    compile: str = "auto",
    isolate: bool = False,
    before_training: bool = False,
    progress: bool = True,
    observer: Observer | None = None,
    **task_options: Any,
) -> ProbeResult:
    """Measure a training job, search for the fastest settings and prove them; train nothing.

    Model, optimizer, random states, flags, threads and processes are afterwards as before.

    Args:
        model: what is to be trained, or a whole Task.
        dataset: an image folder's path, a map-style dataset, or a pair of tensors; not beside a Task.
        budget: how long it may take, such as ``90s``; ``auto`` is small against the planned training.
        allow: ``numerics`` lets precision, memory format and the like change the rounding, behind a guard; ``exact``
            keeps the model's input and arithmetic bit for bit.
        fix: settings that stay at a value, such as ``{"precision": "fp32"}``.
        study: file that keeps the Optuna study, which a later probe goes on with; or URL of a database. Machines of one
            kind can work on one study at the same time, and come to one plan.
        optuna_sampler: what suggests candidates: auto, tpe, gp, linear, random or exhaustive.
        compile: when to try torch.compile: auto (for trainings of half an hour and more), on or off.
        isolate: run every measurement in a child process, not only those that may kill theirs.
        before_training: the training follows at once. An automatic budget is then no more than 6% of a short training
            (a quarter where steps take seconds), or 45 s, and what only informs is left out before one of less than 20
            minutes: what each setting is worth, and the largest batch; before one of few and long steps there is no
            search.
        progress: whether to tell on the terminal what happens.
        observer: is told of every event instead.
        task_options: fields of the Task, such as ``batch_size=128``.

    Raises:
        AutotrainError: the task does not work as given; the message says what to do.
    """
    task = _task(model, dataset, task_options)
    options = _options(budget, allow, fix, study, sampler=optuna_sampler, compile=compile, isolate=isolate)
    options = replace(options, before_training=before_training)
    workload, machine = here(task, met(task))
    options = sharding(options, workload)
    return _probe(workload, machine, options, progress=progress, observer=observer)


def fit(
    model: nn.Module | Task,
    dataset: Any = None,
    *,
    plan: Plan | Path | str | None = None,
    budget: str = "auto",
    allow: str = "numerics",
    fix: Mapping[str, Value] | None = None,
    study: Path | str | None = None,
    optuna_sampler: str = "auto",
    compile: str = "auto",
    isolate: bool = False,
    training: Training = Training(),
    progress: bool = True,
    observer: Observer | None = None,
    fit_observer: FitObserver | None = None,
    **task_options: Any,
) -> FitResult:
    """Probe, unless a plan is given, and train with the plan; the learning rate moves every step.

    A training that goes on from a checkpoint has the plan that it was begun with, unless another is given. A plan that
    was made with another number of processes is first put to the proof, which takes half a minute.

    Args:
        model: what to train, or a whole Task; it stays the same object and is trained in place.
        dataset: as for ``probe``.
        plan: a plan, or the path of one; nothing is probed then.
        budget: as for ``probe`` with ``before_training``.
        allow: as for ``probe``.
        fix: as for ``probe``.
        study: as for ``probe``.
        optuna_sampler: as for ``probe``.
        compile: as for ``probe``.
        isolate: as for ``probe``.
        training: what is kept of the training, and what it goes on from.
        progress: whether to tell on the terminal what happens.
        observer: is told of every event of the probe instead.
        fit_observer: is told of every event of the training instead.
        task_options: fields of the Task or the Training, such as ``duration="20ep"`` or ``checkpoints="runs/mine"``.

    Raises:
        AutotrainError: the task or the plan does not work as given; the message says what to do.
        SystemExit: SIGTERM ended a training that is kept (code 143); it goes on with ``resume="auto"``.
    """
    own = {name: task_options.pop(name) for name in tuple(task_options) if name in Training.__dataclass_fields__}
    training = replace(training, **own)
    task = _task(model, dataset, task_options, also=tuple(Training.__dataclass_fields__))
    options = _options(budget, allow, fix, study, sampler=optuna_sampler, compile=compile, isolate=isolate)
    team = met(task)
    given = _loaded(plan, team)
    found = team.leaders(lambda: find(training))
    if found is not None and found.plan is not None and given is None:
        given = Plan.from_yaml(found.plan, where=str(found.path))
    workload, machine = here(task if given is None else with_policy(task, given), team)
    check(training, workload, found)
    if training.logs:
        from autotrain.report.logs import check_logs

        team.leaders(lambda: check_logs(training.logs))
    given, session = _settled(
        given, workload, machine, options, source=plan, prove=found is None, progress=progress, observer=observer
    )
    workload = replace(workload, augmentation=given.settings.augmentation)
    trained = _train(workload, given, training, found, progress=progress, observer=fit_observer)
    if trained.signal == signal.SIGTERM:
        raise SystemExit(128 + signal.SIGTERM)
    return FitResult(
        model=workload.model,
        ema=trained.ema,
        plan=given,
        session=session,
        history=trained.history,
        steps=trained.steps,
        seconds=trained.seconds,
        interrupted=trained.interrupted,
        unsaved=trained.unsaved,
    )


def prepare(
    model: nn.Module | Task,
    dataset: Any = None,
    *,
    plan: Plan | Path | str | None = None,
    budget: str = "auto",
    allow: str = "numerics",
    fix: Mapping[str, Value] | None = None,
    study: Path | str | None = None,
    optuna_sampler: str = "auto",
    compile: str = "auto",
    isolate: bool = False,
    clip_norm: float | None = None,
    progress: bool = True,
    observer: Observer | None = None,
    **task_options: Any,
) -> Prepared:
    """Probe, unless a plan is given, and hand over the tuned parts of a training to a loop of the caller's own.

    To be used in a ``with``, or closed, as a file is; one at a time. ``duration`` tells the probe how long the training
    will be; its end, its validation and its learning rate are the loop's.

    Args:
        model: what is trained, or a whole Task; it stays the same object and is trained in place.
        dataset: as for ``probe``.
        plan: as for ``fit``.
        budget: as for ``probe`` with ``before_training``.
        allow: as for ``probe``.
        fix: as for ``probe``; of use where the loop does without one, such as ``{"optimizer_kernel": "own"}``.
        study: as for ``probe``.
        optuna_sampler: as for ``probe``.
        compile: as for ``probe``.
        isolate: as for ``probe``.
        clip_norm: largest norm of the gradient; None leaves it as it is.
        progress: whether to tell on the terminal what the probe does.
        observer: is told of every event of the probe instead.
        task_options: fields of the Task, such as ``optimizer=...`` or ``batch_size=128``.

    Raises:
        AutotrainError: the task or the plan does not work as given; the message says what to do.
    """
    clip_norm = Training(clip_norm=clip_norm).clip_norm
    task = _task(model, dataset, task_options, also=("clip_norm",))
    for name in ("schedule", "stretch"):
        if getattr(task, name) != Task.__dataclass_fields__[name].default:
            raise TaskError(
                f"{name}: a loop of your own sets the learning rate. Give job.optimizer to a torch.optim.lr_scheduler"
            )
    options = _options(budget, allow, fix, study, sampler=optuna_sampler, compile=compile, isolate=isolate)
    team = met(task)
    given = _loaded(plan, team)
    workload, machine = here(task if given is None else with_policy(task, given), team)
    given, session = _settled(
        given, workload, machine, options, source=plan, prove=True, progress=progress, observer=observer
    )
    workload = replace(workload, augmentation=given.settings.augmentation)
    return make_live(workload, given, session, clip_norm=clip_norm)


def _options(
    budget: str,
    allow: str,
    fix: Mapping[str, Value] | None,
    study: Path | str | None,
    *,
    sampler: str,
    compile: str,
    isolate: bool,
) -> ProbeOptions:
    if compile not in COMPILE:
        raise SettingsError(unknown("value of compile", compile, COMPILE))
    if sampler not in SAMPLERS:
        raise SettingsError(unknown("optuna_sampler", sampler, SAMPLERS))
    return ProbeOptions(
        budget_s=parse_budget(budget),
        allow=_effect(allow),
        fixed=_checked(fix),
        study=study if study is None or (isinstance(study, str) and "://" in study) else Path(study),
        sampler=sampler,
        compile=compile,
        isolate=isolate,
    )


def _probe(
    workload: Workload, machine: Machine, options: ProbeOptions, *, progress: bool, observer: Observer | None
) -> ProbeResult:
    team = workload.team
    if not team.leads:
        assist_probe(workload)
        with answered():
            return team.shared(None)  # type: ignore[return-value]
    with ExitStack() as stack:
        if observer is None and progress:
            from autotrain.report.terminal import ProbeNarrator

            observer = stack.enter_context(ProbeNarrator())
        session = run_probe(workload, machine, options=options, observer=observer or silent)
    finding = finding_of(session)
    result = ProbeResult(plan=make_plan(session, workload, finding), session=session, finding=finding)
    with answered():
        team.shared(result)
    if progress:
        from autotrain.report.summary import show_result

        show_result(session, result.plan, finding)
    return result


def _train(
    workload: Workload,
    plan: Plan,
    training: Training,
    found: Found | None,
    *,
    progress: bool,
    observer: FitObserver | None,
) -> Trained:
    from autotrain.report.terminal import FitNarrator
    from autotrain.report.trouble import log_trouble

    if not workload.team.leads:  # one rank tells what all do
        return train(workload, plan.settings, training=training, found=found, expected=plan.evidence.chosen_rate)
    with ExitStack() as stack:
        told: list[FitObserver] = []
        if observer is None and progress:
            observer = stack.enter_context(FitNarrator())
        if not isinstance(observer, FitNarrator):  # nobody is sure to be told what goes wrong
            told.append(log_trouble)
        if observer is not None:
            told.append(observer)
        told += training.callbacks
        if training.logs:
            from autotrain.report.logs import logging_to

            told.append(stack.enter_context(logging_to(training.logs)))
        return train(
            workload,
            plan.settings,
            observer=told[0] if len(told) == 1 else fit_events.all_of(told),
            training=training,
            found=found,
            facts={"plan": plan.to_yaml()},
            expected=plan.evidence.chosen_rate,
        )


def _task(model: nn.Module | Task, dataset: Any, options: Mapping[str, Any], *, also: Sequence[str] = ()) -> Task:
    known = tuple(Task.__dataclass_fields__)
    for name in options:
        if name not in known:
            raise TaskError(unknown("option", name, (*known, *also)))
    if isinstance(model, Task):
        if dataset is not None:
            raise TaskError("dataset: a Task brings its own; give a Task, or a model and a dataset")
        return replace(model, **options)
    if dataset is None:
        raise TaskError("dataset: missing. Give an image folder's path, a map-style dataset, or a pair of tensors")
    return Task(model=model, dataset=dataset, **options)


def _loaded(plan: Plan | Path | str | None, team: Team) -> Plan | None:
    """Return a plan that was given, read by one rank for all where it is a file."""
    return team.leaders(lambda: Plan.load(plan) if isinstance(plan, str | Path) else plan)


def _settled(
    given: Plan | None,
    workload: Workload,
    machine: Machine,
    options: ProbeOptions,
    *,
    source: Any,
    prove: bool,
    progress: bool,
    observer: Observer | None,
) -> tuple[Plan, Session | None]:
    """Return the plan that is trained with, and the measurements where there were any."""
    options = sharding(options, workload, given)
    if given is None:
        options = replace(options, before_training=True)
        probed = _probe(workload, machine, options, progress=progress, observer=observer)
        return probed.plan, probed.session
    name = str(source) if isinstance(source, str | Path) else "the plan"
    with workload.team.region():
        given = applicable(given, workload, machine, name=name)
    if prove and made_for_others(given, workload):
        return _proven(given, workload, machine, options, progress=progress, observer=observer, name=name)
    return given, None


def _proven(
    plan: Plan,
    workload: Workload,
    machine: Machine,
    options: ProbeOptions,
    *,
    progress: bool,
    observer: Observer | None,
    name: str,
) -> tuple[Plan, Session | None]:
    """Return a plan made elsewhere with evidence from here, or the default where it does not beat that here."""
    workload = replace(workload, augmentation=plan.settings.augmentation)
    if plan.settings == default_settings(workload):
        return plan, None
    budget_s = options.budget_s or PROOF_S
    options = replace(options, only=plan.settings, budget_s=budget_s, study=None, compile="off")
    if workload.team.leads:
        log.warning(
            "%s: made with other numbers of processes; it is put to the proof first, for about %.0f s",
            name,
            budget_s,
        )
    probed = _probe(workload, machine, options, progress=progress, observer=observer)
    if probed.plan.settings != plan.settings and workload.team.leads:
        log.warning("%s: its settings are not proven to be faster than the default's here, which are taken", name)
    return replace(probed.plan, seed=plan.seed), probed.session


def _effect(allow: str) -> Effect:
    if allow not in ALLOWED:
        raise SettingsError(unknown("value of allow", allow, ALLOWED))
    return ALLOWED[allow]


def _checked(fixed: Mapping[str, Value] | None) -> dict[str, Value]:
    names = Settings.names()
    for name in fixed or {}:
        if name not in names:
            raise SettingsError(unknown("knob", name, names))
    return dict(fixed or {})
