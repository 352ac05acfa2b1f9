"""Pressure: the share of time in which programs waited for CPU, memory or storage, as the kernel accounts it (PSI)."""

from dataclasses import dataclass
from pathlib import Path

from autotrain.hardware.cgroup import read_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall:
    """Shares (0 to 1) of the last 10 and 60 seconds."""

    some_10s: float
    """At least one program waited."""

    some_60s: float
    """The same, over a minute."""

    full_60s: float
    """All programs that had work waited; for the CPU of a whole machine always 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pressure:
    """Waiting for each resource; None where the kernel does not account it."""

    cpu: Stall | None
    """Runnable programs without a core."""

    memory: Stall | None
    """Programs that waited for pages to come back or to become free."""

    io: Stall | None
    """Programs that waited for storage."""


def pressure(root: Path = Path("/")) -> Pressure:
    """Read ``/proc/pressure``; ``root`` is where ``proc`` lies."""
    cpu, memory, io = (_stall(root / "proc/pressure" / name) for name in ("cpu", "memory", "io"))
    return Pressure(cpu=cpu, memory=memory, io=io)


def _stall(path: Path) -> Stall | None:
    """Read lines such as ``some avg10=0.60 avg60=0.98 avg300=0.64 total=84797``, in per cent."""
    shares: dict[str, float] = {}
    for line in (read_text(path) or "").splitlines():
        kind, *fields = line.split()
        for entry in fields:
            name, _, value = entry.partition("=")
            try:
                shares[f"{kind} {name}"] = float(value) / 100
            except ValueError:
                continue
    if "some avg10" not in shares:
        return None
    return Stall(
        some_10s=shares["some avg10"],
        some_60s=shares.get("some avg60", 0.0),
        full_60s=shares.get("full avg60", 0.0),
    )
