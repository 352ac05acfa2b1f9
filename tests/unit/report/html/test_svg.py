import math
from xml.etree import ElementTree

import pytest

from autotrain.report.html.svg import Plot, Scale, axis, element, linear, logarithmic, strip, to_markup


def test_a_linear_scale_is_a_share_of_its_range():
    scale = Scale(low=10.0, high=20.0)
    assert [scale.at(value) for value in (10, 15, 20)] == [0, 50, 100]
    assert [scale.at(value) for value in (0, 99)] == [0, 100]
    assert scale.percent(12.5) == "25.00%"


def test_a_logarithmic_scale_has_equal_factors_at_equal_distances():
    scale = Scale(low=10.0, high=1000.0, logarithmic=True)
    assert scale.at(100) == pytest.approx(50)


POSITIVE = [(0.5, 0.5001), (199.0, 464.0), (1.0, 1e6), (3.0, 3.0), (12.0, 19.0)]


@pytest.mark.parametrize(
    ("make", "values"),
    [
        (linear, (0.0, 0.0)),
        (linear, (-2.0, 3.0)),
        *((make, values) for make in (linear, logarithmic) for values in POSITIVE),
    ],
)
def test_ticks_are_round_few_and_within(values, make):
    scale = make(values)
    ticks = scale.ticks(5)
    assert 1 <= len(ticks) <= 6
    assert all(scale.low <= tick <= scale.high * (1 + 1e-9) for tick in ticks)
    assert list(ticks) == sorted(set(ticks))
    assert all(scale.low <= value <= scale.high for value in values)


def test_what_is_drawn_is_xml_whatever_the_words_say():
    words = "<b>&\x00\udc80\"'"
    made = strip([element("text", words, x="1%", class_=words)])
    (text,) = ElementTree.fromstring(str(made))
    assert text.text == text.get("class") == "<b>&\ufffd\ufffd\"'"


def test_words_of_an_axis_that_would_meet_on_a_narrow_page_can_be_left_out():
    scale = Scale(low=0.0, high=100.0)
    far = ElementTree.fromstring(str(axis(scale, ["0", "50", "100"], [0, 50, 100])))
    near = ElementTree.fromstring(str(axis(scale, ["1,880", "1,890", "1,900", "1,910"], [4, 35, 65, 95])))
    assert [text.get("class") for text in far if text.text] == [None] * 3
    assert [text.get("class") for text in near if text.text] == [None, "spare", None, "spare"]


def test_underscores_are_hyphens():
    assert str(to_markup(element("text", "a", text_anchor="end", class_="b", y=1.5))) == (
        '<text text-anchor="end" class="b" y="1.5">a</text>'
    )


def test_a_curve_is_broken_where_a_number_is_not_finite():
    plot = Plot("p", "t", "w", x=Scale(low=0, high=4), y=Scale(low=0, high=4))
    plot.line([(0, 1), (1, 2), (2, math.nan), (3, 1), (4, 1)], "curve")
    assert len([entry for entry in ElementTree.fromstring(str(plot.markup())) if entry.tag == "line"]) == 2
