"""A contender warms up untimed, is frozen while it is not its turn, and takes up where it was."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest

from autotrain.measure import contender as module
from autotrain.measure.contender import Contender, HeatOptions
from autotrain.measure.measurement import Kind
from autotrain.settings import Settings

OPTIONS = HeatOptions(turn_s=0.25, warmup_s=0.5)


@pytest.fixture
def enter(clock: Any, make_drive: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that makes a contender of a drive's; what is done to its loader is in ``drive.rig.input.loader``."""
    stack = ExitStack()

    def enter(options: HeatOptions = OPTIONS, *, compiled: bool = False, **of_drive: Any) -> tuple[Contender, Any]:
        drive = make_drive(clock, **of_drive)
        drive.rig.step.compiled = compiled
        monkeypatch.setattr(module, "Rig", lambda workload, settings: drive.rig)
        given = {"make_drive": lambda rig, given: drive, "clock": clock}
        return Contender(None, Settings(workers=2), stack, options, **given), drive  # type: ignore[arg-type]

    with stack:
        yield enter


def test_a_turn_is_a_window_as_long_as_asked(enter: Any) -> None:
    contender, drive = enter(host_s=1 / 64)
    contender.warm_up()
    window = contender.turn()
    assert (window.steps, window.images, window.wall_s) == (16, 16 * 32, 0.25)
    assert contender.kind is Kind.FULL
    assert all(drive.was_active)
    assert not drive.rig.is_active


def test_a_turn_is_a_step_where_steps_are_long_and_several_on_a_device(enter: Any) -> None:
    for device, steps in (("cpu", 1), ("meta", OPTIONS.turn_steps)):
        contender, _ = enter(host_s=2.0, device=device)
        contender.warm_up()
        assert contender.turn().steps == steps


def test_its_workers_are_frozen_but_for_its_turns(enter: Any) -> None:
    contender, drive = enter()
    calls = drive.rig.input.loader.calls
    assert calls == ["pause"], "others may be made before it warms up"
    contender.warm_up()
    contender.turn()
    contender.turn()
    assert calls == ["pause"] + ["resume", "pause"] * 3


def test_they_go_on_before_they_are_ended(clock: Any, enter: Any) -> None:
    """A frozen process cannot be told to end."""
    with ExitStack() as stack:
        _, drive = enter()
        made = Contender(None, Settings(), stack, OPTIONS, make_drive=lambda rig, given: drive, clock=clock)  # type: ignore[arg-type]
        made.warm_up()
    assert drive.rig.input.loader.calls == ["pause", "pause", "resume", "pause", "resume", "close"]


def test_they_are_frozen_again_after_a_turn_that_raised(enter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    contender, drive = enter()
    contender.warm_up()
    monkeypatch.setattr(drive, "host_s", lambda number: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        contender.turn()
    assert drive.rig.input.loader.calls == ["pause", "resume", "pause", "resume", "pause"]


def test_a_turn_begins_untimed_and_uses_up_twice_the_stock_of_workers_that_cannot_be_frozen(enter: Any) -> None:
    for freezes, steps in ((True, 16 + 1), (False, 16 + 2 * 5)):
        contender, drive = enter(host_s=1 / 64, stock=5)
        drive.rig.input.loader.freezes = freezes
        contender.warm_up()
        before = len(drive.was_active)
        assert contender.turn().steps == 16
        assert len(drive.was_active) - before == steps


@pytest.mark.parametrize(
    ("step_s", "stock", "timed", "untimed"),
    [
        (1 / 4, 0, 1, 0),  # nobody to rouse
        (1 / 8, 2, 2, 1),  # not half of the time goes there
        (1 / 4, 2, 1, 0),  # too long a step to pay for one
    ],
)
def test_long_steps_need_no_lead_in(enter: Any, step_s: float, stock: int, timed: int, untimed: int) -> None:
    contender, drive = enter(HeatOptions(turn_s=1 / 16, lead_in_s=0.15), host_s=step_s, stock=stock)
    contender.warm_up()
    before = len(drive.was_active)
    assert contender.turn().steps == timed
    assert len(drive.was_active) - before == timed + untimed


def test_resident_batches_are_loaded_by_nobody(enter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, drive = enter()
    drive.rig.input.loader.calls.clear()
    monkeypatch.setattr(drive, "kind", Kind.COMPUTE)
    with ExitStack() as stack:
        made = Contender(
            None,  # type: ignore[arg-type]
            Settings(),
            stack,
            OPTIONS,
            make_drive=lambda rig, given: drive,
            clock=drive.clock,
        )
        made.warm_up()
        made.turn()
    assert drive.rig.input.loader.calls == ["close"]


@pytest.mark.parametrize(
    ("warmup_s", "stock", "steps"),
    [
        (0.5, 0, 1 + 32),  # as long as asked
        (0.5, 40, 42),  # until the stock is used up
        (0.125, 200, 18),  # but not for ever: twice as long
    ],
)
def test_warming_up_lasts_until_the_stock_is_used_up(enter: Any, warmup_s: float, stock: int, steps: int) -> None:
    contender, drive = enter(HeatOptions(warmup_s=warmup_s), host_s=1 / 64, stock=stock)
    contender.warm_up()
    assert contender.warmup_steps == len(drive.was_active) == steps


@pytest.mark.parametrize("compiled", [False, True])
def test_compiling_is_told_apart_from_starting(enter: Any, compiled: bool) -> None:
    contender, _ = enter(host_s=lambda number: 8.0 if number == 0 else 1 / 64, compiled=compiled)
    contender.warm_up()
    assert contender.compile_s == pytest.approx(8.0 - 1 / 64 if compiled else 0.0)
    assert contender.startup_s == pytest.approx(1 / 64 if compiled else 8.0)


def test_losses_do_not_pile_up(enter: Any) -> None:
    contender, drive = enter()
    contender.warm_up()
    for _ in range(3):
        contender.turn()
        assert drive.losses == []
