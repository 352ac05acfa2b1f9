"""A clock that only moves when work is done, and the work."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from autotrain.measure.clock import Clock
from autotrain.measure.drive import Drive
from autotrain.measure.measurement import Kind
from autotrain.settings import Settings


class FakeClock(Clock):
    """Time as the drive makes it pass, in wall-clock, own CPU and workers' CPU seconds."""

    def __init__(self) -> None:
        self.wall = self.cpu = self.workers = 0.0

    def now(self) -> float:
        return self.wall

    def cpu_s(self) -> float:
        return self.cpu

    def workers_cpu_s(self, pids: Any) -> float:
        return self.workers


class FakeLoader:
    """Writes down when it is frozen; ``freezes`` says whether it can be."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.freezes = True

    def pause(self) -> bool:
        self.calls.append("pause")
        return self.freezes

    def resume(self) -> bool:
        self.calls.append("resume")
        return self.freezes


class FakeRig:
    """What a burst asks of a rig."""

    def __init__(self, device: str) -> None:
        self.input = SimpleNamespace(loader=FakeLoader())
        self.device = torch.device(device)
        self.settings = Settings(workers=3)
        self.startup_s = 0.5
        self.step = SimpleNamespace(compiled=False)
        self.is_active = False

    def __enter__(self) -> "FakeRig":
        return self

    def __exit__(self, *exc: object) -> None:
        self.input.loader.calls.append("close")

    @contextmanager
    def active(self) -> Iterator[None]:
        self.is_active = True
        yield
        self.is_active = False


class FakeDrive(Drive):
    """Steps that cost what the test says; on an asynchronous device the work piles up until it is waited for."""

    kind = Kind.FULL
    images = 32

    def __init__(
        self,
        rig: Any,
        clock: FakeClock,
        *,
        host_s: Callable[[int], float],
        device_s: float = 0.0,
        wait_s: float = 0.0,
        stock: int = 0,
    ) -> None:
        super().__init__(rig, clock)
        self.host_s, self.device_s, self.wait_each_s, self._stock = host_s, device_s, wait_s, stock
        self.calls: list[str] = []
        self.was_active: list[bool] = []
        self._ready, self._copied = 0.0, 0.0

    @property
    def stock(self) -> int:
        return self._stock

    def step(self) -> int:
        self.was_active.append(self.rig.is_active)
        clock, number = self.clock, len(self.losses)
        seconds = self.host_s(number)
        clock.wall += seconds + self.wait_each_s
        clock.cpu += seconds / 2
        clock.workers += seconds * 2
        self.wait_s += self.wait_each_s
        self._ready = max(self._ready, clock.wall) + self.device_s
        self._copied += self.device_s / 4
        self.losses.append(torch.tensor(float(number)))
        self.calls.append("step")
        return self.images

    def synchronize(self) -> None:
        self.clock.wall = max(self.clock.wall, self._ready)
        self.calls.append("synchronize")

    def transfer_s(self) -> float | None:
        copied, self._copied = self._copied, 0.0
        return copied if self.asynchronous else None


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def make_drive() -> Callable[..., FakeDrive]:
    """A function that makes a drive on a CPU, or with ``device="meta"`` on a device that works asynchronously."""

    def make(clock: FakeClock, *, device: str = "cpu", host_s: Any = 1 / 64, **options: Any) -> FakeDrive:
        seconds = host_s if callable(host_s) else lambda number: host_s
        return FakeDrive(FakeRig(device), clock, host_s=seconds, **options)

    return make
