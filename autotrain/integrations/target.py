"""The base of all targets: a library to which a plan is exported as text."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from io import StringIO
from typing import Any

from ruamel.yaml import YAML

from autotrain.integrations.draft import Draft, Fate, promise
from autotrain.plan.plan import Plan

WIDTH = 100
"""Columns of an exported text's comments."""


class Target:
    """One library. A subclass says what becomes of each setting, and writes the library's own form."""

    name: str
    """What ``--to`` calls it."""

    title: str
    """What people call it."""

    form: str
    """What kind of text it is, and how it is used; a sentence."""

    comments: bool = True
    """Whether the form can hold comments, which begin with ``#``."""

    def draft(self, plan: Plan) -> Draft:
        """Return what of a plan the library can express, and what not."""
        raise NotImplementedError

    def body(self, draft: Draft) -> str:
        """Return the text itself, comments apart."""
        raise NotImplementedError

    def text(self, plan: Plan) -> str:
        """Return the whole text: how it is used, what it cannot express, and the library's own form."""
        draft = self.draft(plan)
        if not self.comments:
            return self.body(draft)
        return "".join(f"{line}\n" for line in commented(self.words(draft))) + "\n" + self.body(draft)

    def words(self, draft: Draft) -> Iterator[str]:
        """Yield the paragraphs that a reader of the text should know."""
        made = f"made by autotrain {draft.made.autotrain}" if draft.made.autotrain else "given by hand"
        yield f"From a plan {made}, for {self.title}:"
        yield f"  {self.form}"
        yield promise(draft.plan, self.title)
        yield from self.missing(draft)

    def missing(self, draft: Draft) -> Iterator[str]:
        """Yield what the text does not hold, setting by setting."""
        lost, by_hand = draft.of(Fate.LOST), draft.of(Fate.BY_HAND)
        if lost:
            yield f"Lost, since {self.title} has nothing for it:"
            yield from (f"  {entry}" for entry in lost)
        if by_hand:
            yield "Not in this text; a line in your script does it:"
            yield from (f"  {entry}" for entry in by_hand)
        if not (lost or by_hand):
            yield "Every setting of the plan that differs from PyTorch's default is in it."


def commented(paragraphs: Iterator[str]) -> Iterator[str]:
    """Yield paragraphs as comment lines."""
    for text in paragraphs:
        indent = " " * (len(text) - len(text.lstrip()))
        wrapped = textwrap.wrap(
            text,
            WIDTH,
            initial_indent="# ",
            subsequent_indent=f"# {indent}{'  ' if indent else ''}",
            break_long_words=False,
            break_on_hyphens=False,
        )
        yield from wrapped or ["#"]


def yaml_text(values: dict[str, Any]) -> str:
    """Return plain values as YAML, in their order."""
    yaml = YAML(typ="rt")
    yaml.width = WIDTH
    yaml.indent(mapping=2, sequence=4, offset=2)
    stream = StringIO()
    yaml.dump(values, stream)
    return stream.getvalue()


def python_value(value: Any) -> str:
    """Return a plain value as Python source, strings in double quotes."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{python_value(key)}: {python_value(entry)}" for key, entry in value.items()) + "}"
    return json.dumps(value) if isinstance(value, str) else repr(value)


def python_dict(name: str, values: dict[str, Any]) -> str:
    """Return an assignment of a dictionary, an entry a line."""
    if not values:
        return f"{name} = {{}}\n"
    lines = "".join(f"    {python_value(key)}: {python_value(value)},\n" for key, value in values.items())
    return f"{name} = {{\n{lines}}}\n"
