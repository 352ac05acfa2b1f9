import io
from dataclasses import replace

from rich.console import Console

from autotrain.measure.measurement import Kind
from autotrain.measure.session import PolicyCost
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
        "setting value instead of alone within the choice",
        "precision bf16 fp32 1.33x (1.30-1.36) 1.41x (1.37-1.46)",
        "memory_format channels_last contiguous 0.91x (0.89-0.94) 1.12x (1.08-1.15)",
        "threads 1 0 - not measured",
        "workers 2 0 - 1.30x (1.27-1.33)",
        "95% intervals of 12 rounds",
        "default 204 images/s (199 to 208, n=8)",
        "by hand 308 images/s (300 to 316, n=24) with 2 workers, one per usable core (one burst, not in pairs)",
        "chosen 397 images/s (390 to 403, n=8)",
        "1.94x (1.93 to 1.95, n=8) in pairs next to each other, known to within 0.5%",
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


def test_where_no_candidate_was_trained_with_nothing_is_claimed_about_them(told):
    session = replace(told.session, chosen=told.session.default, duels=(), measurements=told.session.measurements[:1])
    plan = Plan(settings=session.default, evidence=Evidence(verdict=Verdict.INCONCLUSIVE))
    words = words_of(session, plan, None)
    assert "no candidate was trained with" in words
    assert "nothing beats the default" not in words
    assert "--budget gives more time" in words_of(replace(session, failures=()), plan, None)


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
    policies = (
        PolicyCost(policy="none", placement="worker", rate=400.0, low=400.0, high=400.0, measured=True),
        PolicyCost(policy="crop", placement="worker", rate=300.0, low=288.0, high=312.0, measured=True),
        PolicyCost(policy="augmix", placement="device", rate=120.0, low=120.0, high=120.0, measured=False),
    )
    words = words_of(replace(told.session, policies=policies), told.plan, told.finding)
    assert "policy placement cost images/s" in words
    assert "none worker 0% 400 crop worker 25% (22% to 28%) 300 (288 to 312)" in words
    assert "augmix device 70% predicted 120 predicted" in words


def test_a_fixed_augmentation_is_not_talked_about(told):
    assert "policy" not in words_of(told.session, told.plan, told.finding)


def test_an_inconclusive_duel_says_how_sharp_it_was_and_what_more_time_could_show(told):
    rates = tuple(200.0 * factor for factor in (0.9, 1.1, 1.05, 0.95, 1.1, 0.95, 1.0, 1.02))
    duel = replace(told.session.duels[0], baseline_rates=(200.0,) * 8, candidate_rates=rates)
    session = replace(told.session, chosen=told.session.default, duels=(duel,))
    evidence = replace(told.plan.evidence, verdict=Verdict.INCONCLUSIVE, ratio=None, worth=())
    words = words_of(session, Plan(settings=session.default, evidence=evidence), told.finding)
    assert "This is a usual outcome, not a failure: with 8 pairs the duel knew the ratio to within 6." in words
    assert "a longer budget, with four times the pairs, could from about 4." in words
    assert "It is slower" not in words


def test_a_slower_candidate_is_said_to_be_slower(told):
    duel = replace(
        told.session.duels[0], candidate_rates=tuple(0.9 * rate for rate in told.session.duels[0].baseline_rates)
    )
    session = replace(told.session, chosen=told.session.default, duels=(duel,))
    evidence = replace(told.plan.evidence, verdict=Verdict.INCONCLUSIVE, ratio=None, worth=())
    words = words_of(session, Plan(settings=session.default, evidence=evidence), told.finding)
    assert "It is slower than the default beyond the noise." in words
    assert "usual outcome" not in words


def test_compiling_is_told_apart_from_start_up_and_when_it_pays_back(told, measurement):
    eager = replace(told.plan.settings, compile="none")
    compiled = replace(eager, compile="default")
    bursts = (measurement(eager, 400), replace(measurement(compiled, 500), compile_s=38.0))
    words = words_of(replace(told.session, measurements=bursts), told.plan, told.finding)
    assert "mode default takes 38 s, besides a start-up of 0.2 s; pays back after 75.7 epochs" in words
    assert "but only 10,020 images are planned" in words
    lost = (measurement(eager, 500), replace(measurement(compiled, 400), compile_s=38.0))
    words = words_of(replace(told.session, measurements=lost), told.plan, told.finding)
    assert "it does not pay here: 399 images/s with it, 499 without" in words
    assert "compiling" not in words_of(told.session, told.plan, told.finding)


def test_what_disturbed_and_where_files_came_from_is_told(told):
    first, *others = told.session.measurements
    heat = [replace(entry, heat=1, repeats=2) for entry in others]
    bursts = (replace(first, repeats=1, other_cpu_share=0.31), *heat)
    session = replace(told.session, measurements=bursts, cold_bytes_per_s=213e6)
    words = words_of(session, told.plan, told.finding)
    assert "files first read at 213 MB/s, then every burst found them in memory" in words
    assert "other programs disturbed 3 bursts or rounds, which were measured again" in words
    assert "used up to 31% of the CPU in 1 burst that count" in words
    quiet = words_of(told.session, told.plan, told.finding)
    assert "other programs" not in quiet
    assert "MB/s" not in quiet


def test_the_accuracy_of_predictions_and_other_machines_are_told(told, measurement):
    default, chosen = told.session.default, told.plan.settings
    parts = (
        measurement(default, 612, kind=Kind.COMPUTE, wait=0),
        measurement(default, 310, kind=Kind.INPUT, wait=1),
        measurement(replace(chosen, workers=0), 1204, kind=Kind.COMPUTE, wait=0),
    )
    bursts = [replace(entry, predicted=1.1 * entry.rate.value) for entry in told.session.measurements]
    session = replace(told.session, measurements=(*parts, *bursts))
    text = text_of(session, told.plan, told.finding)
    words = " ".join(text.split())
    assert "predictions off by 10% in the median, 10% at worst, over 3 bursts" in words
    table = text[text.index("what if (predicted, not measured)") :].splitlines()
    assert [row.strip().split("  ")[0] for row in table[1:4]] == [
        "as it is",
        "2 times the cores, for 4 workers",
        "4 times the cores, for 8 workers",
    ]
    assert len(table) <= 7
    assert max(map(len, text.splitlines())) <= 80


def test_without_components_nothing_is_foretold(told):
    assert "what if" not in words_of(told.session, told.plan, told.finding)


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
