"""The watch speaks up when a training is slower than its plan, once, and says what it saw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from autotrain.engine import watch as module
from autotrain.engine.events import SlowedDown
from autotrain.engine.watch import Watch
from autotrain.hardware.gpu import GpuState
from autotrain.hardware.monitor import Conditions
from autotrain.stats.summary import Estimate

EXPECTED = Estimate(value=100.0, low=95.0, high=105.0, n=10)
HOT = GpuState(
    utilisation_percent=99,
    memory_used_bytes=0,
    sm_clock_mhz=900,
    temperature_c=90,
    throttle_reasons=("hardware thermal slowdown",),
)


class FakeMonitor:
    conditions = Conditions(other_cpu_share=0.0)

    def __init__(self, clock: Any, *, gpu: Any, beside: Any = ()) -> None:
        self.running = False

    def start(self) -> None:
        assert not self.running
        self.running = True

    def stop(self) -> Conditions:
        assert self.running
        self.running = False
        return self.conditions


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.setattr(module, "Monitor", FakeMonitor)
    monkeypatch.setattr(FakeMonitor, "conditions", Conditions(other_cpu_share=0.0))
    return lambda expected=EXPECTED: Watch(expected, root=tmp_path)


def run(watch: Watch, rate: float, *, seconds: float = 10.0, waits: float = 0.0) -> list[SlowedDown]:
    """Train in half seconds; return what was said."""
    steps = [watch.look(step, round(rate / 2), 0.5, waits / 2) for step in range(round(2 * seconds))]
    return [said for said in steps if said is not None]


def test_it_is_silent_within_the_plan(make: Any) -> None:
    assert run(make(), 83.0, seconds=60) == []


def test_it_speaks_once_until_it_has_recovered(make: Any) -> None:
    watch = make()
    assert len(run(watch, 60.0, seconds=30)) == 1
    assert watch.slow
    assert run(watch, 100.0) == []
    assert not watch.slow
    said = run(watch, 60.0)
    assert [(entry.images_per_s, entry.expected) for entry in said] == [(60.0, pytest.approx(80.75))]


def test_without_a_plans_rate_the_beginning_tells_what_to_expect(make: Any) -> None:
    watch = make(None)
    assert run(watch, 200.0) == run(watch, 174.0) == []
    assert [entry.expected for entry in run(watch, 160.0)] == [pytest.approx(170.0)]


def test_short_epochs_are_looked_at_together(make: Any) -> None:
    """What lies between two looks, such as an evaluation, is told to nobody."""
    watch = make()
    for _ in range(3):
        assert run(watch, 60.0, seconds=3) == []
    assert len(run(watch, 60.0, seconds=3)) == 1


@pytest.mark.parametrize(
    ("waits", "conditions", "pressure", "reasons"),
    [
        (0.0, Conditions(other_cpu_share=0.05), "0.00", ()),
        (0.4, Conditions(other_cpu_share=0.0), "0.00", ("it waits for images for 40% of the time",)),
        (0.1, Conditions(other_cpu_share=0.3), "0.00", ("other programs take 30% of the CPU",)),
        (
            0.0,
            Conditions(other_cpu_share=0.0, gpu=HOT),
            "12.50",
            (
                "the GPU's clocks are held back: hardware thermal slowdown",
                "processes wait for memory for 12% of the time",
            ),
        ),
    ],
)
def test_it_says_what_it_saw(
    make: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    waits: float,
    conditions: Any,
    pressure: str,
    reasons: Any,
) -> None:
    (tmp_path / "proc" / "pressure").mkdir(parents=True)
    (tmp_path / "proc" / "pressure" / "memory").write_text(
        f"some avg10={pressure} avg60=0.00 avg300=0.00 total=1\nfull avg10=99.00 avg60=0.00 avg300=0.00 total=1\n"
    )
    watch = make()
    run(watch, 100.0)
    monkeypatch.setattr(FakeMonitor, "conditions", conditions)
    (said,) = run(watch, 50.0, waits=waits)
    assert said.reasons == reasons
