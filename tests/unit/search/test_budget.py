"""The budget is what the user says, or small against the planned training."""

import pytest

from autotrain.errors import ScheduleError
from autotrain.measure.clock import Clock
from autotrain.search.budget import (
    ATTRIBUTION_END,
    DUEL_END,
    LEAST_S,
    PLAY_OFF_END,
    SEARCH_END,
    SHORTEST_S,
    Budget,
    parse_budget,
)


class FakeClock(Clock):
    time = 100.0

    def now(self) -> float:
        return self.time


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("2min", 120), ("90", 90), (" 7.5 ", 7.5), ("5s", 5), ("1h", 3600), ("auto", None), (" auto ", None)],
)
def test_a_budget_is_a_time(text, seconds):
    assert parse_budget(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "4s", "0", "-10s", "nan", "inf", "5ep", "100step", "1.2.3", "90 parsecs"])
def test_anything_else_is_refused_with_a_word_about_the_budget(text):
    with pytest.raises(ScheduleError, match="budget") as caught:
        parse_budget(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("training_s", "step_s", "total_s"),
    [
        (60, 0.01, LEAST_S),  # a short training: the least
        (10_000, 0.01, 100),  # 1% of it
        (1_000_000, 0.01, 300),  # a week: the most
        (60, 2.0, 160),  # slow steps need more time
        (60, 100.0, 600),  # but not without end
    ],
)
def test_the_automatic_budget_is_small_against_the_training(training_s, step_s, total_s):
    budget = Budget(None, FakeClock())
    budget.plan(training_s, step_s)
    assert budget.total_s == pytest.approx(total_s)


@pytest.mark.parametrize(
    ("training_s", "step_s", "total_s", "brief"),
    [
        (60, 0.01, SHORTEST_S, True),
        (1_000, 0.01, 60, True),  # 6% of it
        (2_000, 0.01, LEAST_S, False),  # as if it stood alone
        (100_000, 0.01, 300, False),
        (60, 2.0, SHORTEST_S, True),  # though steps are slow
        (400, 2.0, 100, True),  # which get more time, up to a quarter of the training
        (1_000, 2.0, 160, True),
    ],
)
def test_before_a_short_training_the_automatic_budget_is_a_small_part_of_it(training_s, step_s, total_s, brief):
    budget = Budget(None, FakeClock(), before_training=True)
    assert not budget.brief
    budget.plan(training_s, step_s)
    assert budget.total_s == pytest.approx(total_s)
    assert budget.brief is brief


@pytest.mark.parametrize(
    ("training_s", "step_s", "in_vain"),
    [
        (30, 1.0, False),  # too short to pay, but nobody waits long
        (100, 1.2, True),
        (143, 2.3, True),
        (250, 2.3, False),
        (256, 5.7, True),
    ],
)
def test_where_steps_are_long_and_few_no_search_pays(training_s, step_s, in_vain):
    for before_training in (True, False):
        budget = Budget(None, FakeClock(), before_training=before_training)
        budget.plan(training_s, step_s)
        assert budget.in_vain is (in_vain and before_training)


def test_what_a_training_waits_for_may_all_be_won():
    for wait_share, in_vain in ((0.0, True), (0.9, False)):
        budget = Budget(None, FakeClock(), before_training=True)
        budget.plan(450.0, 5.0, wait_share=wait_share)
        assert budget.in_vain is in_vain


def test_a_given_budget_is_never_brief():
    budget = Budget(60.0, FakeClock(), before_training=True)
    budget.plan(60, 0.01)
    assert not budget.brief


def test_a_given_budget_stays():
    budget = Budget(20.0, FakeClock())
    budget.plan(1_000_000, 10.0)
    budget.extend(90.0)
    assert budget.total_s == 20.0


def test_an_automatic_budget_can_be_lengthened():
    budget = Budget(None, FakeClock())
    budget.plan(10_000, 0.01)
    budget.extend(90.0)
    assert budget.total_s == pytest.approx(190)


def test_time_passes_by_the_clock_and_some_is_kept_for_the_proof():
    clock = FakeClock()
    budget = Budget(100.0, clock)
    assert budget.left_s == 100.0
    clock.time += 30
    assert budget.spent_s == pytest.approx(30)
    assert budget.left_s == pytest.approx(70)
    assert budget.search_left_s == pytest.approx(100 * SEARCH_END - 30)
    assert budget.left_until(DUEL_END) == pytest.approx(100 * DUEL_END - 30)


def test_the_parts_follow_each_other():
    ends = (0.0, SEARCH_END, PLAY_OFF_END, DUEL_END, ATTRIBUTION_END, 1.0)
    assert list(ends) == sorted(set(ends))
