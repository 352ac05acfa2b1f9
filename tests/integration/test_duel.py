"""The duel with real loader processes: turns are fair, both sides train, and nothing is left behind."""

import statistics
import time
from dataclasses import replace
from multiprocessing import forkserver, resource_tracker

import numpy as np
import psutil
import pytest
import torch

from autotrain.engine.rig import Rig
from autotrain.errors import CandidateError
from autotrain.measure.burst import BurstOptions, burst, run_window
from autotrain.measure.drive import FullDrive
from autotrain.preparation import prepare_workload
from autotrain.search import duel as module
from autotrain.search.duel import DuelOptions, duel, interleave
from autotrain.settings import Settings
from autotrain.task import Task

SLEEP_S = 0.002
SERIAL, PARALLEL = Settings(), Settings(workers=2, prefetch=4)
CEILING = PARALLEL.workers / SLEEP_S
"""Images/s that two workers cannot exceed for longer than their stock lasts."""

SHORT = DuelOptions(turn_s=0.3, warmup_s=0.2)


class Sleeping:
    """Dark and bright images that take their time."""

    def __init__(self, seconds: float = SLEEP_S) -> None:
        self.seconds = seconds

    def __len__(self) -> int:
        return 512

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        time.sleep(self.seconds)
        return np.full((16, 16, 3), 50 + 150 * (index % 2), dtype=np.uint8), index % 2


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
    """Its stock is 256 images, as many as a turn loads: served for free, they would double the rate."""
    workload = make()
    with Rig(workload, PARALLEL) as rig:
        sustained = burst(rig, options=BurstOptions(windows=8, warmup_s=0.5)).rate
    record = duel(workload, SERIAL, PARALLEL, options=replace(SHORT, pairs=5))
    assert statistics.median(record.candidate_rates) < 1.25 * min(sustained.high, CEILING)
    assert max(record.candidate_rates) < 1.25 * CEILING
    assert max(record.baseline_rates) < 1.05 / SLEEP_S


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
        left = min(stock_s(rig, pause=False) for _ in range(3))
        frozen = min(stock_s(rig, pause=True) for _ in range(3))
    assert left < 0.75 * frozen


class FakeContender:
    """A side whose turns are only written down."""

    turns: list[Settings] = []

    def __init__(self, workload, settings, stack, options) -> None:
        self.settings = settings

    def warm_up(self, seconds: float) -> None:
        pass

    def turn(self) -> float:
        self.turns.append(self.settings)
        return 10.0 + self.settings.workers


def turns(monkeypatch, *, seed: int, contenders=(SERIAL, PARALLEL)) -> tuple[list[int], list[tuple[float, ...]]]:
    monkeypatch.setattr(module, "Contender", FakeContender)
    monkeypatch.setattr(FakeContender, "turns", [])
    rows = interleave(None, contenders, rounds=12, options=SHORT, seed=seed)
    return [entry.workers for entry in FakeContender.turns], rows


def test_the_order_within_a_pair_is_random_but_seeded(monkeypatch):
    order, rows = turns(monkeypatch, seed=0)
    assert {tuple(order[place : place + 2]) for place in range(0, 24, 2)} == {(0, 2), (2, 0)}
    assert rows == [(10.0, 12.0)] * 12
    assert turns(monkeypatch, seed=0)[0] == order
    assert turns(monkeypatch, seed=1)[0] != order


def test_in_a_play_off_every_contender_has_one_turn_a_round(monkeypatch):
    contenders = (SERIAL, Settings(workers=1), PARALLEL)
    order, rows = turns(monkeypatch, seed=5, contenders=contenders)
    assert all(sorted(order[place : place + 3]) == [0, 1, 2] for place in range(0, 36, 3))
    assert rows == [(10.0, 11.0, 12.0)] * 12


def test_the_pairs_are_told_as_they_come(monkeypatch):
    monkeypatch.setattr(module, "Contender", FakeContender)
    told = []
    record = duel(None, SERIAL, PARALLEL, options=DuelOptions(pairs=3), on_pair=lambda *numbers: told.append(numbers))
    assert told == [(1, 10.0, 12.0), (2, 10.0, 12.0), (3, 10.0, 12.0)]
    assert (record.baseline, record.baseline_rates) == (SERIAL, (10.0,) * 3)
    assert (record.candidate, record.candidate_rates) == (PARALLEL, (12.0,) * 3)


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
    duel(workload, SERIAL, Settings(workers=1), options=DuelOptions(pairs=3, turn_s=0.15, warmup_s=0.1))
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

    monkeypatch.setattr(module, "run_window", looking)
    sides = (Settings(workers=2), Settings(workers=2, prefetch=1))
    at_rest = []
    interleave(
        make(seconds=0.0),
        sides,
        rounds=2,
        options=DuelOptions(turn_s=0.05, warmup_s=0.05),
        on_round=lambda number, rates: at_rest.append(wait_for(lambda: _stopped() == 4)),
    )
    assert set(stopped) == {2}
    assert at_rest == [True, True]
    assert children() == []


@pytest.mark.parametrize("problem", [CandidateError("out of memory"), RuntimeError("a kernel"), KeyboardInterrupt()])
def test_when_a_turn_raises_no_process_is_left(make, monkeypatch, problem):
    calls = []

    def failing(*arguments):
        calls.append(len(children()))
        if len(calls) == 3:
            raise problem
        return run_window(*arguments)

    monkeypatch.setattr(module, "run_window", failing)
    workload = make(seconds=0.0)
    with pytest.raises(type(problem)):
        duel(
            workload,
            Settings(workers=1),
            Settings(workers=2),
            options=DuelOptions(pairs=4, turn_s=0.02, warmup_s=0.05),
        )
    assert calls[-1] == 3
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
    with pytest.raises(CandidateError):
        duel(make(seconds=0.0), Settings(workers=1), Settings(workers=2), options=DuelOptions(warmup_s=0.05))
    assert wait_for(lambda: children() == [])
