"""The status line: what happens right now, on terminals and in notebooks only."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text


def new_console() -> Console:
    """Return a console on standard output; in a notebook one that writes text, which stays in one piece there."""
    return Console(highlight=False, force_jupyter=False)


def in_notebook() -> bool:
    """Tell whether a notebook's kernel runs this process; nothing is imported for it."""
    module = sys.modules.get("IPython")
    shell = module.get_ipython() if module is not None else None
    return shell is not None and hasattr(shell, "kernel")


class StatusLine:
    """One line below all others, redrawn when its text changes and by no thread.

    A spinner would run inside the process whose speed is measured, and be part of the measurement. Where output is
    neither a terminal nor a notebook nothing is drawn at all.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._handle: Any = None
        self._notebook = in_notebook()

    @property
    def visible(self) -> bool:
        """Whether there is something that can redraw a line."""
        return self._notebook or (self._console.is_terminal and not self._console.is_dumb_terminal)

    def show(self, text: str) -> None:
        """Replace the line's text; what is too long is cut."""
        if not self.visible:
            return
        if self._notebook:
            self._display(text[: self._console.width])
            return
        line = Text(text, style="cyan", no_wrap=True, overflow="crop")
        if self._live is None:
            self._live = Live(line, console=self._console, auto_refresh=False, transient=True)
            self._live.start(refresh=True)
        else:
            self._live.update(line, refresh=True)

    def close(self) -> None:
        """Take the line away and give the cursor back."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        if self._handle is not None:
            self._display("")
            self._handle = None

    def _display(self, text: str) -> None:
        """Write to the line that a notebook shows below the cell's first lines, and changes in place."""
        display = import_module("IPython.display").display
        content = {"text/plain": text}
        if self._handle is None:
            self._handle = display(content, raw=True, display_id=True)
        else:
            self._handle.update(content, raw=True)
