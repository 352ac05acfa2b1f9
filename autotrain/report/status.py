"""The status line: what happens right now, on terminals only."""

from __future__ import annotations

from rich.console import Console
from rich.live import Live
from rich.text import Text


class StatusLine:
    """One line below all others, redrawn when its text changes and by no thread.

    A spinner would run inside the process whose speed is measured, and be part of the measurement. Where output is not
    a terminal nothing is drawn at all.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None

    @property
    def visible(self) -> bool:
        """Whether there is a terminal that can redraw a line."""
        return self._console.is_terminal and not self._console.is_dumb_terminal

    def show(self, text: str) -> None:
        """Replace the line's text; what is too long is cut."""
        if not self.visible:
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
