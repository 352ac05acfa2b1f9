"""The rules: from a session's measurements to a finding about the default settings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from autotrain.diagnose.demand import Demand, demand, predict
from autotrain.diagnose.finding import Bottleneck, Finding
from autotrain.measure.measurement import Kind, Measurement
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

COMPUTE_KNOBS = ("precision", "memory_format", "threads")
INPUT_KNOBS = ("placement", "workers", "prefetch", "pinning")


def diagnose(session: Session, members: Iterable[Settings] = ()) -> Finding | None:
    """Name the default's bottleneck from its measurements; None where they are incomplete.

    Args:
        session: holds the default's full burst and both its ceilings.
        members: legal settings among which a remedy is looked for.
    """
    default = session.default
    full = session.find(Kind.FULL, default)
    need = demand(session, default)
    if full is None or need is None:
        return None
    bottleneck, evidence = _name(session, full, need)
    return _with_remedy(session, full, Finding(bottleneck=bottleneck, evidence=evidence), tuple(members))


def _name(session: Session, full: Measurement, need: Demand) -> tuple[Bottleneck, tuple[str, ...]]:
    compute, loading = 1.0 / need.compute_s, max(1, full.settings.workers) / need.input_s
    ceilings = (
        f"training alone reaches {compute:,.0f} images/s, loading alone {loading:,.0f}, both {full.rate.value:,.0f}"
    )
    evidence = [ceilings, f"{full.wait_share:.0%} of the time the training process waits for images"]
    transfer = full.transfer_share
    if transfer is not None and transfer > 1 - DOMINANT and full.wait_share < DOMINANT:
        return Bottleneck.TRANSFER, (*evidence, f"copies to the device take {transfer:.0%} of the time")
    if _starves(session, full):
        words = "the device waits for the host to issue work: its kernels are too small"
        return Bottleneck.LAUNCH, (*evidence, words)
    if full.settings.workers == 0:
        return _serial(need, evidence)
    busy = (full.cpu_main_per_image_s + full.cpu_workers_per_image_s) * full.rate.value / session.cores
    below = full.rate.value < BELOW_CEILINGS * min(compute, loading)
    if session.job.device == "cpu" and busy > SATURATED and below:
        words = f"the {session.cores} usable cores are {min(1.0, busy):.0%} busy with training and loading together"
        return Bottleneck.SHARED_CORES, (*evidence, words)
    if loading < DOMINANT / (1 - DOMINANT) * compute and full.wait_share > 1 - DOMINANT:
        return Bottleneck.INPUT, tuple(evidence)
    if full.wait_share < 0.15:
        return Bottleneck.COMPUTE, tuple(evidence)
    return (Bottleneck.INPUT if loading < 0.8 * compute else Bottleneck.BALANCED), tuple(evidence)


def _serial(need: Demand, evidence: Sequence[str]) -> tuple[Bottleneck, tuple[str, ...]]:
    share = need.input_s / (need.input_s + need.compute_s)
    load_ms, train_ms = need.input_s * 1e3, need.compute_s * 1e3
    words = f"with no worker, each image takes {load_ms:.2f} ms to load, then {train_ms:.2f} ms to train on"
    if share > DOMINANT:
        return Bottleneck.INPUT, (*evidence, words)
    if share < 1 - DOMINANT:
        return Bottleneck.COMPUTE, (*evidence, words)
    return Bottleneck.BALANCED, (*evidence, words)


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


def _with_remedy(session: Session, full: Measurement, finding: Finding, members: tuple[Settings, ...]) -> Finding:
    knobs = {
        Bottleneck.INPUT: INPUT_KNOBS,
        Bottleneck.TRANSFER: INPUT_KNOBS,
        Bottleneck.COMPUTE: COMPUTE_KNOBS,
        Bottleneck.LAUNCH: COMPUTE_KNOBS,
    }.get(finding.bottleneck, COMPUTE_KNOBS + INPUT_KNOBS)
    predicted = []
    for settings in members:
        if settings == session.default or set(settings.changes(session.default)) - set(knobs):
            continue
        rate = predict(session, settings)
        if rate is not None:
            predicted.append((rate, -len(settings.changes(session.default)), settings))
    if not predicted:
        return finding
    rate, _, remedy = max(predicted, key=lambda entry: entry[:2])
    # The model is judged by ratios: it also predicts the default, and its error there cancels.
    base = predict(session, session.default) or full.rate.value
    gain = rate / base
    if gain <= 1.02:
        return replace(finding, remedy_words="no setting that is legal here relieves it")
    words = ", ".join(f"{name} = {value}" for name, value in remedy.changes(session.default).items())
    return replace(finding, remedy=remedy, remedy_words=words, predicted_gain=gain)
