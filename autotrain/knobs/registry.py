"""The list of all knobs, in the order in which the rig composes their hooks."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from autotrain.errors import SettingsError, unknown
from autotrain.hardware.machine import Machine
from autotrain.knobs.augmentation import Augmentation
from autotrain.knobs.base import Choices, Effect, Knob, Side
from autotrain.knobs.buckets import Buckets
from autotrain.knobs.cache import CacheChoice
from autotrain.knobs.compile import Compile
from autotrain.knobs.cudnn_benchmark import CudnnBenchmark
from autotrain.knobs.decoder import DecoderChoice
from autotrain.knobs.gradient_precision import GradientPrecision
from autotrain.knobs.gradient_views import GradientViews
from autotrain.knobs.gradients import ALONE
from autotrain.knobs.loader import LoaderKind
from autotrain.knobs.members import Members
from autotrain.knobs.memory_format import MemoryFormat
from autotrain.knobs.micro_batches import MicroBatches
from autotrain.knobs.optimizer_kernel import OptimizerKernel
from autotrain.knobs.pinning import Pinning
from autotrain.knobs.placement import Placement
from autotrain.knobs.precision import Precision
from autotrain.knobs.prefetch import Prefetch
from autotrain.knobs.resize import Resize
from autotrain.knobs.sharding import Sharding
from autotrain.knobs.static_graph import StaticGraph
from autotrain.knobs.threads import Threads
from autotrain.knobs.workers import Workers
from autotrain.settings import Settings, Value
from autotrain.workload import Workload

log = logging.getLogger(__name__)

KNOBS: tuple[Knob, ...] = (
    Precision(),
    MemoryFormat(),
    Compile(),
    OptimizerKernel(),
    CudnnBenchmark(),
    MicroBatches(),
    Sharding(),
    Buckets(),
    GradientPrecision(),
    GradientViews(),
    StaticGraph(),
    Augmentation(),
    Placement(),
    CacheChoice(),
    DecoderChoice(),
    Resize(),
    Threads(),
    LoaderKind(),
    Workers(),
    Prefetch(),
    Pinning(),
)


def knob(name: str) -> Knob:
    """Return the knob of a setting.

    Raises:
        SettingsError: there is none of that name.
    """
    for entry in KNOBS:
        if entry.name == name:
            return entry
    raise SettingsError(unknown("knob", name, (entry.name for entry in KNOBS)))


def check_value(name: str, value: Value) -> str | None:
    """Return what is wrong with the value of a setting, or None."""
    return knob(name).check(value)


def canonical(settings: Settings, workload: Workload) -> Settings:
    """Fold settings that mean the same into one."""
    for entry in KNOBS:
        settings = entry.canonical(settings, workload)
    return settings


def illegal(settings: Settings, workload: Workload, machine: Machine) -> str | None:
    """Return why the settings are not possible here, or None."""
    for entry in KNOBS:
        reason = entry.legal(settings, workload, machine)
        if reason:
            return f"{entry.name}: {reason}"
    return None


def key(settings: Settings, side: Side) -> tuple[tuple[str, Value], ...]:
    """Return the part of the settings that one side's component measurements depend on."""
    values = settings.as_dict()
    return tuple(
        (entry.name, values[entry.name]) for entry in KNOBS if entry.side_of(values[entry.name]) in (side, Side.BOTH)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """The legal space of a task on a machine."""

    default: Settings
    """What the search has to beat."""

    choices: Mapping[str, Choices]
    """By knob; a knob that is fixed has one choice."""

    members: Sequence[Settings]
    """Every legal combination of what has not been ruled out, canonical, the default first; made when asked for."""

    @property
    def left_out(self) -> tuple[tuple[str, Value, str], ...]:
        """Knob, value and reason of everything that could not be offered, but for what one process has no use for."""
        told = ((name, value, why) for name, entry in self.choices.items() for value, why in entry.left_out)
        return tuple(entry for entry in told if entry[2] != ALONE)


def default_settings(workload: Workload) -> Settings:
    """Return the task's own settings with its policy filled in, canonical."""
    return canonical(replace(workload.task.settings, augmentation=workload.augmentation), workload)


def legal_space(
    workload: Workload,
    machine: Machine,
    *,
    allow: Effect = Effect.NUMERICS,
    fixed: Mapping[str, Value] | None = None,
    only: Mapping[str, Sequence[Value]] | None = None,
) -> Space:
    """Return all that the search may choose from.

    Args:
        workload: what is to be trained.
        machine: where.
        allow: the strongest effect on learning that the search may use; RECIPE knobs move by a rule of their own.
        fixed: knobs that stay at a given value, in the default too.
        only: choices of some knobs that the members are made of, where a measurement has ruled the others out.

    Raises:
        SettingsError: a fixed knob or value is unknown, or the fixed ones are not possible together or here.
    """
    fixed = dict(fixed or {})
    for name, value in fixed.items():
        problem = check_value(name, value)
        if problem:
            raise SettingsError(f"fixed setting '{name}': {problem}")
    default = canonical(replace(default_settings(workload), **fixed), workload)  # type: ignore[arg-type]
    problem = illegal(default, workload, machine)
    if problem:
        raise SettingsError(f"the settings that are to stay as given are not possible here: {problem}")
    choices: dict[str, Choices] = {}
    for entry in KNOBS:
        own = getattr(default, entry.name)
        if entry.name in fixed:
            choices[entry.name] = Choices(allowed=(fixed[entry.name],))
            _warn(entry, fixed[entry.name], entry.choices(workload, machine))
        elif entry.effect is Effect.RECIPE:
            choices[entry.name] = Choices(allowed=(own,))
        else:
            choices[entry.name] = _permitted(entry, own, entry.choices(workload, machine), allow)
    values = {name: (only or {}).get(name, entry.allowed) for name, entry in choices.items()}
    members = _members(default, values, workload, machine)
    return Space(default=default, choices=choices, members=members)


def _warn(entry: Knob, value: Value, offered: Choices) -> None:
    """Say loudly what is to be known about a value that stays because somebody wants it."""
    reason = dict(offered.left_out).get(value)
    if reason is not None:
        log.warning("fixed setting '%s': %s is not what a search would try here: %s", entry.name, value, reason)


def _permitted(entry: Knob, own: Value, offered: Choices, allow: Effect) -> Choices:
    """Return a knob's choices with the default's own first, and without those that change more than is allowed."""
    refused = [
        value
        for value in offered.allowed
        if value != own and allow is Effect.EXACT and _effect(entry, own, value) is not Effect.EXACT
    ]
    allowed = dict.fromkeys((own, *(value for value in offered.allowed if value not in refused)))
    reasons = tuple((value, "changes the rounding; only exact changes are allowed") for value in refused)
    return Choices(allowed=tuple(allowed), left_out=(*offered.left_out, *reasons))


def _members(default: Settings, values: Mapping[str, Sequence[Value]], workload: Workload, machine: Machine) -> Members:
    """Return all members: compute knobs and the others do not look at each other in ``legal`` and ``canonical``."""
    names = [entry.name for entry in KNOBS if entry.side is Side.COMPUTE]
    others = [entry.name for entry in KNOBS if entry.side is not Side.COMPUTE]
    halves = [_half(default, {name: values[name] for name in part}, workload, machine) for part in (names, others)]
    return Members(*halves, names=names)


def _half(
    default: Settings, values: Mapping[str, Sequence[Value]], workload: Workload, machine: Machine
) -> tuple[Settings, ...]:
    """Return the legal combinations of some knobs, with the default's values of the others."""
    found: dict[Settings, None] = {default: None}
    base = default.as_dict()
    for chosen in itertools.product(*values.values()):
        base.update(zip(values, chosen, strict=True))
        settings = canonical(Settings(**base), workload)  # type: ignore[arg-type]
        if settings not in found and illegal(settings, workload, machine) is None:
            found[settings] = None
    return tuple(found)


def without_each(settings: Settings, default: Settings, workload: Workload) -> dict[str, Settings]:
    """Return, per setting that differs from the default, the settings with that one change taken away."""
    values = default.as_dict()
    return {
        name: canonical(replace(settings, **{name: values[name]}), workload)  # type: ignore[arg-type]
        for name in settings.changes(default)
    }


def effects(settings: Settings, default: Settings) -> set[Effect]:
    """Return what it does to learning to move from the default to settings."""
    own = default.as_dict()
    return {_effect(knob(name), own[name], value) for name, value in settings.changes(default).items()}


def _effect(entry: Knob, before: Value, after: Value) -> Effect:
    """Return the effect of a change; leaving what is not exact is no more exact than going there."""
    left, entered = entry.effect_of(before), entry.effect_of(after)
    return left if entered is Effect.EXACT else entered
