"""The recorder measures once, keeps all of it on one scale, and makes a result of whatever goes wrong."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from autotrain.errors import CandidateError, DataError
from autotrain.knobs.registry import KNOBS
from autotrain.measure.burst import BurstOptions
from autotrain.measure.clock import Clock
from autotrain.measure.drive import FullDrive, InputDrive
from autotrain.measure.heat import Cost, Heat, HeatInterrupted, HeatOptions, Lane
from autotrain.measure.measurement import Kind, Window
from autotrain.search import recorder as module
from autotrain.search.events import Measured, Measuring, Noted, Skipped
from autotrain.search.recorder import PATIENCE, REPEATS, Recorder, describe, one_burst, risky, value_words
from autotrain.settings import Settings

DEFAULT, BF16, WORKERS = Settings(), Settings(precision="bf16"), Settings(workers=2)
COMPILED = Settings(compile="default")
OPTIONS = HeatOptions(rounds=3)


def lane(settings: Settings, *rates: float, **changes: Any) -> Lane:
    windows = tuple(
        Window(steps=1, images=64, wall_s=64 / rate, wait_s=0.0, cpu_main_s=0.0, cpu_workers_s=0.0) for rate in rates
    )
    return Lane(settings=settings, windows=windows, **{"startup_s": 0.25, "warmup_steps": 3, **changes})


class Track:
    """Stands in for heats: each settings have rates, or problems; calls are written down."""

    def __init__(self) -> None:
        self.lanes: dict[Settings, Lane] = {}
        self.calls: list[dict[str, Any]] = []
        self.problem: BaseException | None = None
        self.facts: dict[str, Any] = {}

    def heat(self, workload: Any, contenders: Any, **options: Any) -> Heat:
        self.calls.append({"contenders": list(contenders), **options})
        if self.problem is not None:
            raise self.problem
        lanes = tuple(self.lanes.get(entry) or lane(entry, 100.0, 100.0) for entry in contenders)
        return Heat(kind=Kind.FULL, lanes=lanes, **self.facts)


@pytest.fixture
def track(monkeypatch: pytest.MonkeyPatch) -> Track:
    made = Track()
    monkeypatch.setattr(module, "heat", made.heat)
    return made


@pytest.fixture
def heard() -> list[Any]:
    return []


@pytest.fixture
def make(workload: Any, make_session: Any, heard: list[Any]) -> Any:
    """A function that makes a recorder whose session has some measurements."""

    def make(*measurements: Any, **options: Any) -> Recorder:
        return Recorder(workload, make_session(*measurements), heard.append, Clock(), **options)

    return make


# -- heats --------------------------------------------------------------------------------------------------------


def test_the_first_of_a_heat_keeps_its_rate_and_gives_the_others_theirs(make: Any, track: Track, measure: Any) -> None:
    """The machine is at half its speed in this heat: what counts is how they compare."""
    recorder = make(measure(DEFAULT, 200.0))
    track.lanes = {DEFAULT: lane(DEFAULT, 100.0, 100.0), BF16: lane(BF16, 150.0, 150.0)}
    before = recorder.session.find(Kind.FULL, DEFAULT).rate.value
    default, bf16 = recorder.heat([DEFAULT, BF16], options=OPTIONS)
    assert default.rate.value == pytest.approx(before)
    assert bf16.rate.value == pytest.approx(1.5 * before)
    assert default.scale == bf16.scale == pytest.approx(before / 100)
    assert recorder.session.measurements[1:] == (default, bf16)


def test_a_second_heat_is_tied_to_the_first(make: Any, track: Track, measure: Any) -> None:
    recorder = make(measure(DEFAULT, 200.0))
    track.lanes = {DEFAULT: lane(DEFAULT, 100.0, 100.0), BF16: lane(BF16, 150.0, 150.0)}
    recorder.heat([DEFAULT, BF16], options=OPTIONS)
    track.lanes = {BF16: lane(BF16, 400.0, 400.0), WORKERS: lane(WORKERS, 500.0, 500.0)}
    recorder.heat([BF16, WORKERS], options=OPTIONS)
    assert recorder.session.find(Kind.FULL, WORKERS).rate.value == pytest.approx(200 * 1.5 * 500 / 400, rel=0.01)
    assert [entry.heat for entry in recorder.session.measurements] == [None, 1, 1, 2, 2]
    assert track.calls[0]["seed"] != track.calls[1]["seed"], "not the same order every time"


def test_where_nothing_is_known_rates_are_as_measured(make: Any, track: Track) -> None:
    default, _ = make().heat([DEFAULT, BF16], options=OPTIONS)
    assert (default.scale, default.rate.value) == (1.0, pytest.approx(100.0))


def test_a_heat_tells_all_that_it_saw(make: Any, track: Track, measure: Any) -> None:
    track.lanes = {BF16: lane(BF16, 50.0, 50.0, left_behind=True, compile_s=4.0, warmup_steps=9)}
    track.facts = {"repeats": 2, "other_cpu_share": 0.1}
    recorder = make(measure(DEFAULT, 100.0))
    recorder.note(cold_bytes_per_s=1e8)
    default, slow = recorder.heat([DEFAULT, BF16], options=OPTIONS)
    assert (default.stopped_early, slow.stopped_early) == (False, True)
    assert (slow.compile_s, slow.startup_s, slow.warmup_steps) == (4.0, 0.25, 9)
    assert (slow.repeats, slow.other_cpu_share, slow.page_cache) == (2, 0.1, "warm")


def test_people_see_the_fastest_first(make: Any, track: Track, heard: list[Any]) -> None:
    track.lanes = {BF16: lane(BF16, 150.0, 150.0)}
    make().heat([DEFAULT, BF16], options=OPTIONS)
    assert heard[0] == Measuring(what="2 side by side")
    assert [entry.what for entry in heard if isinstance(entry, Measured)] == ["bf16", "default"]


def test_what_was_predicted_before_stands_beside_what_was_measured(
    make: Any, track: Track, measure: Any, heard: list[Any]
) -> None:
    parts = [measure(DEFAULT, 400.0, kind=Kind.COMPUTE), measure(DEFAULT, 400.0, kind=Kind.INPUT)]
    default, bf16 = make(*parts).heat([DEFAULT, BF16], options=OPTIONS)
    assert default.predicted == pytest.approx(200.0, rel=0.02)
    assert default.bound >= default.predicted
    assert (bf16.predicted, bf16.bound) == (None, None)
    assert {entry.predicted for entry in heard if isinstance(entry, Measured)} == {default.predicted, None}


def test_training_alone_needs_no_workers_and_has_no_prediction(make: Any, track: Track) -> None:
    recorder = make()
    first, second = recorder.heat([WORKERS, replace(WORKERS, precision="bf16")], options=OPTIONS, alone=True)
    assert track.calls[0]["contenders"] == [DEFAULT, BF16]
    assert {first.kind, second.kind} == {Kind.COMPUTE}
    assert (first.predicted, first.bound) == (None, None)
    assert recorder.compute(replace(BF16, workers=1)) is second


def test_costs_go_with_their_contenders(make: Any, track: Track) -> None:
    costs = [Cost(images=10), Cost(fixed_s=3.0, images=10)]
    make().heat([DEFAULT, BF16], options=OPTIONS, costs=costs)
    assert track.calls[0]["costs"] == costs


def test_who_fails_in_a_heat_is_a_failure_and_no_measurement(make: Any, track: Track, heard: list[Any]) -> None:
    """Not even where it failed in the middle: what it reached by then could win."""
    track.lanes = {BF16: lane(BF16, 900.0, 900.0, problem="the worker died"), WORKERS: lane(WORKERS, problem="no room")}
    recorder = make()
    found = recorder.heat([DEFAULT, BF16, WORKERS], options=OPTIONS)
    assert [entry.settings for entry in found] == [DEFAULT]
    assert {entry.settings: entry.reason for entry in recorder.session.failures} == {
        BF16: "the worker died",
        WORKERS: "no room",
    }
    assert not any(entry.pruned for entry in recorder.session.failures)
    assert Skipped(settings=BF16, reason="the worker died", failed=True) in heard


def test_what_does_not_fit_into_memory_side_by_side_runs_in_pairs(make: Any, track: Track, measure: Any) -> None:
    recorder = make(measure(DEFAULT, 100.0))
    crowded = lane(BF16, problem="out of memory on cuda:0")
    broken = Settings(memory_format="channels_last")
    track.lanes = {BF16: crowded, broken: lane(broken, problem="no kernel")}
    heats, costs = [], [Cost(images=n) for n in (1, 2, 3, 4)]

    def heat(workload: Any, contenders: Any, **options: Any) -> Heat:
        if len(contenders) == 2:
            track.lanes = {}
        heats.append((contenders, options["costs"]))
        return Track.heat(track, workload, contenders, **options)

    module.heat = heat  # the fixture puts the real one back
    found = recorder.heat([DEFAULT, BF16, WORKERS, broken], options=OPTIONS, costs=costs)
    assert [entry for entry, _ in heats[1:]] == [[DEFAULT, BF16], [DEFAULT, WORKERS]]
    assert [list(entry) for _, entry in heats[1:]] == [[costs[0], costs[1]], [costs[0], costs[2]]]
    assert [entry.settings for entry in found] == [DEFAULT, BF16, WORKERS]
    assert [(entry.settings, entry.reason) for entry in recorder.session.failures] == [(broken, "no kernel")]


def test_what_does_not_fit_beside_one_other_has_failed(make: Any, track: Track) -> None:
    track.lanes = {BF16: lane(BF16, problem="out of memory on cuda:0")}
    recorder = make()
    recorder.heat([DEFAULT, BF16], options=OPTIONS)
    assert [entry.settings for entry in recorder.session.failures] == [BF16]
    assert len(track.calls) == 1


def test_ctrl_c_in_a_heat_keeps_what_it_saw(make: Any, track: Track) -> None:
    seen = Heat(kind=Kind.FULL, lanes=(lane(DEFAULT, 100.0), lane(BF16, 150.0), lane(WORKERS)))
    track.problem = HeatInterrupted(seen)
    recorder = make()
    with pytest.raises(KeyboardInterrupt):
        recorder.heat([DEFAULT, BF16, WORKERS], options=OPTIONS)
    assert [entry.settings for entry in recorder.session.measurements] == [DEFAULT, BF16]


# -- child processes ----------------------------------------------------------------------------------------------


class FakeChild:
    """Runs calls in this process; dies of what it is told to."""

    calls: list[Any]
    deadly: set[Settings]
    open = 0

    def __enter__(self) -> FakeChild:
        type(self).open += 1
        return self

    def __exit__(self, *exc: object) -> None:
        type(self).open -= 1

    def run(self, function: Any, workload: Any, *arguments: Any, limit_s: float, on_report: Any, **options: Any) -> Any:
        ran = [entry for part in arguments for entry in (part if isinstance(part, list) else [part])]
        self.calls.append((function, ran, limit_s))
        if self.deadly & set(ran):
            raise CandidateError("the child process died: segmentation fault (signal 11)")
        if on_report is not None:
            options["report"] = on_report
        return function(workload, *arguments, **options)


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> type[FakeChild]:
    kind: type[FakeChild] = type("Fake", (FakeChild,), {"calls": [], "deadly": set(), "open": 0})
    monkeypatch.setattr(module, "Child", kind)
    return kind


def test_what_may_kill_the_process_is_known() -> None:
    assert risky(COMPILED)
    assert risky(Settings(decoder="nvjpeg"))
    assert not risky(DEFAULT)
    assert not risky(BF16)


def test_only_what_may_kill_the_process_runs_in_a_child(make: Any, track: Track, child: type[FakeChild]) -> None:
    with make() as recorder:
        recorder.heat([DEFAULT, BF16], options=OPTIONS)
        assert child.calls == []
        recorder.heat([DEFAULT, COMPILED], options=OPTIONS)
        recorder.heat([COMPILED, BF16], options=HeatOptions(limit_s=30.0))
        assert [settings for _, settings, _ in child.calls] == [[DEFAULT, COMPILED], [COMPILED, BF16]]
        assert all(math.isfinite(limit) for _, _, limit in child.calls)
        assert child.calls[1][2] >= 30.0
        assert child.open == 1, "one child serves all calls"
    assert child.open == 0


def test_with_isolation_everything_does(make: Any, track: Track, child: type[FakeChild]) -> None:
    with make(isolate=True) as recorder:
        recorder.heat([DEFAULT, BF16], options=OPTIONS)
    assert len(child.calls) == 1


def test_reports_come_through(make: Any, child: type[FakeChild]) -> None:
    def telling(workload: Any, *, report: Any) -> int:
        report("half")
        return 3

    for settings in (DEFAULT, COMPILED):
        told: list[str] = []
        with make() as recorder:
            assert recorder.run(telling, settings=[settings], limit_s=1.0, report=told.append) == 3
        assert told == ["half"]


def test_a_childs_death_is_the_failure_of_whom_it_was_risked_for(
    make: Any, track: Track, child: type[FakeChild]
) -> None:
    """The others run again without it."""
    child.deadly = {COMPILED}
    costs = [Cost(images=n) for n in (1, 2, 3)]
    with make() as recorder:
        found = recorder.heat([DEFAULT, COMPILED, BF16], options=OPTIONS, costs=costs)
    assert [entry.settings for entry in found] == [DEFAULT, BF16]
    assert [(entry.settings, entry.pruned) for entry in recorder.session.failures] == [(COMPILED, False)]
    assert "segmentation fault" in recorder.session.failures[0].reason
    assert track.calls[-1]["contenders"] == [DEFAULT, BF16]
    assert track.calls[-1]["costs"] == [costs[0], costs[2]]


def test_with_isolation_a_death_is_everybodys_but_the_firsts(make: Any, track: Track, child: type[FakeChild]) -> None:
    child.deadly = {BF16}
    with make(isolate=True) as recorder:
        assert recorder.heat([DEFAULT, BF16, WORKERS], options=OPTIONS) == []
    assert [entry.settings for entry in recorder.session.failures] == [BF16, WORKERS]
    assert recorder.session.measurements == ()


def test_a_childs_death_in_a_burst_is_a_failure(make: Any, child: type[FakeChild]) -> None:
    child.deadly = {COMPILED}
    with make() as recorder:
        assert recorder.full(COMPILED) is None
    assert [entry.settings for entry in recorder.session.failures] == [COMPILED]


# -- bursts -------------------------------------------------------------------------------------------------------


class Bench:
    """Stands in for bursts: each has a share of the CPU that others took."""

    def __init__(self, measure: Any) -> None:
        self.shares: list[float | None] = []
        self.calls: list[tuple[Settings, Any]] = []
        self.measure = measure
        self.problem: Exception | None = None

    def one_burst(self, workload: Any, settings: Settings, *, make_drive: Any, options: Any) -> Any:
        self.calls.append((settings, make_drive))
        if self.problem is not None:
            raise self.problem
        share = self.shares.pop(0) if self.shares else 0.0
        kind = {FullDrive: Kind.FULL, InputDrive: Kind.INPUT}.get(make_drive, Kind.COMPUTE)
        rate = 100.0 * (1 - (share or 0.0))
        return self.measure(settings, rate, kind=kind, other_cpu_share=share)


@pytest.fixture
def bench(measure: Any, monkeypatch: pytest.MonkeyPatch) -> Bench:
    made = Bench(measure)
    monkeypatch.setattr(module, "one_burst", made.one_burst)
    return made


def test_nothing_is_measured_twice(make: Any, bench: Bench) -> None:
    recorder = make()
    for measured in (recorder.full, recorder.compute, recorder.loading):
        assert measured(DEFAULT) is measured(DEFAULT)
    assert len(bench.calls) == 3
    assert recorder.compute(WORKERS) is recorder.compute(DEFAULT), "training alone knows no workers"
    assert recorder.loading(BF16) is recorder.loading(DEFAULT), "loading alone no precision"
    recorder.loading(WORKERS)
    recorder.compute(BF16)
    assert len(bench.calls) == 5


def test_a_burst_keeps_what_was_expected_of_it(make: Any, bench: Bench) -> None:
    recorder = make()
    parts = recorder.compute(DEFAULT), recorder.loading(DEFAULT)
    full = recorder.full(DEFAULT)
    assert full.predicted == pytest.approx(50.0, rel=0.02)
    assert full.bound >= full.predicted
    assert {(entry.predicted, entry.bound) for entry in parts} == {(None, None)}


def test_a_disturbed_burst_is_run_again_and_the_least_disturbed_counts(
    make: Any, bench: Bench, heard: list[Any]
) -> None:
    bench.shares = [0.6, 0.5, 0.55]
    measured = make().full(DEFAULT)
    assert len(bench.calls) == REPEATS + 1
    assert (measured.other_cpu_share, measured.repeats) == (0.5, REPEATS)
    assert len([entry for entry in heard if isinstance(entry, Noted)]) == REPEATS
    assert len([entry for entry in heard if isinstance(entry, Measured)]) == 1


def test_a_burst_of_few_long_steps_is_taken_as_it_is(make: Any, bench: Bench) -> None:
    bench.shares = [0.6] * 100
    recorder = make()
    measured = recorder.full(DEFAULT)
    limit_s = measured.wall_s / module.LONG
    for factor, calls in ((1.01, REPEATS + 1), (0.99, 1)):
        recorder, bench.calls = make(), []
        recorder.full(DEFAULT, options=BurstOptions(limit_s=factor * limit_s))
        assert len(bench.calls) == calls


def test_rounds_are_run_again_while_there_is_hope_of_quiet(make: Any, bench: Bench, track: Track) -> None:
    recorder = make()
    recorder.heat([DEFAULT, BF16], options=OPTIONS)
    bench.shares = [0.6] * 100
    for settings in (DEFAULT, WORKERS, BF16):
        recorder.full(settings)
    recorder.heat([DEFAULT, BF16], options=OPTIONS)
    track.facts = {"other_cpu_share": 0.01}
    recorder.heat([DEFAULT, BF16], options=OPTIONS)
    recorder.heat([DEFAULT, BF16], options=OPTIONS)
    assert [call["options"].again for call in track.calls] == [True, False, False, True]


def test_it_is_not_once_it_was_left_in_peace(make: Any, bench: Bench) -> None:
    bench.shares = [0.6, 0.1]
    measured = make().full(DEFAULT)
    assert (len(bench.calls), measured.other_cpu_share, measured.repeats) == (2, 0.1, 1)


def test_a_machine_that_is_busy_all_the_time_is_taken_as_it_is(make: Any, bench: Bench) -> None:
    recorder, bench.shares = make(), [0.6] * 100
    candidates = [replace(DEFAULT, workers=count) for count in range(8)]
    for settings in candidates:
        recorder.full(settings)
    assert len(bench.calls) == len(candidates) + PATIENCE
    assert recorder.busy
    bench.calls, bench.shares = [], [0.0] + [0.6] * 100
    for settings in candidates[:2]:
        recorder.full(replace(settings, precision="bf16"))
    assert len(bench.calls) == 1 + 1 + REPEATS, "but a quiet moment gives hope again"


def test_where_disturbance_is_not_known_nothing_is_run_again(make: Any, bench: Bench) -> None:
    bench.shares = [None]
    assert make().full(DEFAULT).repeats == 0


def test_a_burst_that_fails_is_a_failure(make: Any, bench: Bench, heard: list[Any]) -> None:
    bench.problem = RuntimeError("no kernel\nmore lines")
    recorder = make()
    assert recorder.full(BF16) is None
    assert [(entry.settings, entry.reason) for entry in recorder.session.failures] == [(BF16, "no kernel")]
    assert heard[-1] == Skipped(settings=BF16, reason="no kernel", failed=True)


def test_an_error_of_the_users_own_is_no_candidates(make: Any, bench: Bench) -> None:
    bench.problem = DataError("sample 3 cannot be read")
    with pytest.raises(DataError):
        make().full(BF16)


@pytest.mark.usefixtures("one_thread")
def test_a_real_burst_is_measured(make: Any) -> None:
    options = replace(module.SCREENING, windows=2, least_windows=2, window_s=0.02, warmup_s=0.02)
    with make() as recorder:
        measured = recorder.run(one_burst, BF16, settings=[BF16], limit_s=1.0, make_drive=FullDrive, options=options)
    assert (measured.kind, measured.settings, len(measured.windows)) == (Kind.FULL, BF16, 2)
    assert measured.rate.value > 0


# -- words --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "default"),
        ({"workers": 1}, "1 worker"),
        ({"precision": "bf16", "workers": 4, "prefetch": 8}, "bf16, 4 workers, prefetch 8"),
        ({"memory_format": "channels_last", "threads": 1}, "channels-last, 1 thread"),
        ({"cache": "ram"}, "cached in RAM"),
        ({"compile": "default"}, "compiled"),
        ({"compile": "max-autotune", "optimizer_kernel": "fused"}, "compiled (max-autotune), fused optimizer kernel"),
        ({"cudnn_benchmark": True, "micro_batches": 2}, "cuDNN benchmark, 2 micro-batches"),
        ({"cache": "disk", "placement": "device", "pinning": True}, "augmenting on the device, cached on disk, pinned"),
    ],
)
def test_settings_are_described_by_what_differs(changes: dict[str, Any], words: str) -> None:
    assert describe(replace(DEFAULT, **changes), DEFAULT) == words


@pytest.mark.parametrize("name", Settings.names())
def test_two_choices_of_a_knob_are_told_apart(name: str) -> None:
    """``default``, ``True`` or ``2`` alone would not say of what."""
    known = {entry.name: entry.known for entry in KNOBS if entry.name == name and hasattr(entry, "known")}.get(name)
    values = known or {bool: (False, True), int: (1, 2, 4)}[type(getattr(DEFAULT, name))]
    words = [value_words(name, value) for value in values]
    assert len(set(words)) == len(words)
    assert not {"default", "none", "own", "True", "False", "1", "2"} & set(words)
