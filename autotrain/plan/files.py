"""Reading and writing a plan's file: bounded, in UTF-8, and never half written."""

import os
import uuid
from contextlib import suppress
from pathlib import Path

from autotrain.errors import PlanError
from autotrain.plan.tree import MAX_BYTES
from autotrain.plan.values import printable


def read_text(path: str | os.PathLike[str]) -> str:
    """Return the text of the file at ``path``.

    Raises:
        PlanError: there is no such file, or it cannot be read, is too large for a plan or is not text.
    """
    name = printable(os.fspath(path))
    try:
        with open(path, "rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise PlanError(
            f"{name}: no such plan. Make one with `autotrain probe TARGET` or with "
            'autotrain.probe(model, dataset).plan.save("plan.yaml")'
        ) from error
    except IsADirectoryError as error:
        raise PlanError(f"{name}: a folder, not a plan. Name the file in it") from error
    except (OSError, ValueError) as error:
        raise PlanError(f"{name}: cannot be read ({_reason(error)}). Check the path and its rights") from error
    if len(content) > MAX_BYTES:
        raise PlanError(f"{name}:1: larger than {MAX_BYTES} bytes, so not a plan. Check the path")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise PlanError(f"{name}:{line}: not text in UTF-8, so not a plan. Check the path") from error


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` to ``path`` at once: after any failure the file is what it was, or not there.

    A link is followed, and an existing file keeps its mode.

    Raises:
        PlanError: the place cannot be written.
    """
    name = printable(os.fspath(path))
    try:
        target = Path(path).resolve()
        if target.is_dir():
            raise PlanError(f"{name}: a folder. Name the file in it, such as {name}/plan.yaml")
        if not target.parent.is_dir():
            raise PlanError(
                f"{name}: its folder does not exist. Make it first: mkdir -p '{printable(str(target.parent))}'"
            )
        if target.exists() and not target.is_file():
            raise PlanError(f"{name}: not a regular file. Save the plan to another place")
        _replace(target, text.encode("utf-8"))
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: a loop of links, up to Python 3.12
        raise PlanError(f"{name}: cannot be written ({_reason(error)}). Save the plan to another place") from error


def _replace(target: Path, content: bytes) -> None:
    draft = target.with_name(f".plan-{uuid.uuid4().hex}.tmp")
    try:
        with open(draft, "xb") as stream:
            if target.exists():
                os.fchmod(stream.fileno(), target.stat().st_mode & 0o7777)
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(draft, target)
    finally:
        draft.unlink(missing_ok=True)
    with suppress(OSError):  # the rename is done; some file systems cannot flush a folder
        _flush_folder(target.parent)


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
