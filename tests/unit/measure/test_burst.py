"""A burst times steady training only, in windows long enough to trust, and no longer than it may."""

from itertools import pairwise

import pytest

from autotrain.measure.burst import BurstOptions, burst, discard, run_window

WINDOW = BurstOptions(window_s=0.25, window_steps=4)


def run(drive, clock, **options):
    return burst(drive.rig, make_drive=lambda rig, given: drive, clock=clock, **options)


def test_a_window_is_as_long_as_asked(clock, make_drive):
    window = run_window(make_drive(clock, host_s=1 / 64), WINDOW, clock)
    assert (window.steps, window.images, window.wall_s) == (16, 16 * 32, 0.25)


def test_a_window_holds_several_steps_on_a_device_and_may_hold_one_long_step_on_a_cpu(clock, make_drive):
    for device, steps in (("meta", 4), ("cpu", 1)):
        measured = run(make_drive(clock, host_s=2.0, device=device), clock)
        assert {window.steps for window in measured.windows} == {steps}


def test_an_asynchronous_window_waits_for_the_device_once_at_its_end(clock, make_drive):
    drive = make_drive(clock, device="meta", host_s=1 / 64, device_s=1 / 32)
    window = run_window(drive, WINDOW, clock)
    assert drive.calls == ["step"] * 16 + ["synchronize"]
    # 16 steps of 1/32 s on the device, the first issued after 1/64 s: the host waits for what it has not seen done.
    assert window.wall_s == pytest.approx(16 / 32 + 1 / 64)
    assert window.sync_s == pytest.approx(window.wall_s - 0.25)


def test_copies_before_a_window_do_not_count_in_it(clock, make_drive):
    drive = make_drive(clock, device="meta", device_s=1 / 32)
    discard(drive, 10)
    assert run_window(drive, WINDOW, clock).transfer_s == pytest.approx(16 / 32 / 4)


def test_a_cpu_window_knows_nothing_of_copies_and_of_waiting_for_a_device(clock, make_drive):
    window = run_window(make_drive(clock), WINDOW, clock)
    assert window.sync_s is None
    assert window.transfer_s is None


def test_waiting_and_cpu_time_are_those_of_the_window(clock, make_drive):
    drive = make_drive(clock, host_s=1 / 64, wait_s=3 / 64)
    discard(drive, 5)
    window = run_window(drive, WINDOW, clock)
    assert window.wait_s == pytest.approx(0.75 * window.wall_s)
    assert window.cpu_main_s == pytest.approx(window.steps / 64 / 2)
    assert window.cpu_workers_s == pytest.approx(window.steps / 64 * 2)


def test_the_rate_is_that_of_steady_training(clock, make_drive):
    measured = run(make_drive(clock, host_s=1 / 64, wait_s=1 / 64), clock)
    assert measured.rate.value == pytest.approx(32 / (2 / 64))
    assert measured.wait_share == pytest.approx(0.5)
    assert measured.stationary
    assert len(measured.windows) == BurstOptions().windows


def test_the_first_step_counts_as_startup_and_in_no_window(clock, make_drive):
    measured = run(make_drive(clock, host_s=lambda number: 5.0 if number == 0 else 1 / 64), clock)
    assert measured.startup_s == pytest.approx(0.5 + 5.0)
    assert measured.wall_s == pytest.approx(6 * 0.25)


@pytest.mark.parametrize("stock", [3, 8, 30])
def test_what_the_loader_had_ready_is_not_timed(clock, make_drive, stock):
    """Twice the stock is served at once, then every step takes its time."""
    drive = make_drive(clock, host_s=lambda number: 1 / 1024 if number < 2 * stock else 1 / 32, stock=stock)
    measured = run(drive, clock)
    assert measured.warmup_steps >= 2 * stock
    assert measured.rate.value == pytest.approx(32 * 32)


def test_steps_that_still_get_faster_are_not_timed(clock, make_drive):
    drive = make_drive(clock, host_s=lambda number: max(1 / 64, (40 - number) / 640))
    measured = run(drive, clock, options=BurstOptions(warmup_s=60.0))
    assert measured.rate.value == pytest.approx(64 * 32, rel=0.05)
    assert measured.stationary


def test_steps_that_never_settle_are_timed_all_the_same_and_marked(clock, make_drive):
    drive = make_drive(clock, host_s=lambda number: 1 / 64 * 1.02**number)
    measured = run(drive, clock)
    assert not measured.stationary
    assert len(measured.windows) >= BurstOptions().least_windows


def test_a_stock_too_large_to_be_used_up_is_not_waited_for_without_end(clock, make_drive):
    measured = run(make_drive(clock, host_s=0.5, stock=1000), clock, options=BurstOptions(warmup_s=1.0))
    assert measured.warmup_steps <= 8
    assert not measured.stationary


@pytest.mark.parametrize(("step_s", "windows"), [(1 / 64, 6), (1.0, 4), (2.5, 3), (5.0, 2), (50.0, 2)])
def test_no_window_is_begun_after_the_limit_but_the_least_number_is_taken(clock, make_drive, step_s, windows):
    measured = run(make_drive(clock, host_s=step_s), clock, options=BurstOptions(limit_s=4.0))
    assert len(measured.windows) == windows


def test_the_losses_of_all_steps_are_kept_in_order(clock, make_drive):
    drive = make_drive(clock)
    measured = run(drive, clock)
    assert measured.losses == tuple(map(float, range(drive.calls.count("step"))))
    assert len(measured.losses) == measured.warmup_steps + sum(window.steps for window in measured.windows)


def test_no_window_of_a_whole_burst_is_synchronised_inside(clock, make_drive):
    drive = make_drive(clock, device="meta", host_s=1 / 64, device_s=1 / 128)
    measured = run(drive, clock)
    timed = drive.calls[len(drive.calls) - sum(window.steps + 1 for window in measured.windows) :]
    ends = [place for place, call in enumerate(timed) if call == "synchronize"]
    assert len(ends) == len(measured.windows)
    assert [later - earlier for earlier, later in pairwise([-1, *ends])] == [w.steps + 1 for w in measured.windows]


def test_what_it_measured_is_named(clock, make_drive):
    drive = make_drive(clock)
    measured = run(drive, clock)
    assert (measured.kind, measured.settings) == (drive.kind, drive.rig.settings)
    assert measured.peak_bytes is None
    assert all(drive.was_active)
    assert not drive.rig.is_active
