"""Parcels: a workload made ready to be sent to a process that starts anew, or the reason why it cannot be."""

from __future__ import annotations

import ast
import os
import sys
import tempfile
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from autotrain.data.caching import WarmSets
from autotrain.data.workers import MAIN, _can_be_imported, _References
from autotrain.errors import first_line
from autotrain.workload import Workload

TOP_LEVEL = "define it at the top level of a module"


class ChildSets(WarmSets):
    """Filled caches of a child process.

    They travel empty, under one name: each side's ``close`` removes what either has left on disk, so that the parent
    can sweep up after a child that was killed.
    """

    def __init__(self, samples: int, directory: Path | None, name: str | None = None) -> None:
        super().__init__(samples, directory)
        self._name = name or f"probe-{uuid.uuid4().hex[:8]}-"

    def __reduce__(self) -> tuple[Any, ...]:
        return ChildSets, (self.samples, self._directory, self._name)


class _Homes(_References):
    """Notes the homes of classes and functions without copying tensors."""

    def persistent_id(self, entry: Any) -> str | None:
        return "tensor" if isinstance(entry, torch.TypedStorage | torch.UntypedStorage) else None


def stripped(workload: Workload) -> Workload:
    """Return what a child needs of a workload to measure it, its caches empty ones of the child's own."""
    warm = None if workload.warm is None else ChildSets(workload.warm.samples, workload.cache_dir)
    return replace(workload, validation=None, warm=warm, task=replace(workload.task, validation=None))


def write(workload: Workload) -> int:
    """Write a workload into a file without a name and return its descriptor.

    Tensors keep their bits, strides and sharing. Those on a GPU are written from host memory and read back to it.
    """
    number = _nameless()
    try:
        with open(number, "wb", closefd=False) as file:
            torch.save(workload, file)
    except BaseException:
        os.close(number)
        raise
    return number


def _nameless() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("autotrain-workload", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def examine(workload: Workload) -> tuple[str | None, bool]:
    """Return why a child cannot be given a workload, or None; and whether it must run the main script first."""
    task = workload.task
    parts = {
        "model": task.model,
        f"dataset {workload.source.name}": workload.source,
        "loss": (task.loss, workload.loss),
        "optimizer": task.optimizer,
        "step": task.step,
        "collation": task.collate,
        "sampler": task.sampler,
        "task": stripped(workload),
    }
    needs_main = False
    for name, part in parts.items():
        homes = _Homes()
        try:
            homes.dump(part)
        except Exception as problem:
            return f"the {name} cannot be pickled ({first_line(problem)}): {TOP_LEVEL}", False
        for home, what in homes.homes.items():
            needs_main = needs_main or home == MAIN
            reason = main_problem() if home == MAIN else None if _can_be_imported(home) else "cannot be imported again"
            if reason is not None:
                return f"the {name} uses {what} of {home}, which {reason}: {TOP_LEVEL}", False
    return None, needs_main


def main_problem() -> str | None:
    """Return why the main script cannot be run once more for its definitions alone, or None."""
    place = getattr(sys.modules[MAIN], "__file__", None)
    if place is None or not os.path.isfile(place):
        return "is not a file"
    try:
        tree = ast.parse(Path(place).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return "cannot be read"
    if any(isinstance(entry, ast.If) and _asks_for_main(entry.test) for entry in tree.body):
        return None
    return f"would train once more if it were run, having no 'if __name__ == \"{MAIN}\":'"


def _asks_for_main(test: ast.expr) -> bool:
    names = {entry.id for entry in ast.walk(test) if isinstance(entry, ast.Name)}
    return "__name__" in names and any(
        isinstance(entry, ast.Constant) and entry.value == MAIN for entry in ast.walk(test)
    )


def main_script() -> dict[str, str]:
    """Return where the main script is, as ``multiprocessing.spawn.prepare`` wants it."""
    module = sys.modules[MAIN]
    name = getattr(module.__spec__, "name", None)
    if name is not None:
        return {"init_main_from_name": name}
    return {"init_main_from_path": os.path.abspath(str(module.__file__))}
