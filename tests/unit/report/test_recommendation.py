import io
from dataclasses import replace

from rich.console import Console

from autotrain.plan.evidence import Evidence, Verdict
from autotrain.plan.plan import Plan
from autotrain.report.summary import show_result
from autotrain.settings import Settings


def text_of(session, plan, finding) -> str:
    stream = io.StringIO()
    show_result(session, plan, finding, Console(file=stream, width=80))
    return stream.getvalue()


def words_of(session, plan, finding) -> str:
    return " ".join(text_of(session, plan, finding).split())


def test_a_proven_plan_is_told_with_all_its_evidence(told):
    words = words_of(told.session, told.plan, told.finding)
    for part in (
        "Recommendation: 1.94x (1.93 to 1.95, n=8) the default's images/s",
        "setting value instead of worth",
        "precision bf16 fp32 1.41x (1.37 to 1.46, n=6)",
        "memory_format channels_last contiguous not measured alone",
        "default 204 images/s (199 to 208, n=8)",
        "by hand 308 images/s (300 to 316, n=24) with 2 workers",
        "chosen 397 images/s (390 to 403, n=8)",
        "bottleneck input-bound: training alone reaches 612 images/s",
        "guard passed: mean loss 1.950 on the last 2 of 4 same first steps, the default's 1.940",
        "batches of 256 fit and train at 431 images/s",
        "probe 74 s, 31 bursts",
        "pays back after 31.2 epochs (31.0 to 31.4)",
        "the planned 10,020 images take 25 s (25 s to 26 s) instead of 49 s (48 s to 50 s); too short to pay back",
        "failed bf16, augmenting on the device, 1 worker: out of memory",
        "pruned 1 candidate that could not have won",
        "left out precision = tf32: a format of CUDA devices pinning = true: needs a CUDA device",
    ):
        assert part in words


def test_it_fits_80_columns_without_control_characters(told):
    text = text_of(told.session, told.plan, told.finding)
    assert max(map(len, text.splitlines())) <= 80
    assert all(row.isprintable() and row == row.rstrip() for row in text.split("\n"))


def test_a_training_long_enough_pays_back(told):
    session = replace(told.session, job=replace(told.session.job, planned_images=1_000_000))
    words = words_of(session, told.plan, told.finding)
    assert "the planned 1,000,000 images take 42.0 min (41.4 min to 42.8 min) instead of 81.5 min" in words
    assert "too short" not in words


def test_nothing_faster_is_said_plainly(told):
    session = replace(told.session, chosen=told.session.default)
    evidence = replace(told.plan.evidence, verdict=Verdict.INCONCLUSIVE, ratio=None, worth=())
    words = words_of(session, Plan(settings=session.default, evidence=evidence), told.finding)
    assert "Inconclusive: nothing beats the default beyond the noise, so the default stays" in words
    assert "The best candidate, bf16, channels-last, 1 thread, 2 workers, gave 1.94x (1.93 to 1.95, n=8)" in words
    assert "Recommendation" not in words
    assert "pays back" not in words
    assert "chosen" not in words


def test_without_a_duel_the_default_was_the_best(told):
    session = replace(told.session, chosen=told.session.default, duels=())
    plan = Plan(settings=session.default, evidence=Evidence(verdict=Verdict.INCONCLUSIVE))
    assert "No candidate was measured faster than the default." in words_of(session, plan, None)


def test_an_interrupted_probe_says_so(told):
    session = replace(told.session, interrupted=True)
    assert "The search was interrupted: better settings may exist." in words_of(session, told.plan, told.finding)
    unproven = Plan(settings=session.default, evidence=Evidence(verdict=Verdict.NOT_PROVEN))
    words = words_of(session, unproven, None)
    assert "Not proven: interrupted before the duel decided, so the default stays" in words
    assert "Inconclusive" not in words


def test_a_disqualified_finalist_is_named(told):
    guard = replace(told.session.guards[0], problem="the loss is nan at step 3, where the default's is 2.100")
    words = words_of(replace(told.session, guards=(guard,)), told.plan, told.finding)
    assert "disqualified: bf16, channels-last, 1 thread, 2 workers: the loss is nan at step 3" in words


def test_every_policys_cost_is_listed(told):
    session = replace(
        told.session, policies=(("none", "worker", 400.0), ("crop", "worker", 300.0), ("crop", "device", 380.0))
    )
    words = words_of(session, told.plan, told.finding)
    assert "policy placement cost rate" in words
    assert "crop worker 25% 300 images/s" in words
    assert "crop device 5% 380 images/s" in words


def test_only_the_first_failures_are_named(told):
    failures = tuple(replace(told.session.failures[0], reason=f"reason {number}") for number in range(8))
    words = words_of(replace(told.session, failures=failures), told.plan, told.finding)
    assert "reason 4" in words
    assert "reason 5" not in words
    assert "and 3 others" in words


def test_a_bare_session_can_be_told(told):
    session = replace(told.session, measurements=(), failures=(), duels=(), guards=(), left_out=())
    words = words_of(session, Plan(settings=Settings(), evidence=Evidence(verdict=Verdict.NOT_PROVEN)), None)
    assert "Not proven" in words
