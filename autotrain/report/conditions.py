"""Under which conditions was measured: other programs, the page cache, the GPU."""

from __future__ import annotations

from collections.abc import Iterator

from autotrain.measure.heat import DISTURBED
from autotrain.measure.measurement import Kind, Measurement
from autotrain.measure.session import Session
from autotrain.report.lines import Line, labelled
from autotrain.report.words import many, plain


def condition_lines(session: Session) -> Iterator[Line]:
    """Tell what surrounded the measurements, so far as it may have moved them."""
    yield from _files(session)
    yield from _others(session)
    yield from _gpu(session)


def _files(session: Session) -> Iterator[Line]:
    if session.cold_bytes_per_s is None:
        return
    rate = plain(session.cold_bytes_per_s / 1e6)
    fresh = any(entry.page_cache == "fresh" for entry in session.of(Kind.FULL))
    then = "then each burst read files that were fresh" if fresh else "then every burst found them in memory"
    words = f"first read at {rate} MB/s, {then}; a first epoch from a cold disk may be slower"
    yield labelled("files", words)


def _others(session: Session) -> Iterator[Line]:
    repeated = _repeats(session)
    restless = [entry for entry in session.of(Kind.FULL) if (entry.other_cpu_share or 0.0) > DISTURBED]
    parts = []
    if repeated:
        parts.append(f"disturbed {many(repeated, 'burst')} or rounds, which were measured again")
    if restless:
        most = max(entry.other_cpu_share or 0.0 for entry in restless)
        parts.append(f"used up to {most:.0%} of the CPU in {many(len(restless), 'burst')} that count")
    if parts:
        yield labelled("others", f"other programs {', and '.join(parts)}: a quieter machine gives sharper results")


def _repeats(session: Session) -> int:
    """Return how often was measured again; all contenders of a heat tell of the same rounds."""
    heats = {entry.heat: entry.repeats for entry in session.measurements if entry.heat is not None}
    return sum(heats.values()) + sum(entry.repeats for entry in session.measurements if entry.heat is None)


def _gpu(session: Session) -> Iterator[Line]:
    seen: Measurement | None = session.find(Kind.FULL, session.chosen or session.default)
    if seen is not None and seen.gpu_utilisation is not None:
        facts = [f"{seen.gpu_utilisation}% busy at the end of the chosen settings' burst"]
        if seen.gpu_clock_mhz is not None:
            facts.append(f"{seen.gpu_clock_mhz:,} MHz")
        if seen.gpu_temperature_c is not None:
            facts.append(f"{seen.gpu_temperature_c} °C")
        yield labelled("GPU", ", ".join(facts))
    slowed = sorted({reason for entry in session.measurements for reason in entry.gpu_throttled})
    if slowed:
        yield labelled("", f"its clock was held down by: {', '.join(slowed)}", style="yellow")
