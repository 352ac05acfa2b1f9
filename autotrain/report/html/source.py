"""Reading what a report is made of: a session, or all that ``autotrain probe --json`` wrote."""

from __future__ import annotations

import json
import os
from typing import Any

from autotrain import files
from autotrain.errors import PlanError
from autotrain.measure.session import SESSION_FILE, Session
from autotrain.plan.plan import Plan


def read_probe(path: str | os.PathLike[str]) -> tuple[Session, Plan | None]:
    """Return the session in a file, and the plan where that is in it too.

    Raises:
        PlanError: there is no such file, or it holds neither a session nor the output of a probe.
    """
    name = files.printable(os.fspath(path))
    values = _parsed(files.read_text(path, SESSION_FILE), name)
    bare = "session" not in values
    try:
        session = Session.from_json(json.dumps(values if bare else values["session"]))
        for entry in session.measurements:
            _ = entry.rate  # what cannot be summarised was not measured
        plan = None if bare or values.get("plan") is None else _plan(values["plan"], f"{name}: plan")
    except PlanError as problem:
        raise problem if str(problem).startswith(name) else PlanError(f"{name}: {problem}") from problem
    except (ValueError, TypeError, ArithmeticError) as problem:
        raise PlanError(f"{name}: not a session ({problem}): give the JSON file that a probe wrote") from problem
    return session, plan


def _parsed(text: str, name: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except json.JSONDecodeError as problem:
        what = f"not JSON ({problem.msg} in column {problem.colno})"
        raise PlanError(
            f"{name}:{problem.lineno}: {what}, so not a session. Give the JSON file that a probe wrote"
        ) from problem
    except (ValueError, RecursionError) as problem:
        raise PlanError(f"{name}: not a session ({problem}): give the JSON file that a probe wrote") from problem
    if not isinstance(values, dict):
        raise PlanError(f"{name}: not a session: give the JSON file that a probe wrote")
    return values


def _plan(values: Any, where: str) -> Plan:
    """Return a plan from what ``Plan.as_dict`` gave: JSON is YAML, and is checked as such."""
    return Plan.from_yaml(json.dumps(values, ensure_ascii=False), where=where)
