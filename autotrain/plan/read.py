"""Plan text to records, every value checked; each error names the line."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from autotrain.errors import unknown
from autotrain.plan.evidence import Evidence, LeftOut, Verdict, Worth
from autotrain.plan.provenance import Provenance
from autotrain.plan.tree import Listing, Node, Scalar, Table, parse
from autotrain.plan.values import check_value, shown
from autotrain.settings import Settings, Value
from autotrain.stats.summary import Estimate

SCHEMA = 1
"""Version of the format that this autotrain writes, and the newest that it reads."""

_LARGEST = 2**64

Reader = Callable[[Node], Any]
"""Turns a node into a checked value or refuses it."""


class Contents(NamedTuple):
    """What a plan's text holds."""

    settings: Settings
    evidence: Evidence
    provenance: Provenance
    seed: int


def read_plan(text: str, *, where: str) -> Contents:
    """Read a plan from ``text``; only ``schema`` and ``settings`` must be there, what is left out has its default.

    Raises:
        PlanError: anything is not as it should be, as ``where:line: what. remedy``.
    """
    top = parse(text, where=where)
    if not isinstance(top, Table):
        top.refuse(f"a plan is a mapping of names to values, not {_kind(top)}. Start it with the line `schema: 1`")
    _check_schema(top)
    known = ("schema", "seed", "settings", "evidence", "provenance")
    _check_names(top, known, kind="section", required=("settings",))
    nodes = top.entries
    evidence = _fields(nodes["evidence"], _EVIDENCE) if "evidence" in nodes else {}
    provenance = _fields(nodes["provenance"], _PROVENANCE) if "provenance" in nodes else {}
    return Contents(
        settings=_settings(nodes["settings"]),
        evidence=Evidence(**evidence),
        provenance=Provenance(**provenance),
        seed=_count(nodes["seed"]) if "seed" in nodes else 0,
    )


def _check_schema(top: Table) -> None:
    remedy = f"Write `schema: {SCHEMA}`"
    if "schema" not in top.entries:
        top.refuse(f"'schema' is missing, so this may be no plan at all. {remedy} on the first line")
    node = top.entries["schema"]
    value = node.value if isinstance(node, Scalar) else None
    if type(value) is not int or value < 1:
        node.refuse(f"{_kind(node)} is no version of the format. {remedy}")
    if value > SCHEMA:
        raise node.place.error(
            f"schema {shown(value)} is newer than this autotrain understands ({SCHEMA}): "
            "upgrade autotrain-torch or probe again"
        )


def _check_names(table: Table, known: Iterable[str], *, kind: str, required: Iterable[str] = ()) -> None:
    known = tuple(known)
    for key, place in table.keys.items():
        if key not in known:
            raise place.error(unknown(kind, shown(key), known))
    for key in required:
        if key not in table.entries:
            table.refuse(f"'{key}' is missing. Add it")


def _settings(node: Node) -> Settings:
    if _is_nothing(node):
        return Settings()
    table = _table(node)
    _check_names(table, Settings.names(), kind="knob")
    return Settings.from_dict({name: _setting(name, entry) for name, entry in table.entries.items()})


def _setting(name: str, node: Node) -> Value:
    value = _value(node)
    reason = check_value(name, value)
    if reason is not None:
        node.refuse(reason)
    return value


def _value(node: Node) -> Value:
    value = node.value if isinstance(node, Scalar) else None
    if not isinstance(value, str | int):
        node.refuse(f"{_kind(node)} is not a value of a knob. Write a word, a whole number, true or false")
    return value


def _fields(node: Node, readers: dict[str, Reader], *, required: Iterable[str] = ()) -> dict[str, Any]:
    """Return the fields of a mapping that are there, read; nothing counts as left out."""
    if _is_nothing(node) and not required:
        return {}
    table = _table(node)
    _check_names(table, readers, kind="field", required=required)
    present = {name: entry for name, entry in table.entries.items() if name in required or not _is_nothing(entry)}
    return {name: readers[name](entry) for name, entry in present.items()}


def _table(node: Node) -> Table:
    if not isinstance(node, Table):
        node.refuse(f"{_kind(node)} where a mapping is needed. Indent `name: value` lines under it")
    return node


@dataclass(frozen=True)
class Many:
    """Reads a list, each entry of it with the same reader."""

    reader: Reader

    def __call__(self, node: Node) -> tuple[Any, ...]:
        """Return the entries, read."""
        if not isinstance(node, Listing):
            node.refuse(f"{_kind(node)} where a list is needed. Start each entry with `- `")
        return tuple(self.reader(item) for item in node.items)


def _text(node: Node) -> str:
    if not isinstance(node, Scalar) or not isinstance(node.value, str):
        node.refuse(f"{_kind(node)} is not text. Put it in quotes")
    return node.value


def _count(node: Node) -> int:
    value = node.value if isinstance(node, Scalar) else None
    if type(value) is not int or not 0 <= value < _LARGEST:
        node.refuse(f"{_kind(node)} is not a whole number from 0 to 2**64 - 1. Write one")
    return value


def _side(node: Node) -> int:
    value = _count(node)
    if value < 1:
        node.refuse("0 is too small. Write a number of at least 1")
    return value


def _number(node: Node) -> float:
    value = node.value if isinstance(node, Scalar) else None
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        node.refuse(f"{_kind(node)} is not a finite number. Write one, or leave the field out")
    return float(value)


def _seconds(node: Node) -> float:
    value = _number(node)
    if value < 0:
        node.refuse(f"{value:g} is negative. Write a number of seconds")
    return value


def _estimate(node: Node) -> Estimate:
    readers: dict[str, Reader] = {"value": _number, "low": _number, "high": _number, "n": _count}
    estimate = Estimate(**_fields(node, readers, required=tuple(readers)))
    if not estimate.low <= estimate.value <= estimate.high:
        node.refuse(
            f"value {estimate.value:g} is not between low {estimate.low:g} and high {estimate.high:g}. "
            "Correct the numbers, or leave the field out"
        )
    return estimate


def _verdict(node: Node) -> Verdict:
    text = _text(node)
    if text not in tuple(Verdict):
        node.refuse(unknown("verdict", shown(text), Verdict))
    return Verdict(text)


def _worth(node: Node) -> Worth:
    worth = Worth(**_fields(node, WORTH, required=("setting", "value", "instead_of")))
    entries = _table(node).entries
    if worth.setting not in Settings.names():
        entries["setting"].refuse(unknown("knob", shown(worth.setting), Settings.names()))
    _setting(worth.setting, entries["value"])
    _setting(worth.setting, entries["instead_of"])
    return worth


def _left_out(node: Node) -> LeftOut:
    values = _fields(node, LEFT_OUT, required=tuple(LEFT_OUT))
    return values["knob"], values["value"], values["reason"]


def _versions(node: Node) -> tuple[tuple[str, str], ...]:
    return tuple((name, _text(entry)) for name, entry in _table(node).entries.items())


def _is_nothing(node: Node) -> bool:
    return isinstance(node, Scalar) and node.value is None


def _kind(node: Node) -> str:
    if isinstance(node, Scalar):
        return f"'{shown(node.value)}'" if isinstance(node.value, str) else shown(node.value)
    return "a list" if isinstance(node, Listing) else "a mapping"


WORTH: dict[str, Reader] = {
    "setting": _text,
    "value": _value,
    "instead_of": _value,
    "alone": _estimate,
    "within": _estimate,
    "ratio": _estimate,
    "note": _text,
}
"""Fields of what a setting is worth."""

LEFT_OUT: dict[str, Reader] = {"knob": _text, "value": _value, "reason": _text}
"""Fields of a choice that was not measured."""

_EVIDENCE: dict[str, Reader] = {
    "verdict": _verdict,
    "default_rate": _estimate,
    "chosen_rate": _estimate,
    "ratio": _estimate,
    "usual_rate": _estimate,
    "bottleneck": _text,
    "findings": Many(_text),
    "bursts": _count,
    "probe_s": _seconds,
    "largest_batch": _text,
    "worth": Many(_worth),
    "left_out": Many(_left_out),
}

_PROVENANCE: dict[str, Reader] = {
    "date": _text,
    "autotrain": _text,
    "hardware": _text,
    "cpu": _text,
    "usable_cpus": _count,
    "gpus": Many(_text),
    "versions": _versions,
    "task": _text,
    "model": _text,
    "dataset": _text,
    "batch_size": _count,
    "image_size": _side,
    "device": _text,
    "processes": _count,
    "processes_per_machine": _count,
}
