"""The boot: a number that tells whether the machine has been running without a break since something was written."""

from __future__ import annotations

import functools
import hashlib
import platform
from pathlib import Path

import psutil

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@functools.cache
def boot_stamp() -> int:
    """Return a 64-bit number of this boot of this machine, never 0.

    What was written under the same number cannot have been lost with the machine's page cache. Without Linux's boot id
    the time of the boot serves; where that wavers, entries are only checked once more than needed.
    """
    try:
        text = BOOT_ID.read_text()
    except OSError:
        text = f"{platform.node()} {psutil.boot_time():.0f}"
    return int.from_bytes(hashlib.blake2b(text.strip().encode(), digest_size=8).digest(), "little") or 1
