"""The recommendation: what a probe comes to, as a function of session and plan."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich.console import Console

from autotrain.diagnose.finding import Finding
from autotrain.measure.measurement import Kind
from autotrain.measure.session import Session
from autotrain.plan.evidence import Verdict
from autotrain.plan.plan import Plan
from autotrain.report.conditions import condition_lines
from autotrain.report.costs import compile_lines, policy_lines
from autotrain.report.forecast import accuracy_lines, what_if_lines
from autotrain.report.lines import Line, heading, labelled, show
from autotrain.report.status import new_console
from autotrain.report.words import many, plain, rate_words, ratio_words, span_words, time_words
from autotrain.report.worth import value_text, worth_lines
from autotrain.search.budget import LEAST_STEPS
from autotrain.search.objective import uncached_rate
from autotrain.search.planner import half_width, provable_words
from autotrain.search.recorder import describe
from autotrain.stats.summary import Estimate

MOST_FAILURES = 5
"""Failed candidates that are named; the session holds all."""


def show_result(session: Session, plan: Plan, finding: Finding | None, console: Console | None = None) -> None:
    """Print the recommendation, on standard output where no console is given."""
    show(console or new_console(), recommendation(session, plan, finding))


def recommendation(session: Session, plan: Plan, finding: Finding | None) -> list[Line]:
    """Return what a probe recommends and why."""
    return [
        *verdict_lines(session, plan),
        *worth_lines(plan.evidence.worth),
        Line(),
        *_rates(session, plan),
        *_diagnosis(plan, finding),
        *guard_lines(session, plan),
        *policy_lines(session),
        *_advice(plan),
        *compile_lines(session, plan.settings),
        *cost_lines(session, plan),
        *accuracy_lines(session),
        *condition_lines(session),
        *_not_measured(session, plan),
        *what_if_lines(session, plan.settings),
    ]


def verdict_lines(session: Session, plan: Plan) -> Iterator[Line]:
    """Tell what the duel decided; the first line with words is a heading."""
    evidence = plan.evidence
    if evidence.verdict is Verdict.FASTER and evidence.ratio is not None:
        yield from heading(f"Recommendation: {ratio_words(evidence.ratio)} the default's images/s")
    elif evidence.verdict is Verdict.NOT_PROVEN:
        yield from heading("Not proven: interrupted before the duel decided, so the default stays")
    elif evidence.verdict is Verdict.GIVEN:
        yield from heading("Given: a person chose these settings, nothing was measured")
    else:
        yield from _inconclusive(session)
    if session.interrupted and evidence.verdict is not Verdict.NOT_PROVEN:
        yield Line(lead="  ", text="The search was interrupted: better settings may exist.", style="yellow")


def _inconclusive(session: Session) -> Iterator[Line]:
    if not any(entry.settings != session.default for entry in session.of(Kind.FULL)):
        yield from _nothing_tried(session)
        return
    yield from heading("Inconclusive: nothing beats the default beyond the noise, so the default stays")
    record, ratio = session.final_duel, session.final_ratio
    if record is None or ratio is None:
        yield Line(lead="  ", text="No candidate was measured faster than the default.")
        return
    words = describe(record.candidate, record.baseline)
    yield Line(lead="  ", text=f"The best candidate, {words}, gave {ratio_words(ratio)} in the duel.")
    if ratio.high < 1:
        yield Line(lead="  ", text="It is slower than the default beyond the noise.")
        return
    yield Line(lead="  ", text=f"This is a usual outcome, not a failure: {provable_words(ratio)}.")


def _nothing_tried(session: Session) -> Iterator[Line]:
    if session.too_short:
        yield from heading("Not searched: the training is too short for that, so the default stays")
        step_s = session.job.batch_size / session.of(Kind.FULL)[0].rate.value
        steps = max(1, session.job.planned_images // session.job.batch_size)
        all_words, least_words = (time_words(count * step_s) for count in (steps, LEAST_STEPS))
        words = f"It is {many(steps, 'step')} long, about {all_words}; even the shortest search trains {LEAST_STEPS}, "
        words += f"about {least_words}, more than it would win back. A --budget of its own, or 'autotrain probe', "
        words += "searches all the same."
        yield Line(lead="  ", text=words)
        return
    yield from heading("Inconclusive: no candidate was trained with, so the default stays")
    if session.failures:
        yield Line(lead="  ", text="None could win by its bound, or could run at all.")
    else:
        words = "The time was over before, or there is nothing to choose here; --budget gives more time."
        yield Line(lead="  ", text=words)


def _rates(session: Session, plan: Plan) -> Iterator[Line]:
    evidence = plan.evidence
    if evidence.default_rate is not None:
        yield labelled("default", rate_words(evidence.default_rate))
    if evidence.usual_rate is not None:
        words = f"with {many(session.cores, 'worker')}, one per usable core (one burst, not in pairs)"
        yield labelled("by hand", f"{rate_words(evidence.usual_rate)} {words}")
    if evidence.verdict is Verdict.FASTER and evidence.chosen_rate is not None:
        yield labelled("chosen", rate_words(evidence.chosen_rate), style="green")
        if evidence.ratio is not None:
            reach = f"known to within {half_width(evidence.ratio):.1%}"
            yield labelled("", f"{ratio_words(evidence.ratio)} in pairs next to each other, {reach}")


def _diagnosis(plan: Plan, finding: Finding | None) -> Iterator[Line]:
    if finding is not None:
        reason = f": {finding.evidence[0]}" if finding.evidence else ""
        yield labelled("bottleneck", f"{finding.bottleneck.value}{reason}")
    elif plan.evidence.bottleneck:
        yield labelled("bottleneck", plan.evidence.bottleneck)


def guard_lines(session: Session, plan: Plan) -> Iterator[Line]:
    """Tell what the numerics guard saw of the choice, and of those that it disqualified."""
    for entry in session.guards:
        words = describe(entry.settings, session.default)
        if entry.problem:
            yield labelled("numerics", f"disqualified: {words}: {entry.problem}", style="yellow")
        elif entry.settings == plan.settings and entry.candidate and entry.references:
            half = len(entry.candidate) // 2
            own, reference = (_mean(losses[half:]) for losses in (entry.candidate, entry.references[0]))
            steps = f"on the last {len(entry.candidate) - half} of {len(entry.candidate)} same first steps"
            yield labelled("numerics", f"guard passed: mean loss {own:.3f} {steps}, the default's {reference:.3f}")


def _mean(losses: tuple[float, ...]) -> float:
    return math.fsum(losses) / len(losses) if losses else math.nan


def _advice(plan: Plan) -> Iterator[Line]:
    if plan.evidence.largest_batch:
        yield labelled("batch size", f"advice only, it changes what is learned: {plan.evidence.largest_batch}")


def cost_lines(session: Session, plan: Plan) -> Iterator[Line]:
    """Tell what the probe took, and when it pays back."""
    evidence, job = plan.evidence, session.job
    yield labelled("probe", f"{time_words(evidence.probe_s)}, {many(evidence.bursts, 'burst')}")
    epochs = pays_back(session, plan)
    if epochs is None:
        return
    if plan.settings.cache != session.default.cache:
        cold = uncached_rate(session, plan.settings)
        yield labelled(
            "cache",
            f"filled in the first epoch, at about {plain(cold)} images/s; the rates here are those of later ones",
        )
    yield labelled("pays back", f"after {plain(epochs.value)} epochs ({plain(epochs.low)} to {plain(epochs.high)})")
    planned = planned_s(session, plan)
    if planned is not None:
        before, after = (span_words(entry) for entry in planned)
        short = (
            "; too short to pay back, but the plan can be used again"
            if job.planned_images < epochs.value * job.samples
            else ""
        )
        images = many(job.planned_images, "image")
        yield labelled("", f"the planned {images} take {after} instead of {before}{short}")


def pays_back(session: Session, plan: Plan) -> Estimate | None:
    """Return the epochs after which the probe has paid back; None where nothing was gained for certain."""
    evidence = plan.evidence
    rate, ratio = evidence.default_rate, evidence.ratio
    if evidence.verdict is not Verdict.FASTER or rate is None or ratio is None or ratio.low <= 1:
        return None
    value, low, high = (
        evidence.probe_s * rate.value / (1 - 1 / entry) / max(1, session.job.samples)
        for entry in (ratio.value, ratio.high, ratio.low)
    )
    return Estimate(value=value, low=low, high=high, n=ratio.n)


def planned_s(session: Session, plan: Plan) -> tuple[Estimate, Estimate] | None:
    """Return the seconds of the planned training with the default and with the choice.

    Those of the choice hold the filling of its cache, and its compiling.

    None where it is planned by time, or where nothing was gained for certain.
    """
    before, after = plan.evidence.default_rate, plan.evidence.chosen_rate
    if not session.job.planned_images or before is None or after is None or pays_back(session, plan) is None:
        return None
    images = session.job.planned_images
    filling = min(images, session.job.samples) if plan.settings.cache != session.default.cache else 0
    filling_s = filling / uncached_rate(session, plan.settings) if filling else 0.0
    compiling_s = [entry.compile_s for entry in session.of(Kind.FULL) if entry.settings == plan.settings]
    more_s = filling_s + max(compiling_s, default=0.0)
    return _duration(images, before), _duration(images - filling, after, more_s=more_s)


def _duration(images: int, rate: Estimate, *, more_s: float = 0.0) -> Estimate:
    value, low, high = (images / entry + more_s for entry in (rate.value, rate.high, rate.low))
    return Estimate(value=value, low=low, high=high, n=rate.n)


def _not_measured(session: Session, plan: Plan) -> Iterator[Line]:
    failures = [entry for entry in session.failures if not entry.pruned]
    for entry in failures[:MOST_FAILURES]:
        yield labelled("failed", f"{describe(entry.settings, session.default)}: {entry.reason}", style="yellow")
    if len(failures) > MOST_FAILURES:
        yield labelled("", f"and {many(len(failures) - MOST_FAILURES, 'other')}")
    pruned = len(session.failures) - len(failures)
    if pruned:
        yield labelled("pruned", f"{many(pruned, 'candidate')} that could not have won")
    grouped: dict[tuple[str, str], list[str]] = {}
    for knob, value, reason in plan.evidence.left_out:
        grouped.setdefault((knob, reason), []).append(value_text(value))
    label = "left out"
    for (knob, reason), values in grouped.items():
        yield labelled(label, f"{knob} = {', '.join(values)}: {reason}")
        label = ""
    for note in session.notes:
        yield labelled("note", note)
