"""How long the proof's parts are."""

import pytest
import torch

from autotrain.measure.clock import Clock
from autotrain.search.budget import Budget
from autotrain.search.proof import Proof
from autotrain.search.recorder import Recorder
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
