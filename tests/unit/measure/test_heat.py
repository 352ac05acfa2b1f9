"""A heat: everybody has the same turns, who fails or is clearly slower leaves the others running, and it ends."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from autotrain.errors import CandidateError, DataError
from autotrain.hardware.monitor import Conditions
from autotrain.measure import heat as module
from autotrain.measure.heat import Cost, HeatInterrupted, HeatOptions, heat, pooled, steady_rate
from autotrain.measure.measurement import Kind, Window
from autotrain.settings import Settings

FIRST, SECOND, THIRD = Settings(), Settings(workers=2), Settings(workers=4)
OPTIONS = HeatOptions(rounds=6, turns=2, turn_s=0.125)


def window(rate: float, seconds: float = 0.125, **changes: Any) -> Window:
    values = {"steps": 1, "wait_s": 0.0, "cpu_main_s": seconds, "cpu_workers_s": 0.0, **changes}
    return Window(images=rate * seconds, wall_s=seconds, **values)  # type: ignore[arg-type]


class Scene:
    """What contenders do: images/s by settings, as a number or as a function of how many turns they have had.

    A function may raise, as may what is done at the start.
    """

    device = torch.device("cpu")

    def __init__(self, clock: Any) -> None:
        self.clock = clock
        self.rates: dict[Settings, float | Callable[[int], float]] = {}
        self.broken: dict[Settings, Exception] = {}
        self.shares: Iterator[float] = iter(())
        self.turns: list[Settings] = []
        self.closed: list[Settings] = []

    def contender(self, settings: Settings, stack: ExitStack) -> Any:
        stack.callback(self.closed.append, settings)
        if settings in self.broken:
            raise self.broken[settings]
        return SimpleNamespace(
            kind=Kind.FULL,
            startup_s=1.5,
            compile_s=0.5,
            warmup_steps=7,
            warm_up=lambda: None,
            turn=lambda: self.turn(settings),
        )

    def turn(self, settings: Settings) -> Window:
        assert settings not in self.closed
        self.turns.append(settings)
        rate = self.rates.get(settings, 100.0)
        made = window(rate(self.turns.count(settings) - 1) if callable(rate) else rate)
        self.clock.wall += made.wall_s
        return made

    def run(self, *contenders: Settings, options: HeatOptions = OPTIONS, **more: Any) -> module.Heat:
        result = heat(self, contenders, options=options, clock=self.clock, **more)  # type: ignore[arg-type]
        assert Counter(self.closed) == Counter(contenders), "everybody's rig is closed, once"
        return result


@pytest.fixture
def scene(clock: Any, monkeypatch: pytest.MonkeyPatch) -> Scene:
    made = Scene(clock)

    class Monitor:
        def __init__(self, now: Callable[[], float], *, beside: Sequence[int]) -> None:
            assert now() == clock.wall
            assert beside == ()

        def start(self) -> None:
            pass

        def stop(self) -> Conditions:
            return Conditions(other_cpu_share=next(made.shares, 0.0))

    monkeypatch.setattr(
        module, "Contender", lambda workload, settings, stack, options, **rest: made.contender(settings, stack)
    )
    monkeypatch.setattr(module, "Monitor", Monitor)
    return made


def rounds(turns: Sequence[Settings], each: int) -> list[tuple[Settings, ...]]:
    return [tuple(turns[place : place + each]) for place in range(0, len(turns), each)]


def test_in_every_round_everybody_has_all_turns_in_random_but_seeded_order(scene: Scene) -> None:
    result = scene.run(FIRST, SECOND, THIRD, seed=3)
    made = rounds(scene.turns, 6)
    assert len(made) == OPTIONS.rounds
    assert all(Counter(entry) == {FIRST: 2, SECOND: 2, THIRD: 2} for entry in made)
    assert all(set(part) == {FIRST, SECOND, THIRD} for part in rounds(scene.turns, 3)), "turn by turn, not side by side"
    assert len(set(rounds(scene.turns, 3))) > 2
    assert [lane.settings for lane in result.lanes] == [FIRST, SECOND, THIRD]
    assert all(lane.rates == (100.0,) * OPTIONS.rounds for lane in result.lanes)
    assert result.lane(SECOND) is result.lanes[1]

    def order(seed: int) -> list[Settings]:
        scene.turns, scene.closed = [], []
        scene.run(FIRST, SECOND, THIRD, seed=seed)
        return scene.turns

    before = scene.turns
    assert order(3) == before
    assert order(4) != before


def test_a_round_is_one_window_of_all_its_turns(scene: Scene) -> None:
    scene.rates[SECOND] = lambda turn: (100.0, 300.0)[turn % 2]
    lane = scene.run(FIRST, SECOND, options=HeatOptions(rounds=2, turn_s=0.125, behind=None)).lane(SECOND)
    assert lane.rates == (200.0, 200.0)
    assert [entry.wall_s for entry in lane.windows] == [0.25, 0.25]
    assert (lane.startup_s, lane.compile_s, lane.warmup_steps) == (1.5, 0.5, 7)


def test_every_round_is_told(scene: Scene) -> None:
    told: list[tuple[float | None, ...]] = []
    scene.rates = {FIRST: lambda turn: 100.0 + turn // 2, SECOND: 200.0}
    scene.run(FIRST, SECOND, options=HeatOptions(rounds=3, turn_s=0.125, behind=None), report=told.append)
    assert told == [(100.0, 200.0), (101.0, 200.0), (102.0, 200.0)]


def raising(problem: BaseException, *, at: int) -> Callable[[int], float]:
    def rate(turn: int) -> float:
        if turn == at:
            raise problem
        return 100.0

    return rate


@pytest.mark.parametrize("problem", [CandidateError("out of memory"), RuntimeError("out of memory\nmore lines")])
def test_who_fails_at_the_start_leaves_the_others_running(scene: Scene, problem: Exception) -> None:
    scene.broken[SECOND] = problem
    result = scene.run(FIRST, SECOND, THIRD)
    assert result.lane(SECOND).problem == "out of memory"
    assert result.lane(SECOND).windows == ()
    for settings in (FIRST, THIRD):
        lane = result.lane(settings)
        assert (lane.problem, lane.left_behind, len(lane.windows)) == (None, False, OPTIONS.rounds)
    assert scene.closed[0] == SECOND, "its memory is free before the others run"


def test_who_fails_in_the_middle_leaves_the_others_running(scene: Scene) -> None:
    scene.rates[SECOND] = raising(RuntimeError("a kernel failed"), at=5)  # in the third round
    told: list[tuple[float | None, ...]] = []
    result = scene.run(FIRST, SECOND, THIRD, report=told.append)
    lane = result.lane(SECOND)
    assert (lane.problem, len(lane.windows)) == ("a kernel failed", 2)
    assert scene.turns.count(SECOND) == 6
    assert told[1:3] == [(100.0, 100.0, 100.0), (100.0, None, 100.0)]
    assert [len(result.lane(entry).windows) for entry in (FIRST, THIRD)] == [OPTIONS.rounds] * 2
    assert scene.closed[0] == SECOND


def test_an_error_of_the_users_own_ends_everything(scene: Scene) -> None:
    scene.rates[SECOND] = raising(DataError("sample 3 cannot be read"), at=2)
    with pytest.raises(DataError, match="sample 3"):
        scene.run(FIRST, SECOND)
    assert set(scene.closed) == {FIRST, SECOND}


def test_when_all_fail_it_ends(scene: Scene) -> None:
    scene.broken = {FIRST: RuntimeError("one"), SECOND: RuntimeError("two")}
    result = scene.run(FIRST, SECOND)
    assert [lane.problem for lane in result.lanes] == ["one", "two"]
    assert scene.turns == []


def test_ctrl_c_keeps_what_was_seen(scene: Scene) -> None:
    scene.rates[SECOND] = raising(KeyboardInterrupt(), at=6)
    with pytest.raises(HeatInterrupted) as caught:
        scene.run(FIRST, SECOND)
    lanes = caught.value.heat.lanes
    assert [lane.settings for lane in lanes] == [FIRST, SECOND]
    assert [len(lane.windows) for lane in lanes] == [3, 3]
    assert Counter(scene.closed) == {FIRST: 1, SECOND: 1}


def noisy(rate: float, *, noise: float = 0.02) -> Callable[[int], float]:
    """Return a rate that goes up and down by round, and the other way round for another contender."""
    return lambda turn: rate * (1 + noise * (-1) ** (turn // 2))


def test_who_is_clearly_slower_leaves_after_the_least_rounds(scene: Scene) -> None:
    scene.rates = {FIRST: noisy(100.0), SECOND: noisy(90.0, noise=0.01), THIRD: noisy(99.0, noise=-0.02)}
    result = scene.run(FIRST, SECOND, THIRD)
    assert [lane.left_behind for lane in result.lanes] == [False, True, False]
    assert len(result.lane(SECOND).windows) == OPTIONS.least_rounds
    assert [len(result.lane(entry).windows) for entry in (FIRST, THIRD)] == [OPTIONS.rounds] * 2
    assert result.lane(SECOND).problem is None
    assert scene.closed[0] == SECOND


def test_who_may_be_as_fast_stays_however_noisy_it_is(scene: Scene) -> None:
    scene.rates = {FIRST: noisy(100.0), SECOND: noisy(92.0, noise=-0.10)}
    assert not any(lane.left_behind for lane in scene.run(FIRST, SECOND).lanes)


def test_who_is_hopeless_leaves_after_two_rounds(scene: Scene) -> None:
    scene.rates = {SECOND: 50.0, THIRD: 85.0}
    result = scene.run(FIRST, SECOND, THIRD, options=HeatOptions(rounds=6, turn_s=0.125, least_rounds=4))
    assert [len(lane.windows) for lane in result.lanes] == [4, 2, 4]
    assert [lane.left_behind for lane in result.lanes] == [False, True, True]


def test_who_was_slow_once_is_not_hopeless(scene: Scene) -> None:
    """Its mean over two rounds is slower by more than that, but a neighbour's stall lasts for one."""
    scene.rates = {SECOND: lambda turn: 25.0 if turn < OPTIONS.turns else 99.0}
    assert not any(lane.left_behind for lane in scene.run(FIRST, SECOND).lanes)


def test_the_first_has_no_privilege(scene: Scene) -> None:
    scene.rates = {FIRST: 50.0, SECOND: 100.0, THIRD: 101.0}
    result = scene.run(FIRST, SECOND, THIRD)
    assert [lane.left_behind for lane in result.lanes] == [True, False, False]


def test_without_a_margin_everybody_stays(scene: Scene) -> None:
    scene.rates = {SECOND: 10.0}
    result = scene.run(FIRST, SECOND, options=HeatOptions(rounds=4, turn_s=0.125, behind=None))
    assert [len(lane.windows) for lane in result.lanes] == [4, 4]


@pytest.mark.parametrize("why", ["slow", "broken"])
def test_who_is_left_alone_does_not_run_on(scene: Scene, why: str) -> None:
    """Further rounds would compare it with nobody."""
    scene.rates[SECOND] = 10.0 if why == "slow" else raising(RuntimeError("a kernel failed"), at=0)
    result = scene.run(FIRST, SECOND, options=HeatOptions(rounds=50, turn_s=0.125, behind=0.03))
    assert len(result.lane(FIRST).windows) == OPTIONS.least_rounds


def test_one_contender_runs_alone_when_it_was_asked_alone(scene: Scene) -> None:
    assert len(scene.run(FIRST).lane(FIRST).windows) == OPTIONS.rounds


@pytest.mark.parametrize(("images", "leaves"), [(1_000, SECOND), (1_000_000, FIRST)])
def test_what_a_training_costs_besides_decides_who_leads(scene: Scene, images: int, leaves: Settings) -> None:
    """The second is twice as fast once its cache is filled, which takes 20 s: in a short training it never pays."""
    scene.rates = {FIRST: 100.0, SECOND: 200.0}
    result = scene.run(FIRST, SECOND, costs=(Cost(images=images), Cost(fixed_s=20.0, images=images)))
    assert [lane.settings for lane in result.lanes if lane.left_behind] == [leaves]


def test_the_cost_is_that_of_a_training() -> None:
    assert Cost(fixed_s=3.0, images=100.0).seconds(50.0) == 5.0


@pytest.mark.parametrize(("limit_s", "done"), [(0.0, 2), (1.0, 2), (1.6, 4), (math.inf, 6)])
def test_no_round_begins_after_the_limit_but_two_are_run(scene: Scene, limit_s: float, done: int) -> None:
    """A round takes half a second."""
    result = scene.run(FIRST, SECOND, options=HeatOptions(rounds=6, turn_s=0.125, limit_s=limit_s))
    assert [len(lane.windows) for lane in result.lanes] == [done, done]


def test_it_is_asked_once_how_many_rounds_are_wanted(scene: Scene) -> None:
    asked: list[list[list[float]]] = []

    def more(windows: Sequence[Sequence[Window]]) -> int:
        asked.append([[entry.images / entry.wall_s for entry in lane] for lane in windows])
        return 9

    scene.rates[SECOND] = 101.0
    result = scene.run(FIRST, SECOND, options=HeatOptions(rounds=4, turn_s=0.125), more=more)
    assert asked == [[[pytest.approx(100.0)] * 4, [pytest.approx(101.0)] * 4]]
    assert [len(lane.windows) for lane in result.lanes] == [9, 9]


def test_the_answer_never_shortens_it(scene: Scene) -> None:
    result = scene.run(FIRST, SECOND, options=HeatOptions(rounds=4, turn_s=0.125), more=lambda rates: 1)
    assert len(result.lane(FIRST).windows) == 4


def test_a_round_that_others_disturb_is_run_again(scene: Scene) -> None:
    scene.shares = iter((0.1, 0.5, 0.0, 0.3))
    told: list[Any] = []
    result = scene.run(FIRST, SECOND, report=told.append)
    assert result.repeats == 2
    assert len(told) == len(result.lane(FIRST).windows) == OPTIONS.rounds
    assert len(scene.turns) == 2 * 2 * (OPTIONS.rounds + 2)
    assert result.other_cpu_share == pytest.approx(0.1 / OPTIONS.rounds)


def test_but_not_for_ever(scene: Scene) -> None:
    scene.shares = iter([0.9] * 100)
    result = scene.run(FIRST, SECOND)
    assert result.repeats == OPTIONS.rounds // 2
    assert len(result.lane(FIRST).windows) == OPTIONS.rounds
    assert result.other_cpu_share == pytest.approx(0.9)


def test_where_time_is_short_a_disturbed_round_counts(scene: Scene) -> None:
    """A round takes half a second; after the first there is time for three."""
    scene.shares = iter([0.9] * 100)
    result = scene.run(FIRST, SECOND, options=HeatOptions(rounds=8, turn_s=0.125, limit_s=1.6))
    assert result.repeats == 1
    assert len(result.lane(FIRST).windows) == 3


def test_a_round_that_is_too_long_to_be_repeated_counts(scene: Scene) -> None:
    scene.shares = iter([0.9] * 100)
    result = scene.run(FIRST, SECOND, options=HeatOptions(rounds=8, turn_s=0.125, limit_s=0.9))
    assert result.repeats == 0


def test_where_nobody_hopes_for_quiet_every_round_counts(scene: Scene) -> None:
    scene.shares = iter([0.9] * 100)
    result = scene.run(FIRST, SECOND, options=replace(OPTIONS, again=False))
    assert result.repeats == 0


def test_a_round_too_short_to_be_judged_counts(scene: Scene) -> None:
    """The kernel counts in 10 ms: within 0.25 s that says little."""
    scene.shares = iter([0.9] * 100)
    result = scene.run(FIRST, SECOND, options=HeatOptions(rounds=3, turns=1, turn_s=0.125))
    assert result.repeats == 0


def test_who_fails_in_a_disturbed_round_has_failed(scene: Scene) -> None:
    scene.shares = iter((0.9,))
    scene.rates[SECOND] = raising(RuntimeError("a kernel failed"), at=1)
    result = scene.run(FIRST, SECOND, THIRD)
    assert result.lane(SECOND).problem == "a kernel failed"
    assert len(result.lane(FIRST).windows) == OPTIONS.rounds


def test_windows_taken_together_are_one_window() -> None:
    one = window(100.0, wait_s=0.1, sync_s=0.01, transfer_s=None)
    other = window(300.0, 0.375, wait_s=0.2, sync_s=0.02, transfer_s=None, steps=3, cpu_workers_s=0.5)
    both = pooled((one, other))
    assert (both.steps, both.images, both.wall_s) == (4, 12.5 + 112.5, 0.5)
    assert (both.wait_s, both.sync_s, both.transfer_s) == (pytest.approx(0.3), pytest.approx(0.03), None)
    assert (both.cpu_main_s, both.cpu_workers_s) == (0.5, 0.5)


def test_a_stall_counts_for_little_in_the_steady_rate() -> None:
    usual = [window(100.0) for _ in range(4)]
    assert steady_rate(usual) == pytest.approx(100.0)
    stalled = window(100.0 / 6, 0.75)
    assert steady_rate([*usual, stalled]) == pytest.approx(500 / (4 + module.STALLED))
    a_little = window(100.0 / 1.4, 0.175)
    assert steady_rate([*usual, a_little]) == pytest.approx(500 / (4 + 1.4))


def test_waiting_for_images_always_counts_in_the_steady_rate() -> None:
    usual = [window(100.0) for _ in range(4)]
    waiting = window(100.0 / 6, 0.75, wait_s=0.625)
    assert steady_rate([*usual, waiting]) == pytest.approx(500 / (4 + 6))
