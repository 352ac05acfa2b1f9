"""The folder of a child process: its output and all files that it makes, removed whatever becomes of it."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from autotrain.cache.lock import share, sweep
from autotrain.data.workers import LIST

PREFIX = "autotrain-child-"

LONGEST = 50
"""Characters of a folder for temporary files within which sockets of workers can have names: those end at 108."""


class Folder:
    """Where a child's files lie; folders that killed processes have left are removed on the way."""

    def __init__(self) -> None:
        parent = _parent()
        sweep(parent, PREFIX, "lock")
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        new = self.path / "new"
        self._lock = os.open(new, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with suppress(OSError):  # a file system without locks: then nobody sweeps there
            share(self._lock, patience_s=0.0)
            new.rename(self.path / "lock")
        self.output = self.path / "output"

    @property
    def environ(self) -> dict[str, str]:
        """Variables by which compilers and temporary files come to lie here."""
        return {
            **dict.fromkeys(("TMPDIR", "TMP", "TEMP"), str(self.path)),
            "TORCHINDUCTOR_CACHE_DIR": str(self.path / "inductor"),
            "TRITON_CACHE_DIR": str(self.path / "triton"),
            LIST: str(self.path / "processes"),
        }

    def processes(self) -> tuple[int, ...]:
        """Return the numbers that the child and its workers had."""
        with suppress(OSError):
            return tuple(int(line) for line in (self.path / "processes").read_text().splitlines() if line.isdecimal())
        return ()

    def last_words(self, *, crash_only: bool = False) -> str:
        """Return where the child crashed, else the last line that it printed, as the end of a sentence."""
        with suppress(OSError):
            text = self.output.read_bytes()[-16384:].decode(errors="replace")
            found = re.search(r'most recent call first\):\n  File "(.+)", line (\d+) in (\S+)', text)
            if found is not None:
                return f", in {found[3]} ({os.path.basename(found[1])}:{found[2]})"
            lines = [line.strip() for line in text.splitlines() if line.strip()]
            if lines and not crash_only:
                return f": {lines[-1][:200]}"
        return ""

    def remove(self) -> None:
        """Remove the folder and all in it."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
        shutil.rmtree(self.path, ignore_errors=True)


def _parent() -> Path:
    """Return where folders for children go: where temporary files go, but for a place with too long a name."""
    usual, short = tempfile.gettempdir(), "/tmp"
    return Path(short if len(usual) > LONGEST and os.access(short, os.W_OK | os.X_OK) else usual)
