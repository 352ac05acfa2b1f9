"""A training that became slower tries its loader's neighbours on its own steps, and takes one that is faster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import autotrain
from autotrain.engine import adapt as module
from autotrain.engine.adapt import Adapter
from autotrain.engine.events import Adapted, FitEvent, SlowedDown
from autotrain.errors import CandidateError
from autotrain.plan.plan import Plan
from autotrain.settings import Settings

IMAGES = 32


class Trained:
    """Stands in for a rig: trains at so many images/s, by number of workers."""

    def __init__(self, settings: Settings, rates: dict[int, float]) -> None:
        self.settings, self.rates = settings, rates
        self.workload = SimpleNamespace()
        self.input = SimpleNamespace(stock=0)
        self.broken: int | None = None
        self.reloads: list[tuple[int, int]] = []

    def reload(self, settings: Settings, *, start: int) -> None:
        if settings.workers == self.broken:
            raise CandidateError("/dev/shm is full")
        self.settings = settings
        self.reloads.append((settings.workers, start))


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Trained, Adapter]]:
    offered = {"workers": (0, 1, 2, 4), "prefetch": (2,)}
    monkeypatch.setattr(module, "knob", lambda name: SimpleNamespace(
        choices=lambda workload, machine: SimpleNamespace(allowed=offered[name])
    ))  # fmt: skip
    monkeypatch.setattr(module, "canonical", lambda settings, workload: settings)
    monkeypatch.setattr(module, "illegal", lambda settings, workload, machine: None)

    def make(workers: int, rates: dict[int, float]) -> tuple[Trained, Adapter]:
        rig: Any = Trained(Settings(workers=workers), rates)
        return rig, Adapter(rig, SimpleNamespace())  # type: ignore[arg-type]

    return make


def train(rig: Trained, adapter: Adapter, steps: int = 10_000) -> Adapted | None:
    for step in range(1, steps + 1):
        decided = adapter.stepped(step, IMAGES, IMAGES / rig.rates[rig.settings.workers])
        if decided is not None:
            return decided
    return None


def test_it_does_nothing_unless_it_was_asked(make: Any) -> None:
    rig, adapter = make(1, {0: 50.0, 1: 100.0, 2: 200.0})
    adapter.begin(0)
    assert not adapter.busy
    assert train(rig, adapter) is None
    assert rig.reloads == []


def test_the_faster_neighbour_is_taken(make: Any) -> None:
    rig, adapter = make(1, {0: 50.0, 1: 100.0, 2: 200.0})
    adapter.ask()
    assert not adapter.busy
    adapter.begin(0)
    assert adapter.busy
    decided = train(rig, adapter)
    assert decided is not None
    assert (decided.changes, decided.tried) == ({"workers": 2}, 2)
    assert (decided.before, decided.images_per_s) == (pytest.approx(100.0), pytest.approx(200.0))
    assert [workers for workers, _ in rig.reloads] == [0, 2, 1, 2]
    assert rig.reloads[-1][1] == decided.step
    assert not adapter.busy
    adapter.begin(decided.step)
    assert not adapter.busy


def test_a_little_faster_is_not_enough(make: Any) -> None:
    rig, adapter = make(1, {0: 50.0, 1: 100.0, 2: 104.0})
    adapter.ask()
    adapter.begin(0)
    decided = train(rig, adapter)
    assert decided is not None
    assert (decided.changes, decided.images_per_s) == ({}, decided.before)
    assert rig.settings.workers == 1


def test_a_machine_that_recovers_is_no_gain(make: Any) -> None:
    rig, adapter = make(1, {0: 50.0, 1: 100.0, 2: 200.0})
    adapter.ask()
    adapter.begin(0)
    for step in range(1, 10_000):
        if rig.settings.workers == 2:
            rig.rates[1] = 195.0
        decided = adapter.stepped(step, IMAGES, IMAGES / rig.rates[rig.settings.workers])
        if decided is not None:
            break
    assert decided is not None
    assert decided.changes == {}
    assert rig.settings.workers == 1


def test_what_cannot_be_started_is_left_out(make: Any) -> None:
    rig, adapter = make(1, {0: 120.0, 1: 100.0, 2: 200.0})
    rig.broken = 2
    adapter.ask()
    adapter.begin(0)
    decided = train(rig, adapter)
    assert decided is not None
    assert (decided.changes, decided.tried) == ({"workers": 0}, 1)


def test_the_first_moments_of_a_loader_do_not_count(make: Any) -> None:
    rig, adapter = make(1, {0: 50.0, 1: 100.0, 2: 100.0})
    rig.input.stock = 8
    adapter.ask()
    adapter.begin(0)
    fresh, seen = 0, None
    for step in range(1, 10_000):
        fresh = 0 if rig.settings.workers != seen else fresh + 1
        seen = rig.settings.workers
        faster = 10.0 if seen == 2 and fresh < 2 * rig.input.stock else 1.0
        decided = adapter.stepped(step, IMAGES, IMAGES / rig.rates[seen] / faster)
        if decided is not None:
            break
    assert decided is not None
    assert decided.changes == {}


@pytest.mark.usefixtures("one_thread", "own_draws")
def test_a_training_that_adapts_learns_the_same(
    tiny_model: Callable[..., nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    def said_once(self: Any, step: int, *rest: Any) -> SlowedDown | None:
        if step != 3:
            return None
        return SlowedDown(step=step, images_per_s=1.0, expected=2.0, reasons=())

    monkeypatch.setattr("autotrain.engine.loop.TELL_S", 0.0)
    monkeypatch.setattr("autotrain.engine.watch.Watch.look", said_once)
    monkeypatch.setattr(module, "STINT_S", 0.0)
    monkeypatch.setattr(module, "LEAST_STEPS", 2)
    monkeypatch.setattr(module, "LEAD_S", 0.0)
    monkeypatch.setattr(module, "BETTER", 0.0)  # the fastest is taken, whichever that is

    def trained(adapt: bool) -> tuple[dict[str, torch.Tensor], Sequence[FitEvent]]:
        torch.manual_seed(0)
        model, seen = tiny_model(), []  # type: ignore[var-annotated]
        images = torch.randint(0, 256, (40, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
        autotrain.fit(
            model,
            (images, torch.arange(40) % 3),
            plan=Plan(settings=Settings(augmentation="crop", workers=1)),
            augmentation="crop",
            batch_size=4,
            device="cpu",
            duration="8ep",
            fit_observer=seen.append,
            adapt=adapt,
        )
        return model.state_dict(), seen

    (usual, _), (adapted, events) = trained(False), trained(True)
    decided = [event for event in events if isinstance(event, Adapted)]
    assert len(decided) == 1
    assert decided[0].tried >= 2
    assert decided[0].step > 10
    assert all(torch.equal(value, adapted[name]) for name, value in usual.items())
