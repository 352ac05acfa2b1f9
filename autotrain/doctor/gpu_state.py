"""Checks of what holds NVIDIA GPUs back: clocks, power, the bus, other programs, memory errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from autotrain.doctor.check import Check, Fine, Outcome, Problem, Severity
from autotrain.doctor.facts import Facts
from autotrain.doctor.gpu_load import GpuLoad
from autotrain.hardware.gpu_health import GpuHealth
from autotrain.hardware.units import size_words

LANE_GB_PER_S = {1: 0.25, 2: 0.5, 3: 0.985, 4: 1.969, 5: 3.938, 6: 7.563}
"""What one lane carries in one direction, by generation (PCI-SIG: transfer rate less encoding)."""

IMAGE_GB = 3 * 224 * 224 / 1e9
"""An image of 224 pixels as bytes, which is how autotrain sends it."""

TOO_HOT = ("hardware slowdown", "software thermal slowdown", "hardware thermal slowdown", "hardware power brake")
"""Reasons for a lower clock that a healthy machine has neither at rest nor under load."""

EXPLAINED = ("software power cap", "sync boost", "display clock setting")
"""Reasons for a lower clock under load that are neither heat nor clocks that somebody locked."""

LOCKED = 0.7
"""Part of the highest clock below which, under load and without a reason, clocks have been locked."""

HALF = 0.499
"""A link that keeps half of its rate is worth knowing, one with less slows training down."""

BUSY_PERCENT, TAKEN = 10, 0.05
"""From here on others use a GPU: share of the driver's sample period, part of the memory."""

PERSISTENCE = "https://docs.nvidia.com/deploy/driver-persistence/overview.html"
NVML = "https://docs.nvidia.com/deploy/nvml-api/group__nvmlDeviceQueries.html"


def per_gpu(look: Callable[[GpuHealth, GpuLoad | None], Problem | str]) -> Callable[[Facts], Outcome]:
    """Return a check that looks at each GPU, and at what it did under load where it could be loaded.

    ``look`` returns a problem, or a fact that is as it should be.
    """

    def check(facts: Facts) -> Outcome:
        gpus = facts.gpus
        loads = {load.uuid: load for load in facts.gpu_loads}
        return _outcome([(gpu, look(gpu, loads.get(gpu.uuid))) for gpu in gpus])

    return check


def at_rest(look: Callable[[GpuHealth], Problem | str]) -> Callable[[Facts], Outcome]:
    """Return a check that looks at the state of each GPU before any load, for which NVML alone is enough."""

    def check(facts: Facts) -> Outcome:
        return _outcome([(gpu, look(gpu)) for gpu in facts.gpus])

    return check


def _outcome(found: Sequence[tuple[GpuHealth, Problem | str]]) -> Outcome:
    """Return the problems; without any, the fact that all GPUs have in common, or each one's."""
    problems = [outcome for _, outcome in found if isinstance(outcome, Problem)]
    told = [str(outcome) for _, outcome in found]
    each = "; ".join(f"GPU {gpu.index} {fact}" for (gpu, _), fact in zip(found, told, strict=True))
    return problems or Fine(fact=told[0] if len(set(told)) == 1 else each)


def clocks(gpu: GpuHealth, load: GpuLoad | None) -> Problem | str:
    """Look why the clock is lower than it could be, under load where that was possible."""
    when = "at rest"
    if load is not None and load.state is not None:
        gpu, when = load.state, "under load"
    hot = [reason for reason in gpu.reasons if reason in TOO_HOT]
    now, most = gpu.sm_clock_mhz, gpu.sm_clock_max_mhz
    words = f"{now or 'unknown'} of {most or 'unknown'} MHz {when}, {gpu.temperature_c or 'unknown'} °C"
    if hot:
        lost = f", {1 - now / most:.0%} below the highest" if now and most and now < most else ""
        return _gpu(
            gpu,
            f"is throttled: {', '.join(hot)}",
            f"{words}; reasons of the driver: {', '.join(gpu.reasons)}",
            f"measured: a clock of {now} MHz{lost}; computing slows down as the clock does" if now else "a lower clock",
            "look after cooling (fans, dust, air flow) and the power supply; watch it while it trains",
            "nvidia-smi -q -d PERFORMANCE,TEMPERATURE,POWER",
        )
    set_to = gpu.application_clock_mhz
    if set_to and most and set_to < 0.9 * most and "application clocks setting" in gpu.reasons:
        return _gpu(
            gpu,
            f"is held at {set_to} of {most} MHz",
            f"{words}; application clocks were set",
            f"up to {1 - set_to / most:.0%} of the speed of computing",
            "put the clocks back, as administrator",
            f"sudo nvidia-smi -i {gpu.index} -rac; sudo nvidia-smi -i {gpu.index} -rgc",
        )
    if when == "under load" and now and most and now < LOCKED * most and not set(EXPLAINED) & set(gpu.reasons):
        return _gpu(
            gpu,
            f"computes at {now} of {most} MHz",
            f"{words}; neither heat nor power is the reason, so the clock was locked (nvidia-smi -lgc); reasons of the "
            f"driver: {', '.join(gpu.reasons) or 'none'}",
            f"measured: a clock {1 - now / most:.0%} below the highest; computing slows down as the clock does",
            "unlock the clocks, as administrator (needs root)",
            f"sudo nvidia-smi -i {gpu.index} -rgc",
        )
    return words


def power(gpu: GpuHealth) -> Problem | str:
    """Compare the power limit with the one that the board was delivered with."""
    limit, delivered = gpu.power_limit_w, gpu.power_default_w
    if limit is None or delivered is None:
        return "the driver does not tell the power limit"
    if limit >= 0.95 * delivered:
        return f"power limit {limit:.0f} W"
    return _gpu(
        gpu,
        f"may draw {limit:.0f} of {delivered:.0f} W",
        f"enforced limit {limit:.0f} W, delivered with {delivered:.0f} W",
        f"under full load the clock is lowered until {1 - limit / delivered:.0%} of the power are saved",
        "raise the limit, as administrator, if supply and cooling allow it",
        f"sudo nvidia-smi -i {gpu.index} -pl {delivered:.0f}",
    )


def bus(gpu: GpuHealth, load: GpuLoad | None) -> Problem | str:
    """Compare the PCI Express link with what the device has."""
    at_work = None if load is None or load.state is None else load.state.pcie_width
    width, lanes = max(gpu.pcie_width or 0, at_work or 0), gpu.pcie_width_device
    generation, best = gpu.pcie_generation, gpu.pcie_generation_device
    if not width or not lanes:
        return "the driver does not tell about the PCIe link"
    words = f"PCIe {generation or '?'} x{width}"
    copied = None if load is None else load.copy_gb_per_s
    measured = "" if copied is None else f"; measured: {copied:.1f} GB/s from pinned memory"
    narrow, old = width < lanes, bool(generation and best and generation < best)
    if not narrow and not old:
        return words + measured
    now = LANE_GB_PER_S.get(generation or 0, 0.0) * width
    could = LANE_GB_PER_S.get(best or generation or 0, 0.0) * lanes
    if copied is not None and copied > now:
        return f"{words} as virtual machines tell it{measured}, which is more than that"
    cost = (
        f"copies to the device: at most {now:.1f} instead of {could:.1f} GB/s, {now / IMAGE_GB:,.0f} images of 224 px "
        "as bytes a second; with several GPUs the gradients too"
        if now
        else f"copies to the device are {lanes / width:.0f} times slower"
    )
    return _gpu(
        gpu,
        f"has {words} of {best or generation or '?'} x{lanes}",
        f"lanes in use {width}, of the device {lanes}; generation {generation}, of the device {best}{measured}",
        cost,
        "another slot, a firmly seated board, no riser, and the firmware's setting for the slot; see the link's state",
        "sudo lspci -vv | grep -E 'NVIDIA|LnkCap|LnkSta'",
        severity=Severity.NOTE if now and now >= HALF * could else Severity.SLOW,
    )


def persistence(gpu: GpuHealth) -> Problem | str:
    """Look whether the driver stays initialised."""
    if gpu.persistence is not False:
        return "persistence mode on" if gpu.persistence else "the driver does not tell the persistence mode"
    return _gpu(
        gpu,
        "persistence mode is off",
        "NVML: persistence mode disabled",
        "1 to 3 seconds at each start of a program that finds the GPU unused, and set clocks are forgotten in between",
        "let the daemon keep it initialised, as administrator",
        "sudo systemctl enable --now nvidia-persistenced || sudo nvidia-smi -pm 1",
        severity=Severity.NOTE,
        source=PERSISTENCE,
    )


def sharing(gpu: GpuHealth) -> Problem | str:
    """Look for other programs on the GPU."""
    used, whole, busy = gpu.memory_used_bytes or 0, gpu.memory_bytes or 0, gpu.utilisation_percent or 0
    words = f"{size_words(used)} of {size_words(whole)} in use, {busy}% busy"
    taken = bool(whole) and used / whole >= TAKEN
    if gpu.compute_mode in (2, 3) and (gpu.compute_mode == 2 or gpu.processes):
        return _gpu(
            gpu,
            "lets no further program compute",
            f"compute mode {'prohibited' if gpu.compute_mode == 2 else 'exclusive process'}; {words}",
            "torch fails with 'CUDA-capable device(s) is/are busy or unavailable'",
            "share it, as administrator, or use another",
            f"sudo nvidia-smi -i {gpu.index} -c DEFAULT",
            severity=Severity.CRASH,
        )
    if busy < BUSY_PERCENT and not (taken and gpu.processes):
        return words
    numbers = ", ".join(map(str, gpu.processes)) or "not to be seen from here"
    return _gpu(
        gpu,
        "is used by other programs",
        f"{words}; processes {numbers}",
        f"{size_words(used)} less memory for batches, and a share of the time: kernels of two programs take turns",
        "use another GPU, or wait; see who it is",
        "nvidia-smi --query-compute-apps=pid,process_name,used_memory --format=csv",
    )


def errors(gpu: GpuHealth) -> Problem | str:
    """Look for memory errors."""
    ecc = {True: "ECC on", False: "ECC off", None: "no ECC"}[gpu.ecc]
    if not gpu.memory_errors and not gpu.remapping:
        return f"{ecc}, no memory errors"
    seen = f"{gpu.memory_errors or 0} errors since the driver was loaded that could not be corrected"
    waits = "; rows wait to be replaced, or could not be" if gpu.remapping else ""
    return _gpu(
        gpu,
        "has memory errors",
        f"{ecc}; {seen}{waits}",
        "a program that touches such memory is ended; weights may be lost since the last checkpoint",
        "reset the GPU or restart the machine, so that rows are replaced; if it comes again, have the board replaced",
        f"nvidia-smi -i {gpu.index} -q -d ECC,ROW_REMAPPER",
        severity=Severity.CRASH,
    )


def _gpu(
    gpu: GpuHealth,
    what: str,
    evidence: str,
    cost: str,
    remedy: str,
    command: str,
    *,
    severity: Severity = Severity.SLOW,
    source: str = NVML,
) -> Problem:
    return Problem(
        severity=severity,
        what=f"GPU {gpu.index} {what}",
        evidence=f"{gpu.name}: {evidence}",
        cost=cost,
        remedy=remedy,
        command=command,
        source=source,
    )


CHECKS = (
    Check(name="gpu-clocks", look=per_gpu(clocks)),
    Check(name="gpu-power", look=at_rest(power)),
    Check(name="gpu-bus", look=per_gpu(bus)),
    Check(name="gpu-persistence", look=at_rest(persistence)),
    Check(name="gpu-sharing", look=at_rest(sharing)),
    Check(name="gpu-errors", look=at_rest(errors)),
)
