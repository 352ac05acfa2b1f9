import io
from dataclasses import replace

import pytest
from rich.console import Console

from autotrain.plan.evidence import Evidence, Verdict
from autotrain.plan.plan import Plan
from autotrain.plan.provenance import Provenance
from autotrain.report.comparison import side_by_side, unsettled, verdict
from autotrain.report.explanation import edited, explanation, told
from autotrain.report.lines import show
from autotrain.settings import Settings

MADE = Provenance(
    date="2026-11-23T12:55:48+00:00",
    autotrain="0.1.0",
    hardware="ab",
    cpu="Intel Xeon",
    usable_cpus=2,
    versions=(("torch", "2.15.0"),),
    model="ResNet",
    dataset="photos",
    batch_size=32,
    image_size=96,
    device="cpu",
)


def text_of(lines) -> str:
    stream = io.StringIO()
    show(Console(file=stream, width=80), lines)
    return stream.getvalue()


def words_of(lines) -> str:
    return " ".join(text_of(lines).split())


@pytest.fixture
def plan(request) -> Plan:
    story = request.getfixturevalue("told")
    return replace(story.plan, provenance=MADE)


def test_it_says_what_why_where_and_whether_it_holds(plan):
    words = words_of(explanation(plan, MADE, name="plan.yaml"))
    for part in (
        "plan.yaml: proven 1.94x (1.93 to 1.95, n=8) the default's images/s",
        "precision = bf16 Autocast to bfloat16",
        "Worth 1.41x (1.37 to 1.46, n=12) within the plan, instead of fp32; 1.33x (1.30 to 1.36, n=12) alone.",
        "threads = 1 Threads of one operator",
        "What it is worth (instead of 0) was not measured.",
        "Change the rounding, not the recipe: precision, memory_format, threads.",
        "bottleneck of the job as it was given: input-bound",
        "default 204 images/s (199 to 208, n=8)",
        "by hand 308 images/s",
        "plan 397 images/s",
        "guard passed before the duel",
        "not tried 2 values of precision, pinning; the plan says why",
        "machine Intel Xeon, 2 usable cores, no GPU",
        "job ResNet on photos, 96 px, batches of 32, device cpu",
        "this machine and its versions are those that it was made with",
        "its rates hold while these stay as they are: machine",
    ):
        assert part in words


def test_it_fits_80_columns(plan):
    here = replace(MADE, cpu="Another CPU with a long name", versions=(("torch", "2.16.0"),))
    for lines in (explanation(plan, here, name="plan.yaml"), side_by_side(plan, plan, ("a.yaml", "b.yaml"))):
        text = text_of(lines)
        assert max(map(len, text.splitlines())) <= 80
        assert all(row.isprintable() and row == row.rstrip() for row in text.split("\n"))


def test_another_machine_and_other_versions_are_named(plan):
    here = replace(MADE, cpu="AMD EPYC", usable_cpus=64, versions=(("torch", "2.16.0"),))
    words = words_of(explanation(plan, here, name="plan.yaml"))
    assert "made on 'Intel Xeon' with 2 usable cores; this machine is 'AMD EPYC' with 64 usable cores" in words
    assert "torch 2.15.0, here 2.16.0" in words
    assert "are those that it was made with" not in words


@pytest.mark.parametrize(("processes", "shown"), [(0, True), (1, False), (2, True)])
def test_settings_of_several_processes_are_left_out_of_the_defaults_of_one(plan, processes, shown):
    made = replace(MADE, processes=processes, processes_per_machine=processes)
    words = words_of(explanation(replace(plan, provenance=made), made, name="plan.yaml"))
    same = words.partition("At PyTorch's own defaults: ")[2]
    assert "pinning" in same
    assert ("bucket_mib" in same) is shown
    assert ("sharding" in same) is shown


def test_a_plan_that_was_edited_says_so(plan):
    changed = replace(plan, settings=replace(plan.settings, precision="fp16"))
    assert edited(plan) == ()
    assert edited(changed) == (
        "precision is fp16, but bf16 was measured: the evidence is that of the plan before it was edited",
    )
    assert edited(changed)[0] in words_of(explanation(changed, MADE, name="plan.yaml"))
    entry = next(entry for entry in told(changed) if entry.setting == "precision")
    assert entry.worth is None


def test_a_plan_given_by_hand_claims_nothing():
    words = words_of(explanation(Plan(settings=Settings(workers=2)), MADE, name="hand.yaml"))
    assert "hand.yaml: given by a person; nothing was measured" in words
    assert "it does not say where it was made" in words
    assert "Why" not in words
    assert "guard" not in words


@pytest.mark.parametrize("outcome", [Verdict.INCONCLUSIVE, Verdict.NOT_PROVEN])
def test_a_default_that_stayed_is_told(outcome):
    plan = Plan(settings=Settings(), evidence=Evidence(verdict=outcome, bottleneck="compute-bound"))
    words = words_of(explanation(plan, MADE, name="p"))
    assert "p: the default; " in words
    assert "nothing but PyTorch's own defaults" in words


def test_two_plans_side_by_side(plan):
    other = replace(plan, settings=replace(plan.settings, workers=4), evidence=Evidence(), provenance=Provenance())
    words = words_of(side_by_side(plan, other, ("a.yaml", "b.yaml")))
    for part in (
        "A a.yaml B b.yaml",
        "setting A B workers 2 4",
        "verdict A faster B given",
        "plan A 397 images/s (390 to 403, n=8) B not measured",
        "gain A 1.94x (1.93 to 1.95, n=8) B none proven",
        "machine A Intel Xeon, 2 usable cores, no GPU B not known",
    ):
        assert part in words


def test_one_evidence_for_different_settings_is_suspicious(plan):
    other = replace(plan, settings=replace(plan.settings, prefetch=4))
    assert "at least one of the plans was edited" in words_of(side_by_side(plan, other, ("a", "b")))
    assert "edited" not in words_of(side_by_side(plan, plan, ("a", "b")))


def test_plans_by_hand_have_no_evidence():
    one, other = Plan(settings=Settings(workers=2)), Plan(settings=Settings(workers=4))
    words = words_of(side_by_side(one, other, ("a", "b")))
    assert "Evidence: none, a person chose the settings of both" in words
    assert "not measured" not in words


def test_without_a_task_nothing_is_decided():
    words = words_of(unsettled("autotrain compare a.yaml b.yaml TARGET"))
    assert "Rates that were measured at different times are not comparable" in words
    assert words.endswith("autotrain compare a.yaml b.yaml TARGET")


def test_the_duel_decides_either_way_or_not(request):
    story = request.getfixturevalue("told")
    duel = story.session.duels[0]
    session = replace(story.session, chosen=None)
    swapped = replace(duel, baseline_rates=duel.candidate_rates, candidate_rates=duel.baseline_rates)
    equal = replace(duel, candidate_rates=duel.baseline_rates[1:] + duel.baseline_rates[:1])
    assert "B is faster: 1.94x (1.93 to 1.95, n=8) the images/s of A" in words_of(verdict(session))
    assert "A is faster: B has 0.51x" in words_of(verdict(replace(session, duels=(swapped,))))
    tied = words_of(verdict(replace(session, duels=(equal,))))
    assert "Cannot tell: B has 1.00x" in tied
    assert "a longer --budget sees smaller differences" in tied


def test_a_duel_that_failed_or_was_not_needed_says_why(request):
    session = replace(request.getfixturevalue("told").session, chosen=None, duels=())
    assert "The duel did not come to an end: cannot exceed 201" in words_of(verdict(session))
    assert "come to the same settings" in words_of(verdict(replace(session, chosen=Settings())))


def test_other_recipes_are_pointed_out(request):
    story = request.getfixturevalue("told")
    duel = replace(story.session.duels[0], candidate=Settings(augmentation="trivial"))
    session = replace(story.session, chosen=None, duels=(duel,))
    assert "they learn different things" in words_of(verdict(session))
