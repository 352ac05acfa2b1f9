"""The plan's JSON schema, for editors: made from what reads plans, and from what knobs say about themselves."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Mapping
from typing import Any

from autotrain.knobs.registry import KNOBS
from autotrain.plan import read
from autotrain.plan.evidence import Evidence, Verdict, Worth
from autotrain.plan.provenance import Provenance
from autotrain.plan.values import CHOICES, LEAST, SWITCHES
from autotrain.settings import Settings

DIALECT = "http://json-schema.org/draft-07/schema#"
"""The dialect that editors' YAML servers know."""

_COUNT = {"type": "integer", "minimum": 0, "maximum": 2**64 - 1}
_ESTIMATE = {"$ref": "#/definitions/estimate"}
_VALUE = {"type": ["string", "integer", "boolean"]}

_FORMS: Mapping[read.Reader, dict[str, Any]] = {
    read._text: {"type": "string"},
    read._count: _COUNT,
    read._side: {**_COUNT, "minimum": 1},
    read._number: {"type": "number"},
    read._seconds: {"type": "number", "minimum": 0},
    read._value: _VALUE,
    read._verdict: {"enum": [str(entry) for entry in Verdict]},
    read._estimate: _ESTIMATE,
    read._worth: {"$ref": "#/definitions/worth"},
    read._left_out: {"$ref": "#/definitions/left_out"},
    read._versions: {"type": "object", "additionalProperties": {"type": "string"}},
}
"""What each reader accepts."""


def plan_schema() -> dict[str, Any]:
    """Return the JSON schema of a plan's file: what the reader accepts, with a description of every setting."""
    return {
        "$schema": DIALECT,
        "title": "Plan of autotrain",
        "description": "The settings with which autotrain runs one training job on one machine, and why.",
        "type": "object",
        "required": ["schema", "settings"],
        "additionalProperties": False,
        "properties": {
            "schema": {"const": read.SCHEMA, "description": "Version of this format."},
            "seed": {**_COUNT, "description": "Seed of the image order and of every random draw."},
            "settings": _settings(),
            "evidence": _fields(read._EVIDENCE, Evidence),
            "provenance": _fields(read._PROVENANCE, Provenance),
        },
        "definitions": {
            "estimate": _estimate(),
            "worth": _fields(read.WORTH, Worth, required=("setting", "value", "instead_of")),
            "left_out": {
                "type": "object",
                "description": "A choice that was not measured.",
                "required": list(read.LEFT_OUT),
                "additionalProperties": False,
                "properties": {name: _form(reader) for name, reader in read.LEFT_OUT.items()},
            },
        },
    }


def _settings() -> dict[str, Any]:
    defaults = Settings().as_dict()
    properties = {}
    for knob in KNOBS:
        words = [knob.about, *(f"{_yaml(value)}: {text}" for value, text in knob.meanings.items())]
        properties[knob.name] = {**_allowed(knob.name), "default": defaults[knob.name], "description": "\n".join(words)}
    return {
        "type": ["object", "null"],
        "description": "How the job runs; what is left out has its default.",
        "additionalProperties": False,
        "properties": {name: properties[name] for name in Settings.names()},
    }


def _allowed(name: str) -> dict[str, Any]:
    if name in CHOICES:
        return {"enum": list(CHOICES[name])}
    if name in LEAST:
        return {"type": "integer", "minimum": LEAST[name]}
    assert name in SWITCHES, f"nothing says what '{name}' may be"
    return {"type": "boolean"}


def _yaml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _estimate() -> dict[str, Any]:
    numbers = {name: {"type": "number"} for name in ("value", "low", "high")}
    return {
        "type": "object",
        "description": "A number with its 95% interval and the count of samples behind it.",
        "required": [*numbers, "n"],
        "additionalProperties": False,
        "properties": {**numbers, "n": _COUNT},
    }


def _fields(readers: Mapping[str, read.Reader], kind: type, *, required: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the schema of a record; what is not required may also be empty, which counts as left out."""
    words = _documentation(kind)
    properties = {}
    for name, reader in readers.items():
        form = _form(reader)
        properties[name] = {"description": words[name], **(form if name in required else _or_nothing(form))}
    return {
        "type": "object" if required else ["object", "null"],
        **({"required": list(required)} if required else {}),
        "additionalProperties": False,
        "properties": properties,
    }


def _form(reader: read.Reader) -> dict[str, Any]:
    if isinstance(reader, read.Many):
        return {"type": "array", "items": _form(reader.reader)}
    return _FORMS[reader]


def _or_nothing(form: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [form, {"type": "null"}]}


def _documentation(kind: type) -> dict[str, str]:
    """Return the text under each field of a dataclass."""
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for field, text in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
            assert isinstance(text.value, ast.Constant)
            found[field.target.id] = " ".join(str(text.value.value).split())
    return found
