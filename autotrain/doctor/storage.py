"""Checks of the training's files: do they fit into memory, and does storage give them fast enough."""

from __future__ import annotations

import shlex

from autotrain.doctor.check import Check, Fine, Outcome, Problem, Severity
from autotrain.doctor.facts import Facts
from autotrain.doctor.folders import DataFacts
from autotrain.hardware.units import size_words
from autotrain.report.words import time_words

ENOUGH = 0.8
"""Part of the rate at which the cores decode that storage has to give."""

WORTH_S = 60.0
"""Seconds that the first epoch takes longer, from which on it slows training down; fewer are worth knowing."""

COLD = 0.5
"""Part of what was read that has to come from storage for the rate to be storage's."""


def fits_memory(facts: Facts) -> Outcome:
    """Compare the size of the files with the memory that can keep them."""
    data, free = facts.data, facts.memory.budget_bytes
    at_least = "" if data.complete else "at least "
    words = f"{at_least}{data.files:,} files, {size_words(data.bytes)}; {size_words(free)} of memory free"
    if data.bytes <= free:
        return Fine(fact=words) if data.complete else _unknown(data, words)
    return Problem(
        severity=Severity.NOTE,
        what=f"the data do not fit into memory: {at_least}{size_words(data.bytes)} of {size_words(free)} free",
        evidence=words,
        cost=f"every epoch reads from storage, not the first alone: {_epoch(data)} each at the measured rate",
        remedy="files of the size that training needs (resize them once), more memory, or fast local storage; "
        "autotrain's cache on disk keeps decoded images",
        command="autotrain fit ... --cache-dir /path/on/fast/storage",
    )


def _unknown(data: DataFacts, words: str) -> Problem:
    """Return what is known of a folder whose listing took too long: a part that fits says nothing of the whole."""
    return Problem(
        severity=Severity.NOTE,
        what=f"the data are at least {size_words(data.bytes)}, and may not fit into memory",
        evidence=f"{words}; the time to list them was over before all were",
        cost=f"where they do not, every epoch reads from storage: {_epoch(data)} each at the measured rate",
        remedy="find out how large they are, and keep files on storage that lists them faster",
        command=f"du -sh --apparent-size {shlex.quote(data.path)}",
    )


def _epoch(data: DataFacts) -> str:
    if not data.bytes_per_s:
        return "unknown"
    return f"{'' if data.complete else 'at least '}{time_words(data.bytes / data.bytes_per_s)}"


def speed(facts: Facts) -> Outcome:
    """Compare the rate at which storage gives files with the rate at which the cores decode them."""
    data, cores = facts.data, facts.cpu.usable
    kind = f" on {data.mount.kind}" if data.mount is not None else ""
    where = f"{kind}{', over a network' if data.mount is not None and data.mount.network else ''}"
    rate = f"{data.files_per_s:,.0f} files/s, {data.bytes_per_s / 1e6:,.0f} MB/s with {data.readers} readers{where}"
    cold = data.cold_share is None or data.cold_share >= COLD
    if data.cold_share is None:
        rate += "; whether from storage or memory, this system does not tell"
    elif not cold:
        rate += f"; {1 - data.cold_share:.0%} came from memory, so storage may be slower"
    if data.decode_s is None or not data.read_bytes:
        return Fine(fact=f"{rate}; no images to decode among them")
    wanted = cores / data.decode_s
    words = f"{rate}; {cores} cores decode {wanted:,.0f} images/s"
    if data.files_per_s >= ENOUGH * wanted:
        return Fine(fact=words)
    fits = data.complete and data.bytes <= facts.memory.budget_bytes
    slower = (
        f"at most {data.files_per_s:,.0f} images/s, {wanted / data.files_per_s:.1f} times less than the cores would"
    )
    what = f"storage gives {data.files_per_s:,.0f} images/s, the cores could decode {wanted:,.0f}"
    remedy = "copy the files to local storage before training, or let autotrain keep decoded images there"
    if fits:
        lost_s = data.files / data.files_per_s - data.files / wanted
        return Problem(
            severity=Severity.SLOW if lost_s >= WORTH_S else Severity.NOTE,
            what=what,
            evidence=words,
            cost=f"measured: the first epoch loads {slower}, which is {time_words(lost_s)} longer; later ones find the "
            "files in memory",
            remedy=f"{remedy}; as they fit into memory, reading them once beforehand helps too",
            command=f"find {shlex.quote(data.path)} -type f -exec cat {{}} + > /dev/null",
        )
    return Problem(
        severity=Severity.SLOW,
        what=what,
        evidence=words,
        cost=f"measured: every epoch {'' if data.complete else 'that does not find them in memory '}loads {slower}",
        remedy=remedy,
        command="autotrain fit ... --cache-dir /path/on/local/storage",
    )


CHECKS = (Check(name="data-size", look=fits_memory), Check(name="data-speed", look=speed))
