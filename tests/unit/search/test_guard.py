"""The numerics guard disqualifies what learns worse than the default, and nothing else."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from autotrain.search.gradients import Noise, first_checks
from autotrain.search.guard import guard, judge, needs_guard
from autotrain.search.trial import FirstStep
from autotrain.settings import Settings

DEFAULT = tuple(2.3 - 0.05 * step for step in range(20))
REFERENCES = (DEFAULT, tuple(loss + 0.03 for loss in DEFAULT), tuple(loss - 0.03 for loss in DEFAULT))


def shifted(by: float) -> tuple[float, ...]:
    return tuple(loss + by for loss in DEFAULT)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("step", [0, 7, 19])
def test_a_loss_that_is_no_number_disqualifies(value, step):
    losses = (*DEFAULT[:step], value, *DEFAULT[step + 1 :])
    problem = judge(losses, REFERENCES)
    assert f"the loss is {value} at step {step + 1}" in problem


def test_a_scaler_that_keeps_skipping_disqualifies_and_a_first_calibration_does_not():
    assert "skipped 9 of 20 steps" in judge(DEFAULT, REFERENCES, skipped=9)
    assert judge(DEFAULT, REFERENCES, skipped=2) is None


@pytest.mark.parametrize("by", [0.3, 1.0, 10.0])
def test_a_clearly_worse_loss_disqualifies(by):
    assert "worse by" in judge(shifted(by), REFERENCES)


def test_losing_ground_late_disqualifies():
    assert judge((*DEFAULT[:10], *(2.3,) * 10), REFERENCES) is not None


@pytest.mark.parametrize("by", [0.0, 0.05, -0.05, -1.0])
def test_a_loss_that_is_equal_slightly_worse_or_better_passes(by):
    assert judge(shifted(by), REFERENCES) is None


def test_a_bad_start_that_is_made_up_for_passes():
    assert judge((*shifted(0.5)[:10], *DEFAULT[10:]), REFERENCES) is None


def test_references_that_agree_by_chance_do_not_make_the_guard_strict():
    assert judge(shifted(0.05), (DEFAULT, DEFAULT, DEFAULT)) is None
    assert judge(shifted(0.5), (DEFAULT, DEFAULT, DEFAULT)) is not None


@pytest.mark.parametrize("place", [0, 1, 2])
def test_where_the_default_diverges_nothing_is_said(place):
    references = list(REFERENCES)
    references[place] = (*DEFAULT[:-1], math.nan)
    assert judge(shifted(5.0), tuple(references)) is None


@pytest.mark.parametrize(
    ("change", "needed"),
    [
        ({"precision": "bf16"}, True),
        ({"memory_format": "channels_last"}, True),
        ({"threads": 1}, True),
        ({"workers": 4, "prefetch": 4}, False),
        ({}, False),
    ],
)
def test_only_what_changes_the_rounding_needs_the_guard(change, needed):
    assert needs_guard(replace(Settings(), **change), Settings()) is needed


def test_channels_last_passes_on_a_real_model_which_stays_as_it_was(workload):
    before = {name: value.clone() for name, value in workload.model.state_dict().items()}
    result = guard(workload, Settings(memory_format="channels_last"), Settings(), steps=6)
    assert result.problem is None
    assert len(result.candidate) == 6
    assert len(result.references) == 3
    assert result.candidate == pytest.approx(result.references[0], rel=1e-3)
    assert result.references[1] != result.references[0]
    assert all(torch.equal(value, before[name]) for name, value in workload.model.state_dict().items())


class Fragile(nn.Module):
    """A model that is only right in fp32: under autocast it gives rubbish."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3))

    def forward(self, images):
        outputs = self.inner(images)
        return outputs * math.nan if torch.is_autocast_enabled("cpu") else outputs


def test_a_planted_fault_is_caught(make_workload, own_draws):
    result = guard(make_workload(model=Fragile()), Settings(precision="bf16"), Settings(), steps=4)
    assert "the loss is nan at step 1" in result.problem


def first_step(*, mean: float) -> FirstStep:
    """Return a step in which a buffer of 72 numbers keeps a mean that is zero but for rounding."""
    gradient = torch.linspace(-1.0, 1.0, 72)
    return FirstStep(
        loss=1.0,
        gradients={"weight": gradient},
        updates={"weight": -0.1 * gradient},
        states={},
        statistics={"running_mean": torch.full((72,), mean)},
        calibration=0,
    )


@pytest.mark.parametrize(("mean", "healthy"), [(2e-8, True), (2e-7, True), (1e-3, False)])
def test_a_mean_that_is_zero_but_for_the_order_of_adding_says_little(mean, healthy):
    reference = first_step(mean=1e-10)
    noise = Noise(reference, [first_step(mean=2e-9), first_step(mean=-2e-9)])
    checks = {check.name: check for check in first_checks(first_step(mean=mean), reference, noise)}
    assert (checks["statistics"].problem is None) == healthy
