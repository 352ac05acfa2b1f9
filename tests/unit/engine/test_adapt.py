"""A training that became slower tries its loader's neighbours on its own steps, and takes one that is faster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import autotrain
from autotrain.data.feed import HANG_S
from autotrain.engine import adapt as module
from autotrain.engine.adapt import Adapter
from autotrain.engine.events import Adapted, FitEvent, SlowedDown
from autotrain.errors import CandidateError
from autotrain.plan.plan import Plan
from autotrain.settings import Settings

IMAGES = 32


class Trained:
    """Stands in for a rig that trains at so many images/s, by number of workers, and for the time that it takes."""

    device = torch.device("cpu")

    def __init__(self, settings: Settings, rates: dict[int, float]) -> None:
        self.settings, self.rates = settings, rates
        self.per_epoch = 1_000
        self.workload = SimpleNamespace(stream=lambda: SimpleNamespace(steps_per_epoch=self.per_epoch))
        self.input = SimpleNamespace(stock=0)
        self.broken: int | None = None
        self.reloads: list[tuple[int, float]] = []
        self.seconds = 0.0
        self.fresh = 0
        """Steps since the loader began or had time to fill its stock."""

    def reload(self, settings: Settings, *, start: int, hang_s: float = 0.0) -> None:
        if settings.workers == self.broken:
            raise CandidateError("/dev/shm is full")
        self.settings = settings
        self.reloads.append((settings.workers, hang_s))
        self.fresh = 0

    def step(self) -> None:
        self.fresh += 1
        free = self.fresh <= self.input.stock
        self.seconds += 1e-6 if free else IMAGES / self.rates[self.settings.workers]


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
        return rig, Adapter(rig, SimpleNamespace(), clock=lambda: rig.seconds)  # type: ignore[arg-type]

    return make


def train(rig: Trained, adapter: Adapter, *, epoch: int = 10_000, steps: int = 10_000) -> Adapted | None:
    """Train until something is decided; an epoch's end gives loaders the time to fill their stock."""
    for step in range(1, steps + 1):
        rig.step()
        decided = adapter.stepped(step, IMAGES)
        if decided is not None:
            return decided
        if step % epoch == 0:
            adapter.hold()
            rig.seconds += 100.0  # an evaluation
            rig.fresh = 0
            adapter.begin()
    return None


def test_it_does_nothing_unless_it_was_asked(make: Any) -> None:
    rig, adapter = make(1, {0: 50.0, 1: 100.0, 2: 200.0})
    adapter.begin()
    assert not adapter.busy
    assert train(rig, adapter) is None
    assert rig.reloads == []


def test_the_faster_neighbour_is_taken(make: Any) -> None:
    rig, adapter = make(1, {0: 50.0, 1: 100.0, 2: 200.0})
    adapter.ask()
    assert not adapter.busy
    adapter.begin()
    assert adapter.busy
    decided = train(rig, adapter)
    assert decided is not None
    assert (decided.changes, decided.tried) == ({"workers": 2}, 2)
    assert (decided.before, decided.images_per_s) == (pytest.approx(100.0), pytest.approx(200.0))
    assert rig.reloads == [(0, HANG_S), (2, HANG_S), (1, 0.0), (2, 0.0)], "what is only tried may not hang for ever"
    assert not adapter.busy
    adapter.begin()
    assert not adapter.busy


def test_epochs_shorter_than_what_is_tried_are_enough(make: Any) -> None:
    """What was counted before an evaluation still counts after it."""
    rig, adapter = make(1, {0: 50.0, 1: 100.0, 2: 200.0})
    rig.input.stock = 8
    adapter.ask()
    adapter.begin()
    rig.per_epoch = 20
    decided = train(rig, adapter, epoch=20)
    assert decided is not None
    assert decided.changes == {"workers": 2}
    assert decided.before == pytest.approx(100.0, rel=0.05)


def test_a_little_faster_is_not_enough(make: Any) -> None:
    rig, adapter = make(1, {0: 50.0, 1: 100.0, 2: 104.0})
    adapter.ask()
    adapter.begin()
    decided = train(rig, adapter)
    assert decided is not None
    assert (decided.changes, decided.images_per_s) == ({}, decided.before)
    assert rig.settings.workers == 1


def test_a_machine_that_recovers_is_no_gain(make: Any) -> None:
    rig, adapter = make(1, {0: 50.0, 1: 100.0, 2: 200.0})
    adapter.ask()
    adapter.begin()
    while rig.settings.workers != 2:
        assert train(rig, adapter, steps=1) is None
    rig.rates[1] = 195.0
    decided = train(rig, adapter)
    assert decided is not None
    assert decided.changes == {}
    assert rig.settings.workers == 1


def test_what_cannot_be_started_is_left_out(make: Any) -> None:
    rig, adapter = make(1, {0: 120.0, 1: 100.0, 2: 200.0})
    rig.broken = 2
    adapter.ask()
    adapter.begin()
    decided = train(rig, adapter)
    assert decided is not None
    assert (decided.changes, decided.tried) == ({"workers": 0}, 1)


def test_who_fails_in_the_middle_gives_way_to_who_was_there_before(make: Any) -> None:
    rig, adapter = make(1, {0: 50.0, 1: 100.0, 2: 200.0})
    assert not adapter.retreat(1)
    adapter.ask()
    adapter.begin()
    assert not adapter.retreat(1), "the present settings themselves failed"
    while rig.settings.workers == 1:
        train(rig, adapter, steps=1)
    assert adapter.retreat(7)
    assert (rig.settings.workers, adapter.busy) == (1, False)
    assert train(rig, adapter) is None


@pytest.mark.parametrize("epoch", [10_000, 45])
def test_batches_that_lay_ready_do_not_count(make: Any, monkeypatch: pytest.MonkeyPatch, epoch: int) -> None:
    """Not those of a new loader, and not those that it made while an evaluation ran."""
    monkeypatch.setattr(module, "LEAD_S", 0.0)
    rig, adapter = make(1, {0: 50.0, 1: 100.0, 2: 100.0})
    rig.input.stock = 8
    adapter.ask()
    adapter.begin()
    decided = train(rig, adapter, epoch=epoch)
    assert decided is not None
    assert decided.changes == {}
    assert decided.before == pytest.approx(100.0, rel=0.02)


def test_the_first_second_does_not_count(make: Any) -> None:
    rig, adapter = make(1, {0: 50.0, 1: 100.0, 2: 100.0})
    rig.input.stock = 0
    adapter.ask()
    adapter.begin()
    begun = rig.seconds
    rig.seconds += 0.9 * module.LEAD_S  # something was slow at first
    decided = train(rig, adapter)
    assert decided is not None
    assert rig.seconds - begun > 4 * (module.LEAD_S + module.STINT_S)
    assert decided.before == pytest.approx(100.0)


@pytest.mark.usefixtures("one_thread", "own_draws")
def test_a_training_that_adapts_learns_the_same(
    tiny_model: Callable[..., nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    def said_once(self: Any, step: int, *rest: Any) -> SlowedDown | None:
        if step != 5:  # the first ones, which start the loader, are not looked at
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
