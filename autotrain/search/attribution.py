"""Attribution: what each changed setting is worth, added to the default alone and taken away from the choice."""

from __future__ import annotations

import logging
import math
from dataclasses import replace

from autotrain.errors import CandidateError
from autotrain.knobs.registry import canonical, illegal, without_each
from autotrain.measure.contender import LONGEST
from autotrain.measure.heat import Heat, HeatOptions, heat
from autotrain.measure.session import Attribution, Session
from autotrain.search.duel import Turns
from autotrain.search.events import Measuring
from autotrain.search.objective import step_s, turn_cost_s
from autotrain.search.recorder import Recorder
from autotrain.settings import Settings
from autotrain.stats.compare import FEWEST_PAIRS, compare
from autotrain.stats.summary import Estimate

log = logging.getLogger(__name__)

OPTIONS = HeatOptions(rounds=8, warmup_s=0.4, behind=None)
SLOWER = 2.0
"""Factor by which the rounds may take longer than expected before no further one begins."""

START_S = 0.5
"""Seconds that a live rig takes to be made, beside its warm-up."""


def attribute(
    recorder: Recorder, chosen: Settings, *, turn_s: float, turns: int, limit_s: float
) -> tuple[Attribution, ...]:
    """Run the default, the choice and their neighbours against each other, as far as there is time.

    What the choice loses without a change comes before what the default gains by it; where there is time for neither,
    the entries stay without numbers.

    Args:
        recorder: holds the session.
        chosen: settings that differ from the default.
        turn_s: shortest turn.
        turns: of each contender in a round.
        limit_s: seconds that it may take.
    """
    session, workload = recorder.session, recorder.workload
    default = session.default
    changes = chosen.changes(default)
    within = without_each(chosen, default, workload)
    alone = {
        name: canonical(replace(default, **{name: value}), workload)  # type: ignore[arg-type]
        for name, value in changes.items()
    }

    def possible(settings: Settings) -> bool:
        failed = any(entry.settings == settings and not entry.pruned for entry in session.failures)
        return not failed and illegal(settings, workload, session.machine) is None

    wanted = [entry for entry in (chosen, *within.values(), default, *alone.values()) if possible(entry)]
    if set(wanted) <= {chosen, default}:  # the only change: the duel has said it
        rates = _duel_rates(session, chosen)
    else:
        options = replace(OPTIONS, turn_s=turn_s, turns=turns, again=not recorder.busy)
        rates = _rates(recorder, _affordable(session, wanted, options, limit_s), options, limit_s)
    return tuple(
        Attribution(
            setting=name,
            value=value,
            alone=_ratio(rates, default, alone[name]),
            within=_ratio(rates, within[name], chosen),
        )
        for name, value in changes.items()
    )


def _affordable(session: Session, wanted: list[Settings], options: HeatOptions, limit_s: float) -> list[Settings]:
    """Return as many contenders as there is time for the fewest rounds of; none where that is only one."""
    contenders: list[Settings] = []
    seconds = 0.0
    for settings in dict.fromkeys(wanted):
        seconds += _start_s(session, settings) + FEWEST_PAIRS * _round_s(session, settings, options)
        if seconds > limit_s:
            break
        contenders.append(settings)
    return contenders if len(contenders) > 1 else []


def _start_s(session: Session, settings: Settings) -> float:
    steps = 2 + settings.workers * settings.prefetch
    return START_S + max(OPTIONS.warmup_s, min(LONGEST * OPTIONS.warmup_s, steps * step_s(session, settings)))


def _round_s(session: Session, settings: Settings, options: HeatOptions) -> float:
    return options.turns * turn_cost_s(session, settings, options)


def _rates(
    recorder: Recorder, contenders: list[Settings], options: HeatOptions, limit_s: float
) -> dict[Settings, Turns]:
    if not contenders:
        return {}
    session = recorder.session
    starts = sum(_start_s(session, entry) for entry in contenders)
    round_s = sum(_round_s(session, entry, options) for entry in contenders)
    rounds = max(FEWEST_PAIRS, min(options.rounds, math.floor((limit_s - starts) / round_s)))
    options = replace(options, rounds=rounds, limit_s=SLOWER * rounds * round_s)
    recorder.observer(Measuring(what=f"{len(contenders)} side by side, {rounds} rounds"))
    try:
        result: Heat = recorder.run(
            heat,
            contenders,
            settings=contenders,
            limit_s=limit_s,
            options=options,
            seed=recorder.workload.seed,
        )
    except CandidateError as problem:
        log.info("no attribution: %s", problem)
        return {}
    return {lane.settings: Turns.of(lane.windows) for lane in result.lanes if lane.problem is None}


def _duel_rates(session: Session, chosen: Settings) -> dict[Settings, Turns]:
    record = session.final_duel
    if record is None or (record.baseline, record.candidate) != (session.default, chosen):
        return {}
    return {
        record.baseline: Turns(rates=record.baseline_rates, seconds=record.baseline_seconds),
        record.candidate: Turns(rates=record.candidate_rates, seconds=record.candidate_seconds),
    }


def _ratio(rates: dict[Settings, Turns], below: Settings, above: Settings) -> Estimate | None:
    """Return the rate of ``above`` over that of ``below``, None where one of them did not run to the end."""
    if below == above or below not in rates or above not in rates:
        return None
    one, other = rates[below], rates[above]
    if len(one.rates) < FEWEST_PAIRS or len(one.rates) != len(other.rates):
        return None
    seconds = (one.seconds, other.seconds) if one.seconds else None
    return compare(one.rates, other.rates, seconds=seconds).ratio
