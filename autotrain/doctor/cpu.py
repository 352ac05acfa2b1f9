"""Checks of the CPU: how much of it this process has, and who else uses it."""

from __future__ import annotations

from functools import partial

from autotrain.doctor.check import Check, Fine, NotDone, Outcome, Problem, Severity
from autotrain.doctor.facts import Facts
from autotrain.hardware.cpu import CpuFacts
from autotrain.hardware.programs import OtherPrograms
from autotrain.report.words import many

LOST = 0.1
"""Part of the usable cores that others may take before it is a problem."""

STOPPED = 0.05
"""Part of the quota's periods that may end with a stop before it is a problem."""

WAITING = 0.1
"""Part of a minute in which all programs may wait for storage or memory before it is a problem."""

PSI = "https://docs.kernel.org/accounting/psi.html"
CGROUP = "https://docs.kernel.org/scheduler/sched-bwc.html"
CPUFREQ = "https://docs.kernel.org/admin-guide/pm/cpufreq.html"


def stalls(facts: Facts) -> Outcome:
    """Look at the time that programs waited for memory and storage in the last minute, before the doctor adds to it."""
    found = facts.pressure
    if found.memory is None and found.io is None:
        raise NotDone("the kernel does not account pressure (/proc/pressure)")
    shares = {"memory": found.memory, "storage": found.io}
    words = ", ".join(f"{name} {stall.full_60s:.0%}" for name, stall in shares.items() if stall is not None)
    problems = [
        Problem(
            severity=Severity.SLOW,
            what=f"programs wait for {name}",
            evidence=f"for {stall.full_60s:.0%} of the last minute all that could have run waited for {name}",
            cost=f"up to {stall.full_60s:.0%} of the time, for everything on this machine that needs {name} too",
            remedy="see who it is: memory by 'top -o %MEM', storage by 'iotop'; train when that has ended",
            source=PSI,
        )
        for name, stall in shares.items()
        if stall is not None and stall.full_60s >= WAITING
    ]
    return problems or Fine(fact=f"waiting in the last minute: {words}")


def other_programs(facts: Facts) -> Outcome:
    """Look for programs that use the CPU now."""
    cpu, others = facts.cpu, facts.others
    left = cpu.affinity * (1.0 - others.share)
    lost = max(0.0, 1.0 - left / cpu.usable)
    taken = cpu.affinity * others.share
    if lost < LOST:
        return Fine(fact=f"other programs use {taken:.1f} of {many(cpu.affinity, 'core')} now")
    return Problem(
        severity=Severity.SLOW,
        what=f"other programs use {taken:.1f} of {many(cpu.affinity, 'core')}",
        evidence=f"in {others.seconds:.1f} s: {_names(others)}",
        cost=f"measured: {lost:.0%} of the cores' time that training could have, while they run; and measurements are "
        "less sharp",
        remedy="end them, or wait for them; for a training that has to run beside them, let them have less",
        command=f"renice -n 19 -p {' '.join(str(entry.number) for entry in others.busiest)}" if others.busiest else "",
    )


def _names(others: OtherPrograms) -> str:
    if not others.busiest:
        return "none that can be seen from here; they belong to another container or another guest of this machine"
    return ", ".join(f"{entry.name} (process {entry.number}) {entry.cores:.2f}" for entry in others.busiest)


def usable_cores(facts: Facts) -> Outcome:
    """Compare the cores that may be used with those that ``os.cpu_count`` tells of."""
    cpu = facts.cpu
    words = f"{many(cpu.usable, 'usable core')} of {cpu.logical}{_limits(cpu)}"
    if cpu.usable > 1 or cpu.logical == 1:
        return Fine(fact=words)
    return Problem(
        severity=Severity.SLOW,
        what=f"one usable core of {cpu.logical}",
        evidence=words,
        cost=f"{_decoding(facts)}loader workers and training share this one core; workers started by os.cpu_count() "
        f"would be {cpu.logical}",
        remedy="ask for more cores: Slurm's --cpus-per-task, docker's --cpus or --cpuset-cpus, Kubernetes' limits.cpu, "
        "or for this shell",
        command=f"taskset -cp 0-{cpu.logical - 1} $$" if cpu.affinity < cpu.logical else "",
        source="https://docs.docker.com/engine/containers/resource_constraints/#cpu",
    )


def _limits(cpu: CpuFacts) -> str:
    parts = []
    if cpu.affinity < cpu.logical:
        parts.append(f"affinity {cpu.affinity}")
    if cpu.quota is not None:
        parts.append(f"quota {cpu.quota:.2f}")
    return f" ({', '.join(parts)})" if parts else ""


def _decoding(facts: Facts) -> str:
    try:
        seconds = facts.decode_times.simplejpeg_s or facts.decode_times.pillow_s
    except NotDone:
        return ""
    return (
        "" if not seconds else f"one core decodes {1 / seconds:,.0f} photographs of 400 by 533 pixels a second here; "
    )


def quota(facts: Facts) -> Outcome:
    """Look how often the control group's quota ran out."""
    found = facts.throttling
    if facts.cpu.quota is None:
        return Fine(fact="no quota on CPU time")
    if found is None:
        return Fine(fact=f"quota {facts.cpu.quota:.2f} cores, not used up so far")
    words = f"quota {facts.cpu.quota:.2f} cores, used up in {found.share:.1%} of {found.periods:,} periods"
    if found.share < STOPPED:
        return Fine(fact=words)
    return Problem(
        severity=Severity.SLOW,
        what=f"the CPU quota runs out in {found.share:.0%} of its periods",
        evidence=f"cpu.stat: {found.throttled:,} of {found.periods:,} periods since the container was started",
        cost="all threads stop until the period of 0.1 s as a rule is over, the one that feeds the GPU too",
        remedy=f"use no more threads and workers together than the {facts.cpu.quota:.1f} cores, or ask for more; for "
        "torch's threads",
        command=f"export OMP_NUM_THREADS={facts.cpu.usable}",
        source=CGROUP,
    )


_clock = partial(Problem, severity=Severity.SLOW, remedy="let it rise, as administrator of the machine", source=CPUFREQ)


def clock(facts: Facts) -> Outcome:
    """Look at what holds the CPU's clock down."""
    found = facts.clock
    if found is None:
        raise NotDone("this machine does not tell its clock, as most virtual ones")
    highest = found.hardware_max_khz
    words = f"governor {found.governor}, driver {found.driver}"
    if found.held_low and highest and found.hardware_min_khz:
        low = found.hardware_min_khz
        return _clock(
            what=f"governor powersave keeps the CPU at {low / 1e6:.1f} GHz",
            evidence=f"{words}; the hardware has {highest / 1e6:.1f} GHz",
            cost=f"up to {1 - low / highest:.0%} of the speed of decoding, and of training on the CPU",
            command="sudo cpupower frequency-set -g performance",
        )
    if highest and found.now_max_khz and found.now_max_khz < 0.95 * highest:
        return _clock(
            what=f"the CPU's clock is limited to {found.now_max_khz / 1e6:.1f} of {highest / 1e6:.1f} GHz",
            evidence=f"scaling_max_freq {found.now_max_khz} kHz, cpuinfo_max_freq {highest} kHz",
            cost=f"up to {1 - found.now_max_khz / highest:.0%} of the speed of decoding, and of training on the CPU",
            command=f"sudo cpupower frequency-set -u {highest}kHz",
        )
    if found.turbo is False:
        return _clock(
            what="the CPU's turbo clock is switched off",
            evidence="intel_pstate/no_turbo is 1, or cpufreq/boost is 0",
            cost="clocks above the nominal one; how much that is, the CPU's data sheet says",
            command="echo 0 | sudo tee /sys/devices/system/cpu/intel_pstate/no_turbo"
            if found.driver == "intel_pstate"
            else "echo 1 | sudo tee /sys/devices/system/cpu/cpufreq/boost",
        )
    return Fine(fact=words + ("" if not highest else f", up to {highest / 1e6:.1f} GHz"))


CHECKS = (
    Check(name="stalls", look=stalls),
    Check(name="other-programs", look=other_programs),
    Check(name="cores", look=usable_cores),
    Check(name="quota", look=quota),
    Check(name="clock", look=clock),
)
