"""What a report is made of, as data: sections of tables, figures, facts and words; a template escapes their texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from markupsafe import Markup


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A cell of a table."""

    text: str
    note: str = ""
    """Smaller words below."""

    strip: Markup | None = None
    """A picture of the row's numbers below the text; it says nothing that the row's words do not say."""

    marker: str = ""
    """What stands before the text: the class of a mark that figures use for the same thing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table; the first one heads the rows."""

    title: str
    numeric: bool = False
    axis: Markup | None = None
    """Axis of the strips in this column."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows below column titles."""

    kind: ClassVar[str] = "table"
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A picture with its caption and what its colours and shapes mean."""

    kind: ClassVar[str] = "figure"
    svg: Markup
    caption: str
    legend: tuple[tuple[str, str], ...] = ()
    """Class of a mark, and what it stands for."""

    narrow: bool = False
    """Whether the picture is better not as wide as the page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Names and what they are."""

    kind: ClassVar[str] = "facts"
    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """Paragraphs, or the entries of a list."""

    kind: ClassVar[str] = "words"
    texts: tuple[str, ...]
    listed: bool = False
    style: str = ""
    """``quiet`` for remarks, ``warning`` for what a reader should not miss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Legend:
    """What colours and shapes mean in the strips of tables that follow."""

    kind: ClassVar[str] = "legend"
    entries: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """Text to copy or to save, as it is."""

    kind: ClassVar[str] = "code"
    name: str
    """Of the file that it is saved as; also its caption."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """A file that is part of the page."""

    kind: ClassVar[str] = "download"
    name: str
    media_type: str
    content: str
    words: str
    """What is in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """Blocks that a reader opens."""

    kind: ClassVar[str] = "fold"
    summary: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """Blocks with titles of their own, next to each other where there is room."""

    kind: ClassVar[str] = "beside"
    parts: tuple[tuple[str, tuple[Block, ...]], ...]


Block = Table | Figure | Facts | Words | Legend | Code | Download | Fold | Beside


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of the page with a heading."""

    name: str
    """Anchor."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """What a reader should know after three seconds."""

    badge: str
    verdict: str
    """Plan's verdict, which decides about the colour."""

    title: str
    words: tuple[str, ...]
    strip: Figure | None
    cards: tuple[tuple[str, str, str], ...]
    """Label, value, remark."""
