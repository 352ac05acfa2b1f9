"""Checks of switches that were left on: variables for debugging, and how Python was built and started."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial

from autotrain.doctor.check import Check, Fine, Outcome, Problem, Severity
from autotrain.doctor.facts import Facts

TORCH_CUDA = "https://docs.pytorch.org/docs/stable/cuda_environment_variables.html"
TORCH_DEBUG = "https://docs.pytorch.org/docs/stable/debugging_environment_variables.html"
TORCH_COMPILE = "https://docs.pytorch.org/docs/stable/torch.compiler_troubleshooting.html"
DYNAMO = "https://github.com/pytorch/pytorch/blob/main/torch/_dynamo/config.py"
BACKENDS = "https://docs.pytorch.org/docs/stable/backends.html"
DISTRIBUTED = "https://docs.pytorch.org/docs/stable/distributed.html#debugging-torch-distributed-applications"
ONEDNN_ISA = "https://oneapi-src.github.io/oneDNN/dev_guide_cpu_dispatcher_control.html"
NCCL = "https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/env.html"
CUDNN = "https://docs.nvidia.com/deeplearning/cudnn/latest/reference/troubleshooting.html"
PYTHON = "https://docs.python.org/3/using/cmdline.html#environment-variables"
MALLOC = "https://man7.org/linux/man-pages/man3/mallopt.3.html"
OMP_DUPLICATES = "https://github.com/pytorch/csprng/issues/115"


def on(value: str) -> bool:
    """Return whether a switch is on."""
    return value.strip().lower() not in ("", "0", "false", "off", "no", "n")


def off(value: str) -> bool:
    """Return whether a switch was put off by hand."""
    return value.strip().lower() in ("0", "false", "off", "no", "n")


def is_any(*words: str) -> Callable[[str], bool]:
    """Return a function that tells whether a value is one of some words."""
    return lambda value: value.strip().lower() in words


class Scope(Enum):
    """What a switch concerns."""

    ANYTHING = auto()
    """Training on any device."""

    GPU = auto()
    """CUDA devices."""

    RANKS = auto()
    """Several GPUs that train together, wherever they are."""

    NEIGHBOURS = auto()
    """Several GPUs of one machine that train together."""

    MACHINES = auto()
    """Several machines that train together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """A variable that costs when it has some values."""

    name: str
    """The variable."""

    bad: Callable[[str], bool] = on
    """Tells of a value whether it costs."""

    cost: str
    """What it costs, in words of the source."""

    source: str
    """Its documentation."""

    severity: Severity = Severity.SLOW
    """What it does to training, on the device that it concerns."""

    scope: Scope = Scope.ANYTHING
    """What it concerns; where there is none of that it is worth knowing at most."""


SWITCHES = (
    Switch(
        name="CUDA_LAUNCH_BLOCKING",
        cost="each kernel is waited for, so the CPU never works ahead of the GPU; for debugging",
        source=TORCH_CUDA,
        scope=Scope.GPU,
    ),
    Switch(
        name="PYTORCH_NO_CUDA_MEMORY_CACHING",
        cost="each tensor's memory is asked of the driver, which waits for the GPU; for debugging",
        source=TORCH_CUDA,
        scope=Scope.GPU,
    ),
    Switch(
        name="NVIDIA_TF32_OVERRIDE",
        bad=off,
        cost="no NVIDIA library uses TF32, whatever torch asks for: autotrain's precision tf32 has no effect",
        source=TORCH_CUDA,
        scope=Scope.GPU,
    ),
    Switch(
        name="TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
        cost="matrix products round to TF32 though the plan says fp32: no loss of speed, but of comparability",
        source=TORCH_CUDA,
        severity=Severity.NOTE,
        scope=Scope.GPU,
    ),
    Switch(
        name="TORCH_CUDNN_V8_API_DISABLED",
        cost="convolutions go by cuDNN's older interface, without its newer kernels",
        source=TORCH_CUDA,
        scope=Scope.GPU,
    ),
    Switch(
        name="CUDNN_LOGLEVEL_DBG",
        cost="cuDNN records errors or calls; only level 0 has 'no performance penalty'",
        source=CUDNN,
        scope=Scope.GPU,
    ),
    Switch(
        name="NCCL_DEBUG",
        bad=is_any("trace"),
        cost="each call of NCCL is written down",
        source=NCCL,
        scope=Scope.RANKS,
    ),
    Switch(
        name="NCCL_P2P_DISABLE",
        cost="GPUs exchange gradients through the CPU's memory instead of directly",
        source=NCCL,
        scope=Scope.NEIGHBOURS,
    ),
    Switch(
        name="NCCL_SHM_DISABLE",
        cost="processes of one machine exchange gradients over the network where they cannot directly",
        source=NCCL,
        scope=Scope.NEIGHBOURS,
    ),
    Switch(
        name="NCCL_IB_DISABLE",
        cost="machines exchange gradients over IP sockets",
        source=NCCL,
        scope=Scope.MACHINES,
    ),
    Switch(
        name="TORCH_DISTRIBUTED_DEBUG",
        bad=is_any("detail"),
        cost="every collective operation is checked for agreement of all ranks first; for debugging",
        source=DISTRIBUTED,
    ),
    Switch(
        name="TORCH_DIST_NAN_CHECK",
        cost="everything that ranks exchange is searched for NaN first",
        source=TORCH_DEBUG,
    ),
    Switch(
        name="TORCHDYNAMO_DISABLE",
        cost="torch.compile does nothing: autotrain's setting compile has no effect",
        source=DYNAMO,
    ),
    Switch(
        name="TORCH_COMPILE_DISABLE",
        cost="torch.compile does nothing: autotrain's setting compile has no effect",
        source=DYNAMO,
    ),
    Switch(
        name="TORCH_COMPILE_DEBUG",
        cost="torch.compile writes all its stages into files",
        source=TORCH_COMPILE,
    ),
    Switch(
        name="TORCHINDUCTOR_FORCE_DISABLE_CACHES",
        cost="each process compiles anew what was compiled before",
        source="https://docs.pytorch.org/tutorials/recipes/torch_compile_caching_configuration_tutorial.html",
    ),
    Switch(
        name="TORCH_LOGS",
        bad=lambda value: bool(value.strip()),
        cost="torch writes logs; how much that costs depends on which",
        source=TORCH_DEBUG,
        severity=Severity.NOTE,
    ),
    Switch(
        name="ATEN_CPU_CAPABILITY",
        bad=is_any("default"),
        cost="torch's own kernels on the CPU use neither AVX2 nor AVX-512",
        source="https://github.com/pytorch/pytorch/blob/main/aten/src/ATen/native/DispatchStub.cpp",
    ),
    Switch(
        name="ONEDNN_MAX_CPU_ISA",
        bad=lambda value: value.strip().lower() not in ("", "all", "default"),
        cost="convolutions on the CPU use no newer instructions than those",
        source=ONEDNN_ISA,
    ),
    Switch(
        name="DNNL_MAX_CPU_ISA",
        bad=lambda value: value.strip().lower() not in ("", "all", "default"),
        cost="convolutions on the CPU use no newer instructions than those",
        source=ONEDNN_ISA,
    ),
    Switch(name="ONEDNN_VERBOSE", cost="each operation of oneDNN is written down", source=BACKENDS),
    Switch(name="DNNL_VERBOSE", cost="each operation of oneDNN is written down", source=BACKENDS),
    Switch(name="MKL_VERBOSE", cost="each call of MKL is written down", source=BACKENDS),
    Switch(
        name="KMP_DUPLICATE_LIB_OK",
        cost="two OpenMP runtimes may run beside each other: 'that may cause crashes or silently produce incorrect "
        "results', says the runtime's own message",
        source=OMP_DUPLICATES,
        severity=Severity.CRASH,
    ),
    Switch(
        name="MALLOC_CHECK_",
        cost="the C library (before glibc 2.34, or with libc_malloc_debug) checks each allocation; for debugging",
        source=MALLOC,
        severity=Severity.NOTE,
    ),
    Switch(name="MALLOC_PERTURB_", cost="all memory is overwritten when allocated and freed", source=MALLOC),
    Switch(
        name="MALLOC_ARENA_MAX",
        bad=is_any("1"),
        cost="all threads of a process allocate from one arena, one at a time",
        source=MALLOC,
        severity=Severity.NOTE,
    ),
    Switch(
        name="PYTHONMALLOC",
        bad=lambda value: "debug" in value.lower(),
        cost="each of Python's allocations is checked; for debugging",
        source=PYTHON,
    ),
    Switch(
        name="PYTHONASYNCIODEBUG",
        cost="event loops check each call; for debugging",
        source=PYTHON,
        severity=Severity.NOTE,
    ),
)
"""Variables for debugging, and others that switch something fast off."""


def switches(facts: Facts) -> Outcome:
    """Look at all of ``SWITCHES``."""
    problems = [_problem(switch, facts) for switch in SWITCHES if switch.bad(facts.environ.get(switch.name, ""))]
    return problems or Fine(fact=f"none of {len(SWITCHES)} variables that are known to cost is set so")


def _problem(switch: Switch, facts: Facts) -> Problem:
    idle = _idle(switch.scope, facts)
    return Problem(
        severity=Severity.NOTE if idle else switch.severity,
        what=f"{switch.name}={facts.environ[switch.name]}",
        evidence=f"in this process's environment{f'; {idle} it has no effect yet' if idle else ''}",
        cost=switch.cost,
        remedy="take it out of the environment: shell profile, Dockerfile, job script",
        command=f"unset {switch.name}",
        source=switch.source,
    )


def _idle(scope: Scope, facts: Facts) -> str:
    """Return why switches of a scope have no effect here; empty where they have."""
    if scope is Scope.ANYTHING:
        return ""
    if not facts.visible_gpus:
        return "without a GPU here"
    if scope is Scope.GPU:
        return ""
    beside = _number(facts.environ, "LOCAL_WORLD_SIZE")
    machines = _number(facts.environ, "WORLD_SIZE") > (beside or len(facts.visible_gpus))
    neighbours = max(beside, len(facts.own_gpus)) > 1  # a launcher may show each rank its own GPU alone
    if scope is Scope.MACHINES:
        return "" if machines else "on a single machine"
    return "" if neighbours or (machines and scope is Scope.RANKS) else "with a single GPU"


def _number(environ: Mapping[str, str], name: str) -> int:
    """Return torchrun's variable as a number; 0 where it is none."""
    value = environ.get(name, "").strip()
    return int(value) if value.isdecimal() else 0


def preloaded(facts: Facts) -> Outcome:
    """Look at libraries that are loaded before all others, and tell the allocator."""
    text = facts.environ.get("LD_PRELOAD", "").strip()
    slow = [word for word in text.replace(":", " ").split() if any(name in word for name in SLOW_LIBRARIES)]
    if slow:
        return Problem(
            severity=Severity.SLOW,
            what=f"LD_PRELOAD loads {slow[0].rsplit('/', 1)[-1]}",
            evidence=f"LD_PRELOAD={text}",
            cost="a checker of memory or calls follows the whole process; for debugging",
            remedy="start the training without it",
            command="unset LD_PRELOAD",
            source="https://man7.org/linux/man-pages/man8/ld.so.8.html",
        )
    settings = [
        f"{name}={facts.environ[name]}"
        for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "MALLOC_CONF")
        if facts.environ.get(name)
    ]
    fast = next((name for name in ("jemalloc", "tcmalloc", "mimalloc") if name in text), "the C library's")
    return Fine(fact=", ".join([f"allocator: {fast}", *settings]))


SLOW_LIBRARIES = ("libasan", "libtsan", "libubsan", "vgpreload", "libefence", "libmemusage", "libpcprofile")
"""Parts of names of libraries that check or record."""


_other_python = partial(Problem, severity=Severity.SLOW, remedy="use an ordinary one for training")
_python_without = partial(Problem, severity=Severity.SLOW, remedy="start it without that")


def python(facts: Facts) -> Outcome:
    """Look how Python was built and started."""
    found = facts.interpreter
    problems = []
    build = "https://docs.python.org/3/using/configure.html#python-debug-build"
    if found.debug_build:
        problems.append(
            _other_python(
                what="Python is a debug build",
                evidence="sysconfig: Py_DEBUG",
                cost="checks in the interpreter itself",
                source=build,
            )
        )
    if found.development_mode:
        problems.append(
            _python_without(
                what="Python runs in development mode",
                evidence="-X dev or PYTHONDEVMODE",
                cost="checks at run time that 'are too expensive to be enabled by default', such as of each allocation",
                source="https://docs.python.org/3/library/devmode.html",
                command="unset PYTHONDEVMODE",
            )
        )
    if found.tracing_memory:
        problems.append(
            _python_without(
                what="Python traces its allocations",
                evidence="-X tracemalloc or PYTHONTRACEMALLOC",
                cost="each allocation is written down with the line that made it, in workers too",
                source="https://docs.python.org/3/library/tracemalloc.html",
                command="unset PYTHONTRACEMALLOC",
            )
        )
    if found.traced:
        problems.append(
            _other_python(
                what="Python is traced",
                evidence="sys.gettrace or sys.getprofile is set",
                cost="a debugger, profiler or coverage tool is called for each line or call",
                source="https://docs.python.org/3/library/sys.html#sys.settrace",
            )
        )
    if found.free_threaded and found.version.startswith("3.13"):
        problems.append(
            _other_python(
                what="Python 3.13 without a global lock",
                evidence="sysconfig: Py_GIL_DISABLED",
                cost="its documentation calls it experimental, with 'a substantial single-threaded performance hit'",
                source="https://docs.python.org/3.13/howto/free-threading-python.html",
            )
        )
    lock = "" if not found.free_threaded else f", free-threaded, lock {'on' if found.lock_enabled else 'off'}"
    return problems or Fine(fact=f"{found.implementation} {found.version}{lock}, no debugging")


CHECKS = (
    Check(name="switches", look=switches),
    Check(name="preloaded", look=preloaded),
    Check(name="python", look=python),
)
