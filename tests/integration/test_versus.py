"""Two plans meet on a real task: the one that waits less wins, and nothing is left behind."""

import time

import numpy as np
import pytest

from autotrain import Plan, Settings, Task
from autotrain.comparison import duel_of_plans
from autotrain.errors import PlanError
from autotrain.report.comparison import decided
from autotrain.search.events import Measured, Turn
from autotrain.stats.compare import Verdict


class Sleeping:
    """Images that take 4 ms each."""

    def __len__(self) -> int:
        return 256

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        time.sleep(0.004)
        return np.full((16, 16, 3), index, dtype=np.uint8), index % 3


@pytest.fixture
def task(tiny_model) -> Task:
    return Task(model=tiny_model(), dataset=Sleeping(), batch_size=8, device="cpu")


def test_more_workers_win_where_samples_are_waited_for(task):
    events = []
    before = [entry.clone() for entry in task.model.parameters()]
    one, other = Plan(settings=Settings()), Plan(settings=Settings(workers=3))
    session = duel_of_plans(task, one, other, budget="6s", observer=events.append)
    comparison = decided(session)
    assert comparison is not None
    assert comparison.verdict is Verdict.FASTER
    assert comparison.ratio.value > 1.3
    assert session.duels[0].baseline == Settings()
    assert session.duels[0].candidate == Settings(workers=3)
    assert sum(isinstance(event, Turn) for event in events) == len(session.duels[0].baseline_rates) >= 3
    measured = [event.measurement.settings.workers for event in events if isinstance(event, Measured)]
    assert sorted(measured) == [0, 0, 3]  # both in full, and loading alone without workers
    assert all(bool((now == then).all()) for now, then in zip(task.model.parameters(), before, strict=True))


def test_plans_that_come_to_the_same_need_no_duel(task):
    # prefetch without workers, and pinning without a GPU, change nothing
    one, other = Plan(settings=Settings()), Plan(settings=Settings(prefetch=4))
    session = duel_of_plans(task, one, other, budget="5s")
    assert session.duels == ()
    assert session.chosen == Settings()


def test_a_plan_that_cannot_run_here_is_named(task):
    other = Plan(settings=Settings(precision="fp16"))
    with pytest.raises(PlanError, match=r"b\.yaml: precision = fp16 is not possible here"):
        duel_of_plans(task, Plan(settings=Settings()), other, names=("a.yaml", "b.yaml"))
