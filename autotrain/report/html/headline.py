"""The top of the page: verdict, ratio with its interval, and the few numbers that matter."""

from __future__ import annotations

from collections.abc import Iterator

from autotrain.diagnose.finding import Finding
from autotrain.measure.session import Session
from autotrain.plan.evidence import Verdict
from autotrain.plan.plan import Plan
from autotrain.report.html.blocks import Figure, Headline
from autotrain.report.html.svg import Scale, element, interval, rule, to_markup
from autotrain.report.lines import Line
from autotrain.report.story import data_words
from autotrain.report.summary import pays_back, planned_s, verdict_lines
from autotrain.report.words import many, plain, ratio_words, time_words
from autotrain.search.recorder import describe
from autotrain.stats.summary import Estimate

BADGES = {
    Verdict.FASTER: "Faster, proven in a duel",
    Verdict.INCONCLUSIVE: "Inconclusive",
    Verdict.NOT_PROVEN: "Not proven",
    Verdict.GIVEN: "Given",
}


def headline(session: Session, plan: Plan, finding: Finding | None) -> Headline:
    """Return the verdict for people: honest where nothing was proven."""
    told = [line.text for line in verdict_lines(session, plan) if line.text]
    badge = BADGES[plan.evidence.verdict]
    title, words = told[0].removeprefix(f"{badge}: "), told[1:]
    title = title[:1].upper() + title[1:]
    ratio = plan.evidence.ratio if plan.evidence.verdict is Verdict.FASTER else None
    if ratio is not None:
        title = f"{ratio.value:.2f}x the default's images/s"
        words = [
            f"95% interval {ratio.low:.2f}x to {ratio.high:.2f}x, from {many(ratio.n, 'pair')} of turns side by side.",
            *words,
        ]
        words.append(f"The choice: {describe(plan.settings, session.default)}.")
    return Headline(
        badge=badge,
        verdict=plan.evidence.verdict.value,
        title=title,
        words=tuple(words),
        strip=_strip(ratio or session.final_ratio, proven=ratio is not None),
        cards=tuple(_cards(session, plan, finding)),
    )


def subtitle(session: Session, plan: Plan) -> str:
    """Return what was measured, where and when, in a line."""
    job = session.job
    when = f"; {plan.provenance.date[:10]}" if plan.provenance.date else ""
    return f"{job.model}, {many(job.parameters, 'parameter')}, on {data_words(job)}; {session.machine.describe()}{when}"


def lines_as_facts(lines: Iterator[Line]) -> Iterator[tuple[str, str]]:
    """Yield label and text of labelled lines; what continues the one above is joined to it."""
    label, texts = "", list[str]()
    for line in lines:
        if line.lead.strip() and texts:
            yield label, "; ".join(texts)
            texts = []
        label = line.lead.strip() or label
        texts.append(line.text)
    if texts:
        yield label, "; ".join(texts)


def _strip(ratio: Estimate | None, *, proven: bool) -> Figure | None:
    """Draw the ratio between nothing gained and twice what was gained."""
    if ratio is None:
        return None
    low, high = min(0.9, ratio.low * 0.97), max(1.1, ratio.high * 1.05)
    scale = Scale(low=low, high=high)
    words = f"The candidate's images/s over the default's: {ratio_words(ratio)}, a 95% interval; 1 is the default."
    words += "" if proven else " Nothing is proven."
    labels = "ratio-plot-title ratio-plot-words"
    made = element(
        "svg", id="ratio-plot", class_="strip ratio", width="100%", height=58, role="img", aria_labelledby=labels
    )
    made.append(element("title", "Ratio of the choice to the default", id="ratio-plot-title"))
    made.append(element("desc", words, id="ratio-plot-words"))
    made.append(rule(scale, 1.0, height=36))
    made.extend(interval(scale, ratio.value, ratio.low, ratio.high, "choice" if proven else "other", y=20))
    one, at = scale.at(1.0), scale.at(ratio.value)
    made.append(
        element("text", "the default, 1.00x", x=f"{one:.2f}%", y=52, text_anchor="start" if one < 50 else "end")
    )
    apart = abs(at - one) > 30
    if apart:
        made.append(
            element("text", f"{ratio.value:.2f}x", x=f"{at:.2f}%", y=52, text_anchor="end" if at > 90 else "middle")
        )
    return Figure(svg=to_markup(made), caption="")


def _cards(session: Session, plan: Plan, finding: Finding | None) -> Iterator[tuple[str, str, str]]:
    evidence = plan.evidence
    if evidence.default_rate is not None:
        yield "Default", *_rate(evidence.default_rate)
    if evidence.usual_rate is not None:
        value, remark = _rate(evidence.usual_rate)
        yield f"By hand, {many(session.cores, 'worker')}", value, f"{remark}; one burst, not in pairs"
    if evidence.verdict is Verdict.FASTER and evidence.chosen_rate is not None:
        yield "Choice", *_rate(evidence.chosen_rate)
    planned = planned_s(session, plan)
    if planned is not None:
        before, after = planned
        words = f"instead of {time_words(before.value)}, {many(session.job.planned_images, 'image')}"
        yield "The planned training takes", time_words(after.value), words
    epochs = pays_back(session, plan)
    if epochs is not None:
        yield (
            "The probe pays back after",
            f"{plain(epochs.value)} epochs",
            f"{plain(epochs.low)} to {plain(epochs.high)}",
        )
    if finding is not None:
        yield "Bottleneck of the default", finding.bottleneck.value, finding.cause.value if finding.cause else ""
    elif evidence.bottleneck:
        yield "Bottleneck of the default", evidence.bottleneck, ""
    stopped = "; ended early" if session.interrupted else ""
    yield "Probe", time_words(evidence.probe_s), f"{many(evidence.bursts, 'burst')}{stopped}"


def _rate(rate: Estimate) -> tuple[str, str]:
    return f"{plain(rate.value)} images/s", f"{plain(rate.low)} to {plain(rate.high)}, n={rate.n}"
