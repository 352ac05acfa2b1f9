"""What every knob says about itself, for explanations, the schema and the documents."""

import pytest

from autotrain.knobs.base import Knob
from autotrain.knobs.registry import KNOBS

SENTENCES = [(knob, text) for knob in KNOBS for text in (knob.about, *knob.meanings.values())]


@pytest.mark.parametrize("knob", KNOBS, ids=lambda knob: knob.name)
def test_every_value_of_a_closed_set_has_a_meaning(knob: Knob) -> None:
    assert set(knob.meanings) == set(knob.known or ())


@pytest.mark.parametrize(("knob", "text"), SENTENCES, ids=[f"{knob.name}-{text[:20]}" for knob, text in SENTENCES])
def test_it_is_one_sentence(knob: Knob, text: str) -> None:
    assert text.endswith(".")
    assert ". " not in text
    assert text.isprintable()
    assert "  " not in text
    assert 10 < len(text) < 220


def test_no_two_knobs_say_the_same() -> None:
    assert len({knob.about for knob in KNOBS}) == len(KNOBS)
