"""Checks of threads: how many, where they are bound, and what they do while they wait."""

from __future__ import annotations

from collections.abc import Mapping

from autotrain.doctor.check import Check, Fine, NotDone, Outcome, Problem, Severity
from autotrain.doctor.facts import Facts
from autotrain.report.words import many

COUNTS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "BLIS_NUM_THREADS")
"""Variables that set a number of threads."""

BINDINGS = ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY")
"""Variables that bind threads to cores."""

IDLE = 0.25
"""Cores that idle threads may keep busy before it is a problem."""

SLOWER = 1.05
"""By how much more threads than cores have to be slower, measured, before a cost is told."""

CLEARLY_SLOWER = 1.2
"""By how much fewer threads than cores have to be slower, measured, before it is a problem."""

LONG_WAIT_MS = 1000
"""Milliseconds of active waiting that are a problem; the default of Intel's OpenMP is 200."""

LIBGOMP = "https://gcc.gnu.org/onlinedocs/libgomp/GOMP_005fSPINCOUNT.html"
BOUND = "https://github.com/pytorch/pytorch/issues/101850"
QUOTAS = "https://github.com/uxlfoundation/oneTBB/issues/190"


def asked(environ: Mapping[str, str]) -> dict[str, int]:
    """Return the variables that set a number of threads, so far as they hold one."""
    counts = {}
    for name in COUNTS:
        first = environ.get(name, "").split(",")[0].strip()  # OpenMP takes one number per level of nesting
        if first.isdigit() and int(first) > 0:
            counts[name] = int(first)
    return counts


def too_many(facts: Facts) -> Outcome:
    """Compare the threads of one operation with the usable cores."""
    usable, wanted = facts.cpu.usable, asked(facts.environ)
    excess = {name: count for name, count in wanted.items() if count > usable}
    try:
        threads: int | None = facts.torch.threads
    except NotDone:
        threads = None
    if not excess and (threads is None or threads <= usable):
        told = ", ".join(f"{name}={count}" for name, count in wanted.items()) or "no thread variable is set"
        words = f"torch uses {many(threads, 'thread')}, " if threads is not None else ""
        return Fine(fact=f"{words}{many(usable, 'usable core')}; {told}")
    most = max([*excess.values(), threads or 0])
    causes = ", ".join(f"{name}={count}" for name, count in excess.items())
    believed = f"torch uses {many(threads, 'thread')}" if threads is not None else ""
    told = "; ".join(part for part in (causes, believed, _why(facts)) if part)
    return Problem(
        severity=Severity.SLOW,
        what=f"{many(most, 'thread')} on {many(usable, 'usable core')}",
        evidence=told,
        cost=_cost(facts, threads, usable),
        remedy="give each process no more threads than it has cores, with all its workers and libraries",
        command=f"export OMP_NUM_THREADS={usable}",
        source=QUOTAS,
    )


def _why(facts: Facts) -> str:
    cpu = facts.cpu
    if cpu.quota is not None and cpu.quota < cpu.affinity:
        return f"the quota of {cpu.quota:.2f} cores is no affinity, so libraries count {cpu.affinity} cores"
    return f"affinity {cpu.affinity} of {cpu.logical} cores" if cpu.affinity < cpu.logical else ""


def _cost(facts: Facts, threads: int | None, usable: int) -> str:
    general = "threads wait for each other while one of them waits for a core; with a quota all stop when it is used up"
    if threads is None or threads <= usable:
        return general
    ratio = facts.torch.own_step_s / facts.torch.usable_step_s
    if ratio < SLOWER:
        return f"{general}; measured on a small block of a network: no difference now"
    return f"measured: a small block of a network takes {ratio:.1f} times as long as with {many(usable, 'thread')}"


def too_few(facts: Facts) -> Outcome:
    """Look for a number of threads that leaves cores idle where the CPU trains."""
    usable, wanted = facts.cpu.usable, asked(facts.environ)
    low = {name: count for name, count in wanted.items() if count < usable and name in COUNTS[:2]}
    told = ", ".join(f"{name}={count}" for name, count in low.items())
    if facts.visible_gpus:
        return Fine(fact=f"{told + ': ' if told else ''}a GPU trains, the CPU's threads matter little")
    try:
        found = facts.torch
    except NotDone:
        if not low:
            return Fine(fact="no variable holds the threads down")
        threads, cost = min(low.values()), "training on the CPU uses no more cores than it has threads"
    else:
        threads, ratio = found.threads, found.own_step_s / found.usable_step_s
        fact = f"{many(threads, 'thread')} for {many(usable, 'usable core')}"
        if threads >= usable:
            return Fine(fact=fact)
        told = told or "no thread variable is set; torch counts physical cores"
        cost = f"measured: a small block of a network takes {ratio:.1f} times as long as with {many(usable, 'thread')}"
        if ratio < CLEARLY_SLOWER:  # two threads of one core gain little from each other, whoever set their number
            return Fine(fact=f"{fact} ({told}); {cost}")
    return Problem(
        severity=Severity.SLOW,
        what=f"{many(threads, 'thread')} for {many(usable, 'usable core')}, and no GPU",
        evidence=told,
        cost=cost,
        remedy="let torch use all cores; autotrain tries fewer itself. torchrun sets 1 for several processes where "
        "nothing is set",
        command=f"export OMP_NUM_THREADS={usable}; unset MKL_NUM_THREADS",
        source="https://github.com/pytorch/pytorch/blob/main/torch/distributed/run.py",
    )


def bound(facts: Facts) -> Outcome:
    """Look whether OpenMP binds the main thread, whose cores loader workers inherit."""
    named = {name: facts.environ[name] for name in BINDINGS if facts.environ.get(name)}
    told = ", ".join(f"{name}={value}" for name, value in named.items())
    usable = facts.cpu.usable
    try:
        left = facts.torch.affinity
    except NotDone:
        left = None
    if usable == 1 or (left is not None and left >= usable):
        return Fine(fact=f"{told + ': ' if told else ''}the main thread may run on all {many(usable, 'usable core')}")
    if left is None and not _binds(named):
        return Fine(fact="no variable binds threads to cores")
    seen = (
        f"after the import of torch the main thread may run on {many(left, 'core')} of {usable}"
        if left is not None
        else ("without the import of torch it was not looked whether they do")
    )
    return Problem(
        severity=Severity.SLOW,
        what="loader workers are bound to the main thread's core"
        if left is not None
        else "variables bind threads to cores",
        evidence=f"{told or 'no variable that is known for it'}; {seen}",
        cost=f"workers inherit the binding: all share {many(left or 1, 'core')}, and more workers load no faster",
        remedy="unbind; bind by taskset or numactl, to sets of cores, where it has to be",
        command=f"unset {' '.join(named)}" if named else "",
        source=BOUND,
    )


def _binds(named: Mapping[str, str]) -> bool:
    off = ("false", "none", "disabled")
    return any(name != "OMP_PLACES" and value.lower() not in off for name, value in named.items())


def spinning(facts: Facts) -> Outcome:
    """Look for threads that burn their core while they wait."""
    named = _spinners(facts.environ)
    told = ", ".join(f"{name}={value}" for name, value in named.items())
    if facts.cpu.usable == 1 and not named:
        return Fine(fact="one core, no thread waits beside another")
    try:
        cores: float | None = facts.torch.idle_cores
    except NotDone:
        cores = None
    if cores is None and not named:
        return Fine(fact="no variable lets waiting threads spin")
    if cores is not None and cores < IDLE:
        return Fine(fact=f"idle threads use {cores:.2f} cores{', ' + told if told else ''}")
    return Problem(
        severity=Severity.SLOW,
        what="waiting threads burn their cores",
        evidence=told or "no variable that is known for it",
        cost=f"measured: {cores:.1f} cores busy while torch has nothing to do; loader workers cannot have them"
        if cores is not None
        else "all threads but one stay busy between operations; loader workers cannot have their cores",
        remedy="let waiting threads sleep, which OpenMP does by itself after some milliseconds",
        command=f"unset {' '.join(named)}" if named else "export OMP_WAIT_POLICY=PASSIVE",
        source=LIBGOMP,
    )


def _spinners(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that make threads wait actively for long."""
    found = {}
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY"):
        value = environ.get(name, "").strip().lower()
        if value in ("active", "infinite", "infinity", "turnaround") or (
            name == "KMP_BLOCKTIME"
            and value.removesuffix("ms").isdigit()
            and int(value.removesuffix("ms")) >= LONG_WAIT_MS
        ):
            found[name] = environ[name]
    if "GOMP_SPINCOUNT" not in found and _spins(environ.get("GOMP_SPINCOUNT", "")) >= 1e9:
        found["GOMP_SPINCOUNT"] = environ["GOMP_SPINCOUNT"]
    return found


def _spins(text: str) -> float:
    """Return a number such as ``30G``; 0 for what is none. By default libgomp spins 300,000 times."""
    text = text.strip().lower()
    factors = {"k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}
    digits, factor = (text[:-1], factors[text[-1]]) if text[-1:] in factors else (text, 1.0)
    return int(digits) * factor if digits.isdigit() else 0.0


CHECKS = (
    Check(name="threads", look=too_many),
    Check(name="idle-cores", look=too_few),
    Check(name="binding", look=bound),
    Check(name="spinning", look=spinning),
)
