"""Provenance: where, when and for what a plan was made, and how far that is from here."""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """The circumstances of a probe. A field at its default is not known."""

    date: str = ""
    """When the plan was made, ISO 8601."""

    autotrain: str = ""
    """Version of autotrain."""

    hardware: str = ""
    """Fingerprint of the machine."""

    cpu: str = ""
    """Model name of the CPU."""

    usable_cpus: int = 0
    """Cores that the process may use, by affinity and quota."""

    gpus: tuple[str, ...] = ()
    """Names of the visible GPUs."""

    versions: tuple[tuple[str, str], ...] = ()
    """Package and version of what decides about speed: torch, torchvision, pillow, python."""

    task: str = ""
    """Fingerprint of the task."""

    model: str = ""
    """Name of the model."""

    dataset: str = ""
    """Name or folder of the dataset."""

    batch_size: int = 0
    """Images per step."""

    image_size: int | None = None
    """Side of the square images that the model sees, in pixels."""

    device: str = ""
    """Device that the plan was made for."""

    processes: int = 0
    """Processes that trained together."""

    processes_per_machine: int = 0
    """How many of them shared a machine."""


def differences(made: Provenance, here: Provenance) -> tuple[str, ...]:
    """Return a plain sentence for each way in which ``here`` differs from where a plan was ``made``.

    What either side does not know is not compared, so a plan written by hand differs from nothing.
    """
    return (*_machine_differs(made, here), *_task_differs(made, here), *_versions_differ(made, here))


def _machine_differs(made: Provenance, here: Provenance) -> Iterator[str]:
    if made.cpu and here.cpu:
        then, now = _machine(made), _machine(here)
        other = _differ(made.hardware, here.hardware) or then != now
    else:
        then, now = f"machine '{made.hardware}'", f"'{here.hardware}'"
        other = _differ(made.hardware, here.hardware)
    if other and then != now:
        yield f"made on {then}; this machine is {now}: probe again"
    elif other:
        yield f"made on another machine of the same kind, {then}: probe again if its rates matter"
    alike = (made.processes, made.processes_per_machine) == (here.processes, here.processes_per_machine)
    if made.processes and here.processes and not alike:
        yield f"made with {_processes(made)}; these are {_processes(here)}: what it gained there need not hold"
    if _differ(made.device, here.device):
        yield f"made for device '{made.device}'; this run is on '{here.device}': probe again"


def _processes(facts: Provenance) -> str:
    if facts.processes == facts.processes_per_machine:
        return f"{facts.processes} process{'es' * (facts.processes != 1)}"
    return f"{facts.processes} processes, {facts.processes_per_machine} on a machine"


def _machine(facts: Provenance) -> str:
    cores = f" with {facts.usable_cpus} usable core{'s' * (facts.usable_cpus != 1)}" if facts.usable_cpus else ""
    gpus = f" and {', '.join(facts.gpus)}" if facts.gpus else ""
    return f"'{facts.cpu}'{cores}{gpus}"


def _task_differs(made: Provenance, here: Provenance) -> Iterator[str]:
    pairs = (
        ("model", made.model, here.model),
        ("dataset", made.dataset, here.dataset),
        ("batch size", made.batch_size, here.batch_size),
        ("image size", made.image_size, here.image_size),
    )
    named = [f"{name} {then}, here {now}" for name, then, now in pairs if _differ(then, now)]
    if named:
        yield f"made for another task ({'; '.join(named)}): probe again"
    elif _differ(made.task, here.task):
        yield "made for another task (same model, dataset and sizes; its other parts differ): probe again"


def _versions_differ(made: Provenance, here: Provenance) -> Iterator[str]:
    then, now = dict(made.versions), dict(here.versions)
    if made.autotrain and here.autotrain:
        then, now = {"autotrain": made.autotrain, **then}, {"autotrain": here.autotrain, **now}
    changed = [f"{name} {then[name]}, here {now[name]}" for name in then if name in now and then[name] != now[name]]
    missing = [f"{name} {then[name]}, not here" for name in then if now and name not in now]
    if changed or missing:
        yield f"made with other versions ({'; '.join(changed + missing)}): rates may differ, probe again to be sure"


def _differ(then: object, now: object) -> bool:
    return bool(then) and bool(now) and then != now
