"""One family of errors; each message says where, what, and what to do about it."""

import difflib
from collections.abc import Iterable

LISTED = 12
"""Known names that a message lists where it has one to propose."""

MANY = 30
"""Known names beyond which a message does not list them all, where it has one to propose."""


class AutotrainError(Exception):
    """Base of every error that autotrain raises on purpose; the command line turns it into one line and exit code 2."""


class TaskError(AutotrainError):
    """The task cannot be trained as given: model, labels, loss, batch size or target file."""


class DataError(AutotrainError):
    """The dataset cannot be read: a missing or empty folder, an unreadable image, a label out of range."""


class PlanError(AutotrainError):
    """A plan file is not valid; the message names file, line and remedy."""


class SettingsError(AutotrainError):
    """A setting has an unknown name or a value that its knob does not know."""


class ScheduleError(AutotrainError):
    """A duration or a schedule cannot be understood."""


class CheckpointError(AutotrainError):
    """A checkpoint cannot be written or read, or belongs to another training."""


class UnsupportedError(AutotrainError):
    """Something is asked for that this platform, device or version does not support."""


class StudyError(AutotrainError):
    """A stored study cannot be used: another task, another machine, or not a study at all."""


class InstallationError(AutotrainError):
    """The environment holds something that breaks autotrain, such as another package of the same name."""


class CandidateError(AutotrainError):
    """One candidate of the search failed (out of memory, a dead worker); the probe records it and goes on."""


def unknown(kind: str, name: object, known: Iterable[object]) -> str:
    """Return ``unknown <kind> '<name>'. Did you mean ...? Known: ...``, the sentence for every unknown name."""
    names = [str(entry) for entry in known]
    close = difflib.get_close_matches(str(name), names, n=1)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    if close and len(names) > MANY:
        return f"unknown {kind} '{name}'.{hint}"
    if close and len(names) > LISTED:
        names = [*names[:LISTED], f"and {len(names) - LISTED} more"]
    return f"unknown {kind} '{name}'.{hint} Known: {', '.join(names)}"


def first_line(problem: BaseException) -> str:
    """Return the first line of an error's message, or its kind where it has none."""
    lines = str(problem).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(problem).__name__
