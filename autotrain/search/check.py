"""The check: before anything is measured, model, data and loss are seen to fit together."""

from __future__ import annotations

from autotrain.engine.rig import Rig
from autotrain.settings import Settings
from autotrain.workload import Workload


def check(workload: Workload, settings: Settings) -> None:
    """Load one batch and run model and loss on it.

    Raises:
        TaskError: they do not fit together.
    """
    with Rig(workload, settings) as rig, rig.active():
        rig.check(rig.input.next())
