"""NVIDIA GPUs through NVML: what they are and what state they are in; nothing where there is no driver."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

REASONS = (
    (0x002, "application clocks setting"),
    (0x004, "software power cap"),
    (0x008, "hardware slowdown"),
    (0x010, "sync boost"),
    (0x020, "software thermal slowdown"),
    (0x040, "hardware thermal slowdown"),
    (0x080, "hardware power brake"),
    (0x100, "display clock setting"),
)
"""Bits of ``nvmlDeviceGetCurrentClocksEventReasons`` (NVML API reference); idling, bit 0x1, is no throttling."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuFacts:
    """One GPU, as the driver describes it."""

    index: int
    """NVML's number, in the order of the PCI bus; CUDA's may differ, so match devices by ``uuid``."""

    name: str
    """Product name, such as ``NVIDIA H100 80GB HBM3``."""

    memory_bytes: int | None
    """Device memory; None where it shares the host's."""

    driver: str
    """Version of the driver."""

    pcie_generation: int | None
    """Highest PCI Express generation that this GPU reaches in this slot; an idle link runs slower."""

    pcie_width: int | None
    """Most PCI Express lanes that this GPU reaches in this slot."""

    uuid: str
    """Identity of the device, such as ``GPU-8f6d...``; torch leaves ``GPU-`` off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuState:
    """A GPU at one moment; None for what the driver does not tell (MIG instances tell little)."""

    utilisation_percent: int | None
    """Share of the driver's last sample period (1/6 to 1 s) in which a kernel ran."""

    memory_used_bytes: int | None
    """Device memory in use, by all processes."""

    sm_clock_mhz: int | None
    """Clock of the multiprocessors."""

    temperature_c: int | None
    """Temperature of the chip."""

    throttle_reasons: tuple[str, ...]
    """Why the clock is lower than it could be, in words; empty when it is not."""


def gpu_facts() -> tuple[GpuFacts, ...]:
    """Return all GPUs that the driver shows, in NVML's order; empty where there is no NVML, driver or GPU.

    ``CUDA_VISIBLE_DEVICES`` does not apply to NVML: GPUs that it hides are listed too.
    """
    with library() as nvml:
        if nvml is None:
            return ()
        ask = asker(nvml)
        driver = text_of(ask("nvmlSystemGetDriverVersion")) or "unknown"
        found = (_facts(ask, index, driver) for index in range(ask("nvmlDeviceGetCount") or 0))
        return tuple(facts for facts in found if facts is not None)


def gpu_state(uuid_or_index: str | int) -> GpuState | None:
    """Return the state of the GPU with this UUID (with or without ``GPU-``) or NVML index; None where there is none."""
    with library() as nvml:
        if nvml is None:
            return None
        ask = asker(nvml)
        if isinstance(uuid_or_index, int):
            handle = ask("nvmlDeviceGetHandleByIndex", uuid_or_index)
        else:
            prefixed = uuid_or_index.startswith(("GPU-", "MIG-"))
            handle = ask("nvmlDeviceGetHandleByUUID", uuid_or_index if prefixed else f"GPU-{uuid_or_index}")
        return None if handle is None else _state(ask, handle)


def _facts(ask: Callable[..., Any], index: int, driver: str) -> GpuFacts | None:
    handle = ask("nvmlDeviceGetHandleByIndex", index)
    if handle is None:
        return None
    memory = ask("nvmlDeviceGetMemoryInfo", handle)
    return GpuFacts(
        index=index,
        name=text_of(ask("nvmlDeviceGetName", handle)) or "unknown GPU",
        memory_bytes=None if memory is None else int(memory.total),
        driver=driver,
        pcie_generation=ask("nvmlDeviceGetMaxPcieLinkGeneration", handle),
        pcie_width=ask("nvmlDeviceGetMaxPcieLinkWidth", handle),
        uuid=text_of(ask("nvmlDeviceGetUUID", handle)) or "",
    )


def _state(ask: Callable[..., Any], handle: object) -> GpuState:
    rates = ask("nvmlDeviceGetUtilizationRates", handle)
    memory = ask("nvmlDeviceGetMemoryInfo", handle)
    reasons = ask("nvmlDeviceGetCurrentClocksEventReasons", handle)
    if reasons is None:  # the name before driver 535
        reasons = ask("nvmlDeviceGetCurrentClocksThrottleReasons", handle)
    clock_of_multiprocessors, sensor_of_chip = 1, 0  # NVML_CLOCK_SM, NVML_TEMPERATURE_GPU
    return GpuState(
        utilisation_percent=None if rates is None else int(rates.gpu),
        memory_used_bytes=None if memory is None else int(memory.used),
        sm_clock_mhz=ask("nvmlDeviceGetClockInfo", handle, clock_of_multiprocessors),
        temperature_c=ask("nvmlDeviceGetTemperature", handle, sensor_of_chip),
        throttle_reasons=tuple(words for bit, words in REASONS if (reasons or 0) & bit),
    )


def asker(nvml: Any) -> Callable[..., Any]:
    """Return a function that calls NVML by name and gives None for what this driver, device or binding cannot say."""

    def ask(name: str, *args: object) -> Any:
        function = getattr(nvml, name, None)
        if function is None:
            return None
        try:
            return function(*args)
        except nvml.NVMLError:
            return None

    return ask


@contextmanager
def library() -> Iterator[Any]:
    """Yield the NVML binding, initialised, or None; NVML counts initialisations, so each is paired with a shutdown."""
    try:
        import pynvml as nvml
    except ImportError:
        yield None
        return
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        yield None
        return
    try:
        yield nvml
    finally:
        nvml.nvmlShutdown()


def text_of(value: str | bytes | None) -> str | None:
    """Return text; older bindings give bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def gpu_of(device: Any) -> str | None:
    """Return the UUID of a torch device, by which NVML finds it whatever CUDA's numbering; None for other devices."""
    if device.type != "cuda":
        return None
    import torch

    return str(torch.cuda.get_device_properties(device).uuid)
