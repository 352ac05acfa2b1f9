"""Cache: where work that does not depend on chance is kept from one epoch to the next."""

from __future__ import annotations

from dataclasses import replace

from autotrain.cache.budget import memory_budget
from autotrain.data.caching import DISK, NONE, RAM, budget_bytes, cached_bytes, disk_problem
from autotrain.hardware.machine import Machine
from autotrain.hardware.memory import memory_facts
from autotrain.knobs.base import Choices, Effect, Knob, Side
from autotrain.settings import Settings, Value
from autotrain.workload import Workload


class CacheChoice(Knob):
    """Decoded images, or the result of a dataset's own transforms up to the first random one."""

    name, effect, side = "cache", Effect.EXACT, Side.INPUT
    known = (NONE, RAM, DISK)
    about = "Where work that is the same in every epoch is kept; it pays from the second epoch on."
    meanings = {
        NONE: "Every image is read and decoded in every epoch.",
        RAM: "Decoded images are kept in memory; pays where decoding is what a step waits for and all of them fit.",
        DISK: (
            "Decoded images are kept in a file that is mapped into memory, for later trainings too; pays where "
            "decoding costs more than reading."
        ),
    }
    binding = False  # what has no room is made anew each time; what could never be kept is refused by ``legal``

    def choices(self, workload: Workload, machine: Machine) -> Choices:
        """Offer what holds the whole dataset."""
        del machine
        allowed, left_out = [NONE], []
        for kind in (RAM, DISK):
            reason = workload.cache_problem or _too_large(kind, workload)
            if reason is None:
                allowed.append(kind)
            else:
                left_out.append((kind, reason))
        return Choices(allowed=tuple(allowed), left_out=tuple(left_out))

    def legal(self, settings: Settings, workload: Workload, machine: Machine) -> str | None:
        """Refuse what cannot be kept, and a disk cache without a folder for it."""
        del machine
        if settings.cache == NONE:
            return None
        if settings.cache == DISK and (reason := _no_disk(workload)):
            return reason
        if settings.decoder in ("dali", "nvjpeg"):
            return f"{settings.decoder} decodes no whole images that could be kept"
        return workload.cache_problem

    def canonical(self, settings: Settings, workload: Workload) -> Settings:
        """Fold where nothing can be kept."""
        return self.fold(settings, when=workload.cache_problem is not None, to=NONE)


def possible(workload: Workload) -> tuple[Value, ...]:
    """Return what could be offered if there were room for it, which is another matter from one moment to the next."""
    if workload.cache_problem is not None:
        return (NONE,)
    return (NONE, RAM) if _no_disk(workload) else (NONE, RAM, DISK)


def _no_disk(workload: Workload) -> str | None:
    if workload.cache_dir is None:
        return "no folder for it: give cache_dir="
    return disk_problem(workload.source)


def _too_large(kind: str, workload: Workload) -> str | None:
    if kind == DISK and (reason := _no_disk(workload)):
        return reason
    needed = cached_bytes(workload.content(replace(Settings(), augmentation=workload.augmentation)))
    room = budget_bytes(kind, workload.cache_dir)
    if kind == DISK:
        # What does not stay in memory would be read from the disk in every epoch, which a probe does not see. All ranks
        # of a machine map the same file.
        room = min(room, memory_budget(memory_facts()))
    if needed <= room:
        return None
    where = "memory" if kind == RAM else "disk and memory"
    return f"what would be kept takes {_words(needed)}; {where} can spare {_words(room)}"


def _words(count: int) -> str:
    return f"{count / 2**30:,.1f} GiB" if count >= 2**30 else f"{count / 2**20:,.1f} MiB"
