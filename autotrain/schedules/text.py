"""Schedules as people write them: ``cosine``, ``linear(5ep) > cosine``, ``step(30ep, gamma=0.1)``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from autotrain.errors import ScheduleError, unknown
from autotrain.schedules.phases import Hold, Line, Phase, Power, Restarts, Steps, Wave
from autotrain.schedules.schedule import (
    Chain,
    Constant,
    OneCycle,
    Resolution,
    Schedule,
    Trapezoid,
    WarmupCosine,
    WarmupLinear,
)

EXAMPLES = "Examples: cosine, cosine(warmup=5ep), linear(5ep) > cosine, step(30ep, gamma=0.1), trapezoid(decay=0.2dur)"

_PART = re.compile(r"\s*(?P<name>[a-z][a-z_-]*)\s*(?:\((?P<options>[^()]*)\))?\s*", re.IGNORECASE)
_ALIASES = {"poly": "polynomial", "one-cycle": "onecycle", "one_cycle": "onecycle"}


@dataclass(frozen=True, slots=True)
class _Kind:
    """What can be written in the brackets of a name."""

    make: Callable[..., Any]
    first: str
    """What a value without a name is."""

    options: tuple[str, ...]


_WHOLE: Mapping[str, _Kind] = {
    "constant": _Kind(Constant, "", ("warmup", "resolution")),
    "cosine": _Kind(WarmupCosine, "", ("warmup", "final", "resolution")),
    "linear": _Kind(WarmupLinear, "", ("warmup", "final", "resolution")),
    "onecycle": _Kind(OneCycle, "", ("peak", "start", "final", "resolution")),
    "trapezoid": _Kind(Trapezoid, "", ("warmup", "decay", "final", "resolution")),
}
"""Whole schedules."""

_PHASES: Mapping[str, _Kind] = {
    "constant": _Kind(Hold, "length", ("length", "start")),
    "cosine": _Kind(Wave, "length", ("length", "start", "end")),
    "linear": _Kind(Line, "length", ("length", "start", "end")),
    "polynomial": _Kind(Power, "length", ("length", "start", "end", "power")),
    "restarts": _Kind(Restarts, "every", ("every", "length", "start", "end", "growth")),
    "step": _Kind(Steps, "every", ("every", "at", "length", "start", "gamma")),
}
"""Parts of a chain."""

_NUMBERS = ("start", "end", "final", "power", "growth", "gamma")


def parse_schedule(text: str) -> Schedule:
    """Return the schedule that a text describes; case and spaces do not matter.

    A name alone or with ``warmup=`` or ``final=`` is a whole schedule, warmed up over 5% unless it says otherwise.
    Names joined by ``>`` are phases, one after the other, the first value in their brackets a length; so is a single
    name with a length, ``start=`` or ``end=``, which is not warmed up.

    Raises:
        ScheduleError: a name, an option or a value is not understood; the message says which, and shows examples.
    """
    parts = [_read(part, text) for part in text.split(">")]
    if len(parts) == 1:
        name, options = parts[0]
        whole = _WHOLE.get(name)
        known = (*(whole.options if whole else ()), *(_PHASES[name].options if name in _PHASES else ()))
        wrong = next((option for option in options if option and option not in known), None)
        if wrong is not None and wrong != "resolution":
            raise ScheduleError(_wrong(text, unknown("option", wrong, dict.fromkeys(known))))
        if whole is not None and (name not in _PHASES or all(option in whole.options for option in options)):
            made: Schedule = _made(whole, name, options, text)
            return made
        if whole is not None and (wholly := [entry for entry in ("warmup", "final") if entry in options]):
            raise ScheduleError(
                _wrong(text, f"{wholly[0]}= goes with a whole schedule, a length, start= and end= with a phase")
            )
    resolutions = [options.pop("resolution") for _, options in parts if "resolution" in options]
    phases = tuple(_phase(name, options, text) for name, options in parts)
    return Chain(parts=phases, resolution=_resolution(resolutions))


def _resolution(found: list[str]) -> Resolution:
    return found[-1] if found else "step"  # type: ignore[return-value]


def _phase(name: str, options: dict[str, str], text: str) -> Phase:
    if name not in _PHASES:
        if name in _WHOLE:
            raise ScheduleError(_wrong(text, f"'{name}' is a whole schedule and goes with no '>'"))
        raise ScheduleError(_wrong(text, unknown("schedule", name, {*_PHASES, *_WHOLE})))
    made: Phase = _made(_PHASES[name], name, options, text)
    return made


def _read(part: str, text: str) -> tuple[str, dict[str, str]]:
    """Return the name of a part and its options, a value without a name under ``""``."""
    match = _PART.fullmatch(part)
    if match is None:
        what = f"'{part.strip()}' is no name with options in brackets" if part.strip() else "a part is missing"
        raise ScheduleError(_wrong(text, what))
    name = match["name"].lower()
    options: dict[str, str] = {}
    for entry in (match["options"] or "").split(","):
        key, equals, value = (word.strip() for word in entry.partition("="))
        if not entry.strip():
            continue
        if not equals:
            key, value = "", key
        if key.lower() in options:
            raise ScheduleError(_wrong(text, f"'{key or value}' is given twice"))
        options[key.lower()] = value
    name = _ALIASES.get(name, name)
    if name not in _PHASES and name not in _WHOLE:
        raise ScheduleError(_wrong(text, unknown("schedule", name, {*_PHASES, *_WHOLE})))
    return name, options


def _made(kind: _Kind, name: str, options: Mapping[str, str], text: str) -> Any:
    values: dict[str, Any] = {}
    for key, value in options.items():
        option = key or kind.first
        if option not in kind.options:
            problem = unknown("option", option, kind.options) if key else f"'{name}' takes no value without a name"
            raise ScheduleError(_wrong(text, problem))
        if option in values:
            raise ScheduleError(_wrong(text, f"{option} is given twice"))
        values[option] = _value(option, value, text)
    if kind.make is Restarts and "every" not in values:
        raise ScheduleError(_wrong(text, "restarts need the length of the first wave: restarts(10ep)"))
    try:
        return kind.make(**values)
    except ScheduleError as problem:
        raise ScheduleError(_wrong(text, str(problem).removeprefix("schedule: "))) from problem


def _value(option: str, value: str, text: str) -> Any:
    if option in _NUMBERS:
        try:
            return float(value)
        except ValueError:
            raise ScheduleError(_wrong(text, f"{option}={value} is no number")) from None
    if option == "at":
        return tuple(part.strip() for part in value.split("+"))
    if option == "warmup" and value.lower() in ("none", "0"):
        return None
    return value


def _wrong(text: str, problem: str) -> str:
    return f"schedule '{text}': {problem}. {EXAMPLES}"
