"""autotrain's input path in the loops of other libraries: epochs of whole steps, with the stream's own images."""

from dataclasses import replace

import pytest
import torch

from autotrain import Plan, Settings
from autotrain.errors import PlanError, TaskError
from autotrain.hardware.machine import machine_facts
from autotrain.integrations.loading import Epochs, input_settings, open_workload
from autotrain.plan.provenance import Provenance
from autotrain.workload import Workload
from autotrain.world import World

OPTIONS = {"batch_size": 8, "image_size": 16, "seed": 5}
PLAN = Plan(settings=Settings(augmentation="crop", workers=1, memory_format="channels_last"))


@pytest.fixture
def opened(tiny_model):
    """Return a function that opens 40 images under a plan."""
    draws = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (40, 3, 20, 20), dtype=torch.uint8, generator=draws)

    def call(plan: Plan = PLAN, **options) -> Workload:
        given = {**OPTIONS, **options}
        return open_workload(
            tiny_model(), (images, torch.arange(40) % 3), given, plan=plan, device="cpu", world=World()
        )

    return call


def finished(epochs: Epochs, count: int | None = None) -> list[tuple[int, torch.Tensor]]:
    found = []
    for batch in epochs:
        found.append((batch.step, epochs.finish(epochs.move(batch))[0].clone()))
        if len(found) == count:
            break
    return found


def test_an_iteration_is_an_epoch_and_goes_on_where_a_training_would(opened):
    workload = opened()
    settings = input_settings(PLAN, workload, machine_facts())
    epochs, later = Epochs(workload, settings), Epochs(workload, replace(settings, workers=0), epoch=1)
    try:
        assert len(epochs) == 5
        first, second = finished(epochs), finished(epochs)
        assert [step for step, _ in first + second] == list(range(10))
        assert all(images.is_contiguous(memory_format=torch.channels_last) for _, images in first)
        assert all(torch.equal(one[1], other[1]) for one, other in zip(second, finished(later), strict=True))
    finally:
        epochs.close()
        later.close()


def test_an_epoch_that_was_left_early_is_not_gone_on_with(opened):
    workload = opened()
    epochs = Epochs(workload, input_settings(PLAN, workload, machine_facts()))
    try:
        assert [step for step, _ in finished(epochs, 2)] == [0, 1]
        assert [step for step, _ in finished(epochs)] == [5, 6, 7, 8, 9]
    finally:
        epochs.close()


def test_parts_of_batches_make_whole_batches(opened):
    plan = replace(PLAN, settings=replace(PLAN.settings, micro_batches=2))
    workload = opened(plan, batch_size=16)
    assert workload.batch_size == 8
    epochs = Epochs(workload, input_settings(plan, workload, machine_facts()), parts=2)
    try:
        assert len(epochs) == 4  # 40 images are two batches of 16, and a part that is left out
        assert [step for step, _ in finished(epochs) + finished(epochs)] == [0, 1, 2, 3, 5, 6, 7, 8]
    finally:
        epochs.close()


def test_only_the_input_path_must_be_possible_here(opened):
    plan = replace(PLAN, settings=replace(PLAN.settings, precision="fp16", compile="max-autotune"))
    settings = input_settings(plan, opened(plan), machine_facts())
    assert settings == PLAN.settings
    device = replace(PLAN, settings=replace(PLAN.settings, decoder="dali", cache="ram"))
    assert input_settings(device, opened(device), machine_facts()).decoder == "pillow"  # nothing is decoded here


def test_another_machine_is_warned_of_and_another_model_is_not(opened, caplog):
    made = Provenance(cpu="another CPU", usable_cpus=1, model="Net", task="ab", batch_size=4, processes=1)
    input_settings(replace(PLAN, provenance=made), opened(), machine_facts())
    assert "another CPU" in caplog.text
    assert "another task" not in caplog.text


def test_the_plan_names_the_policy_where_nobody_else_does(opened):
    assert opened().augmentation == "crop"
    assert input_settings(PLAN, opened(augmentation="flip"), machine_facts()).augmentation == "flip"


def test_what_does_not_fit_is_one_line(opened):
    with pytest.raises(TaskError, match=r"unknown option 'batchsize'\. Did you mean 'batch_size'"):
        opened(batchsize=8)
    parts = replace(PLAN, settings=replace(PLAN.settings, micro_batches=3))
    with pytest.raises(TaskError, match="8 images cannot be divided into 3 equal parts"):
        opened(parts)


def test_a_setting_of_the_input_path_that_cannot_run_here_is_refused(opened):
    threads = replace(PLAN, settings=replace(PLAN.settings, loader="threads", workers=2))
    workload = opened(threads)
    own = replace(workload, task=replace(workload.task, collate=lambda samples: samples))
    with pytest.raises(PlanError, match="the plan: loader = threads is not possible here: a collation of your own"):
        input_settings(threads, own, machine_facts())
