"""autotrain measures a PyTorch vision training job, proves which settings are fastest here, and trains with them."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = ["Plan", "Settings", "Task", "Training", "fit", "prepare", "probe"]

if TYPE_CHECKING:
    from autotrain.api import fit, prepare, probe
    from autotrain.plan.plan import Plan
    from autotrain.settings import Settings
    from autotrain.task import Task
    from autotrain.training import Training

_HOMES = {
    "Plan": "autotrain.plan.plan",
    "Settings": "autotrain.settings",
    "Task": "autotrain.task",
    "Training": "autotrain.training",
    "fit": "autotrain.api",
    "prepare": "autotrain.api",
    "probe": "autotrain.api",
}


def __getattr__(name: str) -> Any:
    """Import a public name at its first use: ``import autotrain`` alone stays light."""
    if name not in _HOMES:
        raise AttributeError(f"module 'autotrain' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
