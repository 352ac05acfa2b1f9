"""Loader: worker processes, or threads of the training process."""

from __future__ import annotations

from typing import Any

from autotrain.hardware.machine import Machine
from autotrain.knobs.base import Choices, Effect, Knob, Side
from autotrain.settings import Settings, Value
from autotrain.workload import Workload


class LoaderKind(Knob):
    """Threads hand over batches without a copy between processes; they pay where decoding leaves Python's lock."""

    name, effect, side = "loader", Effect.EXACT, Side.INPUT
    known = ("processes", "threads")
    about = "What the workers that load batches are."
    meanings = {
        "processes": "Worker processes; nothing in them waits for Python's lock.",
        "threads": (
            "Threads of the training process; no copy between processes, pays where decoding leaves Python's lock."
        ),
    }

    def choices(self, workload: Workload, machine: Machine) -> Choices:
        """Offer threads where a sample depends on its index alone."""
        del machine
        reason = _reason(workload)
        if reason:
            return Choices(allowed=("processes",), left_out=(("threads", reason),))
        return Choices(allowed=self.known)

    def legal(self, settings: Settings, workload: Workload, machine: Machine) -> str | None:
        """Refuse threads for datasets with random transforms of their own."""
        del machine
        return _reason(workload) if settings.loader == "threads" else None

    def canonical(self, settings: Settings, workload: Workload) -> Settings:
        """Fold at 0 workers."""
        del workload
        return self.fold(settings, when=settings.workers == 0, to=Settings().loader)

    def loader_options(self, value: Value, options: dict[str, Any]) -> None:
        """Set the kind."""
        options["kind"] = value


def _reason(workload: Workload) -> str | None:
    if workload.source.pure and workload.task.collate is None:
        return None
    if workload.source.pure:
        return "a collation of your own may draw random numbers, and threads of one process share their generators"
    return "the dataset may draw random numbers, and threads of one process share their generators"
