"""What each setting is worth: the table of attributions, and sentences on what it does not show by itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from autotrain.plan.evidence import Worth
from autotrain.report.lines import Line, table
from autotrain.report.words import short_ratio
from autotrain.search.recorder import value_words
from autotrain.settings import Value
from autotrain.stats.summary import Estimate

TELLING = 1.2
"""Width, as a factor, up to which an interval around 1 says that a setting is worth next to nothing."""


def worth_lines(entries: Sequence[Worth]) -> Iterator[Line]:
    """Tell what each changed setting is worth, alone and within the choice, and how they depend on each other."""
    if not entries:
        return
    yield Line()
    apart = any(entry.alone and entry.alone != entry.within for entry in entries)
    head = ("setting", "value", "instead of", *(("alone",) if apart else ()), "within the choice")
    yield from table(head, [_row(entry, apart=apart) for entry in entries])
    samples = [part.n for entry in entries for part in (entry.alone, entry.within) if part]
    if samples:
        words = "in interleaved turns, 95% intervals of "
        words += f"{min(samples)}" if min(samples) == max(samples) else f"{min(samples)} to {max(samples)}"
        yield Line(lead="  ", text=f"({words} rounds)", style="dim")
    for sentence in sentences(entries):
        yield Line(lead="  ", text=sentence)


def value_text(value: Value) -> str:
    """Return a value as the plan's YAML has it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def sentences(entries: Sequence[Worth]) -> Iterator[str]:
    """Yield what alone and within say about each other, beyond their intervals."""
    around = [(entry, entry.within) for entry in entries if entry.within and entry.within.low <= 1 <= entry.within.high]
    idle = [_name(entry) for entry, ratio in around if ratio.high / ratio.low <= TELLING]
    untold = [_name(entry) for entry, ratio in around if ratio.high / ratio.low > TELLING]
    for entry in entries:
        alone, within = entry.alone, entry.within
        if within is not None and within.high < 1:
            yield f"{_name(entry)} costs within the choice ({short_ratio(within)}): it would be faster without."
        elif alone is not None and within is not None and alone != within:
            yield from _interaction(entry, alone, within, entries)
    if idle:
        yield f"Worth nothing measurable within the choice: {', '.join(idle)}."
    if untold:
        yield f"Too few turns to tell what these are worth: {', '.join(untold)}; a longer budget would."


def _interaction(entry: Worth, alone: Estimate, within: Estimate, entries: Sequence[Worth]) -> Iterator[str]:
    others = [_name(other) for other in entries if other is not entry]
    partner = others[0] if len(others) == 1 else "the other settings"
    if alone.low <= 1 < within.low and within.low > alone.value:
        verb = "costs" if alone.high < 1 else "gives nothing measurable"
        yield f"{_name(entry)} pays only together with {partner}; alone it {verb}."
    elif within.low <= 1 < alone.low and within.value < alone.low:
        yield f"{_name(entry)} pays alone, but {partner} {_give(others)} the same: together it adds nothing measurable."
    elif within.low > alone.high:
        yield f"{_name(entry)} pays more together with {partner} than alone."
    elif within.high < alone.low:
        yield f"{_name(entry)} pays less together with {partner} than alone: they remove in part the same wait."


def _give(others: Sequence[str]) -> str:
    return "gives" if len(others) == 1 else "give"


def _name(entry: Worth) -> str:
    """Return the setting as a sentence has it: its value where that speaks for itself."""
    if entry.setting in ("precision", "memory_format"):
        return value_words(entry.setting, entry.value)
    return f"{entry.setting} = {value_text(entry.value)}"


def _row(entry: Worth, *, apart: bool) -> tuple[str, ...]:
    within = entry.within or entry.ratio
    last = "; ".join(part for part in (short_ratio(within) if within else "", entry.note) if part) or "not measured"
    alone = (short_ratio(entry.alone) if entry.alone else "-",) if apart else ()
    return (entry.setting, value_text(entry.value), value_text(entry.instead_of), *alone, last)
