"""Write docs/settings.md from what the knobs say of themselves.

python docs/generate.py
"""

from __future__ import annotations

import textwrap
from pathlib import Path

from autotrain.knobs.base import Effect, Knob, Side
from autotrain.knobs.registry import KNOBS
from autotrain.settings import Settings, Value

PAGE = Path(__file__).with_name("settings.md")

HEAD = """\
# Settings

What a plan sets, and when each value pays. The effect says what a setting does to learning:

- **none**: the model sees the same bits;
- **rounding**: the same recipe, other rounding; behind the numerics guard, and left out by `allow="exact"`;
- **recipe**: changes what is learned; moves only where the task leaves it open.

The side says what a setting acts on: loading, training, or both. `autotrain explain plan.yaml` tells the same of the
values that a plan has. Settings that a search must not move go into `fix={"precision": "fp32"}`; those that a job runs
with today, and that a probe is to beat, into `settings=autotrain.Settings(workers=8)`.

This page is written by `python docs/generate.py`.
"""

EFFECTS = {Effect.EXACT: "none", Effect.NUMERICS: "rounding", Effect.RECIPE: "recipe"}
SIDES = {Side.INPUT: "loading", Side.COMPUTE: "training", Side.BOTH: "both"}


def page() -> str:
    """Return the whole page."""
    return "\n".join([HEAD, *(section(knob) for knob in KNOBS)])


def section(knob: Knob) -> str:
    """Return what is to be said of one setting."""
    default = getattr(Settings(), knob.name)
    lines = [f"## {knob.name}", "", *wrapped(knob.about), ""]
    facts = f"Default `{shown(default)}`; effect on learning: {effects(knob)}; side: {SIDES[knob.side]}."
    lines += [*wrapped(facts), ""]
    if knob.meanings:
        lines += ["| value | |", "|---|---|"]
        lines += [f"| `{shown(value)}` | {words} |" for value, words in knob.meanings.items()]
        lines.append("")
    return "\n".join(lines)


def effects(knob: Knob) -> str:
    """Return the effect of a setting, value by value where they differ."""
    by_value = {value: EFFECTS[knob.effect_of(value)] for value in knob.meanings}
    if len(set(by_value.values())) <= 1:
        return next(iter(by_value.values()), EFFECTS[knob.effect])
    groups: dict[str, list[str]] = {}
    for value, words in by_value.items():
        groups.setdefault(words, []).append(f"`{shown(value)}`")
    return "; ".join(f"{words} ({', '.join(values)})" for words, values in groups.items())


def shown(value: Value) -> str:
    """Return a value as YAML has it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def wrapped(text: str) -> list[str]:
    """Return lines of at most 120 characters."""
    return textwrap.wrap(text, 120, break_long_words=False, break_on_hyphens=False)


if __name__ == "__main__":
    PAGE.write_text(page())
