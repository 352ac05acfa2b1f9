"""Checks of memory: shared memory, open files, free memory, swap, allocators, the folder for temporary files."""

from __future__ import annotations

from autotrain.doctor.check import Check, Fine, NotDone, Outcome, Problem, Severity
from autotrain.doctor.facts import Facts
from autotrain.hardware.units import size_words
from autotrain.report.words import many

MIB, GIB = 1 << 20, 1 << 30

MOST_WORKERS = 8
"""Workers that the reckonings go up to."""

PREFETCH = 2
"""Batches that a worker has ready, DataLoader's default."""

BATCH_BYTES = 64 * 3 * 224 * 224 * 4
"""A common batch: 64 images of 224 by 224 pixels, as fp32."""

FILES_PER_WORKER, OWN_FILES = 24, 64
"""Pipes, shared memory of the batches in flight and modules being imported; files of the training process itself."""

LEAST_FREE = 2 * GIB
"""torch and torchvision take 0.7 GiB (2.15 on Linux), forked workers some 20 MiB each, before there is any image."""

LEAST_TEMPORARY = GIB
"""torch.compile's cache and its compilers put hundreds of MiB there."""

SHM = "https://github.com/pytorch/pytorch#docker-image"
FILES = "https://docs.pytorch.org/docs/stable/multiprocessing.html#file-descriptor-file-descriptor"


def workers(facts: Facts) -> int:
    """Return the number of workers to reckon with."""
    return min(MOST_WORKERS, facts.cpu.usable)


def shared_memory(facts: Facts) -> Outcome:
    """Compare ``/dev/shm`` with the batches that workers keep ready."""
    free, count = facts.memory.shm_bytes, workers(facts)
    needed = count * PREFETCH * BATCH_BYTES
    if free is None:
        if facts.machine.platform != "linux":
            raise NotDone("there is no /dev/shm on this system")
        size, fits = "there is no /dev/shm", 0
    else:
        size, fits = f"{size_words(free)} free in /dev/shm", free // BATCH_BYTES
    ready = f"{many(count, 'worker')} with {PREFETCH} batches of 64 images of 224 px each take {size_words(needed)}"
    if free is not None and free >= needed:
        return Fine(fact=f"{size}; {ready}")
    return Problem(
        severity=Severity.CRASH,
        what=size,
        evidence=f"{ready}, as fp32; there is room for {fits} of these {count * PREFETCH} batches",
        cost="a loader worker that finds it full dies with 'Bus error', and training with it (docker: 64 MB)",
        remedy="give the container more: docker's --shm-size (or --ipc=host), in Kubernetes an emptyDir of medium "
        "Memory at /dev/shm; as administrator:",
        command=f"mount -o remount,size={max(1, -(-2 * needed // GIB))}G /dev/shm"
        if free is not None
        else "docker run --shm-size=8g ...",
        source=SHM,
    )


def open_files(facts: Facts) -> Outcome:
    """Compare the limit on open files with what workers need."""
    limit = facts.file_limit
    if limit is None:
        raise NotDone("this system has no such limit")
    count = workers(facts)
    needed = max(limit.used or 0, OWN_FILES) + FILES_PER_WORKER * count
    if limit.soft is None or limit.soft >= needed:
        return Fine(fact=f"{'no limit' if limit.soft is None else f'{limit.soft:,}'} on open files")
    enough = 65536 if limit.hard is None else min(65536, limit.hard)
    raisable = enough >= needed
    return Problem(
        severity=Severity.CRASH,
        what=f"no more than {limit.soft} open files",
        evidence=f"RLIMIT_NOFILE {limit.soft}, {limit.used if limit.used is not None else 'unknown'} in use; "
        f"{many(count, 'worker')} may need {needed}",
        cost="'Too many open files', or 'received 0 items of ancdata', at some batch after the start: workers hand "
        "over each tensor as an open file",
        remedy="raise it in the shell that starts the training"
        if raisable
        else f"the hard limit is {limit.hard} too: raise it in /etc/security/limits.conf, or",
        command=f"ulimit -n {enough}" if raisable else "docker run --ulimit nofile=65536 ...",
        source=FILES,
    )


def free_memory(facts: Facts) -> Outcome:
    """Look whether enough memory is free to train at all."""
    memory = facts.memory
    free, limit = memory.budget_bytes, memory.limit_bytes
    whole = memory.total_bytes if limit is None else limit
    words = f"{size_words(free)} of {size_words(whole)} free{'' if limit is None else ' within the control group'}"
    if free >= LEAST_FREE:
        return Fine(fact=words)
    return Problem(
        severity=Severity.CRASH,
        what=f"{size_words(free)} of memory free",
        evidence=words,
        cost="torch and torchvision alone take 0.7 GiB, before there is any image; when nothing is free the kernel "
        "kills a process",
        remedy="end what holds memory, or give the container more; see who it is",
        command="ps -eo rss,pid,comm --sort=-rss | head",
    )


def swap(facts: Facts) -> Outcome:
    """Look whether programs live in swap space while memory is short."""
    used, space = facts.paging.swap_used_bytes, facts.paging.swap_bytes
    if used is None or space is None:
        raise NotDone("this system does not tell about its swap space")
    words = f"{size_words(used)} of {size_words(space)} swap in use" if space else "no swap space"
    short = facts.memory.available_bytes < 0.1 * facts.memory.total_bytes
    if used < 256 * MIB or not short:
        return Fine(fact=f"{words}; transparent huge pages: {facts.paging.huge_pages or 'unknown'}")
    return Problem(
        severity=Severity.SLOW,
        what=f"{size_words(used)} of swap in use, and memory is short",
        evidence=f"{words}; {size_words(facts.memory.available_bytes)} of {size_words(facts.memory.total_bytes)} "
        "can be had without swapping",
        cost="each page that comes back from swap takes as long as a read from storage",
        remedy="end what holds memory, or train with fewer workers and no cache in RAM; see who it is",
        command="ps -eo rss,pid,comm --sort=-rss | head",
    )


def temporary(facts: Facts) -> Outcome:
    """Look whether temporary files have room."""
    found = facts.temporary
    if found.path is None:
        return Problem(
            severity=Severity.CRASH,
            what="no folder for temporary files",
            evidence="none of TMPDIR, /tmp, /var/tmp, /usr/tmp and the working directory can be written",
            cost="torch.compile, checkpoints' drafts and isolated measurements cannot be written",
            remedy="name a folder that can be written",
            command="export TMPDIR=$HOME/tmp; mkdir -p $TMPDIR",
        )
    where = "in memory" if found.mount is not None and found.mount.memory else "on storage"
    words = f"{size_words(found.free_bytes)} free in {found.path}, {where}"
    if found.free_bytes >= LEAST_TEMPORARY:
        return Fine(fact=words)
    return Problem(
        severity=Severity.CRASH,
        what=f"{size_words(found.free_bytes)} free in {found.path}",
        evidence=words,
        cost="'No space left on device' from torch.compile, from disk caches and from isolated measurements",
        remedy="make room, or name another folder",
        command="export TMPDIR=/path/with/room",
    )


CHECKS = (
    Check(name="shared-memory", look=shared_memory),
    Check(name="open-files", look=open_files),
    Check(name="free-memory", look=free_memory),
    Check(name="swap", look=swap),
    Check(name="temporary", look=temporary),
)
