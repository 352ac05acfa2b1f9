"""The diagnosis names what holds a job back, and its remedy touches nothing else."""

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made import measured, session

from autotrain.diagnose.demand import bound, demand, predict
from autotrain.diagnose.finding import Bottleneck
from autotrain.diagnose.rules import COMPUTE_KNOBS, INPUT_KNOBS, diagnose
from autotrain.measure.exchange import Exchange, RankTime
from autotrain.measure.measurement import Kind
from autotrain.measure.session import Session
from autotrain.settings import Settings

SPACE = tuple(
    Settings(precision=precision, threads=threads, workers=workers)
    for precision, threads, workers in product(("fp32", "bf16"), (0, 1), (0, 1, 2, 4))
)


def serial(compute: float, loading: float, **options) -> Session:
    """Return the session of a job without workers, whose images are loaded, then trained on."""
    rate = 1 / (1 / compute + 1 / loading)
    return session(
        measured(Kind.FULL, rate, wait=rate / loading),
        measured(Kind.COMPUTE, compute),
        measured(Kind.INPUT, loading),
        **options,
    )


def parallel(compute: float, one_worker: float, rate: float, *, wait: float, **shares) -> Session:
    """Return the session of a job with two workers on eight cores."""
    default = Settings(workers=2)
    return session(
        measured(Kind.FULL, rate, settings=default, wait=wait, **shares),
        measured(Kind.COMPUTE, compute, settings=default),
        measured(Kind.INPUT, one_worker, settings=Settings(workers=1), main=0.0, workers=1.0),
        default=default,
        cores=8,
    )


@pytest.mark.parametrize(
    ("compute", "loading", "bottleneck"),
    [
        (2000, 200, Bottleneck.INPUT),
        (200, 2000, Bottleneck.COMPUTE),
        (500, 500, Bottleneck.BALANCED),
        (600, 500, Bottleneck.BALANCED),
    ],
)
def test_without_workers_the_longer_half_of_a_step_is_the_bottleneck(compute, loading, bottleneck):
    assert diagnose(serial(compute, loading)).bottleneck is bottleneck


@pytest.mark.parametrize(
    ("made", "bottleneck"),
    [
        (parallel(2000, 200, 390, wait=0.8), Bottleneck.INPUT),
        (parallel(400, 2000, 395, wait=0.02), Bottleneck.COMPUTE),
        (parallel(1000, 520, 900, wait=0.25), Bottleneck.BALANCED),
    ],
)
def test_with_workers_the_slower_ceiling_is_the_bottleneck(made, bottleneck):
    assert diagnose(made).bottleneck is bottleneck


def test_cores_that_both_halves_fill_are_shared():
    default = Settings(workers=2)
    made = session(
        measured(Kind.FULL, 656, settings=default, wait=0.2, main=1.2, workers=0.75),
        measured(Kind.COMPUTE, 1247, settings=default, main=2.0),
        measured(Kind.INPUT, 813, settings=Settings(workers=1), main=0.0, workers=1.0),
        default=default,
    )
    finding = diagnose(made)
    assert finding.bottleneck is Bottleneck.SHARED_CORES
    assert "2 usable cores" in " ".join(finding.evidence)


def cuda(rate: float, *, wait: float, transfer: float, sync: float, ceiling: float = 2000) -> Session:
    default = Settings(workers=4)
    return session(
        measured(Kind.FULL, rate, settings=default, wait=wait, transfer=transfer, sync=0.3, workers=2.0),
        measured(Kind.COMPUTE, ceiling, settings=default, sync=sync),
        measured(Kind.INPUT, 1000, settings=Settings(workers=1), main=0.0, workers=1.0),
        default=default,
        cores=8,
        device="cuda",
    )


@pytest.mark.parametrize(
    ("made", "bottleneck"),
    [
        (cuda(900, wait=0.02, transfer=0.7, sync=0.5), Bottleneck.TRANSFER),
        (cuda(1900, wait=0.02, transfer=0.1, sync=0.01), Bottleneck.LAUNCH),
        (cuda(1900, wait=0.02, transfer=0.1, sync=0.6), Bottleneck.COMPUTE),
        (cuda(900, wait=0.7, transfer=0.5, sync=0.6, ceiling=9000), Bottleneck.INPUT),
    ],
)
def test_beside_an_accelerator_copies_and_launches_can_bind(made, bottleneck):
    assert diagnose(made).bottleneck is bottleneck


def ranks(together_s: float, apart_s: float, *own_s: float, wait: float = 0.02) -> Session:
    """Return the session of ranks that train on 64 images in a step."""
    times = tuple(RankTime(host=f"host-{place}", training_s=entry, loading_s=0.01) for place, entry in enumerate(own_s))
    rate = 64 / together_s
    return session(
        measured(Kind.FULL, rate, settings=Settings(workers=2), wait=wait),
        measured(Kind.COMPUTE, rate, settings=Settings(workers=2)),
        measured(Kind.INPUT, 4 * rate, settings=Settings(workers=1), main=0.0, workers=1.0),
        default=Settings(workers=2),
        cores=8,
        batch_size=64,
        exchange=Exchange(together_s=together_s, apart_s=apart_s, bytes=50 << 20, ranks=times),
    )


def test_ranks_that_wait_for_each_others_gradients_are_bound_by_that():
    finding = diagnose(ranks(0.1, 0.06, 0.06, 0.06))
    assert finding.bottleneck is Bottleneck.COMMUNICATION
    assert finding.relief == pytest.approx(1 / 0.6)
    assert "2 ranks exchange 50.0 MiB of gradients in each step, which makes it 100.0 ms instead of 60.0" in " ".join(
        finding.evidence
    )
    assert diagnose(ranks(0.1, 0.09, 0.09, 0.09)).bottleneck is Bottleneck.COMPUTE


def test_a_rank_that_holds_up_the_others_is_named():
    words = " ".join(diagnose(ranks(0.1, 0.09, 0.05, 0.05, 0.09, 0.05)).evidence)
    assert "rank 2 on host-2 takes 1.8 times as long for training as the others" in words
    assert "for loading" not in words
    assert "times as long" not in " ".join(diagnose(ranks(0.1, 0.09, 0.09, 0.085)).evidence)


def test_without_both_ceilings_and_a_full_burst_nothing_is_claimed():
    parts = serial(2000, 200).measurements
    for missing in range(3):
        assert diagnose(session(*(entry for place, entry in enumerate(parts) if place != missing))) is None


def test_the_evidence_quotes_what_was_measured():
    words = " ".join(diagnose(serial(2000, 200)).evidence)
    assert "training alone reaches 2,000 images/s, loading alone 200, both 182" in words
    assert "5.00 ms to load, then 0.50 ms to train on" in words


@pytest.mark.parametrize(
    ("made", "knobs"),
    [
        (serial(2000, 200, cores=8), INPUT_KNOBS),
        (serial(200, 2000), COMPUTE_KNOBS),
        (parallel(400, 2000, 395, wait=0.02), COMPUTE_KNOBS),
        (parallel(2000, 200, 390, wait=0.8), INPUT_KNOBS),
    ],
)
def test_a_remedy_is_a_legal_one_and_moves_only_what_binds(made, knobs):
    faster = [
        measured(Kind.COMPUTE, 3 * made.find(Kind.COMPUTE, made.default).rate.value, settings=Settings(precision=name))
        for name in ("bf16",)
    ]
    made = replace(made, measurements=(*made.measurements, *faster))
    finding = diagnose(made, SPACE)
    assert finding.remedy in SPACE
    changes = finding.remedy.changes(made.default)
    assert set(changes) <= set(knobs)
    assert all(name in finding.remedy_words for name in changes)
    assert finding.predicted_gain == pytest.approx(predict(made, finding.remedy) / predict(made, made.default))
    assert finding.predicted_gain > 1.02


def test_where_no_legal_setting_helps_the_finding_says_so():
    finding = diagnose(serial(2000, 200), [Settings(), Settings(precision="bf16")])
    assert finding.remedy is None
    assert finding.predicted_gain is None
    unhelpful = diagnose(serial(200, 2000), [Settings(), Settings(threads=1), Settings(workers=2)])
    assert unhelpful.remedy is None


def test_without_workers_the_prediction_is_loading_then_training():
    assert predict(serial(2000, 200), Settings()) == pytest.approx(1 / (1 / 2000 + 1 / 200))


def test_beside_an_accelerator_the_host_loads_while_the_device_trains():
    made = serial(500, 500, device="cuda")
    assert bound(made, Settings()) == pytest.approx(500)
    assert 250 < predict(made, Settings()) < 500


@pytest.mark.parametrize("missing", [Kind.COMPUTE, Kind.INPUT])
def test_nothing_is_known_where_a_component_is_missing(missing):
    made = session(*(entry for entry in serial(500, 500).measurements if entry.kind is not missing))
    assert demand(made, Settings(workers=2)) is None
    assert bound(made, Settings(workers=2)) is None
    assert predict(made, Settings(workers=2)) is None


def test_another_precision_and_another_placement_are_unknown_until_measured():
    made = serial(500, 500)
    assert bound(made, Settings(precision="bf16")) is None
    assert bound(made, Settings(placement="device")) is None


def test_loader_and_model_on_the_same_two_cores_give_the_rate_that_was_seen():
    """Seen on two cores: the ceilings alone promise 1247 images/s, the sum of demands 706, and the run gave 656."""
    settings = Settings(workers=2)
    cpu_of_one_image_s = 2 / 706
    made = session(
        measured(Kind.COMPUTE, 1247, settings=settings, main=2.0),
        measured(Kind.INPUT, 1 / (cpu_of_one_image_s - 2 / 1247), settings=Settings(workers=1), main=0.0, workers=1.0),
    )
    assert bound(made, settings) == pytest.approx(706, rel=0.01)
    assert predict(made, settings) == pytest.approx(656, rel=0.03)


RATES = st.floats(10, 1e5)
SHARES = st.floats(0, 1)
CORES = st.integers(1, 64)


@st.composite
def components(draw: st.DrawFn) -> Session:
    """Draw any two ceilings that a machine could have given; none is busier than its cores."""
    cores = draw(CORES)
    return session(
        measured(Kind.COMPUTE, draw(RATES), main=cores * draw(SHARES), spread=draw(st.floats(0, 0.3))),
        measured(Kind.INPUT, draw(RATES), main=draw(SHARES), spread=draw(st.floats(0, 0.3))),
        cores=cores,
        device=draw(st.sampled_from(("cpu", "cuda"))),
    )


@given(made=components(), workers=st.integers(0, 64))
def test_no_prediction_exceeds_its_bound(made, workers):
    settings = Settings(workers=workers)
    assert predict(made, settings) <= bound(made, settings) * (1 + 1e-9)


@given(made=components(), workers=st.integers(0, 63))
def test_a_worker_more_never_lowers_the_bound(made, workers):
    assert bound(made, Settings(workers=workers + 1)) >= bound(made, Settings(workers=workers)) * (1 - 1e-9)


@given(made=components(), workers=st.integers(0, 64))
def test_no_bound_exceeds_what_training_alone_can_reach(made, workers):
    assert bound(made, Settings(workers=workers)) <= made.of(Kind.COMPUTE)[0].rate.high * (1 + 1e-9)
