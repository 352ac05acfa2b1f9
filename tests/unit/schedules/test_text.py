"""Schedules as people write them."""

import pytest

from autotrain.errors import ScheduleError
from autotrain.schedules.phases import Hold, Line, Power, Restarts, Steps, Wave
from autotrain.schedules.schedule import Chain, Constant, OneCycle, Trapezoid, WarmupCosine, WarmupLinear
from autotrain.schedules.text import parse_schedule


@pytest.mark.parametrize(
    ("text", "schedule"),
    [
        ("cosine", WarmupCosine()),
        ("constant", Constant()),
        (" Linear ", WarmupLinear()),
        ("cosine(warmup=5ep)", WarmupCosine(warmup="5ep")),
        ("cosine(warmup=none, final=0.1)", WarmupCosine(warmup=None, final=0.1)),
        ("linear(resolution=epoch)", WarmupLinear(resolution="epoch")),
        ("trapezoid", Trapezoid()),
        ("trapezoid(warmup=100step, decay=10ep, final=0.01)", Trapezoid(warmup="100step", decay="10ep", final=0.01)),
        ("onecycle", OneCycle()),
        ("one-cycle(peak=0.4dur)", OneCycle(peak="0.4dur")),
        ("linear(5ep) > cosine", Chain(parts=(Line(length="5ep"), Wave()))),
        ("LINEAR(5ep)>COSINE(end=0.1)", Chain(parts=(Line(length="5ep"), Wave(end=0.1)))),
        ("cosine(20ep)", Chain(parts=(Wave(length="20ep"),))),
        (
            "linear(5ep) > constant(60ep) > poly(power=3)",
            Chain(parts=(Line(length="5ep"), Hold(length="60ep"), Power(power=3.0))),
        ),
        ("step(30ep, gamma=0.2)", Chain(parts=(Steps(every="30ep", gamma=0.2),))),
        ("step(at=30ep+60ep+80ep)", Chain(parts=(Steps(at=("30ep", "60ep", "80ep")),))),
        ("restarts(10ep, growth=2)", Chain(parts=(Restarts(every="10ep", growth=2.0),))),
        ("polynomial(power=0.9, resolution=epoch)", Chain(parts=(Power(power=0.9),), resolution="epoch")),
    ],
)
def test_a_text_is_a_schedule(text, schedule):
    assert parse_schedule(text) == schedule


def test_only_whole_schedules_warm_up_by_themselves():
    assert parse_schedule("cosine(final=0.1)").factor(0, 100, 10) == pytest.approx(0.2)
    assert parse_schedule("cosine(end=0.1)").factor(0, 100, 10) == 1.0
    whole, chain = parse_schedule("cosine(warmup=1ep, final=0.1)"), parse_schedule("linear(1ep) > cosine(end=0.1)")
    assert [whole.factor(step, 100, 10) for step in range(101)] == [chain.factor(step, 100, 10) for step in range(101)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cosin", r"unknown schedule 'cosin'\. Did you mean 'cosine'"),
        ("linear(5ep) > cosin", r"unknown schedule 'cosin'\. Did you mean 'cosine'"),
        ("", "a part is missing"),
        ("linear(5ep) >", "a part is missing"),
        ("linear(5ep cosine", r"'linear\(5ep cosine' is no name with options in brackets"),
        ("linear(5) > cosine", "unit is missing"),
        ("cosine(wramup=5ep)", r"unknown option 'wramup'\. Did you mean"),
        ("cosine(warmup=5ep, end=0.1)", "warmup= goes with a whole schedule, a length, start= and end= with a phase"),
        ("linear(20ep, final=0.1)", "final= goes with a whole schedule"),
        ("onecycle(0.4dur)", "'onecycle' takes no value without a name"),
        ("linear(5ep) > onecycle", "'onecycle' is a whole schedule and goes with no '>'"),
        ("linear(5ep, 6ep) > cosine", "'6ep' is given twice"),
        ("linear(5ep, length=6ep) > cosine", "length is given twice"),
        ("poly(power=two)", "power=two is no number"),
        ("poly(power=0)", "power=0.0; it is greater than 0"),
        ("cosine(final=2)", "final=2.0; it is a factor from 0 to 1"),
        ("linear(5ep, start=-1) > cosine", "start=-1.0; a factor is 0 or more"),
        ("step", "needs either every= or at="),
        ("step(30ep, at=20ep)", "needs either every= or at="),
        ("restarts(growth=2)", "need the length of the first wave"),
        ("restarts(10ep, growth=0.5)", "growth=0.5; it is 1 or more"),
        ("cosine(resolution=batch)", "unknown resolution 'batch'"),
    ],
)
def test_what_is_wrong_is_said_with_the_text_and_examples(text, message):
    with pytest.raises(ScheduleError, match=message) as caught:
        parse_schedule(text)
    assert str(caught.value).startswith(f"schedule '{text}': ")
    assert "linear(5ep) > cosine" in str(caught.value)
