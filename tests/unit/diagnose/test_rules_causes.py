"""The diagnosis says why, where the loading was profiled, and a remedy touches only what the cause allows."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import pytest
from made import JOB, measured, session

from autotrain.diagnose.finding import Bottleneck, Cause, Finding
from autotrain.diagnose.rules import KNOBS_BY_CAUSE, diagnose
from autotrain.measure.measurement import Kind
from autotrain.measure.profile import StageProfile, StageTime
from autotrain.measure.session import Session
from autotrain.settings import Settings


def serial(compute: float, loading: float, **changes: Any) -> Session:
    rate = 1 / (1 / compute + 1 / loading)
    parts = (
        measured(Kind.FULL, rate, wait=rate / loading),
        measured(Kind.COMPUTE, compute),
        measured(Kind.INPUT, loading),
    )
    return session(*parts, **changes)


def profiled(**stages: tuple[float, float]) -> StageProfile:
    """Return a profile in which stages take (seconds, of them waiting)."""
    others: dict[str, Any] = {}
    for name in ("reading", "dataset", "decoding", "augmenting", "collating"):
        wall, wait = stages.get(name, (0.0001, 0.0))
        others[name] = StageTime(wall_s=wall, cpu_s=wall - wait, wait_s=wait)
    return StageProfile(**others, images=64)


@pytest.mark.parametrize(
    ("profile", "cause"),
    [
        (profiled(reading=(0.004, 0.0039), decoding=(0.001, 0.0)), Cause.STORAGE),
        (profiled(reading=(0.004, 0.0), decoding=(0.001, 0.0)), Cause.STORAGE),
        (profiled(dataset=(0.005, 0.0048)), Cause.STORAGE),
        (profiled(decoding=(0.005, 0.004)), Cause.STORAGE),
        (profiled(dataset=(0.005, 0.0002)), Cause.DATASET),
        (profiled(decoding=(0.004, 0.0), reading=(0.0005, 0.0005)), Cause.DECODING),
        (profiled(augmenting=(0.003, 0.0), decoding=(0.002, 0.0)), Cause.AUGMENTATION),
        (profiled(collating=(0.003, 0.0), dataset=(0.002, 0.001)), Cause.COLLATION),
    ],
)
def test_an_input_bound_job_is_named_after_the_stage_that_takes_most(profile: StageProfile, cause: Cause) -> None:
    finding = diagnose(serial(5000, 200, profile=profile))
    assert finding is not None
    assert (finding.bottleneck, finding.cause) == (Bottleneck.INPUT, cause)
    assert finding.words == f"input-bound: {cause.value}"
    assert cause.value in finding.evidence[-1]


def test_without_a_profile_an_input_bound_job_has_no_cause() -> None:
    finding = diagnose(serial(5000, 200))
    assert finding is not None
    assert (finding.bottleneck, finding.cause, finding.words) == (Bottleneck.INPUT, None, "input-bound")


def test_relief_is_what_the_end_of_the_cause_would_give() -> None:
    finding = diagnose(serial(1000, 250, profile=profiled(decoding=(0.003, 0.0), reading=(0.0007, 0.0))))
    assert finding is not None
    share = 0.003 / 0.004
    assert finding.relief == pytest.approx((0.001 + 0.004) / (0.001 + 0.004 * (1 - share)), rel=0.01)


def test_files_that_do_not_fit_into_memory_come_as_fast_as_storage_gives_them() -> None:
    profile = replace(profiled(decoding=(0.004, 0.0)), bytes_per_image=1e6)
    job = replace(JOB, samples=10**9)
    slow = diagnose(serial(5000, 200, profile=profile, cold_bytes_per_s=50e6, job=job))
    assert slow is not None
    assert slow.cause is Cause.STORAGE
    assert "50 images/s" in slow.evidence[-1]
    fits = diagnose(serial(5000, 200, profile=profile, cold_bytes_per_s=50e6))
    assert fits is not None
    assert fits.cause is Cause.DECODING
    fast = diagnose(serial(5000, 200, profile=profile, cold_bytes_per_s=5e9, job=job))
    assert fast is not None
    assert fast.cause is Cause.DECODING


@pytest.mark.parametrize(
    ("step_s", "growth", "operators", "named"),
    [
        (0.03, 1.05, 3000, (Bottleneck.LAUNCH, Cause.TINY_KERNELS)),
        (0.03, 1.9, 3000, (Bottleneck.COMPUTE, Cause.MODEL)),
        (0.3, 1.05, 300, (Bottleneck.COMPUTE, Cause.MODEL)),
    ],
    ids=["overhead", "arithmetic", "weights"],
)
def test_a_step_of_many_operators_that_does_not_grow_with_the_batch_is_overhead(
    step_s: float, growth: float, operators: int, named: tuple[Bottleneck, Cause]
) -> None:
    profile = replace(profiled(), step_s=step_s, step_growth=growth, operators=operators)
    finding = diagnose(serial(200, 5000, profile=profile))
    assert finding is not None
    assert (finding.bottleneck, finding.cause) == named


def test_a_slow_hand_over_is_named_on_a_cpu_too() -> None:
    made = session(
        measured(Kind.FULL, 100, wait=0.05, transfer=0.8),
        measured(Kind.COMPUTE, 1000),
        measured(Kind.INPUT, 2000),
    )
    finding = diagnose(made)
    assert finding is not None
    assert (finding.bottleneck, finding.cause) == (Bottleneck.TRANSFER, Cause.TRANSFER)
    assert finding.relief == pytest.approx(5.0)


def crowded(workers: int, *, busy: float = 1.9, others: float = 0.0) -> Session:
    default = Settings(workers=workers)
    return session(
        measured(Kind.FULL, 300, settings=default, wait=0.2, main=busy / 2, workers=busy / 2, other_cpu_share=others),
        measured(Kind.COMPUTE, 900, main=2.0),
        measured(Kind.INPUT, 400),
        default=default,
        profile=profiled(decoding=(0.0024, 0.0)),
    )


def test_more_workers_than_cores_that_fill_them_are_too_many() -> None:
    finding = diagnose(crowded(8))
    assert finding is not None
    assert (finding.bottleneck, finding.cause) == (Bottleneck.SHARED_CORES, Cause.OVERSUBSCRIBED)
    assert "8 workers" in finding.evidence[-1]


def test_no_more_workers_than_cores_are_not_too_many() -> None:
    finding = diagnose(crowded(2))
    assert finding is not None
    assert finding.bottleneck is Bottleneck.SHARED_CORES
    assert finding.cause is Cause.DECODING


def test_cores_are_full_when_the_job_takes_all_that_other_programs_leave() -> None:
    idle, full = diagnose(crowded(8, busy=1.0)), diagnose(crowded(8, busy=1.0, others=0.45))
    assert idle is not None
    assert full is not None
    assert idle.bottleneck is not Bottleneck.SHARED_CORES
    assert full.cause is Cause.OVERSUBSCRIBED


@pytest.mark.parametrize(
    ("rate", "compute", "loading", "bottleneck"),
    [
        (245, 250, 400, Bottleneck.COMPUTE),
        (390, 4000, 400, Bottleneck.INPUT),
        (240, 400, 420, Bottleneck.BALANCED),
    ],
)
def test_without_workers_an_accelerator_trains_while_the_host_loads(
    rate: float, compute: float, loading: float, bottleneck: Bottleneck
) -> None:
    """However long the host loads: where the device is busy all the time, it is the device that binds."""
    made = session(
        measured(Kind.FULL, rate, wait=0.6, transfer=0.05),
        measured(Kind.COMPUTE, compute),
        measured(Kind.INPUT, loading),
        device="cuda",
    )
    finding = diagnose(made)
    assert finding is not None
    assert finding.bottleneck is bottleneck


def test_a_remedy_moves_only_what_relieves_the_cause() -> None:
    made = serial(2000, 200, profile=profiled(decoding=(0.005, 0.0)))
    fast = Settings(decoder="simplejpeg")
    made = replace(made, measurements=(*made.measurements, measured(Kind.INPUT, 900, settings=fast)))
    members = [Settings(), fast, Settings(workers=2), replace(fast, pinning=True)]
    finding = diagnose(made, members)
    assert finding is not None
    assert finding.remedy == fast
    assert set(fast.changes(Settings())) <= set(KNOBS_BY_CAUSE[Cause.DECODING])
    collating = diagnose(replace(made, profile=profiled(collating=(0.005, 0.0))), members)
    assert collating is not None
    assert collating.remedy == Settings(workers=2)


def test_of_remedies_that_are_as_good_the_one_with_fewest_changes_is_named() -> None:
    made = serial(2000, 200, profile=profiled(decoding=(0.005, 0.0)))
    plain, other = Settings(decoder="simplejpeg"), Settings(decoder="simplejpeg", resize="torch")
    faster = measured(Kind.INPUT, 900, settings=plain), measured(Kind.INPUT, 910, settings=other)
    made = replace(made, measurements=(*made.measurements, *faster))
    finding = diagnose(made, [other, plain])
    assert finding is not None
    assert finding.remedy == plain


def test_every_cause_has_settings_that_relieve_it() -> None:
    assert set(KNOBS_BY_CAUSE) == set(Cause)
    assert {name for names in KNOBS_BY_CAUSE.values() for name in names} <= set(Settings.names())


def test_a_finding_can_be_written_as_json() -> None:
    finding = Finding(bottleneck=Bottleneck.INPUT, cause=Cause.STORAGE, evidence=("slow",))
    plain = asdict(finding) | {"bottleneck": finding.bottleneck.value}
    assert json.loads(json.dumps(plain))["cause"] == "slow storage"
