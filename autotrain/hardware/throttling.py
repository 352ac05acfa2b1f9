"""What slows the CPU down: a control group's quota that ran out, and the clock that the system allows."""

from dataclasses import dataclass
from pathlib import Path

from autotrain.hardware.cgroup import legacy, read_int, read_text, unified

OWN_ALGORITHM = ("intel_pstate", "amd-pstate-epp")
"""Drivers whose governor ``powersave`` follows the load; with the others it keeps the lowest clock (kernel docs)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttling:
    """How often the quota of the control group ran out since the group was made."""

    periods: int
    """Periods, of 0.1 s as a rule, in which the group wanted to run."""

    throttled: int
    """Those of them in which it had to stop before their end."""

    @property
    def share(self) -> float:
        """Periods with a stop per period."""
        return self.throttled / self.periods if self.periods else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """How the clock of the usable cores is governed; None for what the system does not tell."""

    governor: str | None
    """The slowest governor of all cores."""

    driver: str | None
    """What sets the clock."""

    now_max_khz: int | None
    """Highest clock that is allowed."""

    hardware_max_khz: int | None
    """Highest clock that the CPU has."""

    hardware_min_khz: int | None
    """Lowest clock."""

    turbo: bool | None
    """Whether clocks above the nominal one are allowed."""

    @property
    def held_low(self) -> bool:
        """Whether the governor keeps the lowest clock whatever the load."""
        return self.governor == "powersave" and self.driver not in OWN_ALGORITHM


def throttling(root: Path = Path("/")) -> Throttling | None:
    """Return the account of the group that was stopped most, of this process's own and its parents; None without."""
    found = [_account(folder) for folder in (*unified(root), *legacy(root, "cpu"))]
    return max((entry for entry in found if entry is not None), key=lambda entry: entry.share, default=None)


def _account(folder: Path) -> Throttling | None:
    numbers = dict(
        line.split()[:2] for line in (read_text(folder / "cpu.stat") or "").splitlines() if len(line.split()) == 2
    )
    periods, stopped = numbers.get("nr_periods", ""), numbers.get("nr_throttled", "")
    if not (periods.isdigit() and stopped.isdigit() and int(periods)):
        return None
    return Throttling(periods=int(periods), throttled=int(stopped))


def clock(root: Path = Path("/")) -> Clock | None:
    """Return how the clock is governed; None in most virtual machines, which are not told."""
    base = root / "sys/devices/system/cpu"
    folders = sorted(base.glob("cpu[0-9]*/cpufreq"))
    if not folders:
        return None
    governors = [name for folder in folders if (name := _word(folder / "scaling_governor"))]
    allowed = [khz for folder in folders if (khz := read_int(folder / "scaling_max_freq"))]
    hardware = [khz for folder in folders if (khz := read_int(folder / "cpuinfo_max_freq"))]
    return Clock(
        governor="powersave" if "powersave" in governors else next(iter(governors), None),
        driver=_word(folders[0] / "scaling_driver"),
        now_max_khz=max(allowed, default=None),
        hardware_max_khz=max(hardware, default=None),
        hardware_min_khz=read_int(folders[0] / "cpuinfo_min_freq"),
        turbo=_turbo(base),
    )


def _turbo(base: Path) -> bool | None:
    off, on = read_int(base / "intel_pstate/no_turbo"), read_int(base / "cpufreq/boost")
    if off is not None:
        return not off
    return None if on is None else bool(on)


def _word(path: Path) -> str | None:
    return (read_text(path) or "").strip() or None
