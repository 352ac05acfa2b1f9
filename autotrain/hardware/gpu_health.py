"""What may hold an NVIDIA GPU back: clocks, power, the bus, other programs, memory errors; through NVML and sysfs."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autotrain.hardware.cgroup import read_int, read_text
from autotrain.hardware.gpu import REASONS, asker, library, text_of

NVIDIA_VENDOR = "0x10de"
"""PCI vendor number."""

_SM_CLOCK, _CHIP_SENSOR, _UNCORRECTED, _SINCE_LOAD = 1, 0, 1, 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuHealth:
    """The state of one GPU; None for what this driver or device does not tell (MIG and vGPU devices tell little)."""

    index: int
    """NVML's number."""

    name: str
    """Product name."""

    uuid: str
    """Identity, such as ``GPU-8f6d...``."""

    driver: str
    """Version of the driver."""

    reasons: tuple[str, ...] = ()
    """Why the clock is lower than it could be, in the words of ``gpu.REASONS``."""

    sm_clock_mhz: int | None = None
    """Clock of the multiprocessors now."""

    sm_clock_max_mhz: int | None = None
    """Highest clock."""

    application_clock_mhz: int | None = None
    """Clock that was set for applications; newer drivers do not tell it."""

    temperature_c: int | None = None
    """Temperature of the chip."""

    power_limit_w: float | None = None
    """Power that the board may draw."""

    power_default_w: float | None = None
    """Power limit as delivered."""

    pcie_generation: int | None = None
    """Highest PCI Express generation of device and slot together; an idle link runs slower."""

    pcie_generation_device: int | None = None
    """Highest generation of the device alone."""

    pcie_width: int | None = None
    """Lanes in use."""

    pcie_width_device: int | None = None
    """Lanes that the device has."""

    persistence: bool | None = None
    """Whether the driver keeps the device initialised while nobody uses it."""

    utilisation_percent: int | None = None
    """Share of the driver's last sample period in which a kernel ran."""

    memory_bytes: int | None = None
    """Device memory."""

    memory_used_bytes: int | None = None
    """Of it in use, by all processes."""

    processes: tuple[int, ...] = ()
    """Numbers of the processes that compute on it, so far as they can be seen from here."""

    compute_mode: int | None = None
    """0: shared; 3: one process at a time; 2: none."""

    ecc: bool | None = None
    """Whether the memory corrects errors."""

    memory_errors: int | None = None
    """Errors since the driver was loaded that could not be corrected."""

    remapping: bool | None = None
    """Whether rows of the memory wait to be replaced, or could not be."""


def gpu_health(root: Path = Path("/")) -> tuple[GpuHealth, ...]:
    """Return the state of all GPUs that the driver shows; empty where there is none. ``root`` is where ``sys`` lies."""
    with library() as nvml:
        if nvml is None:
            return ()
        ask = asker(nvml)
        driver = text_of(ask("nvmlSystemGetDriverVersion")) or "unknown"
        handles = [(index, ask("nvmlDeviceGetHandleByIndex", index)) for index in range(ask("nvmlDeviceGetCount") or 0)]
        return tuple(_health(ask, handle, index, driver, root) for index, handle in handles if handle is not None)


def _health(ask: Callable[..., Any], handle: object, index: int, driver: str, root: Path) -> GpuHealth:
    memory, rates = ask("nvmlDeviceGetMemoryInfo", handle), ask("nvmlDeviceGetUtilizationRates", handle)
    remapped = ask("nvmlDeviceGetRemappedRows", handle)
    return GpuHealth(
        index=index,
        name=text_of(ask("nvmlDeviceGetName", handle)) or "unknown GPU",
        uuid=text_of(ask("nvmlDeviceGetUUID", handle)) or "",
        driver=driver,
        **_clocks(ask, handle),
        **_bus(ask, handle, root),
        persistence=_switch(ask("nvmlDeviceGetPersistenceMode", handle)),
        utilisation_percent=None if rates is None else int(rates.gpu),
        memory_bytes=None if memory is None else int(memory.total),
        memory_used_bytes=None if memory is None else int(memory.used),
        processes=tuple(int(entry.pid) for entry in ask("nvmlDeviceGetComputeRunningProcesses", handle) or ()),
        compute_mode=ask("nvmlDeviceGetComputeMode", handle),
        ecc=_switch((ask("nvmlDeviceGetEccMode", handle) or (None,))[0]),
        memory_errors=ask("nvmlDeviceGetTotalEccErrors", handle, _UNCORRECTED, _SINCE_LOAD),
        remapping=None if remapped is None else bool(remapped[2] or remapped[3]),
    )


def _clocks(ask: Callable[..., Any], handle: object) -> dict[str, Any]:
    reasons = ask("nvmlDeviceGetCurrentClocksEventReasons", handle)
    if reasons is None:  # the name before driver 535
        reasons = ask("nvmlDeviceGetCurrentClocksThrottleReasons", handle)
    limit, delivered = (
        ask("nvmlDeviceGetEnforcedPowerLimit", handle),
        ask("nvmlDeviceGetPowerManagementDefaultLimit", handle),
    )
    return {
        "reasons": tuple(words for bit, words in REASONS if (reasons or 0) & bit),
        "sm_clock_mhz": ask("nvmlDeviceGetClockInfo", handle, _SM_CLOCK),
        "sm_clock_max_mhz": ask("nvmlDeviceGetMaxClockInfo", handle, _SM_CLOCK),
        "application_clock_mhz": ask("nvmlDeviceGetApplicationsClock", handle, _SM_CLOCK),
        "temperature_c": ask("nvmlDeviceGetTemperature", handle, _CHIP_SENSOR),
        "power_limit_w": None if limit is None else limit / 1000,
        "power_default_w": None if delivered is None else delivered / 1000,
    }


def _bus(ask: Callable[..., Any], handle: object, root: Path) -> dict[str, Any]:
    """Return the link's facts; NVML's greatest width is that of device and slot, sysfs has the device's own."""
    pci = ask("nvmlDeviceGetPciInfo", handle)
    place = _sysfs(text_of(getattr(pci, "busId", None)), root)
    own = None if place is None else read_int(place / "max_link_width")
    widths = [width for width in (ask("nvmlDeviceGetMaxPcieLinkWidth", handle), own) if width and width <= 32]
    return {
        "pcie_generation": ask("nvmlDeviceGetMaxPcieLinkGeneration", handle),
        "pcie_generation_device": ask("nvmlDeviceGetGpuMaxPcieLinkGeneration", handle),
        "pcie_width": ask("nvmlDeviceGetCurrPcieLinkWidth", handle),
        "pcie_width_device": max(widths, default=None),
    }


def _sysfs(bus: str | None, root: Path) -> Path | None:
    """Return the device's folder; NVML writes eight digits of the domain, sysfs four."""
    if not bus:
        return None
    domain, _, rest = bus.lower().partition(":")
    return root / "sys/bus/pci/devices" / f"{domain[-4:]}:{rest}"


def _switch(value: int | None) -> bool | None:
    return None if value is None else bool(value)


def nvidia_devices(root: Path = Path("/")) -> int:
    """Return how many NVIDIA GPUs are on the PCI bus, whether there is a driver or not."""
    return sum(
        (read_text(device / "vendor") or "").strip() == NVIDIA_VENDOR
        and (read_text(device / "class") or "").startswith("0x03")
        for device in sorted((root / "sys/bus/pci/devices").glob("*"))
    )
