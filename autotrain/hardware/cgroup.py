"""Control groups: the limits that a container or a batch system puts on this process."""

from collections.abc import Iterator
from pathlib import Path


def read_text(path: Path) -> str | None:
    """Return the file's text, or None where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def read_int(path: Path) -> int | None:
    """Return the whole number in the file, or None where there is no such file or it holds a word such as ``max``."""
    text = read_text(path)
    try:
        return None if text is None else int(text)
    except ValueError:
        return None


def unified(root: Path) -> tuple[Path, ...]:
    """Return the cgroup v2 folders of this process, its own first and the root of the hierarchy last."""
    mounts = (root / "sys/fs/cgroup", root / "sys/fs/cgroup/unified")
    return tuple(_levels(mounts, _own_path(root, "")))


def legacy(root: Path, controller: str) -> tuple[Path, ...]:
    """Return the cgroup v1 folders of this process for one controller, its own first and the root last."""
    mounts = (root / "sys/fs/cgroup" / controller,)
    return tuple(_levels(mounts, _own_path(root, controller)))


def _own_path(root: Path, controller: str) -> str:
    """Return the process's path from lines such as ``0::/a/b`` (v2, no controller) or ``4:cpu,cpuacct:/a/b`` (v1)."""
    for line in (read_text(root / "proc/self/cgroup") or "").splitlines():
        hierarchy, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if (controller in controllers.split(",")) if controller else (hierarchy == "0" and not controllers):
            return path
    return "/"


def _levels(mounts: tuple[Path, ...], own: str) -> Iterator[Path]:
    """Yield the own folder and all its parents up to each mount, those that exist.

    In a container without a cgroup namespace the path is the host's and does not exist below the mount; the mount
    itself is then the process's own group, and it is always the last level. A path with ``..`` lies outside the mount.
    """
    parts = [part for part in own.split("/") if part]
    if ".." in parts:
        parts = []
    for mount in mounts:
        for depth in range(len(parts), -1, -1):
            folder = mount.joinpath(*parts[:depth])
            if folder.is_dir():
                yield folder
