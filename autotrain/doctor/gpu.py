"""Checks of NVIDIA GPUs: whether torch can use them, and with which flags."""

from __future__ import annotations

from collections.abc import Iterator

from autotrain.doctor.check import Check, Fine, NotDone, Outcome, Problem, Severity
from autotrain.doctor.facts import Facts
from autotrain.doctor.own_gpus import VARIABLE, named
from autotrain.report.words import many

LEAST_DRIVERS = {"11": 450, "12": 525, "13": 580}
"""Oldest driver, by major version of CUDA."""

COMPATIBILITY = "https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html"
INSTALL = "https://pytorch.org/get-started/locally/"
VISIBLE = "https://docs.nvidia.com/cuda/cuda-programming-guide/05-appendices/environment-variables.html"


def usable(facts: Facts) -> Outcome:
    """Look whether torch can use the GPUs that are there."""
    count = len(facts.visible_gpus)
    if not count and not facts.nvidia_devices:
        raise NotDone("no NVIDIA GPU here")
    if not count:
        return _unusable(
            f"{many(facts.nvidia_devices, 'NVIDIA GPU')} without a driver",
            "on the PCI bus, but NVML finds no driver",
            "install NVIDIA's driver; in a container: start it with GPUs",
            "docker run --gpus all ...",
            "https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/install-guide.html",
        )
    cuda = dict(facts.machine.versions).get("cuda")
    names = ", ".join(gpu.name for gpu in facts.visible_gpus)
    if cuda is None:
        return _unusable(
            f"torch was built without CUDA, beside {many(count, 'GPU')}",
            f"torch {dict(facts.machine.versions).get('torch', 'unknown')}; the driver shows {names}",
            "install a build with CUDA; the page tells the command for this machine",
            "pip install --force-reinstall torch torchvision",
            INSTALL,
        )
    driver, least = facts.visible_gpus[0].driver, LEAST_DRIVERS.get(cuda.split(".", maxsplit=1)[0])
    if least is not None and driver.split(".")[0].isdigit() and int(driver.split(".")[0]) < least:
        return _unusable(
            f"driver {driver} is too old for torch's CUDA {cuda}",
            f"CUDA {cuda.split('.')[0]} needs driver {least} or newer; the driver shows {names}",
            f"update the driver, or install a torch for an older CUDA (driver {driver} serves {_serves(driver)}): "
            f"{INSTALL} tells the command",
            "",
            COMPATIBILITY,
        )
    hidden = _hidden(facts)
    if hidden is not None:
        return hidden
    found = facts.torch
    if not found.cuda_works:
        return _unusable(
            "torch cannot use the GPU",
            f"{found.cuda_problem or 'torch.cuda.is_available() is False'}; the driver {driver} shows {names}",
            "restart the driver or the machine; in a container: start it with GPUs; see what the driver says",
            "nvidia-smi; dmesg | grep -i nvrm",
            INSTALL,
        )
    return _kernels(facts) or Fine(
        fact=f"torch {found.version} uses {many(len(found.devices), 'GPU')}, driver {driver}"
    )


def _serves(driver: str) -> str:
    major = int(driver.split(".")[0])
    return next((f"CUDA {cuda}" for cuda, least in reversed(LEAST_DRIVERS.items()) if major >= least), "none of them")


def _unusable(what: str, evidence: str, remedy: str, command: str, source: str) -> Problem:
    return Problem(
        severity=Severity.SLOW,
        what=what,
        evidence=evidence,
        cost="training runs on the CPU, many times slower than on the GPU that is there",
        remedy=remedy,
        command=command,
        source=source,
    )


def _hidden(facts: Facts) -> Problem | None:
    value = facts.environ.get(VARIABLE)
    if value is None or value.strip().startswith("MIG-") or named(facts.visible_gpus, value):
        return None
    return _unusable(
        f"{VARIABLE} hides {many(len(facts.visible_gpus), 'GPU')}",
        f"{VARIABLE}='{value}'",
        "take it out of the environment, unless the CPU is meant to train",
        f"unset {VARIABLE}",
        VISIBLE,
    )


def _kernels(facts: Facts) -> Problem | None:
    """Return a problem where torch has no kernels for a device: neither its family's nor code to compile from."""
    built = facts.torch.architectures
    for device in facts.torch.devices:
        major, minor = device.capability
        families = [name.removeprefix("sm_").rstrip("af") for name in built if name.startswith("sm_")]
        native = any(name[:-1] == str(major) and int(name[-1]) <= minor for name in families)
        portable = [name.removeprefix("compute_") for name in built if name.startswith("compute_")]
        compiled = any(name.isdigit() and int(name) <= 10 * major + minor for name in portable)
        if built and not native and not compiled:
            return Problem(
                severity=Severity.CRASH,
                what=f"torch has no kernels for {device.name}",
                evidence=f"compute capability {major}.{minor}, torch {facts.torch.version} built for {' '.join(built)}",
                cost="'no kernel image is available for execution on the device' at the first operation",
                remedy="install a torch that was built for it; the page tells which",
                command="pip install --upgrade torch torchvision",
                source=INSTALL,
            )
    return None


def flags(facts: Facts) -> Outcome:
    """Look at torch's flags for CUDA as they are at the start."""
    if not facts.visible_gpus:
        raise NotDone("no NVIDIA driver here")
    found = facts.torch
    problems = list(_flags(facts)) if found.cuda_works else []
    tf32 = "on" if found.convolutions_tf32 else "off"
    words = (
        f"cuDNN {found.cudnn_version}{''.join(', ' + name for name in found.cudnn_flags)}; TF32 in convolutions {tf32}"
        f", in products {'off' if found.matmul_precision == 'highest' else 'on'}"
    )
    return problems or Fine(fact=words)


def _flags(facts: Facts) -> Iterator[Problem]:
    found = facts.torch
    source = "https://docs.pytorch.org/docs/stable/backends.html"
    if found.cudnn_version is None or not found.cudnn_enabled:
        yield Problem(
            severity=Severity.SLOW,
            what="torch convolves without cuDNN",
            evidence="torch.backends.cudnn: " + ("not available" if found.cudnn_version is None else "not enabled"),
            cost="torch's own convolutions run in its place",
            remedy="install a torch that brings cuDNN",
            command="pip install --force-reinstall torch torchvision",
            source=source,
        )
    if "deterministic" in found.cudnn_flags:
        yield Problem(
            severity=Severity.NOTE,
            what="cuDNN may use deterministic algorithms only",
            evidence="torch.backends.cudnn.deterministic is True right after the import: something sets it",
            cost="the fastest algorithm may not be among them",
            remedy="keep it only where runs have to agree bit for bit",
            source=source,
        )


CHECKS = (Check(name="gpu", look=usable), Check(name="gpu-flags", look=flags))
