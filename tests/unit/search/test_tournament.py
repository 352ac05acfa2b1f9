"""The tournament: what can win meets the best so far in heats, what cannot is left out, and the search ends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from autotrain.knobs.base import Choices, Side
from autotrain.knobs.registry import Space, key, legal_space
from autotrain.measure.clock import Clock
from autotrain.measure.measurement import Kind, Measurement, Window
from autotrain.measure.session import Failed
from autotrain.search import tournament as module
from autotrain.search.budget import SEARCH_END, Budget
from autotrain.search.events import Stage
from autotrain.search.recorder import Recorder
from autotrain.search.study import Study
from autotrain.search.tournament import HEAT_SIZE, MOST_ALONE, Tournament, turn_s
from autotrain.settings import Settings

DEFAULT = Settings()
BF16, WORKERS = replace(DEFAULT, precision="bf16"), replace(DEFAULT, workers=2)
BOTH = replace(BF16, workers=2)


class FakeClock(Clock):
    time = 0.0

    def now(self) -> float:
        return self.time


class Field(Recorder):
    """Measures by formula: training alone and loading alone take turns at 0 workers, and else the slower one decides.

    Heats take a second for each contender, and are written down.
    """

    def __init__(self, workload: Any, session: Any, measure: Any) -> None:
        super().__init__(workload, session, lambda event: None, FakeClock())
        self.measure = measure
        self.heats: list[tuple[list[Settings], Any]] = []
        self.alone: list[list[Settings]] = []
        self.broken: dict[Settings, str] = {}
        self.truth: dict[Settings, float] = {}
        self.seen_costs: list[Any] = []

    def part(self, settings: Settings, kind: Kind) -> float:
        if kind is Kind.INPUT:
            return 400.0 * max(1, settings.workers)
        training = 1000.0 * (2.0 if settings.precision == "bf16" else 1.0)
        training *= 0.8 if settings.memory_format == "channels_last" else 1.0
        return training * (0.9 if settings.threads == 1 else 1.0)

    def rate(self, settings: Settings) -> float:
        training, loading = self.part(settings, Kind.COMPUTE), self.part(settings, Kind.INPUT)
        in_turn = 1 / (1 / training + 1 / loading)
        return self.truth.get(settings, in_turn if settings.workers == 0 else 0.95 * min(training, loading))

    def take(self, settings: Settings, kind: Kind, **changes: Any) -> Measurement:
        rate = self.rate(settings) if kind is Kind.FULL else self.part(settings, kind)
        made: Measurement = self.measure(settings, rate, kind=kind, **changes)
        # In one process, on one of its threads; workers are other cores' business.
        busy = 0.0 if kind is Kind.FULL else 1.0
        made = replace(made, windows=tuple(replace(it, cpu_main_s=busy * it.wall_s) for it in made.windows))
        self.note(measurements=(*self.session.measurements, made))
        return made

    def heat(self, contenders: Any, *, options: Any, alone: bool = False, costs: Any = None) -> list[Measurement]:
        self.clock.time += len(contenders)  # type: ignore[attr-defined]
        found, kind = [], Kind.COMPUTE if alone else Kind.FULL
        (self.alone.append(list(contenders)) if alone else self.heats.append((list(contenders), options)))
        self.seen_costs.append(costs)
        leader = max(self.rate(entry) for entry in contenders if entry not in self.broken)
        for settings in contenders:
            if settings in self.broken:
                self.failed(settings, self.broken[settings])
                continue
            behind = not alone and self.rate(settings) < 0.8 * leader
            found.append(self.take(settings, kind, stopped_early=behind))
        return found


@pytest.fixture
def make(make_workload: Any, make_session: Any, machine: Any, measure: Any) -> Any:
    """A function that makes a tournament over the given choices; the default and its parts are known."""

    def make(budget_s: float = 1000.0, *, parts: bool = True, **choices: Any) -> Tournament:
        workload = make_workload()
        only = {name: (getattr(DEFAULT, name), *choices.pop(name, ())) for name in Settings.names()}
        space = legal_space(workload, machine, only=only)
        field = Field(workload, make_session(), measure)
        field.take(DEFAULT, Kind.FULL)
        if parts:
            field.take(DEFAULT, Kind.COMPUTE)
            field.take(DEFAULT, Kind.INPUT)
        return Tournament(field, space, Budget(budget_s, field.clock), lambda event: None)

    return make


def study_of(tournament: Tournament, **options: Any) -> Study:
    return Study(tournament._space, seed=0, path=None, name="job", **options)


def field_of(tournament: Tournament) -> Any:
    return tournament._recorder


def measured(tournament: Tournament) -> set[Settings]:
    return {entry.settings for entry in field_of(tournament).session.of(Kind.FULL)}


# -- training alone -----------------------------------------------------------------------------------------------


def test_every_single_change_is_trained_alone_then_the_best_combinations(make: Any) -> None:
    made = make(precision=("bf16",), memory_format=("channels_last",), threads=(1,), workers=(1, 2, 4))
    made.ceilings(until_s=100.0)
    first, second = field_of(made).alone
    singles = [
        BF16,
        replace(DEFAULT, memory_format="channels_last"),
        replace(DEFAULT, threads=1),
        replace(BF16, memory_format="channels_last"),
    ]
    assert first[0] == second[0] == DEFAULT, "who is in both ties them together"
    assert set(first[1:]) == set(singles), "precision and layout help or hinder each other: they are tried together"
    assert replace(BF16, threads=1) in second
    assert {entry.workers for entry in (*first, *second)} == {0}, "nothing is loaded"
    assert len(second) <= HEAT_SIZE


def test_no_heat_is_larger_than_memory_allows(make: Any) -> None:
    made = make(precision=("bf16",), threads=tuple(range(1, 16)))
    made.ceilings(until_s=100.0)
    alone = field_of(made).alone
    assert all(len(entry) <= MOST_ALONE for entry in alone)
    assert {settings.threads for entry in alone for settings in entry} == set(range(16))


def test_a_ceiling_is_measured_once_and_one_that_failed_is_not_tried_again(make: Any) -> None:
    made = make(precision=("bf16",), memory_format=("channels_last",))
    field = field_of(made)
    field.broken = {BF16: "no kernel"}
    made.ceilings(until_s=100.0)
    before = list(field.alone)
    made.ceilings(until_s=100.0)
    assert field.alone == before


def test_where_steps_are_long_only_as_many_run_as_there_is_time_for_the_most_promising_first(make: Any) -> None:
    """The default's batch takes 2 s alone: a contender that starts and runs two rounds takes 8.5 s."""
    made = make(precision=("bf16",), memory_format=("channels_last",), threads=(1,))
    field = field_of(made)
    job = field.session.job
    field.session = replace(field.session, job=replace(job, batch_size=2000))
    made.ceilings(until_s=26.0)
    both = replace(BF16, memory_format="channels_last")
    assert field.alone[0] == [DEFAULT, both, BF16]
    assert len(field.alone) > 1, "the formula's heats take 3 s: the others follow while there is time"
    slow = make(precision=("bf16",), memory_format=("channels_last",), threads=(1,))
    field_of(slow).session = replace(field_of(slow).session, job=replace(job, batch_size=20_000))
    slow.ceilings(until_s=4.0)
    assert field_of(slow).alone == [[DEFAULT, both]], "one is tried however long it takes"


def test_where_steps_are_long_heats_are_small_and_leave_out_the_usual_setting(make: Any) -> None:
    made = make(60.0, precision=("bf16",), workers=(1, 2, 4), prefetch=(4, 8))
    field = field_of(made)
    field.session = replace(field.session, job=replace(field.session.job, batch_size=2000))
    made.search(study_of(made), (WORKERS,))
    (first, options), *_ = field.heats
    assert len(first) == 2
    assert WORKERS not in first
    assert options.limit_s < SEARCH_END * 60.0 - 2 * 2 * 2.0, "warming up is not left out of account"


def test_ceilings_end_with_their_time(make: Any) -> None:
    made = make(precision=("bf16",), threads=tuple(range(1, 16)))
    made.ceilings(until_s=5.0)
    assert len(field_of(made).alone) == 1
    late = make(precision=("bf16",))
    field_of(late).clock.time = 10.0
    told: list[Any] = []
    late._tell = told.append
    late.ceilings(until_s=5.0)
    assert (field_of(late).alone, told) == ([], []), "nor is a part announced that has nothing in it"
    field_of(late).clock.time = 0.0
    late.ceilings(until_s=5.0)
    assert [stage.title for stage in told] == ["ceilings"]


# -- whole steps --------------------------------------------------------------------------------------------------


def test_the_best_is_found_and_the_best_so_far_is_in_every_heat(make: Any) -> None:
    made = make(precision=("bf16",), workers=(1, 2, 4), prefetch=(4,))
    made.ceilings(until_s=100.0)
    made.search(study_of(made))
    field = field_of(made)
    best = max(measured(made), key=field.rate)
    assert field.rate(best) == max(field.rate(entry) for entry in made._space.members)
    leader = DEFAULT
    for contenders, _ in field.heats:
        assert contenders[0] == leader
        assert len(contenders) == len(set(contenders)) <= HEAT_SIZE
        leader = max((leader, *contenders), key=lambda entry: (field.rate(entry), -len(entry.changes(DEFAULT))))


def test_the_usual_setting_runs_first_whatever_is_suggested(make: Any) -> None:
    made = make(precision=("bf16",), workers=(1, 2, 4), prefetch=(4, 8))
    usual = replace(DEFAULT, workers=1, prefetch=8)
    made.search(study_of(made), (usual,))
    (first, *rest) = field_of(made).heats
    assert usual in first[0]
    assert len(first[0]) <= HEAT_SIZE
    assert not any(usual in contenders[1:] for contenders, _ in rest)


def test_it_is_in_the_study_like_the_others(make: Any) -> None:
    made = make(parts=False, precision=("bf16",), workers=(1, 2, 4), prefetch=(4, 8))
    study = study_of(made)
    made.search(study, (WORKERS,))
    assert {entry.settings for entry in study.earlier()} == measured(made)


def test_a_usual_setting_that_is_not_possible_does_not_run(make: Any) -> None:
    made = make(precision=("bf16",))
    made.search(study_of(made), (WORKERS,))
    assert WORKERS not in measured(made)


def test_it_ends_when_all_are_known(make: Any) -> None:
    made = make(parts=False, precision=("bf16",), workers=(1, 2))
    made.search(study_of(made))
    assert measured(made) == set(made._space.members)
    heats = len(field_of(made).heats)
    made.search(study_of(made))
    assert len(field_of(made).heats) == heats


def test_it_ends_when_nothing_that_is_left_can_win(make: Any) -> None:
    """Training alone at 1000 images/s bounds every way of loading for it; 400 per worker bounds the loading."""
    made = make(workers=(1, 2, 3, 4, 6, 8), prefetch=(4, 8))
    field = field_of(made)
    field.truth = {replace(DEFAULT, workers=count): 1000.0 for count in (3, 4, 6, 8)}
    made.search(study_of(made))
    pruned = [entry for entry in field.session.failures if entry.pruned]
    assert {entry.settings.workers for entry in pruned} <= {1, 2}
    assert all("cannot exceed" in entry.reason for entry in pruned)
    assert len(measured(made)) < len(made._space.members)


def test_it_ends_with_its_time(make: Any) -> None:
    made = make(24.0, precision=("bf16",), threads=(1, 2, 3), workers=(1, 2, 4), prefetch=(4, 8))
    made.search(study_of(made))
    field = field_of(made)
    assert len(field.heats) == 2, "each takes 5 of the 12 seconds, and most of a third would come too late"
    assert field.clock.time <= SEARCH_END * 24.0
    assert all(options.limit_s <= 12.0 for _, options in field.heats)


def test_one_heat_runs_even_where_all_before_took_too_long(make: Any) -> None:
    made = make(10.0, precision=("bf16",), threads=(1, 2, 3), workers=(1, 2, 4))
    field_of(made).clock.time = 10.0 * SEARCH_END + 0.1
    made.search(study_of(made))
    assert len(field_of(made).heats) == 1


def test_in_an_automatic_budget_the_first_heats_run_however_late_it_is(make: Any) -> None:
    made = make(10.0, precision=("bf16",), workers=(1, 2))
    made._budget.automatic = True
    field_of(made).clock.time = 100.0
    made.ceilings(until_s=5.0)
    made.ceilings(until_s=5.0)
    assert field_of(made).alone == [[DEFAULT, BF16]]
    made.search(study_of(made))
    made.search(study_of(made))
    assert [len(contenders) for contenders, _ in field_of(made).heats] == [2]
    failing = make(10.0, precision=("bf16",), workers=(1, 2))
    failing._budget.automatic = True
    field_of(failing).clock.time = 100.0
    field_of(failing).broken = {entry: "no kernel" for entry in failing._space.members if entry != DEFAULT}
    failing.search(study_of(failing))
    assert len(field_of(failing).heats) == 1, "once one has failed, time counts again"


def test_without_time_nothing_runs(make: Any) -> None:
    made = make(10.0, precision=("bf16",))
    field_of(made).clock.time = 10.0 * module.LATEST_START
    made.search(study_of(made))
    assert field_of(made).heats == []


def test_who_fails_is_told_to_the_study_with_its_own_reason(make: Any) -> None:
    made = make(parts=False, precision=("bf16",), workers=(1, 2))
    field_of(made).broken = {BF16: "no kernel", replace(DEFAULT, workers=1): "a worker died"}
    study = study_of(made)
    made.search(study)
    reasons = {trial.user_attrs["changes"]: trial.user_attrs.get("reason") for trial in study._study.trials}
    assert reasons["precision=bf16"] == "no kernel"
    assert reasons["workers=1"] == "a worker died"
    states = {trial.user_attrs["changes"]: trial.state.name for trial in study._study.trials}
    assert states["precision=bf16"] == "FAIL"
    assert states["workers=2"] == "COMPLETE"


def test_heats_compare_what_whole_trainings_cost(make: Any) -> None:
    made = make()
    cached = replace(DEFAULT, cache="ram")
    made._heat([DEFAULT, cached], module.SCREENING, until_s=100.0)
    (costs,) = field_of(made).seen_costs
    assert [entry.fixed_s > 0 for entry in costs] == [False, True]
    assert costs[0].images > costs[1].images


# -- refusals -----------------------------------------------------------------------------------------------------


def test_what_is_no_member_is_refused(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(precision=("bf16",))
    assert "ruled out" in made._refusal(WORKERS)
    monkeypatch.setattr(module, "illegal", lambda settings, *rest: "workers: needs pickling")
    assert made._refusal(WORKERS) == "workers: needs pickling"
    assert field_of(made).session.failures == ()


def test_what_is_known_or_has_failed_is_refused(make: Any) -> None:
    made = make(precision=("bf16",), workers=(2,))
    assert made._refusal(DEFAULT) == "measured already"
    field_of(made).failed(BF16, "no kernel")
    assert made._refusal(BF16) == "no kernel"


def test_what_cannot_win_is_refused_and_kept_as_not_measured(make: Any) -> None:
    made = make(workers=(1, 2, 4))
    field = field_of(made)
    assert made._refusal(WORKERS) is None
    field.truth[replace(DEFAULT, workers=4)] = 950.0
    field.take(replace(DEFAULT, workers=4), Kind.FULL)
    assert "cannot exceed" in made._refusal(replace(DEFAULT, workers=1))
    (failure,) = field.session.failures
    assert (failure.settings, failure.pruned) == (replace(DEFAULT, workers=1), True)
    assert made._refusal(replace(DEFAULT, workers=1)) == failure.reason
    assert len(field.session.failures) == 1


def test_what_nothing_is_known_of_may_win(make: Any) -> None:
    made = make(parts=False, precision=("bf16",))
    assert made._refusal(BF16) is None


# -- play-off -----------------------------------------------------------------------------------------------------


def play_off(made: Tournament, rates: dict[Settings, float], *, again: dict[Settings, float] | None = None) -> Any:
    field = field_of(made)
    field.truth = rates
    for settings in rates:
        field.take(settings, Kind.FULL)
    field.truth = again or rates
    return made.play_off(until_s=100.0)


def test_of_those_that_tie_the_fewest_changes_win(make: Any) -> None:
    chosen = play_off(make(), {DEFAULT: 400.0, BOTH: 1004.0, WORKERS: 1000.0, BF16: 1002.0})
    assert chosen == BF16, "fewest changes, then the faster one"


def test_the_best_of_many_meets_those_close_to_it_once_more(make: Any) -> None:
    """It was best by luck."""
    made = make()
    again = {BOTH: 1000.0, WORKERS: 1020.0, BF16: 700.0, DEFAULT: 400.0}
    chosen = play_off(made, {DEFAULT: 400.0, BOTH: 1040.0, WORKERS: 1000.0, BF16: 700.0}, again=again)
    ((contenders, options),) = field_of(made).heats
    assert contenders == [BOTH, WORKERS], "nobody else comes near"
    assert options.limit_s <= 100.0
    assert chosen == WORKERS


def test_the_play_off_has_its_own_end(make: Any) -> None:
    made = make(100.0, precision=("bf16",), workers=(2,))
    field_of(made).clock.time = 100.0 * SEARCH_END
    play_off(made, {BF16: 900.0, BOTH: 890.0})
    _, options = field_of(made).heats[-1]
    assert options.limit_s > module.LEAST_HEAT_S


def test_there_are_few_finalists(make: Any) -> None:
    made = make()
    play_off(made, {DEFAULT: 400.0} | {replace(DEFAULT, workers=count): 1000.0 + count for count in range(1, 9)})
    ((contenders, _),) = field_of(made).heats
    assert len(contenders) == module.FINALISTS
    assert contenders[0].workers == 8


def test_without_a_rival_or_time_the_best_goes_on(make: Any) -> None:
    made = make()
    assert play_off(made, {DEFAULT: 400.0, BOTH: 1000.0}) == BOTH
    assert field_of(made).heats == []


@pytest.mark.parametrize(("rate", "chosen"), [(999.0, WORKERS), (960.0, BOTH)])
def test_without_time_the_simplest_of_equals_goes_on(make: Any, rate: float, chosen: Settings) -> None:
    late = make()
    field_of(late).clock.time = 200.0
    assert play_off(late, {DEFAULT: 400.0, BOTH: 1000.0, WORKERS: rate}) == chosen
    assert field_of(late).heats == []


def test_the_default_can_win_the_play_off(make: Any) -> None:
    assert play_off(make(), {DEFAULT: 999.0, BOTH: 1000.0}) == DEFAULT


def test_without_candidates_there_is_no_finalist(make: Any) -> None:
    made = make()
    field_of(made).failed(DEFAULT, "it died")
    assert made.play_off(until_s=100.0) is None


def test_who_fails_in_the_play_off_does_not_win_it(make: Any) -> None:
    made = make()
    field_of(made).broken = {BOTH: "out of memory"}
    assert play_off(made, {DEFAULT: 400.0, BOTH: 1000.0, WORKERS: 990.0}) == WORKERS


# -- compiler -----------------------------------------------------------------------------------------------------


def compile_space(made: Tournament, modes: tuple[str, ...]) -> None:
    choices = dict(made._space.choices)
    choices["compile"] = replace(choices["compile"], allowed=("none", *modes))
    made._space = Space(default=DEFAULT, choices=choices, members=made._space.members)


def test_the_compiler_is_tried_on_the_best_where_it_can_be(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make()
    field = field_of(made)
    field.truth[BF16] = 900.0
    field.take(BF16, Kind.FULL)
    compile_space(made, ("default", "max-autotune"))
    graphs = "max-autotune"
    monkeypatch.setattr(module, "illegal", lambda settings, *rest: "CUDA" if settings.compile == graphs else None)
    made.compiled()
    ((contenders, _),) = field.heats
    assert contenders == [BF16, replace(BF16, compile="default")]


def test_where_there_is_no_compiler_nothing_runs(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make()
    compile_space(made, ("default",))
    monkeypatch.setattr(module, "illegal", lambda settings, *rest: "there is no C++ compiler")
    told: list[Any] = []
    made._tell = told.append
    made.compiled()
    assert field_of(made).heats == []
    assert not [entry for entry in told if isinstance(entry, Stage)]


# -- going on, and turns ------------------------------------------------------------------------------------------


def test_what_an_earlier_run_measured_is_taken_over(make: Any, measure: Any, tmp_path: Any) -> None:
    path = tmp_path / "study.db"
    made = make(parts=False, precision=("bf16",), workers=(1, 2))
    made.search(Study(made._space, seed=0, path=path, name="job"))
    again = make(parts=False, precision=("bf16",), workers=(1, 2))
    again.search(Study(again._space, seed=0, path=path, name="job"))
    assert field_of(again).heats == []
    assert measured(again) == measured(made)
    own = field_of(again).session.find(Kind.FULL, DEFAULT)
    assert field_of(again).session.measurements[-1] is own, "the default is as this run measured it"


def loading(rate: float, cpu_share: float, *, workers: int = 0) -> Measurement:
    seconds = 64 / rate
    window = Window(
        steps=1, images=64, wall_s=seconds, wait_s=seconds, cpu_main_s=cpu_share * seconds, cpu_workers_s=0.0
    )
    return Measurement(
        kind=Kind.INPUT,
        settings=replace(DEFAULT, workers=workers),
        windows=(window,),
        startup_s=0.0,
        warmup_steps=1,
        stationary=True,
    )


@pytest.mark.parametrize(
    ("measurements", "seconds"),
    [
        ((), 0.1),
        ((loading(400.0, 1.0),), 0.1),  # the CPU's own work
        ((loading(100.0, 0.0),), 0.4),  # 10 ms of waiting for each sample
        ((loading(100.0, 0.5), loading(1000.0, 0.0)), 0.2),
        ((loading(2.0, 0.0),), 1.0),
        ((loading(2.0, 0.0, workers=4),), 0.1),  # of workers it is not known
    ],
)
def test_a_turn_is_much_longer_than_the_wait_for_a_sample(measurements: Any, seconds: float) -> None:
    """A wait goes on while its worker is frozen."""
    assert turn_s(measurements) == pytest.approx(seconds)


def test_sides_are_told_apart_by_what_they_depend_on() -> None:
    assert key(BF16, Side.COMPUTE) == key(BOTH, Side.COMPUTE) != key(WORKERS, Side.COMPUTE)
    assert Failed(settings=BF16, reason="") != Failed(settings=BOTH, reason="")


@pytest.mark.parametrize(("rate", "taken"), [(195.0, True), (180.0, False)])
def test_what_another_machine_came_first_with_is_taken_where_it_is_a_near_equal(
    workload, make_session, measure, monkeypatch, tmp_path, rate, taken
):
    """Also where it was not known before this one's own duel."""
    found = legal_space(workload, make_session().machine)
    space = Space(default=DEFAULT, choices=found.choices, members=(DEFAULT, BF16, WORKERS))
    session = make_session(measure(DEFAULT, 100.0), measure(BF16, 200.0))
    recorder = Recorder(workload, session, lambda event: None, FakeClock())
    tournament = Tournament(recorder, space, Budget(60.0, FakeClock()), lambda event: None)
    own = Study(space, seed=0, path=tmp_path / "shared.journal", name="job")
    tournament.share(own)
    assert tournament.equal_elsewhere(BF16) is None
    monkeypatch.setattr("autotrain.search.storage.place", lambda: "another-machine pid:[1]")
    other = Study(space, seed=0, path=tmp_path / "shared.journal", name="job")
    other.add_known(WORKERS, 1.0, measure(WORKERS, rate))
    other.conclude(WORKERS)
    monkeypatch.undo()
    tournament.share(own)
    assert tournament.equal_elsewhere(BF16) == (WORKERS if taken else None)
    assert tournament.equal_elsewhere(WORKERS) is None


def test_a_cache_of_another_run_that_has_no_room_here_is_not_taken_over(workload, make_session, measure, tmp_path):
    cached = replace(DEFAULT, cache="ram")
    offered = {"cache": Choices(allowed=("none", "ram")), "workers": Choices(allowed=(0, 2))}
    wide = Space(default=DEFAULT, choices=offered, members=(DEFAULT, WORKERS, cached))
    study = Study(wide, seed=0, path=tmp_path / "shared.journal", name="job")
    for settings in (WORKERS, cached):
        study.add_known(settings, 1.0, measure(settings, 900.0))
    narrow = replace(wide, choices={**offered, "cache": Choices(allowed=("none",))}, members=(DEFAULT, WORKERS))
    recorder = Recorder(workload, make_session(measure(DEFAULT, 100.0)), lambda event: None, FakeClock())
    tournament = Tournament(recorder, narrow, Budget(60.0, FakeClock()), lambda event: None)
    tournament.share(study)
    assert {entry.settings for entry in recorder.session.of(Kind.FULL)} == {DEFAULT, WORKERS}
