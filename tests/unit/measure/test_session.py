"""A session is data: it survives its file, and is asked for what it has measured."""

import json
from dataclasses import replace

import made
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotrain.errors import PlanError
from autotrain.hardware.machine import machine_facts
from autotrain.measure.measurement import Kind, Measurement, Window
from autotrain.measure.session import Attribution, DuelRecord, Failed, Guard, LargestBatch, PolicyCost, Session
from autotrain.settings import Settings
from autotrain.stats.summary import Estimate

SECONDS = st.floats(min_value=0, max_value=1e6)
COUNTS = st.integers(min_value=0, max_value=2**40)
SETTINGS = st.builds(
    Settings,
    precision=st.sampled_from(("fp32", "bf16")),
    workers=st.integers(0, 64),
    pinning=st.booleans(),
)
WINDOWS = st.builds(
    Window,
    steps=COUNTS,
    images=COUNTS,
    wall_s=SECONDS,
    wait_s=SECONDS,
    cpu_main_s=SECONDS,
    cpu_workers_s=SECONDS,
    sync_s=st.none() | SECONDS,
    transfer_s=st.none() | SECONDS,
)
MEASUREMENTS = st.builds(
    Measurement,
    kind=st.sampled_from(Kind),
    settings=SETTINGS,
    windows=st.lists(WINDOWS, max_size=4).map(tuple),
    startup_s=SECONDS,
    warmup_steps=COUNTS,
    stationary=st.booleans(),
    losses=st.lists(st.floats(allow_nan=False), max_size=4).map(tuple),
    peak_bytes=st.none() | COUNTS,
    other_cpu_share=st.none() | st.floats(0, 1),
    stopped_early=st.booleans(),
    gpu_throttled=st.lists(st.sampled_from(("power", "heat")), max_size=2).map(tuple),
    compile_s=SECONDS,
    page_cache=st.sampled_from(("", "warm", "fresh")),
    repeats=COUNTS,
    predicted=st.none() | SECONDS,
    bound=st.none() | SECONDS,
    heat=st.none() | COUNTS,
    scale=st.floats(min_value=0.1, max_value=10),
)

JOB = replace(made.JOB, image_size=None, seed=3)
FP32, BF16 = Settings(augmentation="crop"), Settings(augmentation="crop", precision="bf16")


def measurement(kind: Kind, settings: Settings, rate: float = 100.0) -> Measurement:
    window = Window(steps=1, images=8, wall_s=8 / rate, wait_s=0.0, cpu_main_s=0.0, cpu_workers_s=0.0)
    return Measurement(
        kind=kind, settings=settings, windows=(window,) * 3, startup_s=0.1, warmup_steps=1, stationary=True
    )


def session(*measurements: Measurement) -> Session:
    return Session(machine=machine_facts(), job=JOB, default=FP32, cores=2, measurements=measurements)


def full_session() -> Session:
    return replace(
        session(measurement(Kind.FULL, FP32), measurement(Kind.COMPUTE, BF16)),
        failures=(Failed(settings=BF16, reason="out of memory"), Failed(settings=FP32, reason="slow", pruned=True)),
        left_out=(("precision", "tf32", "a format of CUDA devices"), ("pinning", True, "no CUDA device")),
        chosen=BF16,
        duels=(DuelRecord(baseline=FP32, candidate=BF16, baseline_rates=(1.0, 2.0), candidate_rates=(3.0, 4.0)),),
        guards=(Guard(settings=BF16, candidate=(2.0, 1.0), references=((2.0, 1.0), (2.1, 1.1)), problem="worse"),),
        attributions=(
            Attribution(setting="precision", value="bf16", within=Estimate(value=1.2, low=1.1, high=1.3, n=8)),
            Attribution(setting="pinning", value=True),
        ),
        policies=(
            PolicyCost(policy="none", placement="worker", rate=100.0, low=100.0, high=100.0, measured=True),
            PolicyCost(policy="crop", placement="device", rate=90.0, low=88.0, high=92.0, measured=False),
        ),
        largest_batch=LargestBatch(batch_size=64, images_per_s=9.0, reference_per_s=8.0, limit="memory", estimate=90),
        cold_bytes_per_s=1e8,
        seconds=12.5,
        interrupted=True,
        notes=("a note",),
    )


@given(MEASUREMENTS)
def test_any_measurement_survives_json(made):
    assert Measurement.from_dict(json.loads(json.dumps(made.as_dict()))) == made


@pytest.mark.parametrize("made", [session(), full_session()], ids=["empty", "full"])
def test_a_session_survives_json(made):
    again = Session.from_json(made.to_json())
    assert again == made
    assert again.to_json() == made.to_json()


@pytest.mark.parametrize("schema", [0, 2, 99, "1"])
def test_a_session_of_another_schema_is_refused(schema):
    values = json.loads(full_session().to_json()) | {"schema": schema}
    with pytest.raises(PlanError, match=f"session of schema {schema}, this autotrain understands 1"):
        Session.from_json(json.dumps(values))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda values: values.pop("schema"),
        lambda values: values.pop("machine"),
        lambda values: values.update(surprise=1),
        lambda values: values["measurements"][0].pop("windows"),
        lambda values: values["measurements"][0].update(kind="half"),
        lambda values: values["default"].update(precison="fp32"),
        lambda values: values.update(duels=3),
    ],
)
def test_what_is_no_session_is_refused_with_one_line(spoil):
    values = json.loads(full_session().to_json())
    spoil(values)
    with pytest.raises(PlanError, match="give the JSON file that a probe wrote") as caught:
        Session.from_json(json.dumps(values))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", "schema: 1"])
def test_other_text_is_refused(text):
    with pytest.raises(PlanError, match="not a session"):
        Session.from_json(text)


def test_a_compute_ceiling_speaks_for_any_loading():
    known = measurement(Kind.COMPUTE, FP32)
    assert session(known).find(Kind.COMPUTE, replace(FP32, workers=4, prefetch=4)) is known


@pytest.mark.parametrize(
    "change", [{"precision": "bf16"}, {"memory_format": "channels_last"}, {"threads": 1}, {"placement": "device"}]
)
def test_a_compute_ceiling_speaks_for_no_other_arithmetic(change):
    assert session(measurement(Kind.COMPUTE, FP32)).find(Kind.COMPUTE, replace(FP32, **change)) is None


def test_an_input_ceiling_speaks_for_any_arithmetic_but_no_other_loading():
    known = measurement(Kind.INPUT, replace(FP32, workers=2))
    made = session(known)
    assert made.find(Kind.INPUT, replace(BF16, workers=2, threads=1)) is known
    assert made.find(Kind.INPUT, replace(BF16, workers=1)) is None
    assert made.find(Kind.INPUT, replace(BF16, workers=2, placement="device")) is None


def test_a_full_burst_speaks_for_its_own_settings_only_and_the_last_one_counts():
    first, last = measurement(Kind.FULL, FP32, 100.0), measurement(Kind.FULL, FP32, 200.0)
    made = session(first, last, measurement(Kind.COMPUTE, BF16))
    assert made.find(Kind.FULL, FP32) is last
    assert made.find(Kind.FULL, BF16) is None
    assert made.of(Kind.FULL) == (first, last)


def test_a_duel_of_too_few_pairs_has_no_verdict():
    def record(pairs: int) -> DuelRecord:
        return DuelRecord(
            baseline=FP32,
            candidate=BF16,
            baseline_rates=tuple(100.0 + n for n in range(pairs)),
            candidate_rates=tuple(150.0 + n for n in range(pairs)),
        )

    assert record(2).comparison is None
    assert record(3).comparison is not None
    assert replace(session(), duels=(record(2), record(5))).final_ratio.value == pytest.approx(1.49, rel=0.01)
    assert session().final_ratio is None


def test_a_session_of_an_earlier_version_is_read():
    """It has no attributions, and policies without intervals; a measurement in it was of no heat."""
    values = json.loads(full_session().to_json())
    del values["attributions"], values["profile"]
    values["policies"] = [["crop", "device", 90.0]]
    for name in ("scale", "heat", "repeats", "predicted", "bound", "page_cache", "compile_s"):
        del values["measurements"][0][name]
    read = Session.from_json(json.dumps(values))
    assert read.attributions == ()
    assert [(entry.policy, entry.low, entry.rate, entry.high) for entry in read.policies] == [
        ("crop", 90.0, 90.0, 90.0)
    ]
    assert read.measurements == full_session().measurements
