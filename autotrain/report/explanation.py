"""The explanation of a plan: what it sets and what that does, why, where it was made, and whether it holds here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from autotrain.knobs.base import Effect, Knob
from autotrain.knobs.gradients import OfRanks
from autotrain.knobs.registry import KNOBS
from autotrain.plan.evidence import Evidence, Verdict, Worth
from autotrain.plan.plan import Plan
from autotrain.plan.provenance import Provenance
from autotrain.report.lines import Line, heading, item, labelled
from autotrain.report.words import many, rate_words, ratio_words, time_words
from autotrain.report.worth import sentences, value_text
from autotrain.settings import Settings, Value

EFFECTS = {
    Effect.EXACT: "exact: the model sees the same bits",
    Effect.NUMERICS: "numerics: the same recipe, other rounding",
    Effect.RECIPE: "recipe: it decides what is learned",
}
"""What an effect on learning means to a reader."""

OF_RANKS = tuple(knob.name for knob in KNOBS if isinstance(knob, OfRanks))
"""Settings that say nothing to a reader whose plan is for one process."""

AGES = "machine, number of processes, model, dataset, batch or image size, versions of torch and of its like"
"""What a plan's rates depend on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One setting of a plan, explained."""

    setting: str
    value: Value
    default: Value
    """PyTorch's own."""

    changed: bool
    """Whether the plan sets something else than that."""

    about: str
    """What the setting is."""

    meaning: str
    """What this value does and when it pays."""

    effect: str
    """What it does to learning."""

    worth: Worth | None
    """What it was measured to be worth; None where it was not measured, or was edited since."""


def told(plan: Plan) -> tuple[Told, ...]:
    """Return every setting of a plan, explained by its knob."""
    values, defaults = plan.settings.as_dict(), Settings().as_dict()
    worth = {(entry.setting, entry.value): entry for entry in plan.evidence.worth}
    return tuple(
        Told(
            setting=knob.name,
            value=values[knob.name],
            default=defaults[knob.name],
            changed=values[knob.name] != defaults[knob.name],
            about=knob.about,
            meaning=knob.meanings.get(values[knob.name], knob.about),
            effect=_effect(knob, values[knob.name]).value,
            worth=worth.get((knob.name, values[knob.name])),
        )
        for knob in KNOBS
    )


def _effect(knob: Knob, value: Value) -> Effect:
    return knob.effect_of(value)


def edited(plan: Plan) -> tuple[str, ...]:
    """Return a sentence for each setting whose value is no longer the one that was measured."""
    values = plan.settings.as_dict()
    return tuple(
        f"{entry.setting} is {value_text(values[entry.setting])}, but {value_text(entry.value)} was measured: "
        "the evidence is that of the plan before it was edited"
        for entry in plan.evidence.worth
        if values[entry.setting] != entry.value
    )


def explanation(plan: Plan, here: Provenance, *, name: str) -> list[Line]:
    """Return the explanation of a plan for a reader on this machine.

    Args:
        plan: what is explained.
        here: this machine and its versions, and the task where one is known.
        name: what people call the plan.
    """
    return [
        *_title(plan, name),
        *_sets(plan),
        *_why(plan),
        *_made(plan.provenance),
        *_holds(plan, here),
    ]


def _title(plan: Plan, name: str) -> Iterator[Line]:
    evidence = plan.evidence
    words = {
        Verdict.FASTER: f"proven {ratio_words(evidence.ratio)} the default's images/s" if evidence.ratio else "faster",
        Verdict.INCONCLUSIVE: "the default; nothing was proven to be faster",
        Verdict.NOT_PROVEN: "the default; the probe was interrupted before anything was proven",
        Verdict.GIVEN: "given by a person; nothing was measured",
    }
    yield Line(text=f"{name}: {words[evidence.verdict]}", style="bold")


def _sets(plan: Plan) -> Iterator[Line]:
    entries = told(plan)
    changed = [entry for entry in entries if entry.changed]
    yield from heading("What it sets" if changed else "What it sets: nothing but PyTorch's own defaults")
    for entry in changed:
        yield Line(lead="  ", text=f"{entry.setting} = {value_text(entry.value)}", style="bold")
        yield Line(lead="      ", text=f"{entry.meaning} {_worth_words(entry, plan.evidence)}".rstrip())
    idle = OF_RANKS if plan.provenance.processes == 1 else ()
    same = ", ".join(
        f"{entry.setting} {value_text(entry.value)}"
        for entry in entries
        if not entry.changed and entry.setting not in idle
    )
    if same and changed:
        yield Line(lead="  ", text=f"At PyTorch's own defaults: {same}.", style="dim")
    numeric = [entry.setting for entry in changed if entry.effect == Effect.NUMERICS.value]
    if numeric:
        yield Line(lead="  ", text=f"Change the rounding, not the recipe: {', '.join(numeric)}.")


def _worth_words(entry: Told, evidence: Evidence) -> str:
    worth = entry.worth
    if entry.setting == "augmentation" and worth is None:
        return ""
    if worth is None:
        unknown = "It is not among what the search changed: the job had it already, or it was edited since."
        return "" if evidence.verdict is Verdict.GIVEN else unknown
    measured = worth.within or worth.ratio
    instead = f"instead of {value_text(worth.instead_of)}"
    if measured is None:
        return f"What it is worth ({instead}) was not measured."
    words = f"Worth {ratio_words(measured)} within the plan, {instead}"
    if worth.alone and worth.alone != worth.within:
        words += f"; {ratio_words(worth.alone)} alone"
    return f"{words}." if worth.within else f"{words}; from single bursts, not in pairs."


def _why(plan: Plan) -> Iterator[Line]:
    evidence = plan.evidence
    if evidence.verdict is Verdict.GIVEN:
        return
    yield from heading("Why")
    if evidence.bottleneck:
        yield labelled("bottleneck", f"of the job as it was given: {evidence.bottleneck}")
    for sentence in evidence.findings:
        yield Line(lead=" " * 15 + "- ", text=sentence)
    rates = (("default", evidence.default_rate), ("by hand", evidence.usual_rate), ("plan", evidence.chosen_rate))
    for label, rate in rates:
        if rate is not None and not (label == "plan" and evidence.verdict is not Verdict.FASTER):
            yield labelled(label, rate_words(rate))
    if evidence.verdict is Verdict.FASTER and evidence.ratio is not None:
        yield labelled("duel", f"{ratio_words(evidence.ratio)}, plan and default in turns next to each other")
        if any(entry.effect == Effect.NUMERICS.value and entry.worth for entry in told(plan)):
            words = "the same first steps were trained with plan and default, and the plan learned as well"
            yield labelled("guard", f"passed before the duel: {words}")
    for sentence in sentences(evidence.worth):
        yield labelled("note", sentence)
    if evidence.largest_batch:
        yield labelled("batch size", f"advice only, it changes what is learned: {evidence.largest_batch}")
    if evidence.bursts:
        yield labelled("probe", f"{time_words(evidence.probe_s)}, {many(evidence.bursts, 'burst')}")
    if evidence.left_out:
        knobs = ", ".join(dict.fromkeys(knob for knob, _, _ in evidence.left_out))
        yield labelled("not tried", f"{many(len(evidence.left_out), 'value')} of {knobs}; the plan says why")


def _made(made: Provenance) -> Iterator[Line]:
    if made == Provenance():
        return
    yield from heading("Where and for what it was made")
    for label, words in made_words(made):
        yield labelled(label, words)


def made_words(made: Provenance) -> Iterator[tuple[str, str]]:
    """Yield label and words of what a plan knows about where it was made."""
    if made.date:
        yield "when", made.date + (f", by autotrain {made.autotrain}" if made.autotrain else "")
    if made.cpu:
        cores = f", {many(made.usable_cpus, 'usable core')}" if made.usable_cpus else ""
        yield "machine", f"{made.cpu}{cores}, {', '.join(made.gpus) or 'no GPU'}"
    job = [f"{made.model} on {made.dataset}" if made.model and made.dataset else made.model or made.dataset]
    job += [f"{made.image_size} px"] if made.image_size else []
    job += [f"batches of {made.batch_size}"] if made.batch_size else []
    job += [f"device {made.device}"] if made.device else []
    if any(job):
        yield "job", ", ".join(part for part in job if part)
    if made.processes > 1:
        yield "processes", f"{made.processes}, {made.processes_per_machine} on a machine"
    if made.versions:
        yield "versions", ", ".join(f"{name} {version}" for name, version in made.versions)


def _holds(plan: Plan, here: Provenance) -> Iterator[Line]:
    yield from heading("Does it hold here?")
    changed, differing = edited(plan), plan.differences(here)
    for sentence in (*changed, *differing):
        yield item(sentence, style="yellow")
    if plan.provenance == Provenance():
        yield item("it does not say where it was made, so nothing can be compared")
    elif not differing:
        yield item("this machine and its versions are those that it was made with")
    if not here.model:
        yield item("the job itself (model, dataset, sizes) is compared when the plan is used")
    yield item(f"its rates hold while these stay as they are: {AGES}")
