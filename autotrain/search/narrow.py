"""Narrowing: of many ways to load an image, a short race leaves those that can win."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from autotrain.decode.decoder import decoder
from autotrain.diagnose.demand import content
from autotrain.errors import CandidateError
from autotrain.knobs.base import Effect, Side
from autotrain.knobs.registry import Space, canonical, effects, knob
from autotrain.measure.measurement import Kind, Measurement
from autotrain.measure.race import race
from autotrain.search.events import Measured, Noted
from autotrain.search.recorder import Recorder, describe, value_words
from autotrain.settings import Settings, Value
from autotrain.workload import Workload

log = logging.getLogger(__name__)

RACED = ("decoder", "resize")
"""Knobs of which only the fastest pair, the fastest exact pair and the default's own go on."""

QUICK_TURNS = 5

RACE_S = 60.0
"""Seconds that a race is expected to take at most."""

LITTLE = 0.15
"""Share of the time waiting for images up to which no process is started to race another Pillow."""


def fastest_ways(recorder: Recorder, space: Space) -> tuple[dict[str, tuple[Value, ...]], list[tuple[str, Value, str]]]:
    """Race all pairs of decoder and resize kernel; return what goes on, by knob, and why the rest does not.

    Raises:
        AutotrainError: the default itself cannot be loaded.
    """
    default, workload = space.default, recorder.workload
    pairs = dict.fromkeys(
        canonical(replace(default, cache="none", decoder=str(name), resize=str(kernel)), workload)
        for name in space.choices["decoder"].allowed
        for kernel in space.choices["resize"].allowed
    )
    alone = replace(default, cache="none")
    apart = _not_worth_a_process(recorder, pairs)
    pairs = {entry: None for entry in pairs if entry not in apart}
    reasons: list[tuple[str, Value, str]] = [
        ("decoder", name, reason) for name, reason in {entry.decoder: why for entry, why in apart.items()}.items()
    ]
    if len(pairs) < 2:
        return {name: (getattr(default, name),) for name in RACED}, reasons
    rates = _rates(recorder, [alone, *(entry for entry in pairs if entry != alone)])
    # What the device decodes is only packed here; its compute ceiling and its bursts tell what it costs.
    on_device = [entry for entry in rates if knob("decoder").side_of(entry.decoder) is Side.BOTH]
    ranked = sorted((entry for entry in rates if entry not in on_device), key=lambda entry: -rates[entry])
    exact = [entry for entry in ranked if Effect.NUMERICS not in effects(entry, alone)]
    kept = [default, *ranked[:1], *exact[:1], *on_device]
    shown = ", ".join(f"{_words(entry)} {rates[entry]:,.0f}" for entry in ranked[:4])
    recorder.observer(Noted(words=f"images/s of one loading process: {shown}"))
    allowed = {name: tuple(dict.fromkeys(getattr(entry, name) for entry in kept)) for name in RACED}
    return allowed, [*reasons, *_losers(rates, allowed, ranked)]


def _not_worth_a_process(recorder: Recorder, entrants: Iterable[Settings]) -> dict[Settings, str]:
    """Return those that need another Pillow, thus seconds for a process of its own, where loading takes little."""
    full = recorder.session.find(Kind.FULL, recorder.session.default)
    if full is None or full.wait_share > LITTLE:
        return {}
    reason = f"not tried: the job waits for images for {full.wait_share:.0%} of its time only"
    return {entry: reason for entry in entrants if decoder(entry.decoder).misplaced() is not None}


def measure_contents(recorder: Recorder, members: Sequence[Settings], *, turns: int = QUICK_TURNS) -> None:
    """Measure, in one process, every way of loading that the members differ in and that is not known yet."""
    session = recorder.session
    known = {content(entry.settings) for entry in session.of(Kind.INPUT)}
    wanted = {content(entry): entry for entry in reversed(members) if content(entry) not in known}
    _measure(recorder, [replace(entry, workers=0) for entry in wanted.values()], turns=turns)


def _rates(recorder: Recorder, entrants: list[Settings]) -> dict[Settings, float]:
    measured = _measure(recorder, entrants, turns=QUICK_TURNS)
    by_content = {content(entry.settings): entry.rate.value for entry in measured}
    return {entry: by_content[content(entry)] for entry in entrants if content(entry) in by_content}


def _measure(recorder: Recorder, entrants: list[Settings], *, turns: int) -> list[Measurement]:
    try:
        measured, failed = recorder.run(
            race, entrants, settings=entrants, limit_s=RACE_S, clock=recorder.clock, turns=turns
        )
    except CandidateError as problem:
        log.info("no race: %s", problem)
        return []
    measured = [_of_all(entry, recorder.workload) for entry in measured]
    recorder.note(measurements=(*recorder.session.measurements, *measured))
    for entry in measured:
        what = f"loading alone, {describe(entry.settings, recorder.session.default)}"
        recorder.observer(Measured(what=what, measurement=entry, raced=True))
    for settings, reason in failed:
        recorder.failed(settings, reason)
    return measured


def _of_all(measured: Measurement, workload: Workload) -> Measurement:
    """Return what all ranks load where each loads as much as the one that was measured."""
    ranks = workload.team.world.world_size
    return replace(measured, windows=tuple(replace(entry, images=ranks * entry.images) for entry in measured.windows))


def _losers(
    rates: Mapping[Settings, float], allowed: Mapping[str, tuple[Value, ...]], ranked: Sequence[Settings]
) -> list[tuple[str, Value, str]]:
    best = ranked[0]
    found = []
    for name in RACED:
        for value in dict.fromkeys(getattr(settings, name) for settings in rates):
            if value not in allowed[name]:
                found.append((name, value, f"loads fewer images/s here than {_words(best)}"))
    return found


def _words(settings: Settings) -> str:
    kernel = "" if settings.resize == "pillow" else f" with {value_words('resize', settings.resize)}"
    return f"{value_words('decoder', settings.decoder)}{kernel}"
