"""Comparing plans: two plans, applied to one task as each would be trained with, meet in a duel."""

from __future__ import annotations

from autotrain.application import applicable, here, met, with_policy
from autotrain.errors import UnsupportedError
from autotrain.measure.session import Session
from autotrain.plan.plan import Plan
from autotrain.search.budget import parse_budget
from autotrain.search.events import Observer, silent
from autotrain.search.versus import versus
from autotrain.task import Task


def duel_of_plans(
    task: Task,
    one: Plan,
    other: Plan,
    *,
    names: tuple[str, str] = ("A", "B"),
    budget: str = "auto",
    isolate: bool = False,
    observer: Observer = silent,
) -> Session:
    """Let two plans meet on a task, on this machine; train nothing.

    Args:
        task: what is trained.
        one: a plan; its settings are the session's default.
        other: another one.
        names: what people call them.
        budget: how long it may take, such as ``90s``; ``auto`` is a minute.
        isolate: measure in a child process.
        observer: is told of every event.

    Raises:
        AutotrainError: task or plans do not work here.
    """
    budget_s = parse_budget(budget)
    team = met(task)
    if not team.alone:
        raise UnsupportedError("compare: plans meet in one process. Start it without torchrun")
    found = []
    for name, plan in zip(names, (one, other), strict=True):
        workload, machine = here(with_policy(task, plan), team)
        found.append(applicable(plan, workload, machine, name=name).settings)
    first, second = found
    return versus(workload, machine, first, second, budget_s=budget_s, isolate=isolate, observer=observer)
