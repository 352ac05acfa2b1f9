"""Swap space and huge pages."""

import re
from dataclasses import dataclass
from pathlib import Path

from autotrain.hardware.cgroup import read_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Paging:
    """How the system pages; None for what it does not tell."""

    swap_bytes: int | None
    """Swap space."""

    swap_used_bytes: int | None
    """Of it in use, by all programs."""

    huge_pages: str | None
    """Transparent huge pages: ``always``, ``madvise`` or ``never``."""


def paging(root: Path = Path("/")) -> Paging:
    """Read the facts from the operating system; ``root`` is where ``proc`` and ``sys`` lie."""
    text = read_text(root / "proc/meminfo") or ""
    total, free = (_kibibytes(text, name) for name in ("SwapTotal", "SwapFree"))
    chosen = re.search(r"\[(\w+)\]", read_text(root / "sys/kernel/mm/transparent_hugepage/enabled") or "")
    used = None if total is None or free is None else total - free
    return Paging(swap_bytes=total, swap_used_bytes=used, huge_pages=chosen[1] if chosen else None)


def _kibibytes(text: str, name: str) -> int | None:
    found = re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else None
