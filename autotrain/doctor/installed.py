"""What is installed: names, versions and places of all distributions, from their metadata alone."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

OWN = "autotrain-torch"
"""This distribution."""

MODULE = "autotrain"
"""The module that it brings, and others do too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """One installed distribution."""

    name: str
    """Normalised: small letters and hyphens (PyPA specification of names)."""

    version: str
    """As its metadata gives it."""

    folder: str
    """Folder that its packages lie in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """All distributions on the import path, in its order; one name may occur more than once."""

    distributions: tuple[Distribution, ...]
    """Each, with the place it lies in."""

    requirements: tuple[str, ...]
    """What this distribution requires, extras left out; empty where it runs from a copy without metadata."""

    def find(self, name: str) -> Distribution | None:
        """Return the one that an import finds, or None; the name may be written in any way."""
        return next((entry for entry in self.distributions if entry.name == _normal(name)), None)


def installed(found: Iterable[importlib.metadata.Distribution] | None = None) -> Installed:
    """Read the metadata of all distributions; damaged ones are passed over."""
    entries = importlib.metadata.distributions() if found is None else found
    listed = []
    for entry in entries:
        name = entry.metadata["Name"] if entry.metadata is not None else None
        if name:
            listed.append(
                Distribution(name=_normal(name), version=entry.version, folder=str(Path(str(entry.locate_file("")))))
            )
    try:
        requirements = importlib.metadata.requires(OWN) or []
    except importlib.metadata.PackageNotFoundError:
        requirements = []
    own = tuple(entry for entry in requirements if "extra ==" not in entry)
    return Installed(distributions=tuple(listed), requirements=own)


def namesakes(found: Iterable[importlib.metadata.Distribution] | None = None) -> tuple[str, ...]:
    """Return the other distributions whose files hold a top-level module of autotrain's name, normalised.

    ``importlib.metadata.packages_distributions`` tells the same in 0.7 s: it looks at every file of all distributions.
    """
    entries = importlib.metadata.distributions() if found is None else found
    names = {_normal(entry.metadata["Name"] or "") for entry in entries if _brings_the_module(entry)}
    return tuple(sorted(names - {OWN, ""}))


def _brings_the_module(entry: importlib.metadata.Distribution) -> bool:
    declared = entry.read_text("top_level.txt")
    if declared:
        return MODULE in declared.split()
    return re.search(rf"^{MODULE}(/|\.py,)", entry.read_text("RECORD") or "", re.MULTILINE) is not None


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
