"""A plan says what its session has proven, no more."""

from dataclasses import replace

import pytest

from autotrain.diagnose.finding import Bottleneck, Finding
from autotrain.measure.exchange import Exchange, RankTime
from autotrain.measure.session import Attribution, Guard, LargestBatch, PolicyCost
from autotrain.plan.evidence import Verdict
from autotrain.plan.plan import Plan
from autotrain.search.planner import batch_words, make_plan, plan_of, provable_words
from autotrain.settings import Settings
from autotrain.stats.summary import Estimate

DEFAULT = Settings()
CHOSEN = Settings(precision="bf16", workers=2)
USUAL = Settings(workers=4)
FINDING = Finding(
    bottleneck=Bottleneck.INPUT,
    evidence=("training alone reaches 600 images/s, loading alone 310, both 200",),
    remedy=Settings(workers=2),
    remedy_words="workers = 2",
    predicted_gain=1.61,
)


def estimate(value: float) -> Estimate:
    return Estimate(value=value, low=0.97 * value, high=1.03 * value, n=12)


@pytest.fixture
def won(make_session, measure, make_duel):
    return make_session(
        measure(DEFAULT, 200.0),
        measure(USUAL, 300.0),
        measure(CHOSEN, 400.0),
        measure(Settings(workers=2), 250.0),
        chosen=CHOSEN,
        duels=(make_duel(CHOSEN, 1.9),),
        seconds=41.27,
        left_out=(("precision", "tf32", "a format of CUDA devices"),),
    )


@pytest.fixture
def lost(make_session, measure, make_duel):
    return make_session(
        measure(DEFAULT, 200.0),
        measure(CHOSEN, 205.0),
        chosen=DEFAULT,
        duels=(make_duel(CHOSEN, 1.0),),
    )


def test_a_won_duel_makes_a_plan_that_is_faster(won, workload):
    plan = make_plan(won, workload, FINDING)
    evidence = plan.evidence
    assert (plan.settings, evidence.verdict) == (CHOSEN, Verdict.FASTER)
    assert evidence.ratio.value == pytest.approx(1.9, rel=0.01)
    assert evidence.ratio.low > 1.01
    assert evidence.default_rate.value == pytest.approx(203, rel=0.01)
    assert evidence.chosen_rate.value == pytest.approx(203 * 1.9, rel=0.02)
    assert evidence.usual_rate.value == pytest.approx(300, rel=0.01)
    assert (evidence.bursts, evidence.probe_s) == (4 + 16, 41.3)
    assert evidence.bottleneck == "input-bound"
    assert evidence.left_out == won.left_out
    assert plan.seed == workload.seed
    assert (plan.provenance.task, plan.provenance.hardware) == (workload.fingerprint, won.machine.fingerprint)


def test_each_changed_setting_says_what_it_is_worth_alone_and_within(won, workload):
    told = Attribution(setting="precision", value="bf16", alone=estimate(1.1), within=estimate(1.6))
    worth = {
        entry.setting: entry for entry in make_plan(replace(won, attributions=(told,)), workload, None).evidence.worth
    }
    assert list(worth) == ["precision", "workers"]
    assert (worth["precision"].value, worth["precision"].instead_of) == ("bf16", "fp32")
    assert (worth["precision"].alone, worth["precision"].within) == (told.alone, told.within)
    assert (worth["precision"].ratio, worth["precision"].note) == (None, "")
    assert (worth["workers"].within, worth["workers"].note) == (None, "not measured")


def test_without_attribution_single_bursts_say_so(won, workload):
    worth = {entry.setting: entry for entry in make_plan(won, workload, FINDING).evidence.worth}
    assert worth["precision"].ratio.value == pytest.approx(1.6, rel=0.01)
    assert worth["precision"].note == "from single bursts, not in pairs"


def test_the_only_change_is_worth_what_the_duel_says(make_session, measure, make_duel, workload):
    only = Settings(precision="bf16")
    made = make_session(measure(DEFAULT, 200.0), measure(only, 500.0), chosen=only, duels=(make_duel(only, 1.4),))
    (worth,) = make_plan(made, workload, None).evidence.worth
    assert worth.alone == worth.within == made.final_ratio


def test_a_duel_that_proves_nothing_keeps_the_default_and_says_what_was_tried(lost, workload):
    plan = make_plan(lost, workload, FINDING)
    assert (plan.settings, plan.evidence.verdict) == (DEFAULT, Verdict.INCONCLUSIVE)
    assert plan.evidence.ratio is None
    assert plan.evidence.worth == ()
    assert plan.evidence.chosen_rate == plan.evidence.default_rate
    assert any("bf16, 2 workers" in words and "in the duel" in words for words in plan.evidence.findings)


def test_an_interrupted_probe_without_a_won_duel_is_not_proven(lost, won, workload):
    cut = make_plan(replace(lost, interrupted=True, duels=()), workload, FINDING)
    assert (cut.settings, cut.evidence.verdict) == (DEFAULT, Verdict.NOT_PROVEN)
    assert make_plan(replace(won, interrupted=True), workload, FINDING).evidence.verdict is Verdict.FASTER


def test_a_session_interrupted_before_anything_was_measured_still_gives_a_plan(make_session, workload):
    plan = make_plan(make_session(chosen=DEFAULT, interrupted=True), workload, None)
    assert plan.settings == DEFAULT
    assert (plan.evidence.verdict, plan.evidence.default_rate) == (Verdict.NOT_PROVEN, None)
    assert Plan.from_yaml(plan.to_yaml()).settings == DEFAULT


def test_the_findings_are_the_diagnosis_and_the_disqualified(won, workload):
    guard = Guard(settings=CHOSEN, candidate=(1.0,), references=((1.0,),), problem="the loss is nan at step 3")
    sentences = make_plan(replace(won, guards=(guard,)), workload, FINDING).evidence.findings
    assert sentences[0] == FINDING.evidence[0]
    assert "workers = 2: predicted to give 1.61x" in sentences
    assert "disqualified: bf16, 2 workers: the loss is nan at step 3" in sentences


def test_the_cost_of_every_policy_is_a_sentence(won, workload):
    def cost(policy, placement, rate, *, measured=True):
        spread = 4.0 if measured and policy != "none" else 0.0
        low, high = rate - spread, rate + spread
        return PolicyCost(policy=policy, placement=placement, rate=rate, low=low, high=high, measured=measured)

    policies = (
        cost("none", "worker", 400.0),
        cost("crop", "worker", 380.0),
        cost("trivial", "device", 398.0),
        cost("rand", "worker", 300.0, measured=False),
        cost("augmix", "worker", 236.0, measured=False),
    )
    noted = replace(won, policies=policies, notes=("augmentation: chosen",))
    assert make_plan(noted, workload, None).evidence.findings == (
        "augmentation: crop in workers costs 5.0% (4.0% to 6.0%)",
        "augmentation: trivial on the device is free here (-0.5% to 1.5%)",
        "augmentation: not trained with, only predicted to cost: rand in workers 25%, augmix in workers 41%",
        "augmentation: chosen",
    )
    assert not any("augment" in words for words in make_plan(won, workload, FINDING).evidence.findings)


def test_an_inconclusive_duel_says_what_it_could_have_proven():
    assert provable_words(Estimate(value=1.01, low=0.97, high=1.0517, n=10)) == (
        "with 10 pairs the duel knew the ratio to within 4.1%, so it could prove gains from about 5.1%; "
        "a longer budget, with four times the pairs, could from about 3.2%"
    )
    sharp = provable_words(Estimate(value=1.0, low=0.98, high=1.0204, n=40))
    assert sharp.endswith("gains from about 3.0%, as sharp as duels here are made")


def test_advice_on_the_batch_size_is_a_sentence():
    advice = LargestBatch(batch_size=256, images_per_s=440.0, reference_per_s=400.0, limit="memory", estimate=300)
    words = batch_words(advice)
    assert "batches of 256 fit" in words
    assert "+10%" in words
    assert words.endswith("not tried beyond: memory; memory should hold about 300")
    assert batch_words(None) == ""


@pytest.mark.parametrize("name", ["won", "lost"])
def test_the_plan_survives_its_file(request, name, workload, tmp_path):
    plan = make_plan(request.getfixturevalue(name), workload, FINDING)
    plan.save(tmp_path / "plan.yaml")
    again = Plan.load(tmp_path / "plan.yaml")
    assert (again.settings, again.seed, again.provenance) == (plan.settings, plan.seed, plan.provenance)
    assert again.evidence.verdict is plan.evidence.verdict
    assert again.evidence.findings == plan.evidence.findings
    assert [entry.setting for entry in again.evidence.worth] == [entry.setting for entry in plan.evidence.worth]
    assert again.differences(plan.provenance) == ()


def test_a_stored_session_gives_the_same_plan_but_for_when_it_was_made(won, lost, workload):
    for session in (
        won,
        lost,
        replace(won, attributions=(Attribution(setting="workers", value=2, within=estimate(1.3)),)),
    ):
        made, again = make_plan(session, workload, FINDING), plan_of(session, FINDING)
        assert (again.settings, again.evidence, again.seed) == (made.settings, made.evidence, made.seed)
        assert again.provenance.date == ""
        now = replace(again.provenance, date=made.provenance.date, autotrain=made.provenance.autotrain)
        assert replace(now, processes=1, processes_per_machine=1) == made.provenance


def test_a_plan_says_how_long_a_cache_takes_to_fill(make_session, measure, make_duel, workload):
    cached = replace(DEFAULT, cache="ram")
    alone = make_session(measure(DEFAULT, 64.0), measure(cached, 640.0), chosen=cached, duels=(make_duel(cached, 9.0),))
    assert any("the cache is filled in the first epoch" in words for words in plan_of(alone, None).evidence.findings)
    ranks = replace(alone, job=replace(alone.job, processes=8))
    (words,) = (entry for entry in plan_of(ranks, None).evidence.findings if "cache" in entry)
    assert words.startswith("each of 8 processes fills a cache of its own, the first epoch at about 64 images/s")
    assert "half of what it reads is there by epoch 7, nine tenths by epoch 19" in words


def test_a_stored_session_knows_the_processes_and_how_they_were_spread(won):
    made = replace(won, job=replace(won.job, processes=8, machines=2))
    assert (plan_of(made, None).provenance.processes, plan_of(made, None).provenance.processes_per_machine) == (8, 4)
    ranks = tuple(RankTime(host=host, training_s=0.1, loading_s=0.1) for host in ("a", "b", "a", "b"))
    told = replace(won, exchange=Exchange(together_s=0.1, apart_s=0.1, bytes=8, ranks=ranks))
    assert (plan_of(told, None).provenance.processes, plan_of(told, None).provenance.processes_per_machine) == (4, 2)
