"""The rules: from a session's measurements to a finding about the default settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from autotrain.data.stages import Stage
from autotrain.diagnose.demand import Demand, demand, predict, uncalibrated
from autotrain.diagnose.finding import Bottleneck, Cause, Finding
from autotrain.measure.exchange import Exchange
from autotrain.measure.measurement import Kind, Measurement
from autotrain.measure.profile import StageProfile
from autotrain.measure.session import Session
from autotrain.settings import Settings

DOMINANT = 0.6
"""Share of a step's time from which on a part is the bottleneck."""

SATURATED = 0.85
"""Share of the usable cores' time from which on the cores are full."""

BELOW_CEILINGS = 0.85
"""A rate below this share of both ceilings is held back by what the two share."""

STARVED_SYNC = 0.1
"""Where the host waits for the device for less than this share of a window, the device waits for the host."""

OVERHEAD = 0.6
"""Share of a step that does not depend on the batch from which on its operators are too small."""

COMMUNICATES = 0.25
"""Share of a step in which nothing but gradients is under way, from which on they are the bottleneck."""

TINY_S = 2e-4
"""Such a step spends less than this on an operator; where it takes longer, it is weights that the time goes into."""

SIMPLER = 0.97
"""Of remedies that reach this share of the best one's predicted rate, the one with the fewest changes is named."""

EXCHANGE_KNOBS = ("sharding", "bucket_mib", "gradient_precision", "gradient_views", "static_graph")
COMPUTE_KNOBS = (
    "precision",
    "memory_format",
    "threads",
    "compile",
    "optimizer_kernel",
    "cudnn_benchmark",
    "micro_batches",
    *EXCHANGE_KNOBS,
)
WHO_LOADS = ("workers", "prefetch", "loader")
INPUT_KNOBS = ("placement", "decoder", "resize", "cache", "pinning", *WHO_LOADS)

KNOBS_BY_CAUSE: Mapping[Cause, tuple[str, ...]] = {
    Cause.STORAGE: ("cache", *WHO_LOADS),
    Cause.DECODING: ("decoder", "resize", "cache", "placement", *WHO_LOADS),
    Cause.AUGMENTATION: ("placement", "cache", *WHO_LOADS),
    Cause.COLLATION: ("placement", *WHO_LOADS),
    Cause.DATASET: ("cache", *WHO_LOADS),
    Cause.TRANSFER: INPUT_KNOBS,
    Cause.TINY_KERNELS: COMPUTE_KNOBS,
    Cause.MODEL: COMPUTE_KNOBS,
    Cause.EXCHANGE: EXCHANGE_KNOBS,
    Cause.OVERSUBSCRIBED: ("threads", *WHO_LOADS),
}
"""Settings that relieve a cause."""

KNOBS_BY_BOTTLENECK: Mapping[Bottleneck, tuple[str, ...]] = {
    Bottleneck.INPUT: INPUT_KNOBS,
    Bottleneck.TRANSFER: INPUT_KNOBS,
    Bottleneck.COMPUTE: COMPUTE_KNOBS,
    Bottleneck.LAUNCH: COMPUTE_KNOBS,
    Bottleneck.COMMUNICATION: EXCHANGE_KNOBS,
}
"""The same where the cause is not known."""

ADVICE: Mapping[Cause, str] = {
    Cause.TRANSFER: "hand over bytes (uint8) instead of floats, in one contiguous tensor",
    Cause.TINY_KERNELS: "a larger batch",
    Cause.COLLATION: "a cheaper collate function",
    Cause.DATASET: "less work in __getitem__",
    Cause.STORAGE: "a nearer copy of the files",
    Cause.EXCHANGE: "a larger batch, or a faster network between the machines",
    Cause.OVERSUBSCRIBED: "fewer workers do as well, with less memory",
}
"""What people can do themselves where no setting helps."""


def diagnose(session: Session, members: Iterable[Settings] = ()) -> Finding | None:
    """Name the default's bottleneck and its cause from its measurements; None where they are incomplete.

    Args:
        session: holds the default's full burst and both its ceilings; with a profile the cause is named too.
        members: legal settings among which a remedy is looked for.
    """
    default = session.default
    full = session.find(Kind.FULL, default)
    need = demand(session, default)
    if full is None or need is None:
        return None
    finding = _caused(session, full, need, _named(session, full, need))
    return _with_remedy(session, full, finding, tuple(members))


def _named(session: Session, full: Measurement, need: Demand) -> Finding:
    """Return the finding with the coarse name and its evidence."""
    compute, loading = 1.0 / need.compute_s, _loading_ceiling(session, full.settings, need)
    ceilings = (
        f"training alone reaches {compute:,.0f} images/s, loading alone {loading:,.0f}, both {full.rate.value:,.0f}"
    )
    evidence = [ceilings, f"{full.wait_share:.0%} of the time the training process waits for images"]
    if session.exchange is not None:
        evidence += [_exchange_words(session.exchange), *session.exchange.stragglers()]
    transfer = full.transfer_share
    if transfer is not None and transfer > 1 - DOMINANT and full.wait_share < DOMINANT:
        words = f"copies to the device take {transfer:.0%} of the time"
        return Finding(bottleneck=Bottleneck.TRANSFER, evidence=(*evidence, words), cause=Cause.TRANSFER)
    if (exposed := _exposed(session, full)) is not None and exposed > COMMUNICATES:
        return Finding(bottleneck=Bottleneck.COMMUNICATION, evidence=tuple(evidence), cause=Cause.EXCHANGE)
    if _starves(session, full):
        words = "the device waits for the host to issue work: its kernels are too small"
        return Finding(bottleneck=Bottleneck.LAUNCH, evidence=(*evidence, words), cause=Cause.TINY_KERNELS)
    if full.settings.workers == 0:
        return _without_workers(session, full, need, evidence)
    busy = _busy(session, full)
    below = full.rate.value < BELOW_CEILINGS * min(compute, loading)
    if session.job.device == "cpu" and busy > SATURATED and below:
        words = f"the {session.cores} usable cores are {min(1.0, busy):.0%} busy with training and loading together"
        return Finding(bottleneck=Bottleneck.SHARED_CORES, evidence=(*evidence, words))
    if loading < DOMINANT / (1 - DOMINANT) * compute and full.wait_share > 1 - DOMINANT:
        return Finding(bottleneck=Bottleneck.INPUT, evidence=tuple(evidence))
    if full.wait_share < 0.15:
        return Finding(bottleneck=Bottleneck.COMPUTE, evidence=tuple(evidence))
    bottleneck = Bottleneck.INPUT if loading < 0.8 * compute else Bottleneck.BALANCED
    return Finding(bottleneck=bottleneck, evidence=tuple(evidence))


def _exposed(session: Session, full: Measurement) -> float | None:
    """Return the share of a step of full training in which gradients travel and nothing else is done."""
    if session.exchange is None:
        return None
    return session.exchange.exposed_s * full.rate.value / session.job.batch_size


def _exchange_words(exchange: Exchange) -> str:
    return (
        f"{len(exchange.ranks)} ranks exchange {exchange.bytes / 2**20:,.1f} MiB of gradients in each step, which "
        f"makes it {exchange.together_s * 1e3:,.1f} ms instead of {exchange.apart_s * 1e3:,.1f}"
    )


def _busy(session: Session, full: Measurement) -> float:
    """Return the share of the cores' time that the job takes, of what other programs leave of it."""
    used = (full.cpu_main_per_image_s + full.cpu_workers_per_image_s) * full.images / full.wall_s
    return used / session.cores / (1.0 - min(0.9, full.other_cpu_share or 0.0))


def _loading_ceiling(session: Session, settings: Settings, need: Demand) -> float:
    """Return the images/s of loading alone: by the workers, and no more than the cores allow."""
    if need.drain_per_s is not None:
        return need.drain_per_s
    rate = max(1, settings.workers) / need.input_s
    return min(rate, session.cores / need.input_cpu_s) if need.input_cpu_s > 0 else rate


def _without_workers(session: Session, full: Measurement, need: Demand, evidence: Sequence[str]) -> Finding:
    """Compare loading with training; an accelerator trains on the last batch while the host loads the next one."""
    load_ms, train_ms = need.input_s * 1e3, need.compute_s * 1e3
    if session.job.device == "cpu":
        share = need.input_s / (need.input_s + need.compute_s)
        words = f"with no worker, each image takes {load_ms:.2f} ms to load, then {train_ms:.2f} ms to train on"
        inputs, computes = share > DOMINANT, share < 1 - DOMINANT
    else:
        busy = min(1.0, full.rate.value * need.compute_s)
        words = (
            f"with no worker, each image takes {load_ms:.2f} ms to load and {train_ms:.2f} ms to train on; "
            f"the device is busy for {busy:.0%} of the time"
        )
        inputs, computes = busy < 0.8 and need.input_s > need.compute_s, busy > BELOW_CEILINGS
    bottleneck = Bottleneck.INPUT if inputs else Bottleneck.COMPUTE if computes else Bottleneck.BALANCED
    return Finding(bottleneck=bottleneck, evidence=(*evidence, words))


def _starves(session: Session, full: Measurement) -> bool:
    """Tell whether training on resident batches leaves the device waiting for the host."""
    compute = session.find(Kind.COMPUTE, session.default)
    if compute is None or compute.sync_share is None or full.wait_share > 1 - DOMINANT:
        return False
    if full.settings.precision == "fp16":
        return False  # the loss scaler waits for the device in every step, which looks the same
    if compute.issue_share is not None:
        return compute.issue_share > 1 - STARVED_SYNC
    return compute.sync_share < STARVED_SYNC


def _caused(session: Session, full: Measurement, need: Demand, finding: Finding) -> Finding:
    """Return the finding with its cause, more evidence for it, and what its end would give."""
    if finding.bottleneck is Bottleneck.TRANSFER:
        return replace(finding, relief=_relief_of_transfer(session, full, need))
    if finding.bottleneck is Bottleneck.COMMUNICATION:
        return replace(finding, relief=1.0 / (1.0 - min(0.9, _exposed(session, full) or 0.0)))
    if finding.bottleneck is Bottleneck.COMPUTE:
        return _compute_cause(session, finding)
    if finding.bottleneck is Bottleneck.SHARED_CORES:
        return _cores_cause(session, full, need, finding)
    if finding.bottleneck is Bottleneck.INPUT:
        return _input_cause(session, full, need, finding)
    return finding


def _compute_cause(session: Session, finding: Finding) -> Finding:
    profile = session.profile
    if profile is None or profile.step_growth is None or profile.step_s is None:
        return replace(finding, cause=Cause.MODEL)
    overhead = min(1.0, 2.0 - profile.step_growth)
    each_s = profile.step_s / max(1, profile.operators or 1)
    if overhead < OVERHEAD or each_s > TINY_S:
        return replace(finding, cause=Cause.MODEL)
    words = (
        f"a step issues {profile.operators:,} operators of {each_s * 1e6:.0f} µs each, "
        f"and with twice the batch takes only {max(0.0, profile.step_growth - 1):.0%} longer"
    )
    return replace(
        finding,
        bottleneck=Bottleneck.LAUNCH,
        cause=Cause.TINY_KERNELS,
        evidence=(*finding.evidence, words),
    )


def _cores_cause(session: Session, full: Measurement, need: Demand, finding: Finding) -> Finding:
    """Tell cores that have too much to do from cores that too many want at once."""
    workers = full.settings.workers
    if workers > session.cores:
        together = full.cpu_main_per_image_s + full.cpu_workers_per_image_s
        apart = need.compute_cpu_s + need.input_cpu_s
        words = f"{workers} workers and the training process share {session.cores} cores"
        if together > apart:
            words += (
                f"; an image takes {together * 1e3:.2f} ms of CPU so, and {apart * 1e3:.2f} ms where loading and "
                "training run apart"
            )
        return replace(finding, cause=Cause.OVERSUBSCRIBED, evidence=(*finding.evidence, words))
    if need.input_cpu_s > need.compute_cpu_s:
        return _input_cause(session, full, need, finding)
    return replace(finding, cause=Cause.MODEL)


def _input_cause(session: Session, full: Measurement, need: Demand, finding: Finding) -> Finding:
    """Name the stage of loading that takes most."""
    profile = session.profile
    if profile is None or profile.wall_s <= 0:
        return finding
    seconds = _seconds_by_cause(profile)
    cause = max(seconds, key=lambda entry: seconds[entry])
    share = seconds[cause] / profile.wall_s
    parts = ", ".join(
        f"{entry.value} {part * 1e3:.2f} ms" for entry, part in seconds.items() if part > 0.05 * profile.wall_s
    )
    evidence = (*finding.evidence, f"loading an image takes one process {profile.wall_s * 1e3:.2f} ms: {parts}")
    if (cold := _cold_rate(session)) is not None and cold < full.rate.value:
        evidence = (*evidence, f"files that are not in memory yet come at {cold:,.0f} images/s")
        if not _fits_in_memory(session, profile):
            return replace(finding, cause=Cause.STORAGE, evidence=evidence)
    return replace(finding, cause=cause, evidence=evidence, relief=_relief_of_input(session, full, need, share))


def _seconds_by_cause(profile: StageProfile) -> dict[Cause, float]:
    """Return what each cause takes of loading an image; where dataset and decoder wait, they read."""
    stages = profile.stages
    return {
        Cause.STORAGE: profile.storage_s,
        Cause.DECODING: stages[Stage.DECODING].wall_s - stages[Stage.DECODING].wait_s,
        Cause.AUGMENTATION: stages[Stage.AUGMENTING].wall_s,
        Cause.COLLATION: stages[Stage.COLLATING].wall_s,
        Cause.DATASET: stages[Stage.DATASET].wall_s - stages[Stage.DATASET].wait_s,
    }


def _cold_rate(session: Session) -> float | None:
    """Return the images/s at which files come that the page cache does not hold; None where that is not known."""
    profile = session.profile
    if profile is None or not profile.bytes_per_image or not session.cold_bytes_per_s:
        return None
    return session.cold_bytes_per_s / profile.bytes_per_image


def _fits_in_memory(session: Session, profile: StageProfile) -> bool:
    return (profile.bytes_per_image or 0.0) * session.job.samples < session.machine.memory.budget_bytes


def _relief_of_transfer(session: Session, full: Measurement, need: Demand) -> float | None:
    """Return what training without copies would give: what they take is gained, up to the other limits."""
    each_s = 1.0 / full.rate.value
    moving_s = (full.transfer_share or 0.0) * each_s
    rest_s = max(each_s - moving_s, need.compute_s, 1.0 / _loading_ceiling(session, full.settings, need))
    if full.settings.workers == 0 and session.job.device == "cpu":
        rest_s = each_s - moving_s
    return each_s / rest_s if rest_s > 0 else None


def _relief_of_input(session: Session, full: Measurement, need: Demand, share: float) -> float:
    """Return what loading without one of its stages would give, which takes this share of it."""
    each_s, loading_s = 1.0 / full.rate.value, need.input_s * (1.0 - share)
    if full.settings.workers == 0 and session.job.device == "cpu":
        return (need.input_s + need.compute_s) / (loading_s + need.compute_s)
    return max(1.0, each_s / max(need.compute_s, loading_s / max(1, full.settings.workers)))


def _expected(session: Session, settings: Settings, cause: Cause | None) -> float | None:
    """Return the images/s that settings are expected to reach."""
    if cause is not Cause.OVERSUBSCRIBED:
        return predict(session, settings)
    expected = uncalibrated(session, settings)
    return None if expected is None else expected.per_s


def _reference(session: Session, full: Measurement, cause: Cause | None) -> float:
    """Return what a remedy's rate is compared with.

    The model is judged by ratios: it also predicts the default, and its error there cancels. Where too many run at once
    it knows nothing of how they get in each other's way, but the default's own burst does; the remedy is free of that.
    """
    if cause is Cause.OVERSUBSCRIBED:
        return full.rate.value
    return predict(session, session.default) or full.rate.value


def _with_remedy(session: Session, full: Measurement, finding: Finding, members: tuple[Settings, ...]) -> Finding:
    by_bottleneck = KNOBS_BY_BOTTLENECK.get(finding.bottleneck, COMPUTE_KNOBS + INPUT_KNOBS)
    knobs = by_bottleneck if finding.cause is None else KNOBS_BY_CAUSE[finding.cause]
    predicted = {}
    for settings in members:
        if settings == session.default or set(settings.changes(session.default)) - set(knobs):
            continue
        rate = _expected(session, settings, finding.cause)
        if rate is not None:
            predicted[settings] = rate
    if not predicted:
        return finding
    enough = SIMPLER * max(predicted.values())
    remedy = min(
        (settings for settings, rate in predicted.items() if rate >= enough),
        key=lambda settings: (len(settings.changes(session.default)), -predicted[settings]),
    )
    gain = predicted[remedy] / _reference(session, full, finding.cause)
    if gain <= 1.02:
        advice = ADVICE.get(finding.cause) if finding.cause is not None else None
        words = "no setting that is legal here relieves it" + (f"; what may: {advice}" if advice else "")
        return replace(finding, remedy_words=words)
    words = ", ".join(f"{name} = {value}" for name, value in remedy.changes(session.default).items())
    return replace(finding, remedy=remedy, remedy_words=words, predicted_gain=gain)
