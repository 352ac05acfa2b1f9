"""How long the proof's parts are."""

import pytest
import torch

from autotrain.knobs.registry import Space
from autotrain.measure.clock import Clock
from autotrain.search.budget import Budget
from autotrain.search.duel import FIRST_PAIRS, HALF_WIDTH
from autotrain.search.proof import BRIEF_HALF_WIDTH, FEWEST_PAIRS, Proof
from autotrain.search.recorder import Recorder
from autotrain.search.tournament import Tournament
from autotrain.settings import Settings


def together(samples):
    return torch.stack([image for image, _ in samples]).float(), torch.tensor([label for _, label in samples])


def own_loss(outputs, labels):
    return torch.nn.functional.cross_entropy(outputs, labels)


@pytest.mark.parametrize(
    ("options", "finalist", "parts"),
    [
        ({}, {"memory_format": "channels_last"}, 3),
        ({}, {"compile": "default"}, 1),
        ({"collate": together}, {"memory_format": "channels_last"}, 1),
        ({"loss": own_loss}, {"memory_format": "channels_last"}, 1),
    ],
)
def test_of_a_slow_model_the_guard_takes_parts_of_batches_that_can_be_divided(
    make_workload, make_session, measure, options, finalist, parts
):
    workload = make_workload(batch_size=32, **options)
    session = make_session(measure(Settings(), 8.0))  # a second for each of its steps
    recorder = Recorder(workload, session, print, Clock())
    proof = Proof(recorder, None, Budget(84.0, Clock()), print)
    assert proof._guard_length(Settings(**finalist)) == (6, parts)


@pytest.mark.parametrize(
    ("before_training", "gain", "half_width", "pairs"),
    [
        (False, 2.0, HALF_WIDTH, FIRST_PAIRS),
        (True, 2.0, BRIEF_HALF_WIDTH, FEWEST_PAIRS),
        (True, 1.24, 0.04, FEWEST_PAIRS),  # a sixth of the gain
        (True, 1.03, HALF_WIDTH, FEWEST_PAIRS),
        (True, 0.9, HALF_WIDTH, FEWEST_PAIRS),
    ],
)
def test_before_a_short_training_a_large_gain_is_known_less_exactly(
    make_workload, make_session, measure, before_training, gain, half_width, pairs
):
    finalist = Settings(memory_format="channels_last")
    session = make_session(measure(Settings(), 1000.0), measure(finalist, gain * 1000.0))
    recorder = Recorder(make_workload(), session, print, Clock())
    budget = Budget(None, Clock(), before_training=before_training)
    budget.plan(training_s=100.0, step_s=0.01)
    space = Space(default=Settings(), choices={}, members=(Settings(), finalist))
    options = Proof(recorder, Tournament(recorder, space, budget, print), budget, print)._duel_options(finalist)
    assert options.half_width == pytest.approx(half_width)
    assert options.pairs == pairs
    assert options.most_pairs > FIRST_PAIRS
