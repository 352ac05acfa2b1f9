"""Signals that end a training: the step in hand is finished, then everything is put away in order."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self


class Signals:
    """Within the block SIGINT, and SIGTERM where asked, are noted instead of acted on; SIGINT after one interrupts.

    A second SIGTERM changes nothing: launchers send it to a process and to its group, and wait either way.

    Python hands signals to the main thread alone; in another thread the block does nothing.

    Args:
        terminate: note SIGTERM too, which ends the process otherwise.
    """

    def __init__(self, *, terminate: bool) -> None:
        self.number: int | None = None
        self._wanted = [signal.SIGINT, *([signal.SIGTERM] if terminate else [])]
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in self._wanted:
                before = signal.getsignal(number)
                if before not in (signal.SIG_DFL, signal.default_int_handler):  # nohup, or somebody's own: left alone
                    continue
                self._before[number] = before
                signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.number is None:
            self.number = number
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
