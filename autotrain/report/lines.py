"""Lines of a report: plain text that is wrapped, made printable and coloured in one place."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from autotrain.files import printable

NARROWEST = 24
"""Columns that a hanging text keeps at least; on narrower terminals it starts at the margin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A paragraph of a report."""

    text: str = ""
    """The words; wrapped to the width of the console."""

    lead: str = ""
    """What stands before the text, such as a label; further lines of the text begin below its end."""

    style: str = ""
    """How rich is to colour it; the words alone must be enough."""

    whole: bool = False
    """Whether it is to be typed, and so not broken however narrow the console is."""


def heading(text: str) -> tuple[Line, Line]:
    """Return an empty line and a heading."""
    return Line(), Line(text=text, style="bold")


def labelled(label: str, text: str, *, style: str = "") -> Line:
    """Return a line such as ``machine     Intel Xeon``; an empty label continues the line above."""
    return Line(lead=f"  {label:<12} ", text=text, style=style)


def item(text: str, *, style: str = "") -> Line:
    """Return an entry of a list."""
    return Line(lead="  - ", text=text, style=style)


def table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[Line]:
    """Return rows in aligned columns; a last cell that is too long is wrapped in its column."""
    everything = [header, *rows]
    widths = [max(cell_len(row[place]) for row in everything) for place in range(len(header) - 1)]
    lines = []
    for number, row in enumerate(everything):
        cells = [printable(cell) + " " * (width - cell_len(cell)) for cell, width in zip(row[:-1], widths, strict=True)]
        lines.append(Line(lead="  " + "  ".join(cells) + "  ", text=row[-1], style="" if number else "dim"))
    return lines


def show(console: Console, lines: Iterable[Line]) -> None:
    """Print lines, each flushed at once; none ends in blanks or, but for what is to be typed, is too wide."""
    for line in lines:
        for row in rows_of(line, console):
            console.print(Text(row, style=line.style), soft_wrap=True, highlight=False)


def rows_of(line: Line, console: Console) -> list[str]:
    """Return the rows that a line takes on a console."""
    lead, text = printable(line.lead), printable(line.text)
    if line.whole:
        return [lead + text]
    room = console.width - cell_len(lead)
    if room < min(NARROWEST, cell_len(text)):
        lead, text, room = "", lead + text, console.width
    wrapped = [part.plain.rstrip() for part in Text(text).wrap(console, room)] or [""]
    below = " " * cell_len(lead)
    return [(before + part).rstrip() for before, part in zip([lead, *[below] * len(wrapped)], wrapped, strict=False)]
