"""Targets that are Python: a file, or ``package.module:name``; what goes wrong in them is told by file and line."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from autotrain.errors import TaskError
from autotrain.task import Task

USUAL = "task"
"""The name that is looked for where none is given."""

SPARE = "autotrain_target"
"""Module name of a file whose own name is taken or no identifier."""


def task_of(target: str) -> Task:
    """Return the task that a target gives.

    Raises:
        TaskError: the target is not there, raises, or gives no task; the message names file and line.
    """
    place, colon, name = target.rpartition(":")
    if not colon:
        place, name = target, ""
    if colon and not name:
        raise TaskError(f"TARGET {target}: no name after the colon. Give {place}:name")
    if place.endswith(".py") or os.sep in place or Path(place).is_file():
        module = _load_file(Path(place))
    elif colon:
        module = _load_module(place)
    else:
        raise TaskError(
            f"TARGET {target}: neither a Python file nor package.module:name. Give a file such as task.py, "
            "package.module:name, or --model and --data"
        )
    found = _named(module, name, target) if name else _searched(module, target)
    return found if isinstance(found, Task) else _called(found, module, name or USUAL, target)


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise TaskError(f"TARGET {path}: {'a folder, not a Python file' if path.is_dir() else 'no such file'}")
    path = path.resolve()
    # As when Python runs it: files beside it can be imported, in loader workers too.
    sys.path.insert(0, str(path.parent))
    name = _module_name(path)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise TaskError(f"TARGET {path}: not a Python file. Its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    with _blamed(path):
        spec.loader.exec_module(module)
    return module


def _module_name(path: Path) -> str:
    """Return the name under which workers can import the file again, where it has such a name."""
    if not path.stem.isidentifier() or path.stem in sys.modules:
        return SPARE
    spec = importlib.util.find_spec(path.stem)
    return path.stem if spec is not None and spec.origin == str(path) else SPARE


def _load_module(name: str) -> ModuleType:
    sys.path.insert(0, os.getcwd())
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError as problem:
        raise TaskError(f"TARGET {name}: {problem}. {_WHERE}") from problem
    except (ImportError, ValueError, AttributeError) as problem:
        raise TaskError(f"TARGET {name}: not the name of a module ({problem})") from problem
    if spec is None:
        raise TaskError(f"TARGET {name}: no module of that name. {_WHERE}")
    with _blamed(Path(spec.origin or name)):
        return importlib.import_module(name)


_WHERE = "Run from the folder that holds its package, or install the package"


def _named(module: ModuleType, name: str, target: str) -> Any:
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            raise TaskError(f"TARGET {target}: {_origin(module)} has no '{name}'. {_candidates(module)}")
        found = getattr(found, part)
    return found


def _searched(module: ModuleType, target: str) -> Any:
    if hasattr(module, USUAL):
        return getattr(module, USUAL)
    tasks = {id(value): (name, value) for name, value in vars(module).items() if isinstance(value, Task)}
    if len(tasks) == 1:
        return next(iter(tasks.values()))[1]
    if tasks:
        names = ", ".join(name for name, _ in tasks.values())
        raise TaskError(
            f"TARGET {target}: has several tasks ({names}). Say which: {target}:{next(iter(tasks.values()))[0]}"
        )
    raise TaskError(f"TARGET {target}: gives no task. Assign one: {USUAL} = autotrain.Task(model=..., dataset=...)")


def _called(found: Any, module: ModuleType, name: str, target: str) -> Task:
    if not callable(found):
        raise TaskError(f"TARGET {target}: '{name}' is {_kind(found)}, not a Task nor a function that returns one")
    needed = _needed(found)
    if needed:
        raise TaskError(
            f"TARGET {target}: '{name}' wants arguments ({', '.join(needed)}); a function that makes a task takes none"
        )
    with _blamed(Path(_origin(module))):
        made = found()
    if not isinstance(made, Task):
        raise TaskError(f"TARGET {target}: '{name}' returned {_kind(made)}, not a Task. Return autotrain.Task(...)")
    return made


def _needed(function: Any) -> list[str]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # built-in: whatever it wants, it will say itself
        return []
    optional = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
    return [entry.name for entry in parameters if entry.default is entry.empty and entry.kind not in optional]


def _kind(value: Any) -> str:
    return "None" if value is None else f"of type {type(value).__name__}"


def _origin(module: ModuleType) -> str:
    return getattr(module, "__file__", None) or module.__name__


def _candidates(module: ModuleType) -> str:
    names = [name for name, value in vars(module).items() if isinstance(value, Task)]
    return f"Its tasks: {', '.join(names)}" if names else "It has no Task at all"


@contextmanager
def _blamed(path: Path) -> Iterator[None]:
    """Turn whatever a user's file raises into one error that names its line."""
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as problem:
        words = str(problem).strip().splitlines()
        what = f"{type(problem).__name__}: {words[0]}" if words else type(problem).__name__
        if isinstance(problem, SyntaxError) and problem.filename is not None:
            what = f"{type(problem).__name__}: {problem.msg}"
            place = f"{_near(Path(problem.filename))}:{problem.lineno}"
        else:
            place = f"{_near(path)}{_line(problem, path)}"
        raise TaskError(f"{place}: the target raised {what}") from problem


def _line(problem: BaseException, path: Path) -> str:
    """Return ``:12``, the last line of the file that the error came through; empty where there is none."""
    lines = [frame.lineno for frame in traceback.extract_tb(problem.__traceback__) if Path(frame.filename) == path]
    return f":{lines[-1]}" if lines else ""


def _near(path: Path) -> str:
    """Return a path as seen from here where it lies below, as people write it."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
