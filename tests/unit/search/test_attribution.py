"""What each change of the choice is worth, from turns beside each other, as far as there is time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from autotrain.errors import CandidateError
from autotrain.measure.clock import Clock
from autotrain.measure.heat import Heat, Lane
from autotrain.measure.measurement import Kind, Window
from autotrain.measure.session import Attribution, DuelRecord, Failed
from autotrain.search import attribution as module
from autotrain.search.attribution import attribute
from autotrain.search.recorder import Recorder
from autotrain.settings import Settings

DEFAULT = Settings()
BF16 = {"precision": "bf16"}
BOTH = Settings(precision="bf16", workers=2)
WIDE = Settings(precision="bf16", workers=2, prefetch=8)
GAIN = {"precision": 1.5, "memory_format": 1.25, "workers": 2.0, "prefetch": 1.1}


def rate(settings: Settings) -> float:
    found = 100.0
    for name in settings.changes(DEFAULT):
        found *= GAIN[name]
    return found


class Track:
    """Heats in which every change multiplies the rate; calls are written down."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[Settings], Any]] = []
        self.lanes: dict[Settings, dict[str, Any]] = {}
        self.problem: Exception | None = None

    def heat(self, workload: Any, contenders: Any, *, options: Any, seed: int) -> Heat:
        self.calls.append((list(contenders), options))
        if self.problem is not None:
            raise self.problem
        return Heat(kind=Kind.FULL, lanes=tuple(self.lane(entry, options.rounds) for entry in contenders))

    def lane(self, settings: Settings, rounds: int) -> Lane:
        changes = self.lanes.get(settings, {})
        windows = tuple(
            Window(
                steps=1,
                images=64,
                wall_s=64 / (rate(settings) * drift),
                wait_s=0.0,
                cpu_main_s=0.0,
                cpu_workers_s=0.0,
            )
            for drift in (1.0, 0.5, 0.7, 1.1)[: changes.get("rounds", rounds)] * 2
        )[: changes.get("rounds", rounds)]
        return Lane(settings=settings, windows=windows, problem=changes.get("problem"))


@pytest.fixture
def track(monkeypatch: pytest.MonkeyPatch) -> Track:
    made = Track()
    monkeypatch.setattr(module, "heat", made.heat)
    return made


@pytest.fixture
def make(workload: Any, make_session: Any, measure: Any) -> Any:
    """A function that makes a recorder that knows the default."""

    def make(*settings: Settings, **changes: Any) -> Recorder:
        bursts = [measure(entry, rate(entry)) for entry in (DEFAULT, *settings)]
        return Recorder(workload, make_session(*bursts, **changes), lambda event: None, Clock())

    return make


def by_name(found: tuple[Attribution, ...]) -> dict[str, Attribution]:
    return {entry.setting: entry for entry in found}


def test_each_change_is_compared_both_ways(make: Any, track: Track) -> None:
    """The machine's speed halves and recovers meanwhile: pairs of a round cancel that."""
    found = by_name(attribute(make(), BOTH, turn_s=0.1, turns=2, limit_s=60.0))
    assert list(found) == ["precision", "workers"]
    for name, gain in (("precision", 1.5), ("workers", 2.0)):
        entry = found[name]
        assert entry.value == getattr(BOTH, name)
        assert entry.alone.value == pytest.approx(gain)
        assert entry.within.value == pytest.approx(gain)
        assert entry.alone.high / entry.alone.low < 1.001
        assert entry.alone.n == module.OPTIONS.rounds
    ((contenders, options),) = track.calls
    assert set(contenders) == {DEFAULT, BOTH, replace(DEFAULT, **BF16), replace(DEFAULT, workers=2)}
    assert (options.behind, options.turn_s) == (None, 0.1), "nobody leaves, or pairs would be missing"


def test_what_means_nothing_alone_has_no_number_alone(make: Any, track: Track) -> None:
    """Without workers there is nothing to prefetch."""
    found = by_name(attribute(make(), WIDE, turn_s=0.1, turns=2, limit_s=60.0))
    assert found["prefetch"].alone is None
    assert found["prefetch"].within.value == pytest.approx(1.1)
    # Without workers the choice has no prefetch either: both are gone.
    assert found["workers"].within.value == pytest.approx(2.0 * 1.1)
    assert found["workers"].alone.value == pytest.approx(2.0)


def test_where_time_is_short_what_the_choice_loses_comes_first(make: Any, track: Track) -> None:
    """A contender takes 2 to 3 s here: start-up, warming up, and turns of a quarter of a second."""
    found = by_name(attribute(make(), replace(WIDE, memory_format="channels_last"), turn_s=0.25, turns=2, limit_s=18.0))
    assert all(entry.within is not None for entry in found.values())
    assert [name for name, entry in found.items() if entry.alone is not None] == []


@pytest.mark.parametrize("limit_s", [-5.0, 0.0, 3.0])
def test_without_time_the_entries_stay_without_numbers(make: Any, track: Track, limit_s: float) -> None:
    found = attribute(make(), BOTH, turn_s=0.25, turns=2, limit_s=limit_s)
    assert found == (
        Attribution(setting="precision", value="bf16"),
        Attribution(setting="workers", value=2),
    )
    assert track.calls == []


def test_its_rounds_follow_from_the_time_and_end_with_it(make: Any, track: Track) -> None:
    for limit_s, rounds in ((9.0, 3), (12.0, 4), (100.0, module.OPTIONS.rounds)):
        track.calls = []
        attribute(make(), BOTH, turn_s=0.25, turns=2, limit_s=limit_s)
        ((_, options),) = track.calls
        assert options.rounds >= 3
        assert abs(options.rounds - rounds) <= 1
        assert options.limit_s < 2 * limit_s


def test_slow_steps_count(make: Any, track: Track, make_session: Any, measure: Any) -> None:
    """Turns hold whole steps: at 2 images/s each takes four seconds."""
    recorder = make()
    recorder.note(measurements=tuple(measure(entry, 2.0) for entry in (DEFAULT, BOTH)))
    attribute(recorder, BOTH, turn_s=0.1, turns=2, limit_s=20.0)
    assert track.calls == []
    attribute(recorder, BOTH, turn_s=0.1, turns=2, limit_s=300.0)
    assert len(track.calls) == 1


def test_what_is_not_possible_or_has_failed_is_left_out(
    make: Any, track: Track, monkeypatch: pytest.MonkeyPatch
) -> None:
    bf16_alone, workers_alone = replace(DEFAULT, **BF16), replace(DEFAULT, workers=2)
    monkeypatch.setattr(module, "illegal", lambda settings, *rest: "no" if settings == bf16_alone else None)
    failed = Failed(settings=workers_alone, reason="a worker died")
    found = by_name(attribute(make(failures=(failed,)), WIDE, turn_s=0.1, turns=2, limit_s=60.0))
    ((contenders, _),) = track.calls
    assert not {bf16_alone, workers_alone} & set(contenders)
    assert (found["precision"].alone, found["workers"].alone) == (None, None)
    assert found["precision"].within is not None


def test_what_was_only_ruled_out_is_not_left_out(make: Any, track: Track) -> None:
    """It could not win; what it is worth is another question."""
    pruned = Failed(settings=replace(DEFAULT, **BF16), reason="cannot exceed 10 images/s", pruned=True)
    found = by_name(attribute(make(failures=(pruned,)), BOTH, turn_s=0.1, turns=2, limit_s=60.0))
    assert found["precision"].alone is not None


@pytest.mark.parametrize("changes", [{"problem": "out of memory"}, {"rounds": 2}])
def test_who_did_not_run_to_the_end_gives_no_number(make: Any, track: Track, changes: dict[str, Any]) -> None:
    track.lanes[replace(DEFAULT, **BF16)] = changes
    found = by_name(attribute(make(), BOTH, turn_s=0.1, turns=2, limit_s=60.0))
    assert found["precision"].alone is None, "the default with bf16 alone"
    assert found["workers"].within is None, "the choice without workers: the same settings"
    assert found["precision"].within.value == pytest.approx(1.5)


def test_a_failure_of_the_whole_heat_is_no_error(make: Any, track: Track) -> None:
    track.problem = CandidateError("the child process died")
    found = attribute(make(), BOTH, turn_s=0.1, turns=2, limit_s=60.0)
    assert all(entry.alone is entry.within is None for entry in found)


def test_of_a_single_change_the_duel_has_said_it(make: Any, track: Track) -> None:
    chosen = replace(DEFAULT, **BF16)
    rates = 100.0, 90.0, 110.0, 100.0
    record = DuelRecord(
        baseline=DEFAULT, candidate=chosen, baseline_rates=rates, candidate_rates=tuple(1.4 * entry for entry in rates)
    )
    (found,) = attribute(make(duels=(record,)), chosen, turn_s=0.1, turns=2, limit_s=60.0)
    assert found.alone == found.within == record.comparison.ratio
    assert track.calls == []
