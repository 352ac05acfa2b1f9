"""Reading and writing a plan's file: bounded, in UTF-8, and never half written."""

import os

from autotrain import files
from autotrain.errors import PlanError
from autotrain.plan.tree import MAX_BYTES

PLAN_FILE = files.FileKind(
    noun="plan",
    example="plan.yaml",
    most_bytes=MAX_BYTES,
    origin='Make one with `autotrain probe TARGET` or with autotrain.probe(model, dataset).plan.save("plan.yaml")',
    error=PlanError,
)


def read_text(path: str | os.PathLike[str]) -> str:
    """Return the text of the file at ``path``.

    Raises:
        PlanError: there is no such file, or it cannot be read, is too large for a plan or is not text.
    """
    return files.read_text(path, PLAN_FILE)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` to ``path`` at once: after any failure the file is what it was, or not there.

    A link is followed, and an existing file keeps its mode.

    Raises:
        PlanError: the place cannot be written.
    """
    files.write_text(path, text, PLAN_FILE)
