"""Versions that are known to be slow or wrong; each with the report that says so, and none without."""

from __future__ import annotations

from dataclasses import dataclass

from autotrain.doctor.check import Check, Fine, NotDone, Outcome, Problem, Severity
from autotrain.doctor.facts import Facts


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A fault of some versions."""

    name: str
    """Distribution, normalised."""

    versions: str
    """Those that have it, as a specifier (PyPA version specifiers)."""

    cost: str
    """What it costs, in the report's figures."""

    remedy: str
    """What to do."""

    command: str
    """A line to type."""

    source: str
    """Address of the report."""


KNOWN = (
    Known(
        name="torch",
        versions=">=2.13.0.dev20260512,<2.13.0rc1",
        cost="convolutions in bf16 on the CPU take 4 to 16 times as long as with the nightly build of a week before",
        remedy="use a release",
        command="pip install --force-reinstall torch torchvision",
        source="https://github.com/pytorch/pytorch/issues/183815",
    ),
)
"""Only what a public report shows with figures or a reproduction, and autotrain's requirements let in: of all other
versions the check of requirements tells."""

ONEDNN_SLOW = "3.12.3"
"""A library inside of torch, whose version no distribution tells."""


def known_versions(facts: Facts) -> Outcome:
    """Compare what is installed with the list."""
    try:
        from packaging.specifiers import SpecifierSet
    except ImportError:
        raise NotDone("needs the package packaging to compare versions") from None
    problems = []
    for entry in KNOWN:
        found = facts.installed.find(entry.name)
        if found is not None and SpecifierSet(entry.versions).contains(found.version, prereleases=True):
            problems.append(
                Problem(
                    severity=Severity.SLOW,
                    what=f"{entry.name} {found.version} is known to be slow",
                    evidence=f"versions {entry.versions}",
                    cost=entry.cost,
                    remedy=entry.remedy,
                    command=entry.command,
                    source=entry.source,
                )
            )
    return problems or Fine(fact=f"none of the versions that are known to be slow: {_listed()}")


def _listed() -> str:
    return "; ".join(f"{entry.name} {entry.versions}" for entry in KNOWN)


def onednn(facts: Facts) -> Outcome:
    """Look for the release of oneDNN that computes products of fp16 numbers without its fast kernel."""
    version = facts.torch.onednn
    if version is None:
        raise NotDone("this torch has no oneDNN")
    if version != ONEDNN_SLOW or "amx_bf16" not in facts.cpu.features:
        return Fine(fact=f"oneDNN {version} in torch {facts.torch.version}")
    return Problem(
        severity=Severity.NOTE,
        what=f"oneDNN {version} is known to be slow in fp16",
        evidence=f"torch {facts.torch.version} on a CPU with AMX",
        cost="in the report two fp16 matrices of 2048 by 2048 take 15.5 s instead of 8 ms on the CPU; autotrain offers "
        "no fp16 on CPUs",
        remedy="do not train in fp16 on this CPU, or use a torch with oneDNN 3.12.4 or newer",
        command="pip install --upgrade torch torchvision",
        source="https://github.com/pytorch/pytorch/issues/193951",
    )


CHECKS = (Check(name="known-versions", look=known_versions), Check(name="onednn", look=onednn))
