"""Colours can be read in both themes: contrast by the definition of WCAG 2, and without telling hues apart."""

import re
from importlib.resources import files

import pytest

STYLE = (files("autotrain.report.html") / "templates" / "style.css").read_text(encoding="utf-8")
COLOURS = {name: pair for name, *pair in re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", STYLE)}
TEXTS = ("text", "quiet", "link", "good", "warn")
MARKS = (
    "default",
    "choice",
    "other",
    "best",
    "waiting",
    "training",
    "stage-a",
    "stage-b",
    "stage-c",
    "stage-d",
    "stage-e",
)


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    darker, lighter = sorted((luminance(first), luminance(second)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("name", [*TEXTS, *MARKS])
def test_texts_and_marks_stand_out(name, theme):
    for ground in ("page", "panel"):
        assert contrast(COLOURS[name][theme], COLOURS[ground][theme]) >= 4.5


def test_every_colour_is_one_of_these():
    used = set(re.findall(r"var\(--([\w-]+)\)", STYLE))
    assert used <= set(COLOURS)
    outside = re.sub(r"light-dark\([^)]*\)", "", STYLE)
    assert re.findall(r"#[0-9a-fA-F]{3,8}\b", outside) == []


def test_default_and_choice_differ_in_shape_not_only_in_colour():
    from autotrain.report.html.svg import mark

    (default,), (choice,) = mark("1%", 5.0, "default"), mark("1%", 5.0, "choice")
    assert (default.tag, choice.tag) == ("line", "circle")
