"""Pictures as inline SVG: places across are percentages, so that pictures grow and letters do not."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from xml.etree import ElementTree

from markupsafe import Markup

Element = ElementTree.Element

STRIP, AXIS = 22, 20
"""Heights of a table row's picture and of the axis above such pictures, in CSS pixels."""

TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that change the direction in which what follows is read."""

NEAR_EDGE = 6.0
"""Percent from either edge within which a label is turned inwards."""

LETTER = 6.0
"""Percent that a letter of a label, and what parts it from the next one, takes on the narrowest strips."""

AT_EDGE = 1.0
"""The same for the foot of a plot, which has room beside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """From numbers to percent of a width or a height."""

    low: float
    high: float
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """Return the place of a number, 0 to 100; what lies outside is put on the edge."""
        low, high, place = (math.log(entry) if self.logarithmic else entry for entry in (self.low, self.high, value))
        return 100.0 * min(1.0, max(0.0, (place - low) / (high - low)))

    def percent(self, value: float) -> str:
        """Return the place as SVG has it."""
        return f"{self.at(value):.2f}%"

    def ticks(self, most: int = 4) -> tuple[float, ...]:
        """Return round numbers on the scale, ``most`` at the utmost."""
        if self.logarithmic:
            return _decades(self.low, self.high, most)
        step = _round_step((self.high - self.low) / most)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return tuple(number * step for number in range(first, last + 1))


def linear(values: Sequence[float], *, zero: bool = False, margin: float = 0.08) -> Scale:
    """Return a linear scale that holds all values with some room around them."""
    low, high = min(values), max(values)
    room = margin * (high - low) or 0.05 * abs(high) or 1.0
    return Scale(low=0.0 if zero else low - room, high=high + room)


def logarithmic(values: Sequence[float], *, margin: float = 0.06) -> Scale:
    """Return a logarithmic scale that holds all values, which are positive, with some room around them."""
    low, high = min(values), max(values)
    room = max((high / low) ** margin, 1.05)
    return Scale(low=low / room, high=high * room, logarithmic=True)


def _round_step(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return power * next(factor for factor in (1, 2, 2.5, 5, 10) if factor * power >= step * (1 - 1e-9))


def _decades(low: float, high: float, most: int) -> tuple[float, ...]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found: list[float] = []
    for factors in ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        found = [factor * 10.0**power for power in powers for factor in factors if low <= factor * 10.0**power <= high]
        if len(found) <= most:
            break
    if len(found) < 3:
        return tuple(tick for tick in Scale(low=low, high=high).ticks(most) if tick > 0)
    return tuple(found[:: -(-len(found) // most)])


def element(tag: str, text: str = "", **attributes: str | float) -> Element:
    """Return an element; ``class_`` is written ``class``, other underscores are written as hyphens."""
    names = {name: name.rstrip("_").replace("_", "-") for name in attributes}
    made = ElementTree.Element(tag, {names[name]: _text(value) for name, value in attributes.items()})
    if text:
        made.text = clean(text)
    return made


def clean(text: str) -> str:
    """Return text with a mark in place of what a page cannot hold, or what would turn the letters around it."""
    if text.isprintable():
        return text
    return "".join("\ufffd" if _is_odd(letter) else letter for letter in text)


def _is_odd(letter: str) -> bool:
    return letter not in "\n\t" and (unicodedata.category(letter) in ("Cc", "Cs") or letter in TURNING)


def _text(value: str | float) -> str:
    return clean(value) if isinstance(value, str) else f"{value:g}"


def to_markup(made: Element) -> Markup:
    """Return an element as text for a page."""
    return Markup(ElementTree.tostring(made, encoding="unicode"))


def strip(parts: Sequence[Element], *, height: int = STRIP) -> Markup:
    """Return the picture of a table's row; its numbers are read from the row, so that it is hidden from readers."""
    made = element("svg", class_="strip", width="100%", height=height, aria_hidden="true", focusable="false")
    made.extend(parts)
    return to_markup(made)


def axis(scale: Scale, words: Sequence[str], ticks: Sequence[float]) -> Markup:
    """Return the axis above the strips of a column, with a word at each tick; on a narrow page not all find room."""
    made = element("svg", class_="strip axis", width="100%", height=AXIS, aria_hidden="true", focusable="false")
    taken = -math.inf
    for tick, word in zip(ticks, words, strict=True):
        place = scale.at(tick)
        made.append(element("line", x1=f"{place:.2f}%", x2=f"{place:.2f}%", y1=AXIS - 5, y2=AXIS, class_="tick"))
        anchor = "start" if place < NEAR_EDGE else "end" if place > 100 - NEAR_EDGE else "middle"
        written = element("text", word, x=f"{place:.2f}%", y=AXIS - 8, text_anchor=anchor)
        long = LETTER * len(word)
        left = place - {"start": 0.0, "middle": long / 2, "end": long}[anchor]
        if left < taken:
            written.set("class", "spare")
        else:
            taken = left + long
        made.append(written)
    return to_markup(made)


def interval(
    scale: Scale, value: float, low: float, high: float, style: str, *, y: float = STRIP / 2
) -> Iterator[Element]:
    """Yield an interval with its estimate, as part of a strip."""
    yield element("line", x1="0%", x2="100%", y1=y, y2=y, class_="track")
    yield element("line", x1=scale.percent(low), x2=scale.percent(high), y1=y, y2=y, class_=f"span {style}")
    yield from mark(scale.percent(value), y, style)


def mark(x: str, y: float | str, style: str, words: str = "") -> Iterator[Element]:
    """Yield a mark; the default's is a square, everybody else's is round, so that no colour is needed to tell."""
    if style.startswith("default"):
        # A square that is moved by half its width cannot be given in percent: a short thick line can.
        made = element("line", x1=x, x2=x, y1=float(y) - 4.5, y2=float(y) + 4.5, class_=f"square {style}")
    else:
        made = element("circle", cx=x, cy=y, r=4.5, class_=f"dot {style}")
    if words:
        made.append(element("title", words))
    yield made


def rule(scale: Scale, value: float, style: str = "", *, height: float = STRIP) -> Element:
    """Return a line across a strip at a value."""
    place = scale.percent(value)
    return element("line", x1=place, x2=place, y1=0, y2=height, class_=f"rule {style}".strip())


def bar(scale: Scale, start: float, end: float, style: str, *, y: float = 3, height: float = STRIP - 6) -> Element:
    """Return a bar of a strip."""
    left, right = scale.at(start), scale.at(end)
    return element("rect", x=f"{left:.2f}%", width=f"{right - left:.2f}%", y=y, height=height, class_=f"bar {style}")


class Plot:
    """A picture with two axes; ``figure`` closes it.

    Args:
        name: of the figure, unique on the page.
        title: what it is.
        words: what it shows, for those who cannot see it.
        x: scale of the width.
        y: scale of the height.
        height: in CSS pixels.
    """

    def __init__(self, name: str, title: str, words: str, *, x: Scale, y: Scale, height: int = 240) -> None:
        self.x, self.y, self.height = x, y, height
        self._root = element(
            "svg",
            id=name,
            class_="plot",
            width="100%",
            height=height,
            role="img",
            aria_labelledby=f"{name}-title {name}-words",
        )
        self._root.append(element("title", title, id=f"{name}-title"))
        self._root.append(element("desc", words, id=f"{name}-words"))

    def down(self, value: float) -> float:
        """Return the place of a number on the vertical axis, in pixels from the top."""
        return round(self.height * (1.0 - self.y.at(value) / 100.0), 2)

    def grid(self, words: Sequence[str], ticks: Sequence[float], title: str) -> None:
        """Draw horizontal lines with their numbers, and what these are above them."""
        for tick, word in zip(ticks, words, strict=True):
            place = self.down(tick)
            self._root.append(element("line", x1="0%", x2="100%", y1=place, y2=place, class_="grid"))
            self._root.append(element("text", word, x=-8, y=place + 4, text_anchor="end"))
        self._root.append(element("text", title, x=-44, y=-12, class_="axis-title"))

    def foot(self, words: Sequence[str], ticks: Sequence[float], title: str) -> None:
        """Draw the horizontal axis with its numbers."""
        self._root.append(element("line", x1="0%", x2="100%", y1=self.height, y2=self.height, class_="tick"))
        for tick, word in zip(ticks, words, strict=True):
            place = self.x.percent(tick)
            self._root.append(element("line", x1=place, x2=place, y1=self.height, y2=self.height + 4, class_="tick"))
            along = self.x.at(tick)
            anchor = "start" if along < AT_EDGE else "end" if along > 100 - AT_EDGE else "middle"
            self._root.append(element("text", word, x=place, y=self.height + 17, text_anchor=anchor))
        self._root.append(element("text", title, x="100%", y=self.height + 34, text_anchor="end", class_="axis-title"))

    def level(self, value: float, style: str, words: str = "") -> None:
        """Draw a horizontal line across, with words on it."""
        place = self.down(value)
        self._root.append(element("line", x1="0%", x2="100%", y1=place, y2=place, class_=f"rule {style}".strip()))
        if words:
            self._root.append(element("text", words, x="100%", y=place - 5, text_anchor="end", class_="label"))

    def band(self, low: float, high: float, style: str) -> None:
        """Shade what lies between two values."""
        top, bottom = self.down(high), self.down(low)
        self._root.append(element("rect", x="0%", width="100%", y=top, height=bottom - top, class_=f"band {style}"))

    def segment(self, start: tuple[float, float], end: tuple[float, float], style: str) -> None:
        """Draw a straight line between two points."""
        self._root.append(
            element(
                "line",
                x1=self.x.percent(start[0]),
                y1=self.down(start[1]),
                x2=self.x.percent(end[0]),
                y2=self.down(end[1]),
                class_=style,
            )
        )

    def line(self, points: Sequence[tuple[float, float]], style: str) -> None:
        """Draw a line through points; it is broken where a number is not finite."""
        for start, end in pairwise(points):
            if all(math.isfinite(entry) for entry in (*start, *end)):
                self.segment(start, end, style)

    def point(self, x: float, y: float, style: str, words: str = "") -> None:
        """Draw a mark, with words for a pointer that rests on it."""
        self._root.extend(mark(self.x.percent(x), self.down(y), style, words))

    def whisker(self, x: float, low: float, high: float, style: str) -> None:
        """Draw a vertical interval."""
        self.segment((x, low), (x, high), f"whisker {style}")

    def markup(self) -> Markup:
        """Return the picture."""
        return to_markup(self._root)
