"""File systems: of which kind is the one that holds a path."""

from dataclasses import dataclass
from pathlib import Path

from autotrain.hardware.cgroup import read_text

NETWORK = (
    *("nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "lustre", "glusterfs", "beegfs", "gpfs", "afs", "9p", "davfs"),
    *(
        "fuse.sshfs",
        "fuse.s3fs",
        "fuse.gcsfuse",
        "gcsfuse",
        "fuse.goofys",
        "fuse.rclone",
        "fuse.blobfuse2",
        "fuse.ceph",
    ),
    *("fuse.mount-s3", "mountpoint-s3", "fuse.juicefs", "fuse.glusterfs", "fuse.dbfs", "drvfs", "vboxsf"),
)
"""Kinds whose files come over a network or from a host system."""

MEMORY = ("tmpfs", "ramfs", "hugetlbfs", "devtmpfs")
"""Kinds that keep their files in memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """Where a path lies."""

    point: str
    """Folder on which the file system is mounted."""

    kind: str
    """Kind of file system, such as ``ext4`` or ``nfs4``."""

    source: str
    """Device or server."""

    @property
    def network(self) -> bool:
        """Whether files come over a network or from a host system."""
        return self.kind in NETWORK

    @property
    def memory(self) -> bool:
        """Whether files lie in memory."""
        return self.kind in MEMORY


def mount_of(path: Path, root: Path = Path("/")) -> Mount | None:
    """Return the mount that holds a path; None where the system does not tell. ``root`` is where ``proc`` lies."""
    place, best = path.resolve(), None
    for line in (read_text(root / "proc/self/mounts") or "").splitlines():
        words = line.split()
        if len(words) < 3:
            continue
        point = words[1].encode().decode("unicode_escape", errors="replace")
        if place.is_relative_to(point) and (best is None or len(point) >= len(best.point)):
            best = Mount(point=point, kind=words[2], source=words[0])  # of equals the last one covers the others
    return best
