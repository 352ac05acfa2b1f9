"""The planner: a session becomes a plan, evidence and provenance included."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime

import autotrain
from autotrain.data.caching import RAM
from autotrain.diagnose.finding import Finding
from autotrain.hardware.machine import Machine
from autotrain.knobs.registry import without_each
from autotrain.measure.measurement import Kind
from autotrain.measure.session import DuelRecord, LargestBatch, Session
from autotrain.plan.evidence import Evidence, Verdict, Worth
from autotrain.plan.plan import Plan
from autotrain.plan.provenance import Provenance
from autotrain.search.duel import HALF_WIDTH
from autotrain.search.objective import caches, uncached_rate
from autotrain.search.recorder import describe
from autotrain.search.strength import policy_words
from autotrain.settings import Settings
from autotrain.stats.compare import LEAST_GAIN
from autotrain.stats.summary import Estimate, ratio_of_rates, summarize
from autotrain.workload import Workload


def make_plan(session: Session, workload: Workload, finding: Finding | None) -> Plan:
    """Return the plan that a probe's session amounts to."""
    chosen = session.chosen or session.default
    variants = without_each(chosen, session.default, workload)
    return Plan(
        settings=chosen,
        evidence=evidence_of(session, finding, variants),
        provenance=provenance(session.machine, workload),
        seed=workload.seed,
    )


def plan_of(session: Session, finding: Finding | None) -> Plan:
    """Return the plan that a stored session amounts to; when and with which autotrain it was made is not known."""
    chosen, job, machine = session.chosen or session.default, session.job, session.machine
    values = session.default.as_dict()
    variants = {name: replace(chosen, **{name: values[name]}) for name in chosen.changes(session.default)}  # type: ignore[arg-type]
    hosts = [entry.host for entry in session.exchange.ranks] if session.exchange is not None else []
    made = Provenance(
        hardware=machine.fingerprint,
        cpu=machine.cpu.name,
        usable_cpus=machine.cpu.usable,
        gpus=tuple(gpu.name for gpu in machine.gpus),
        versions=(("python", machine.python), *machine.versions),
        task=job.fingerprint,
        model=job.model,
        dataset=job.dataset,
        batch_size=job.batch_size,
        image_size=job.image_size,
        device=job.device,
        processes=len(hosts) or job.processes,
        processes_per_machine=hosts.count(hosts[0]) if hosts else job.processes // job.machines,
    )
    return Plan(settings=chosen, evidence=evidence_of(session, finding, variants), provenance=made, seed=job.seed)


def evidence_of(session: Session, finding: Finding | None, variants: Mapping[str, Settings]) -> Evidence:
    """Return what a session says about its choice.

    Args:
        session: the measurements.
        finding: the default's bottleneck.
        variants: by setting that differs from the default, the choice without that change.
    """
    chosen = session.chosen or session.default
    won = chosen != session.default
    record = session.final_duel
    default_rate = _rate(session, record, of_candidate=False)
    usual = session.find(Kind.FULL, replace(session.default, workers=session.cores))
    return Evidence(
        verdict=_verdict(session, won),
        default_rate=default_rate,
        chosen_rate=_rate(session, record, of_candidate=True) if won else default_rate,
        ratio=session.final_ratio if won else None,
        usual_rate=usual.rate if usual else None,
        bottleneck=finding.bottleneck.value if finding else "",
        findings=tuple(_sentences(session, finding, won)),
        bursts=len(session.measurements) + sum(2 * len(entry.baseline_rates) for entry in session.duels),
        probe_s=round(session.seconds, 1),
        largest_batch=batch_words(session.largest_batch),
        worth=tuple(worth(session, variants)) if won else (),
        left_out=session.left_out,
    )


def provenance(machine: Machine, workload: Workload) -> Provenance:
    """Return where, when and for what a plan is made, or used, now."""
    return replace(
        machine_provenance(machine),
        task=workload.fingerprint,
        model=type(workload.model).__name__,
        dataset=workload.source.name,
        batch_size=workload.batch_size,
        image_size=workload.image_size,
        device=workload.device.type,
        processes=workload.team.world.world_size,
        processes_per_machine=workload.team.world.local_world_size,
    )


def machine_provenance(machine: Machine) -> Provenance:
    """Return where and when a plan is used now, as far as that can be told without a task."""
    return Provenance(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        autotrain=autotrain.__version__,
        hardware=machine.fingerprint,
        cpu=machine.cpu.name,
        usable_cpus=machine.cpu.usable,
        gpus=tuple(gpu.name for gpu in machine.gpus),
        versions=(("python", machine.python), *machine.versions),
    )


def worth(session: Session, variants: Mapping[str, Settings]) -> Iterator[Worth]:
    """Yield what each changed setting of the choice is worth, alone and within the choice; variants lack one each."""
    chosen = session.chosen or session.default
    default = session.default.as_dict()
    turns = {entry.setting: entry for entry in session.attributions}
    for name, value in chosen.changes(session.default).items():
        known = turns.get(name)
        alone, within = (known.alone, known.within) if known else (None, None)
        if variants.get(name) == session.default:  # the only change: the duel has said it
            alone = within = session.final_ratio or within
        ratio = None if within else _of_bursts(session, chosen, variants.get(name))
        note = "from single bursts, not in pairs" if ratio else ""
        if not (alone or within or ratio):
            note = "not measured"
        yield Worth(
            setting=name,
            value=value,
            instead_of=default[name],
            alone=alone,
            within=within,
            ratio=ratio,
            note=note,
        )


def _of_bursts(session: Session, chosen: Settings, without: Settings | None) -> Estimate | None:
    """Return the rate of the choice over that without one of its changes, from a burst of each."""
    whole = session.find(Kind.FULL, chosen)
    less = session.find(Kind.FULL, without) if without is not None else None
    return ratio_of_rates(whole.rate, less.rate) if whole is not None and less is not None and less.windows else None


def half_width(ratio: Estimate) -> float:
    """Return how far a ratio's interval reaches to each side, as a share of the ratio."""
    return math.sqrt(ratio.high / ratio.low) - 1


def provable_words(ratio: Estimate) -> str:
    """Return what gains a duel could have proven, and what more pairs could, as a clause for people."""
    reach = half_width(ratio)
    words = (
        f"with {ratio.n} pairs the duel knew the ratio to within {reach:.1%}, "
        f"so it could prove gains from about {LEAST_GAIN + reach:.1%}"
    )
    if reach <= 1.2 * HALF_WIDTH:
        return f"{words}, as sharp as duels here are made"
    later = LEAST_GAIN + max(HALF_WIDTH, reach / 2)
    return f"{words}; a longer budget, with four times the pairs, could from about {later:.1%}"


def batch_words(advice: LargestBatch | None) -> str:
    """Return the advice on the batch size as a sentence; empty where there is none."""
    if advice is None:
        return ""
    gain = advice.images_per_s / advice.reference_per_s - 1
    words = (
        f"batches of {advice.batch_size:,} fit and train at {advice.images_per_s:,.0f} images/s without loading "
        f"({gain:+.0%} against the task's own size); not tried beyond: {advice.limit}"
    )
    if advice.estimate is not None and advice.estimate > advice.batch_size:
        words += f"; memory should hold about {advice.estimate:,}"
    return words


def _verdict(session: Session, won: bool) -> Verdict:
    if won:
        return Verdict.FASTER
    decided = session.final_ratio is not None
    return Verdict.NOT_PROVEN if session.interrupted and not decided else Verdict.INCONCLUSIVE


def _rate(session: Session, record: DuelRecord | None, *, of_candidate: bool) -> Estimate | None:
    """Return images/s from the duel's turns, or from the burst where there was none."""
    if record is not None and record.comparison is not None:
        return summarize(record.candidate_rates if of_candidate else record.baseline_rates)
    chosen = session.chosen or session.default
    measured = session.find(Kind.FULL, chosen if of_candidate else session.default)
    return measured.rate if measured else None


def _filling_words(session: Session, chosen: Settings) -> str:
    """Return how long it takes until a cache is full, and at what rate, as a sentence."""
    rate, count = uncached_rate(session, chosen), caches(session, chosen)
    if count == 1:
        return f"the cache is filled in the first epoch, at about {rate:,.0f} images/s; the rates are of those after it"
    half, most = (1 + math.ceil(math.log(missing) / math.log(1 - 1 / count)) for missing in (0.5, 0.1))
    whose = "processes" if chosen.cache == RAM else "machines"
    return (
        f"each of {count} {whose} fills a cache of its own, the first epoch at about {rate:,.0f} images/s; half of "
        f"what it reads is there by epoch {half}, nine tenths by epoch {most}; the rates are of full caches"
    )


def _sentences(session: Session, finding: Finding | None, won: bool) -> Iterator[str]:
    if finding is not None:
        yield from finding.evidence
        if finding.remedy is not None and finding.predicted_gain is not None:
            yield f"{finding.remedy_words}: predicted to give {finding.predicted_gain:.2f}x"
    if won and session.chosen is not None and session.chosen.cache != session.default.cache:
        yield _filling_words(session, session.chosen)
    record = session.final_duel
    if not won and record is not None and session.final_ratio is not None:
        words = describe(record.candidate, record.baseline)
        ratio = session.final_ratio
        yield f"the best candidate ({words}) gave {ratio:.2f} times the default's rate in the duel"
        if ratio.high >= 1:
            yield provable_words(ratio)
    for entry in session.guards:
        if entry.problem:
            yield f"disqualified: {describe(entry.settings, session.default)}: {entry.problem}"
    if session.too_short:
        yield "nothing was searched, as the training is too short to win back what a search takes"
    for words in policy_words(session.policies):
        yield f"augmentation: {words}"
    yield from session.notes
