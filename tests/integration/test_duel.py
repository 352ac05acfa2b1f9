"""The duel with real loader processes: turns are fair, both sides train, and nothing is left behind."""

from __future__ import annotations

import math
import statistics
import time
from multiprocessing import forkserver, resource_tracker
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch

from autotrain.engine.rig import Rig
from autotrain.errors import CandidateError
from autotrain.measure.burst import BurstOptions, burst, run_window
from autotrain.measure.drive import FullDrive
from autotrain.measure.heat import HeatOptions, heat
from autotrain.measure.measurement import Kind, Window
from autotrain.preparation import prepare_workload
from autotrain.search.duel import DuelOptions, Turns, all_pairs, duel
from autotrain.settings import Settings
from autotrain.task import Task
from autotrain.team import ALONE

SLEEP_S = 0.002
SERIAL, PARALLEL = Settings(), Settings(workers=2, prefetch=4)
CEILING = PARALLEL.workers / SLEEP_S
"""Images/s that two workers cannot exceed for longer than their stock lasts."""

SHORT = DuelOptions(pairs=5, most_pairs=5, heat=HeatOptions(warmup_s=0.2, behind=None))
"""Turns of 0.1 s, as in a probe: a tenth of a second in which a stock could be served."""


def short_turns(pairs: int, *, most_pairs: int | None = None, turn_s: float, warmup_s: float) -> DuelOptions:
    """Return the options of a duel of short turns."""
    options = HeatOptions(turn_s=turn_s, warmup_s=warmup_s, behind=None)
    return DuelOptions(pairs=pairs, most_pairs=most_pairs or pairs, heat=options)


class Sleeping:
    """Dark and bright images that take their time."""

    def __init__(self, seconds: float = SLEEP_S) -> None:
        self.seconds = seconds

    def __len__(self) -> int:
        return 512

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        time.sleep(self.seconds)
        return np.full((16, 16, 3), 50 + 150 * (index % 2), dtype=np.uint8), index % 2


@pytest.fixture(autouse=True)
def undisturbed(monkeypatch, one_thread):
    """What else runs on the machine does not lengthen a duel."""
    monkeypatch.setattr("autotrain.measure.heat.DISTURBED", 2.0)


@pytest.fixture
def make(tiny_model):
    def make(seconds: float = SLEEP_S, batch_size: int = 32):
        task = Task(model=tiny_model(classes=2), dataset=Sleeping(seconds), batch_size=batch_size, device="cpu")
        return prepare_workload(task)

    return make


def children() -> list[psutil.Process]:
    """Return this process's children, but for those that Python keeps once it has spawned a process."""
    kept = resource_tracker._resource_tracker._pid, forkserver._forkserver._forkserver_pid
    return [entry for entry in psutil.Process().children() if entry.pid not in kept]


def wait_for(condition, seconds: float = 5.0) -> bool:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)
    return condition()


def test_a_loader_does_not_refill_while_the_other_side_runs(make):
    """Its stock is 256 images, more than two turns load: served for free, they would multiply the rate."""
    workload = make()
    with Rig(workload, PARALLEL) as rig:
        sustained = burst(rig, options=BurstOptions(windows=4, warmup_s=0.3)).rate
    record = duel(workload, SERIAL, PARALLEL, options=SHORT)
    assert statistics.median(record.candidate_rates) < 1.25 * min(sustained.high, CEILING)
    assert max(record.candidate_rates) < 1.4 * CEILING
    assert max(record.baseline_rates) < 1.05 / SLEEP_S


def test_nor_does_it_in_a_heat_of_many(make):
    sides = (SERIAL, PARALLEL, Settings(workers=2, prefetch=8))
    result = heat(make(), sides, options=HeatOptions(rounds=3, warmup_s=0.2, behind=None))
    for settings in sides[1:]:
        assert statistics.median(result.lane(settings).rates) < 1.25 * CEILING


def stock_s(rig: Rig, *, pause: bool) -> float:
    """Return the seconds in which a loader hands over twice its stock after a rest in which it could have refilled."""
    loader, stock = rig.input.loader, rig.input.stock
    for _ in range(2 * stock):
        next(loader)
    if pause:
        loader.pause()
    time.sleep(0.5)  # more than the 0.26 s that refilling takes
    loader.resume()
    started = time.monotonic()
    for _ in range(2 * stock):
        next(loader)
    return time.monotonic() - started


def test_left_to_itself_it_would(make):
    """What the test above looks for is there to be found: a stock filled in a rest halves the time of the next turn."""
    with Rig(make(), PARALLEL) as rig:
        left = min(stock_s(rig, pause=False) for _ in range(2))
        frozen = stock_s(rig, pause=True)
    assert left < 0.75 * frozen


class FakeContender:
    """A side whose turns are only written down."""

    kind, startup_s, compile_s, warmup_steps = Kind.FULL, 0.0, 0.0, 1
    turns: list[Settings] = []

    def __init__(self, workload, settings, stack, options, *, make_drive, clock) -> None:
        self.settings = settings

    def warm_up(self) -> None:
        pass

    def turn(self) -> Window:
        self.turns.append(self.settings)
        place = self.turns.count(self.settings) - 1
        rate = (10 + self.settings.workers) * (1 + noise_of(self.settings, place // 2))
        return Window(steps=1, images=1000, wall_s=1000 / rate, wait_s=0.0, cpu_main_s=0.0, cpu_workers_s=0.0)


NOISE = {"of the second side": 0.0}


def noise_of(settings: Settings, pair: int) -> float:
    """Return the share by which a side is faster or slower in a pair."""
    return NOISE["of the second side"] * (-1) ** pair if settings.workers else 0.0


@pytest.fixture
def faked(monkeypatch) -> SimpleNamespace:
    """Sides that only write down their turns, and the workload that they train."""
    monkeypatch.setattr("autotrain.measure.heat.Contender", FakeContender)
    monkeypatch.setattr(FakeContender, "turns", [])
    monkeypatch.setitem(NOISE, "of the second side", 0.0)
    return SimpleNamespace(device=torch.device("cpu"), team=ALONE)


def rounds_of(workload, contenders, seed) -> list[tuple[float, ...]]:
    """Return the rates of twelve rounds in which all run to the end."""
    result = heat(workload, contenders, options=HeatOptions(rounds=12, behind=None), seed=seed)
    return list(zip(*(lane.rates for lane in result.lanes), strict=True))


def test_the_order_within_a_pair_is_random_but_seeded(faked):
    def order(seed):
        FakeContender.turns.clear()
        assert rounds_of(faked, (SERIAL, PARALLEL), seed=seed) == [(pytest.approx(10.0), pytest.approx(12.0))] * 12
        return [entry.workers for entry in FakeContender.turns]

    first = order(0)
    assert {tuple(first[place : place + 2]) for place in range(0, 48, 2)} == {(0, 2), (2, 0)}
    assert order(0) == first
    assert order(1) != first


def test_every_contender_has_as_many_turns(faked):
    contenders = (SERIAL, Settings(workers=1), PARALLEL)
    rows = rounds_of(faked, contenders, seed=5)
    order = [entry.workers for entry in FakeContender.turns]
    assert all(sorted(order[place : place + 3]) == [0, 1, 2] for place in range(0, 72, 3))
    assert rows == [tuple(pytest.approx(rate) for rate in (10.0, 11.0, 12.0))] * 12


def test_the_pairs_are_told_as_they_come(faked):
    told = []
    record = duel(faked, SERIAL, PARALLEL, options=DuelOptions(pairs=3, most_pairs=3), report=told.append)
    assert told == [(pytest.approx(10.0), pytest.approx(12.0))] * 3
    assert (record.baseline, record.baseline_rates) == (SERIAL, (pytest.approx(10.0),) * 3)
    assert (record.candidate, record.candidate_rates) == (PARALLEL, (pytest.approx(12.0),) * 3)


@pytest.mark.parametrize(("noise", "least", "most"), [(0.0, 10, 10), (0.05, 15, 35), (0.5, 40, 40)])
def test_a_noisy_duel_has_a_second_stage_but_not_without_end(faked, noise, least, most):
    NOISE["of the second side"] = noise
    told = []
    record = duel(faked, SERIAL, PARALLEL, options=DuelOptions(most_pairs=40), report=told.append)
    assert len(record.baseline_rates) == len(record.candidate_rates) == len(told)
    assert least <= len(told) <= most
    if noise == 0.05:
        ratio = record.comparison.ratio
        half_width = math.sqrt(ratio.high / ratio.low) - 1
        assert 0.7 * DuelOptions().half_width < half_width <= DuelOptions().half_width


def test_the_second_stage_is_as_long_as_the_noise_asks_for():
    options = DuelOptions(pairs=4, most_pairs=50)

    def turns(*rates: float) -> Turns:
        return Turns(rates=rates, seconds=tuple(10.0 / rate for rate in rates))

    even, slow = turns(*[100.0] * 4), turns(*[50.0] * 4)
    quiet, noisy = (turns(*(100.0 * (1 + noise * (-1) ** pair) for pair in range(4))) for noise in (0.001, 0.02))
    assert all_pairs(even, quiet, options) == 4
    assert 4 < all_pairs(even, noisy, options) < 50
    assert all_pairs(even, noisy, options) == all_pairs(slow, noisy, options), "whatever the gain"
    assert all_pairs(even, turns(10.0, 200.0, 30.0, 80.0), options) == 50


def test_both_sides_train_and_the_users_model_stays_as_it_was(make, monkeypatch):
    losses: dict[int, list[torch.Tensor]] = {}
    step = FullDrive.step

    def listening(drive: FullDrive) -> int:
        images = step(drive)
        losses.setdefault(drive.rig.settings.workers, []).append(drive.losses[-1])
        return images

    monkeypatch.setattr(FullDrive, "step", listening)
    workload = make(seconds=0.0, batch_size=16)
    before = {name: value.clone() for name, value in workload.model.state_dict().items()}
    duel(workload, SERIAL, Settings(workers=1), options=short_turns(3, turn_s=0.1, warmup_s=0.1))
    for own in losses.values():
        assert torch.stack(own[-5:]).mean() < 0.7 * torch.stack(own[:3]).mean()
    assert len(losses) == 2
    assert all(torch.equal(value, before[name]) for name, value in workload.model.state_dict().items())
    assert workload.model.training
    assert all(entry.grad is None for entry in workload.model.parameters())


def test_the_workers_of_the_resting_side_are_stopped(make, monkeypatch):
    stopped = []

    def looking(*arguments):
        assert wait_for(lambda: _stopped() >= 2)
        stopped.append(_stopped())
        return run_window(*arguments)

    def _stopped() -> int:
        return sum(entry.status() == psutil.STATUS_STOPPED for entry in children())

    monkeypatch.setattr("autotrain.measure.contender.run_window", looking)
    sides = (Settings(workers=2), Settings(workers=2, prefetch=1))
    at_rest = []
    heat(
        make(seconds=0.0),
        sides,
        options=HeatOptions(rounds=2, turn_s=0.05, warmup_s=0.05, behind=None),
        report=lambda rates: at_rest.append(wait_for(lambda: _stopped() == 4)),
    )
    assert set(stopped) == {2}
    assert at_rest == [True, True]
    assert children() == []


@pytest.mark.parametrize(
    ("problem", "kind", "words"),
    [
        (CandidateError("out of memory"), CandidateError, "out of memory"),
        (RuntimeError("a kernel\nmore lines"), CandidateError, "^a kernel$"),
        (KeyboardInterrupt(), KeyboardInterrupt, None),
    ],
)
@pytest.mark.parametrize("turn", [1, 3, 8])
def test_when_a_turn_raises_no_process_is_left_and_there_is_no_record(make, monkeypatch, turn, problem, kind, words):
    calls = []

    def failing(*arguments):
        calls.append(len(children()))
        if len(calls) == turn:
            raise problem
        return run_window(*arguments)

    monkeypatch.setattr("autotrain.measure.contender.run_window", failing)
    workload = make(seconds=0.0)
    sides, told = (Settings(workers=1), Settings(workers=2)), []
    options = short_turns(4, most_pairs=40, turn_s=0.02, warmup_s=0.05)
    with pytest.raises(kind, match=words):
        duel(workload, *sides, options=options, report=told.append)
    assert set(calls[:turn]) == {3}
    assert len(calls) <= 2 * turn + 12, "the other side does not run to the end alone"
    assert wait_for(lambda: children() == [])
    assert workload.model.training


def test_when_the_second_side_cannot_be_built_the_first_ones_workers_end(make, monkeypatch):
    build = Rig._build_compute

    def failing(rig: Rig) -> None:
        if rig.settings.workers == 2:
            assert len(children()) == 1
            raise CandidateError("out of memory")
        build(rig)

    monkeypatch.setattr(Rig, "_build_compute", failing)
    options = short_turns(4, turn_s=0.02, warmup_s=0.05)
    with pytest.raises(CandidateError, match="out of memory"):
        duel(make(seconds=0.0), Settings(workers=1), Settings(workers=2), options=options)
    assert wait_for(lambda: children() == [])
