"""What a task and a plan mean on this machine, for whoever makes them live."""

from __future__ import annotations

import logging
from dataclasses import replace

from autotrain.errors import PlanError
from autotrain.hardware.machine import Machine, machine_facts
from autotrain.installation import check_installation
from autotrain.knobs.gradients import FULL
from autotrain.knobs.registry import KNOBS, canonical, illegal
from autotrain.knobs.sharding import needs_sharding
from autotrain.plan.plan import Plan
from autotrain.preparation import device_of, prepare_workload
from autotrain.search.planner import provenance
from autotrain.search.probe import ProbeOptions
from autotrain.task import Task
from autotrain.team import Team, join
from autotrain.workload import AUTO, Workload

log = logging.getLogger("autotrain")


def met(task: Task) -> Team:
    """Return all ranks, met the first time it is asked for."""
    check_installation()
    return join(device_of(task.device))


def here(task: Task, team: Team) -> tuple[Workload, Machine]:
    """Return a task with every default filled in, and the facts of this machine.

    Raises:
        AutotrainError: the task does not work as given.
    """
    return prepare_workload(task, team=team), machine_facts()


def with_policy(task: Task, plan: Plan) -> Task:
    """Let the plan name the policy where the task leaves it open."""
    policy = plan.settings.augmentation
    if task.augmentation in (None, AUTO):
        return replace(task, augmentation=policy)
    if task.augmentation != policy:
        log.warning("the plan was made for augmentation '%s', the task asks for '%s'", policy, task.augmentation)
    return task


def applicable(plan: Plan, workload: Workload, machine: Machine, *, name: str) -> Plan:
    """Return the plan with settings that can run here, folded to what they mean for this task.

    Raises:
        PlanError: they cannot.
    """
    level = logging.WARNING if workload.team.leads else logging.DEBUG  # one rank tells what all do
    for sentence in plan.differences(provenance(machine, workload)):
        log.log(level, "%s: %s", name, sentence)
    settings = replace(plan.settings, augmentation=workload.augmentation)
    for entry in KNOBS:
        for value, reason in entry.choices(workload, machine).left_out:
            if getattr(settings, entry.name) != value or entry.canonical(settings, workload) != settings:
                continue
            if entry.binding:
                raise PlanError(f"{name}: {entry.name} = {value} is not possible here: {reason}. Probe again")
            if entry.legal(settings, workload, machine) is None:
                log.log(level, "%s: %s = %s does less than it could: %s", name, entry.name, value, reason)
    settings = canonical(settings, workload)
    problem = illegal(settings, workload, machine)
    if problem:
        raise PlanError(f"{name}: not possible here: {problem}. Probe again")
    return replace(plan, settings=settings)


def made_for_others(plan: Plan, workload: Workload) -> bool:
    """Tell whether a plan was measured with another number of processes, among which cores and links were shared."""
    made, now = plan.provenance.processes, workload.team.world.world_size
    return bool(made) and made != now


def sharding(options: ProbeOptions, workload: Workload, plan: Plan | None = None) -> ProbeOptions:
    """Return the options with the sharding that a plan has, or that a model needs which fits on no device."""
    fixed = dict(options.fixed or {})
    if "sharding" in fixed or workload.task.settings.sharding == FULL:
        return options
    if plan is None:
        why = needs_sharding(workload)
        if why is not None and workload.team.leads:
            log.warning("%s", why)
        needed = why is not None
    else:
        needed = plan.settings.sharding == FULL
    return replace(options, fixed={**fixed, "sharding": FULL}) if needed else options
