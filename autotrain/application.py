"""What a task and a plan mean on this machine, for whoever makes them live."""

from __future__ import annotations

import hashlib
import logging
import socket
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from autotrain.errors import PlanError, TaskError
from autotrain.hardware.machine import Machine, machine_facts
from autotrain.installation import check_installation
from autotrain.knobs.compile import RANKS
from autotrain.knobs.gradients import FULL
from autotrain.knobs.registry import KNOBS, canonical, illegal
from autotrain.knobs.sharding import needs_sharding
from autotrain.measure.failure import answered
from autotrain.plan.plan import Plan
from autotrain.preparation import device_of, prepare_workload
from autotrain.search.planner import provenance
from autotrain.search.probe import ProbeOptions
from autotrain.settings import Settings
from autotrain.task import Task
from autotrain.team import Team, join
from autotrain.workload import AUTO, Workload
from autotrain.world import affinity, place, share_cores, share_of

log = logging.getLogger("autotrain")

LOOKS = 1000
"""Samples, evenly spread over a dataset, whose labels and files' names ranks compare, about."""

Facts = Mapping[str, object]


def met(task: Task) -> Team:
    """Return all ranks, met the first time it is asked for."""
    check_installation()
    return join(device_of(task.device))


def here(task: Task, team: Team) -> tuple[Workload, Machine]:
    """Return a task with every default filled in, and the facts of this machine; all ranks do it together.

    Raises:
        AutotrainError: the task does not work as given, on this rank or another, or ranks have different ones.
    """
    with team.region():
        workload, machine = prepare_workload(task, team=team), machine_facts()
        facts = {} if team.alone else facts_of(workload)
    if not team.alone:
        _agree(facts, machine, team)
    return workload, machine


def _agree(facts: Facts, machine: Machine, team: Team) -> None:
    """Compare what ranks are to train, and learn which of them share this one's cores."""
    with answered():
        said = team.everyone((socket.gethostname(), facts, place(), affinity()))
    problem = disagreement([(host, own) for host, own, _, _ in said])
    if problem is not None:
        raise TaskError(problem)
    beside = [mask for _, _, where, mask in said if where == place()]
    share_cores(share_of(affinity(), beside, quota=machine.cpu.quota))


def facts_of(workload: Workload) -> dict[str, object]:
    """Return what must be the same on all ranks, by what people call it: whoever differs trains something else."""
    source, span = workload.source, workload.span
    labels, names = getattr(source, "labels", None), source.class_names
    stride = max(1, len(source) // LOOKS)
    looked = [] if labels is None else torch.as_tensor(labels)[::stride].tolist()
    files = source.files(range(0, len(source), stride))
    return {
        "number of training images": len(source),
        "number of validation images": 0 if workload.validation is None else len(workload.validation),
        "seed": workload.seed,
        "batch size": workload.batch_size,
        "device": workload.device.type,
        "duration": f"{span.seconds} s" if span.seconds is not None else f"{span.total} steps",
        "augmentation": workload.augmentation,
        "classes": _digest(repr(names).encode()),
        "labels": _digest(repr(looked).encode()),
        "files": _digest("\n".join("/".join(file.parts[-2:]) for file in files).encode()),  # folders may differ
        "order of the first epoch": _digest(workload.stream().order(0).tobytes()),
        "model or recipe": workload.fingerprint,
    }


def disagreement(said: Sequence[tuple[str, Facts]]) -> str | None:
    """Return which rank is to train something else than most do, as a sentence; None where all have the same.

    Args:
        said: host and facts of every rank, by rank.
    """
    for name in said[0][1]:
        values = [facts.get(name) for _, facts in said]
        ((usual, count),) = Counter(values).most_common(1)
        if count == len(values):
            continue
        odd = next(rank for rank, value in enumerate(values) if value != usual)
        other = values.index(usual)
        return (
            f"the ranks are not given the same task: the {name} of rank {odd} on {said[odd][0]} is {values[odd]}, that "
            f"of rank {other} on {said[other][0]} is {usual}. Give all of them the same data and options"
        )
    return None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:8]


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

    What one process can have and several ranks cannot is left out, so that a training can go on in another number.

    Raises:
        PlanError: they cannot.
    """
    level = logging.WARNING if workload.team.leads else logging.DEBUG  # one rank tells what all do
    for sentence in plan.differences(provenance(machine, workload)):
        log.log(level, "%s: %s", name, sentence)
    settings = replace(plan.settings, augmentation=workload.augmentation)
    none = Settings().compile
    if not workload.team.alone and settings.compile != none:
        words = f"compile = {settings.compile} is left out: {RANKS}. All else is used"
        log.log(level, "%s: %s", name, words)
        settings = replace(settings, compile=none)
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
    """Tell whether a plan was measured with other numbers of processes, among which cores and links were shared.

    That is in all or on a machine; all ranks go by what rank 0 finds.
    """
    made, team = plan.provenance, workload.team
    in_all = made.processes and made.processes != team.world.world_size
    each = made.processes_per_machine and made.processes_per_machine != team.world.local_world_size
    return bool(team.first(float(bool(in_all or (made.processes and each)))))


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
