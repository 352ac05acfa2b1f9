"""Text files of people: read with a bound, written whole or not at all."""

import os
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from autotrain.errors import AutotrainError


@dataclass(frozen=True, slots=True, kw_only=True)
class FileKind:
    """What messages say about a kind of file."""

    noun: str
    """What it is called, such as ``plan``."""

    example: str
    """A usual name, such as ``plan.yaml``."""

    most_bytes: int
    """Size of a file that is still taken for one."""

    origin: str
    """How one comes to be, as a sentence without a full stop."""

    error: type[AutotrainError]
    """What is raised."""


def read_text(path: str | os.PathLike[str], kind: FileKind) -> str:
    """Return the text of the file at ``path``, in UTF-8.

    Raises:
        AutotrainError: of the kind; there is no such file, or it cannot be read, is too large or is not text.
    """
    name = printable(os.fspath(path))
    try:
        with open(path, "rb") as stream:
            content = stream.read(kind.most_bytes + 1)
    except FileNotFoundError as error:
        raise kind.error(f"{name}: no such {kind.noun}. {kind.origin}") from error
    except IsADirectoryError as error:
        raise kind.error(f"{name}: a folder, not a {kind.noun}. Name the file in it") from error
    except (OSError, ValueError) as error:
        raise kind.error(f"{name}: cannot be read ({_reason(error)}). Check the path and its rights") from error
    if len(content) > kind.most_bytes:
        raise kind.error(f"{name}:1: larger than {kind.most_bytes} bytes, so not a {kind.noun}. Check the path")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise kind.error(f"{name}:{line}: not text in UTF-8, so not a {kind.noun}. Check the path") from error


def write_text(path: str | os.PathLike[str], text: str, kind: FileKind) -> None:
    """Write ``text`` to ``path`` at once: after any failure the file is what it was, or not there.

    A link is followed, and an existing file keeps its mode.

    Raises:
        AutotrainError: of the kind; the place cannot be written.
    """
    name = printable(os.fspath(path))
    elsewhere = f"Save the {kind.noun} to another place"
    try:
        target = Path(path).resolve()
        if target.is_dir():
            raise kind.error(f"{name}: a folder. Name the file in it, such as {name}/{kind.example}")
        if not target.parent.is_dir():
            raise kind.error(
                f"{name}: its folder does not exist. Make it first: mkdir -p '{printable(str(target.parent))}'"
            )
        if target.exists() and not target.is_file():
            raise kind.error(f"{name}: not a regular file. {elsewhere}")
        _replace(target, text.encode("utf-8"), f".{kind.noun}-{uuid.uuid4().hex}.tmp")
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: a loop of links, up to Python 3.12
        raise kind.error(f"{name}: cannot be written ({_reason(error)}). {elsewhere}") from error


def printable(text: str) -> str:
    """Return ``text`` with escapes in place of what a terminal would not show as it is, line ends included."""
    return text if text.isprintable() else repr(text)[1:-1]


def _replace(target: Path, content: bytes, draft_name: str) -> None:
    draft = target.with_name(draft_name)
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
