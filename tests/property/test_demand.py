"""The contention model against a simulation of what it models: a loader, a model and the cores between them."""

import heapq
import random
import statistics
from dataclasses import replace

import pytest

from autotrain.diagnose.contention import GANG_LOSS, Crew, Demand, limits, throughput

BATCH = 16
AHEAD = 3
"""Batches that the training process issues ahead of the device."""


class Simulation:
    """Discrete events at the level of batches; whoever runs gets an equal part of the cores.

    Worker i loads batches i, i + workers and so on, each ``prefetch`` of them ahead; they are taken in order. A batch
    is waited for, then worked on; the training process takes it over and computes, or issues it to a device.
    """

    def __init__(self, need: Demand, crew: Crew, *, spread: float, seed: int) -> None:
        self.need, self.crew, self.spread = need, crew, spread
        self.draws = random.Random(seed)
        self.now = 0.0
        self.running: dict[object, list[float]] = {}
        self.waiting: list[tuple[float, int, int, float]] = []
        self.todo: list[list[int]] = [[] for _ in range(crew.workers)]
        self.free = [True] * crew.workers
        self.ready: set[int] = set()
        self.handed_out = self.taken = 0
        self.host_free = True
        self.device_free_at: list[float] = [0.0]
        self.ends: list[float] = []

    def rate(self, batches: int = 160) -> float:
        """Return images/s once the first stock is used up twice."""
        skip = 20 + 2 * self.crew.stock
        for _ in range(self.crew.stock):
            self._hand_out()
        while len(self.ends) < batches + skip:
            self._take()
            self._advance()
        return BATCH * batches / (self.ends[-1] - self.ends[skip - 1])

    def _noise(self) -> float:
        return self.draws.gammavariate(self.spread**-2, self.spread**2) if self.spread else 1.0

    def _hand_out(self) -> None:
        worker = self.handed_out % self.crew.workers
        self.todo[worker].append(self.handed_out)
        self.handed_out += 1
        self._start(worker)

    def _start(self, worker: int) -> None:
        if self.free[worker] and self.todo[worker]:
            self.free[worker] = False
            noise = self._noise()
            wait_s = (self.need.input_s - self.need.input_cpu_s) * BATCH * noise
            heapq.heappush(self.waiting, (self.now + wait_s, worker, self.todo[worker].pop(0), noise))

    def _take(self) -> None:
        need, crew = self.need, self.crew
        if not self.host_free or not self._device_has_room():
            return
        if crew.workers and self.taken not in self.ready:
            return
        self.taken += 1
        self.host_free = False
        if crew.workers:
            self.ready.discard(self.taken - 1)
            self._hand_out()
        own_s = need.receive_s if crew.workers else need.input_s
        if crew.on_cpu:
            seconds = need.compute_s + own_s
            units = min(crew.cores, (need.compute_cpu_s + own_s) / seconds)
        else:
            seconds = own_s + need.issue_s + need.copy_s
            units = 1.0
        self.running["host"] = [max(seconds, 1e-9) * BATCH * self._noise(), units]

    def _device_has_room(self) -> bool:
        if self.crew.on_cpu or len(self.device_free_at) <= AHEAD:
            return True
        free_at = self.device_free_at[-AHEAD]
        if free_at <= self.now:
            return True
        if not any(entry[1] == -1 for entry in self.waiting):
            heapq.heappush(self.waiting, (free_at, -1, -1, 0.0))
        return False

    def _advance(self) -> None:
        wanted = sum(units for _, units in self.running.values())
        speed = min(1.0, self.crew.cores / wanted) if wanted else 1.0
        speeds = {name: self._speed(name, speed) for name in self.running}
        steps = [left / speeds[name] for name, (left, _) in self.running.items()]
        if self.waiting:
            steps.append(self.waiting[0][0] - self.now)
        step = min(steps)
        self.now += step
        for name, entry in self.running.items():
            entry[0] -= step * speeds[name]
        while self.waiting and self.waiting[0][0] <= self.now + 1e-12:
            _, worker, batch, noise = heapq.heappop(self.waiting)
            if worker >= 0:
                cpu_s = self.need.input_cpu_s + self.need.send_s
                self.running[worker, batch] = [cpu_s * BATCH * noise, 1.0]
        for name in [name for name, (left, _) in self.running.items() if left <= 1e-12]:
            del self.running[name]
            self._end(name)

    def _speed(self, name: object, speed: float) -> float:
        gang = name == "host" and self.running["host"][1] > 1.0
        return speed * (1.0 - GANG_LOSS * (1.0 - speed)) if gang else speed

    def _end(self, name: object) -> None:
        if isinstance(name, tuple):
            worker, batch = name
            self.ready.add(batch)
            self.free[worker] = True
            self._start(worker)
            return
        self.host_free = True
        if self.crew.on_cpu:
            self.ends.append(self.now)
        else:
            started = max(self.now - self.need.issue_s * BATCH, self.device_free_at[-1])
            self.device_free_at.append(max(self.now, started + self.need.compute_s * BATCH * self._noise()))
            self.ends.append(self.device_free_at[-1])


def drawn(seed: int, *, on_cpu: bool) -> tuple[Demand, Crew]:
    """Draw a machine and a job: loading takes between a tenth and ten times what the model can train in that time."""
    draws = random.Random(seed)
    cores = draws.choice((1, 2, 2, 4, 8, 16))
    workers = draws.choice([count for count in (0, 1, 2, 4, 8, 16) if count <= 2 * cores])
    train_s = 1e-3
    load_s = train_s * 10 ** draws.uniform(-1, 1) * max(1, min(workers, cores))
    need = Demand(
        compute_s=train_s,
        compute_high_s=train_s,
        compute_cpu_s=train_s * draws.choice((1, 1, min(2, cores), draws.uniform(1, cores))),
        input_s=load_s,
        input_high_s=load_s,
        input_cpu_s=load_s * draws.choice((1, 1, draws.random())),
        send_s=0.05 * load_s,
        receive_s=draws.uniform(0, 0.1) * train_s,
    )
    if not on_cpu:
        need = replace(need, issue_s=draws.uniform(0, 0.9) * train_s, copy_s=draws.uniform(0, 0.2) * train_s)
    crew = Crew(cores=cores, workers=workers, stock=workers * draws.choice((2, 4)), on_cpu=on_cpu)
    return need, crew


@pytest.mark.parametrize("on_cpu", [True, False], ids=["cpu", "accelerator"])
def test_predictions_are_what_a_simulated_loader_and_model_reach(on_cpu):
    errors = []
    for seed in range(120):
        need, crew = drawn(seed, on_cpu=on_cpu)
        simulated = Simulation(need, crew, spread=0.1, seed=seed).rate()
        expected = throughput(need, crew)
        errors.append(expected.per_s / simulated - 1)
        assert abs(errors[-1]) < 0.10, f"{need} {crew}: {expected}, simulated {simulated:.0f} images/s"
    assert abs(statistics.median(errors)) < 0.02  # it neither flatters nor frightens
    assert statistics.median(abs(entry) for entry in errors) < 0.03


@pytest.mark.parametrize("on_cpu", [True, False], ids=["cpu", "accelerator"])
def test_no_simulated_rate_exceeds_the_bound(on_cpu):
    for seed in range(1000, 1100):
        need, crew = drawn(seed, on_cpu=on_cpu)
        simulated = Simulation(need, crew, spread=0.0, seed=seed).rate()
        assert simulated <= min(limits(need, crew).values()) * 1.001, f"{need} {crew}"


def test_the_simulation_itself_is_right_where_the_answer_is_known():
    need = Demand(
        compute_s=1e-3, compute_high_s=1e-3, compute_cpu_s=1e-3, input_s=4e-3, input_high_s=4e-3, input_cpu_s=4e-3
    )

    def simulated(**options: float) -> float:
        crew = Crew(**{"cores": 16, "workers": 1, "stock": 2} | options)
        return Simulation(need, crew, spread=0.0, seed=0).rate()

    assert simulated(workers=0, stock=0) == pytest.approx(1 / 5e-3)
    assert simulated() == pytest.approx(1 / 4e-3)
    assert simulated(workers=8, stock=16) == pytest.approx(1 / 1e-3)
    assert simulated(workers=4, stock=16, cores=2) == pytest.approx(2 / 5e-3, rel=0.02)
    assert simulated(cores=1) == pytest.approx(1 / 5e-3, rel=0.02)
