"""Records to plan text, made to be read: a comment beside each setting, numbers rounded, defaults left out."""

import math
from dataclasses import fields
from io import StringIO
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.emitter import Emitter
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from autotrain.plan.evidence import Evidence, Worth
from autotrain.plan.provenance import Provenance
from autotrain.plan.read import SCHEMA
from autotrain.plan.values import OF_RANKS, shown
from autotrain.settings import Settings, Value
from autotrain.stats.summary import Estimate

DIGITS = 4
"""Significant digits of every measured number in the file."""

_WIDTH = 92  # the writer breaks at the first space after this column, so lines end near 100

_HEADER = """\
# A plan: the settings with which autotrain runs one training job on one machine.
#
# Train with it:  autotrain fit TARGET --plan plan.yaml
#            or:  autotrain.fit(model, dataset, plan="plan.yaml")
#
# The settings say how the job runs; of what it learns they name the augmentation policy alone.
# Edit them freely: each is checked when the plan is loaded, and one left out has its default.
"""

_EVIDENCE_NOTE = """\
# What was measured. Rates are in images/s; low and high bound the 95% interval, n counts samples.
# usual_rate: the default with a worker per usable core. ratio: chosen over default. worth, of each
# setting: the rate with it over the rate without, alone on the default and within the plan.
"""

_PROVENANCE_NOTE = """\
# Where, when and for what it was measured. Loading the plan elsewhere says what differs.
"""


def write_plan(settings: Settings, *, evidence: Evidence, provenance: Provenance, seed: int) -> str:
    """Return the text of a plan; the same records give the same text.

    Evidence and provenance at their defaults are left out, fields and whole sections alike.
    """
    parts = [_HEADER, _dump(_top(seed)), _dump(_settings(settings, evidence.worth))]
    if measured := _record(evidence):
        parts.append(_EVIDENCE_NOTE + _dump({"evidence": measured}))
    if made := _record(provenance):
        parts.append(_PROVENANCE_NOTE + _dump({"provenance": made}))
    return "\n".join(parts)


def rounded(number: float) -> float:
    """Return ``number`` with the significant digits that a plan keeps; rounding twice changes nothing."""
    return float(f"{number:.{DIGITS}g}") + 0.0  # a zero without a sign: YAML would read -0 back as 0


def _top(seed: int) -> CommentedMap:
    top = CommentedMap(schema=SCHEMA, seed=seed)
    top.yaml_add_eol_comment("version of this format", "schema", column=12)
    top.yaml_add_eol_comment("the seed that it was measured with", "seed", column=12)
    return top


def _settings(settings: Settings, worth: tuple[Worth, ...]) -> dict[str, CommentedMap]:
    defaults = Settings().as_dict()
    told = settings.as_dict().items()
    values = {name: value for name, value in told if name not in OF_RANKS or value != defaults[name]}
    measured = {(entry.setting, entry.value): entry for entry in worth}
    section = CommentedMap(values)
    column = max(len(f"  {name}: {shown(value)}  ") for name, value in values.items())
    for name, value in values.items():
        alone = measured.get((name, value))
        policy = name == "augmentation" and alone is None  # what is learned, not how fast
        comment = "the policy" if policy else _comment(value, default=defaults[name], worth=alone)
        section.yaml_add_eol_comment(comment, name, column=column)
    return {"settings": section}


def _comment(value: Value, *, default: Value, worth: Worth | None) -> str:
    if worth is None:
        return "the default" if value == default else f"instead of the default, {shown(default)}"
    replaced = f"instead of {shown(worth.instead_of)}"
    measured = worth.within or worth.ratio
    if measured is None:
        return replaced
    ratio = {name: f"{rounded(number):.2f}" for name, number in measured.as_dict().items()}
    return f"worth {ratio['value']}x ({ratio['low']} to {ratio['high']}), {replaced}"


def _record(record: Evidence | Provenance | Worth) -> dict[str, Any]:
    """Return the fields of ``record`` that say more than their default, as values that YAML can write."""
    values = {entry.name: (getattr(record, entry.name), entry.default) for entry in fields(record)}
    return {name: _plain(name, value) for name, (value, default) in values.items() if value != default}


def _plain(name: str, value: Any) -> Any:
    if name == "versions":
        return {_text(package): _text(version) for package, version in value}
    if name == "left_out":
        return [
            {"knob": _text(knob), "value": _plain("", choice), "reason": _text(reason)}
            for knob, choice, reason in value
        ]
    if isinstance(value, Worth):
        return _record(value)
    if isinstance(value, Estimate):
        return _estimate(value)
    if isinstance(value, tuple):
        return [_plain("", entry) for entry in value]
    if isinstance(value, float):
        return _number(value)
    return _text(value) if isinstance(value, str) else value


def _text(text: str) -> str:
    """Return ``text`` as it is or, where odd spaces or unprintable characters would not survive, in double quotes."""
    usual = text.isprintable() and text == " ".join(text.split())
    return str(text) if usual else DoubleQuotedScalarString(text)


def _estimate(estimate: Estimate) -> CommentedMap:
    numbers = {name: _number(float(getattr(estimate, name))) for name in ("value", "low", "high")}
    flow = CommentedMap(**numbers, n=int(estimate.n))
    flow.fa.set_flow_style()
    return flow


def _number(number: float) -> int | float:
    number = rounded(number)
    whole = math.isfinite(number) and number.is_integer() and abs(number) < 1e15
    return int(number) if whole else number


class _Emitter(Emitter):
    """The usual writer, but for double-quoted text: it stays on one line, since folding it loses spaces."""

    def write_double_quoted(self, text: str, split: bool = True) -> None:  # noqa: ARG002  # the base class's signature
        super().write_double_quoted(text, split=False)


def _dump(section: dict[str, Any]) -> str:
    yaml = YAML(typ="rt")
    yaml.Emitter = _Emitter
    yaml.width = _WIDTH
    yaml.indent(mapping=2, sequence=4, offset=2)
    stream = StringIO()
    yaml.dump(section, stream)
    # Folding leaves spaces at line ends, which mean nothing in YAML and which editors take away.
    return "".join(f"{line.rstrip(' ')}\n" for line in stream.getvalue().rstrip("\n").split("\n"))
