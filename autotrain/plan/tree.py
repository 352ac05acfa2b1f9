"""YAML text to a tree of nodes that know their line: plain values only, nothing that could run or grow."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
    StreamStartEvent,
)
from ruamel.yaml.reader import ReaderError

from autotrain.errors import PlanError
from autotrain.files import printable
from autotrain.plan.values import shown

MAX_BYTES = 250_000
"""Size of a text that is still taken for a plan; real ones have a few thousand bytes."""

MAX_NODES = 20_000
"""Values in a text that is still taken for a plan."""

MAX_DEPTH = 8
"""Levels of lists and mappings in each other; a plan has five."""

_INTEGER = re.compile(r"[-+]?[0-9]{1,40}")
_FLOAT = re.compile(r"[-+]?[0-9]+\.[0-9]*([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+|[-+]?\.[0-9]+([eE][-+][0-9]+)?")
_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A line of a text."""

    where: str
    """What people call the text, usually its path."""

    line: int
    """Line, counted from 1."""

    def error(self, message: str) -> PlanError:
        """Return the error ``where:line: message``, on one line."""
        return PlanError(f"{printable(self.where)}:{self.line}: {' '.join(message.split())}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One value of the text."""

    place: Place
    """Where it begins."""

    name: str
    """Its path from the top, such as ``evidence.ratio.low``; empty for the top itself."""

    def refuse(self, reason: str) -> NoReturn:
        """Raise the error that names this value, its line and ``reason``."""
        raise self.place.error(f"{self.name}: {reason}" if self.name else reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scalar(Node):
    """A word, number, truth value or nothing, by YAML 1.2's core rules; ``.nan`` and ``.inf`` are floats."""

    value: str | int | float | bool | None
    """The value itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing(Node):
    """A list."""

    items: tuple[Node, ...]
    """Its entries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table(Node):
    """A mapping of words to values, no word twice."""

    entries: dict[str, Node]
    """Values by name, in the order of the text."""

    keys: dict[str, Place]
    """Where each name stands."""


def parse(text: str, *, where: str) -> Node:
    """Parse ``text`` into nodes.

    Tags, anchors, aliases, directives and further documents are refused: a plan needs none, and they are how a YAML
    file runs code or grows without bound.

    Raises:
        PlanError: the text is not such YAML; the message begins with ``where`` and the line.
    """
    first = Place(where=where, line=1)
    if len(text) > MAX_BYTES:
        raise first.error(f"larger than {MAX_BYTES} bytes, so not a plan. Check the path")
    try:
        return _Builder(text, where=where).document()
    except PlanError:
        raise
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(where=where, line=mark.line + 1) if mark else first
        raise place.error(f"not valid YAML: {_problem(error)}. Check indentation, colons and quotes") from error
    except ReaderError as error:
        place = Place(where=where, line=text.count("\n", 0, error.position) + 1)
        raise place.error("a character that YAML does not allow. A plan is plain text: check the path") from error
    except Exception as error:  # arbitrary text also makes the parser fail in ways that it does not declare
        raise first.error("not valid YAML. Check indentation, colons and quotes") from error


def _problem(error: MarkedYAMLError) -> str:
    return shown(str(error.problem or error.context or "it cannot be read"))


class _Builder:
    """Turns the parser's events into nodes."""

    def __init__(self, text: str, *, where: str) -> None:
        self._events: Iterator[Any] = YAML(typ="safe", pure=True).parse(text)
        self._where = where
        self._count = 0

    def document(self) -> Node:
        """Return the one document of the text."""
        event = self._next(StreamStartEvent)
        if isinstance(event, StreamEndEvent):
            raise Place(where=self._where, line=1).error("the plan is empty. Start it with the line `schema: 1`")
        if event.version or event.tags:
            raise self._place(event).error("directives are not allowed in a plan. Remove the line that starts with %")
        node = self._node(next(self._events), name="", depth=0, begins=None)
        for event in self._events:
            if isinstance(event, DocumentStartEvent):
                raise self._place(event).error("a second document begins here. Keep one plan per file")
        return node

    def _next(self, skipped: type) -> Any:
        event = next(self._events)
        return next(self._events) if isinstance(event, skipped) else event

    def _place(self, event: Any) -> Place:
        return Place(where=self._where, line=event.start_mark.line + 1)

    def _check(self, event: Any, *, depth: int) -> Place:
        place = self._place(event)
        self._count += 1
        if isinstance(event, AliasEvent) or event.anchor is not None:
            raise place.error("anchors and aliases (& and *) are not allowed in a plan. Write the value out")
        if event.tag is not None:
            raise place.error(f"tag '{shown(event.tag)}' is not allowed in a plan. Write plain values only")
        if depth > MAX_DEPTH or self._count > MAX_NODES:
            raise place.error("nested deeper or longer than any plan. Check the path")
        return place

    def _node(self, event: Any, *, name: str, depth: int, begins: Place | None) -> Node:
        """Return the node of ``event``; ``begins`` is the place of its name, which alone shows where nothing stands."""
        place = self._check(event, depth=depth)
        if begins is not None and not (isinstance(event, ScalarEvent) and event.value):
            place = begins
        if isinstance(event, MappingStartEvent):
            return self._table(place, name=name, depth=depth)
        if isinstance(event, SequenceStartEvent):
            return self._listing(place, name=name, depth=depth)
        value = event.value if event.style else _plain(event.value)
        return Scalar(place=place, name=name, value=value)

    def _listing(self, place: Place, *, name: str, depth: int) -> Listing:
        items: list[Node] = []
        while not isinstance(event := next(self._events), SequenceEndEvent):
            items.append(self._node(event, name=f"{name}[{len(items)}]", depth=depth + 1, begins=None))
        return Listing(place=place, name=name, items=tuple(items))

    def _table(self, place: Place, *, name: str, depth: int) -> Table:
        entries: dict[str, Node] = {}
        keys: dict[str, Place] = {}
        while not isinstance(event := next(self._events), MappingEndEvent):
            here = self._check(event, depth=depth)
            if not isinstance(event, ScalarEvent):
                raise here.error("a name must be a word, not a list or a mapping. Remove the brackets or the `?`")
            key = str(event.value)
            if key in keys:
                raise here.error(f"'{shown(key)}' is given twice, first on line {keys[key].line}. Remove one of them")
            keys[key] = here
            path = f"{name}.{shown(key)}" if name else shown(key)
            entries[key] = self._node(next(self._events), name=path, depth=depth + 1, begins=here)
        return Table(place=place, name=name, entries=entries, keys=keys)


def _plain(text: str) -> str | int | float | bool | None:
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _NOT_FINITE.fullmatch(text):
        return float(text.replace(".", ""))
    return text
