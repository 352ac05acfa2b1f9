"""Any plan survives its file, and no text brings the reader down."""

import math
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autotrain.errors import PlanError
from autotrain.plan.evidence import Evidence, Verdict, Worth
from autotrain.plan.plan import Plan
from autotrain.plan.provenance import Provenance
from autotrain.plan.values import CHOICES
from autotrain.plan.write import rounded
from autotrain.settings import Settings
from autotrain.stats.summary import Estimate

NASTY = st.text(
    alphabet="0123456789.eE+-_~:#'\"\\ntruefalsNyo xob\n\t\r !&*%@`|>{}[],?\x00\x1b\x85\u2028\ufeff\udc80é😀"
)
TEXTS = st.one_of(NASTY, st.text(max_size=30), st.lists(NASTY, min_size=20, max_size=30).map(" ".join))
FINITE = st.floats(min_value=-1e300, max_value=1e300)
COUNTS = st.integers(min_value=0, max_value=2**64 - 1)
SMALL = st.integers(min_value=0, max_value=1000)


@st.composite
def estimates(draw: st.DrawFn) -> Estimate:
    low, value, high = sorted(draw(st.tuples(FINITE, FINITE, FINITE)))
    return Estimate(value=value, low=low, high=high, n=draw(SMALL))


CHOSEN = st.builds(
    Settings,
    **{name: st.sampled_from(choices) for name, choices in CHOICES.items()},
    threads=SMALL,
    workers=SMALL,
    prefetch=st.integers(min_value=1, max_value=99),
    pinning=st.booleans(),
)
MAYBE = st.none() | estimates()
WORTH = st.one_of(
    st.builds(Worth, setting=st.just("workers"), value=SMALL, instead_of=SMALL, ratio=MAYBE, note=TEXTS),
    st.builds(Worth, setting=st.just("precision"), value=st.just("bf16"), instead_of=st.just("fp32"), ratio=MAYBE),
)
LEFT_OUT = st.tuples(TEXTS, st.one_of(TEXTS, SMALL, st.booleans()), TEXTS)


def several(entries: st.SearchStrategy, largest: int = 3) -> st.SearchStrategy:
    return st.lists(entries, max_size=largest).map(tuple)


EVIDENCE = st.builds(
    Evidence,
    verdict=st.sampled_from(Verdict),
    default_rate=MAYBE,
    ratio=MAYBE,
    bottleneck=TEXTS,
    findings=several(TEXTS),
    bursts=COUNTS,
    probe_s=FINITE.map(abs),
    largest_batch=TEXTS,
    worth=several(WORTH),
    left_out=several(LEFT_OUT),
)
PROVENANCE = st.builds(
    Provenance,
    cpu=TEXTS,
    usable_cpus=COUNTS,
    gpus=several(TEXTS),
    versions=st.dictionaries(TEXTS, TEXTS, max_size=3).map(lambda versions: tuple(versions.items())),
    dataset=TEXTS,
    image_size=st.none() | st.integers(min_value=1, max_value=4096),
)
PLANS = st.builds(Plan, settings=CHOSEN, evidence=EVIDENCE, provenance=PROVENANCE, seed=COUNTS)
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])

SAMPLE = Plan(
    settings=Settings(precision="bf16", workers=2),
    evidence=Evidence(
        verdict=Verdict.FASTER,
        ratio=Estimate(value=1.9, low=1.7, high=2.1, n=6),
        findings=("The loader: too slow.",),
        worth=(Worth(setting="workers", value=2, instead_of=0),),
    ),
    provenance=Provenance(cpu="Intel", versions=(("torch", "2.11"),)),
).to_yaml()


@settings(PATIENT, max_examples=150)
@given(PLANS)
def test_written_plan_reads_as_the_same_and_writes_the_same(plan: Plan) -> None:
    text = plan.to_yaml()
    again = Plan.from_yaml(text)
    assert again.to_yaml() == text
    assert (again.settings, again.provenance, again.seed) == (plan.settings, plan.provenance, plan.seed)
    for name in ("verdict", "bottleneck", "findings", "bursts", "largest_batch", "left_out"):
        assert getattr(again.evidence, name) == getattr(plan.evidence, name)
    assert [entry.note for entry in again.evidence.worth] == [entry.note for entry in plan.evidence.worth]
    assert again.evidence.probe_s == rounded(plan.evidence.probe_s)


@given(FINITE)
def test_rounding_keeps_four_digits_and_is_done_once(number: float) -> None:
    assert rounded(rounded(number)) == rounded(number)
    assert math.isclose(rounded(number), number, rel_tol=6e-4, abs_tol=1e-320)


def accepted_or_refused(text: str) -> None:
    """Read ``text``; any other end than a plan or a one-line refusal fails the test."""
    message = ""
    try:
        Plan.from_yaml(text)
    except PlanError as error:
        message = str(error)
    assert not message or message.startswith("plan:")
    assert message.isprintable()


@settings(PATIENT, max_examples=200)
@given(st.one_of(st.text(), NASTY, NASTY.map(lambda tail: "schema: 1\nsettings: {}\n" + tail)))
def test_any_text_is_a_plan_or_refused(text: str) -> None:
    accepted_or_refused(text)


@settings(PATIENT, max_examples=200)
@given(st.integers(0, len(SAMPLE)), st.integers(0, 12), NASTY)
def test_any_edit_of_a_plan_is_a_plan_or_refused(start: int, removed: int, added: str) -> None:
    accepted_or_refused(SAMPLE[:start] + added + SAMPLE[start + removed :])


@settings(PATIENT, max_examples=100)
@given(st.data())
def test_any_lines_of_a_plan_are_a_plan_or_refused(data: st.DataObject) -> None:
    lines = [line for line in SAMPLE.splitlines() if not line.startswith("#")]
    accepted_or_refused("\n".join(data.draw(st.lists(st.sampled_from(lines), max_size=len(lines)))))


@settings(PATIENT, max_examples=100)
@given(content=st.one_of(st.binary(), st.binary(max_size=4).map(lambda tail: SAMPLE.encode() + tail)))
def test_any_bytes_are_a_plan_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "plan.yaml"
    path.write_bytes(content)
    with suppress(PlanError):
        Plan.load(path)
