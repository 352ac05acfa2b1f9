"""Micro-batches: the update of the whole batch, from parts of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torchvision.ops import FrozenBatchNorm2d

from autotrain.data.batch import MixedLabels
from autotrain.engine.micro_batches import split
from autotrain.engine.rig import Rig
from autotrain.engine.step import Step
from autotrain.errors import SettingsError
from autotrain.hardware.machine import machine_facts
from autotrain.knobs.micro_batches import has_batch_statistics
from autotrain.knobs.registry import knob, legal_space
from autotrain.preparation import prepare_workload
from autotrain.settings import Settings
from autotrain.task import Task
from autotrain.workload import Workload

IMAGES = torch.linspace(-1, 1, 14 * 3 * 8 * 8).view(14, 3, 8, 8).sin()
LABELS = torch.arange(14) % 3
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "SGD": lambda entries: torch.optim.SGD(entries, lr=0.1, momentum=0.9),
    "AdamW": lambda entries: torch.optim.AdamW(entries, lr=1e-2),
}
MACHINE = machine_facts()


def group_norm(tiny_model: Callable[..., nn.Module]) -> nn.Module:
    model = tiny_model()
    model[1] = nn.GroupNorm(2, 8)
    return model


def workload_of(model: nn.Module, **options: Any) -> Workload:
    images = torch.zeros(32, 3, 8, 8, dtype=torch.uint8)
    given = {"dataset": (images, torch.arange(32) % 3), "batch_size": 16, "device": "cpu", **options}
    return prepare_workload(Task(model=model, **given))


def trained(model: nn.Module, make: Any, contents: list[Any], **options: Any) -> tuple[list[float], list[torch.Tensor]]:
    step = Step(workload_of(model), model, make(model.parameters()), **options)
    losses = [float(step(content)) for content in contents]
    return losses, [entry.detach() for entry in model.parameters()]


MIXED = (IMAGES, MixedLabels(LABELS, LABELS.flip(0), 0.3))
SOFT = (IMAGES, functional.one_hot(LABELS, 3).float().softmax(1))


@pytest.mark.parametrize("clip_norm", [None, 0.05])
@pytest.mark.parametrize("parts", [2, 3, 4, 14])
@pytest.mark.parametrize("name", [*OPTIMIZERS])
def test_losses_and_weights_are_those_of_the_whole_batch(
    tiny_model: Any, name: str, parts: int, clip_norm: float | None
) -> None:
    contents = [(IMAGES, LABELS), MIXED, SOFT, (IMAGES.contiguous(memory_format=torch.channels_last), LABELS)]
    whole = trained(group_norm(tiny_model), OPTIMIZERS[name], contents, clip_norm=clip_norm)
    divided = trained(group_norm(tiny_model), OPTIMIZERS[name], contents, clip_norm=clip_norm, parts=parts)
    assert divided[0] == pytest.approx(whole[0], rel=1e-5)
    for one, other in zip(divided[1], whole[1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=2e-5)


def test_the_gradient_is_that_of_the_whole_batch(tiny_model: Any) -> None:
    """Seen through an optimizer without memory: the weights move by the gradient itself."""
    model, again = group_norm(tiny_model), group_norm(tiny_model)
    start = [entry.detach().clone() for entry in model.parameters()]
    trained(model, lambda entries: torch.optim.SGD(entries, lr=1.0), [(IMAGES, LABELS)], parts=4)
    functional.cross_entropy(again(IMAGES), LABELS).backward()
    for before, entry, other in zip(start, model.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(before - entry.detach(), other.grad, rtol=1e-4, atol=1e-6)


def test_a_loss_scaler_scales_every_part_and_updates_once(tiny_model: Any) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0, growth_interval=2)
    contents = [(IMAGES, LABELS)] * 2
    options = {"clip_norm": 0.05, "parts": 4}
    scaled = trained(group_norm(tiny_model), OPTIMIZERS["SGD"], contents, scaler=scaler, **options)
    plain = trained(group_norm(tiny_model), OPTIMIZERS["SGD"], contents, clip_norm=0.05)
    assert scaled[0] == pytest.approx(plain[0], rel=1e-5)
    for one, other in zip(scaled[1], plain[1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    assert scaler.get_scale() == 512.0  # after two updates; one for each part would have made it more


def test_one_part_at_a_time_is_in_the_model(tiny_model: Any) -> None:
    seen = []
    model = group_norm(tiny_model)
    model.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    trained(model, OPTIMIZERS["SGD"], [(IMAGES, LABELS)], parts=4)
    assert seen == [3, 4, 3, 4]


def test_parts_keep_images_and_labels_together() -> None:
    labels = {"class": LABELS, "boxes": [torch.arange(28).view(14, 2), (LABELS, LABELS + 1)]}
    parts = split((torch.arange(14), MixedLabels(labels, LABELS, 0.25)), 4)
    assert sum(share for _, share in parts) == pytest.approx(1.0)
    images = torch.cat([content[0] for content, _ in parts])
    assert torch.equal(images, torch.arange(14))
    for (places, mixed), share in parts:
        assert share == len(places) / 14
        assert mixed.share == 0.25
        assert torch.equal(mixed.others, LABELS[places])
        assert torch.equal(mixed.labels["boxes"][0], torch.arange(28).view(14, 2)[places])
        assert torch.equal(mixed.labels["boxes"][1][1], LABELS[places] + 1)


# What is offered


class Frozen(nn.Module):
    """Its own ``train`` keeps the batch norm in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.head = nn.Linear(3, 3)
        self.train()

    def train(self, mode: bool = True) -> Frozen:
        super().train(mode)
        self.norm.eval()
        return self

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(images).mean((2, 3)))


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (nn.BatchNorm2d(3), True),
        (nn.BatchNorm2d(3).eval(), True),  # training will turn it on
        (nn.SyncBatchNorm(3), True),
        (nn.BatchNorm2d(3, track_running_stats=False), True),
        (nn.InstanceNorm2d(3, track_running_stats=True), True),
        (nn.InstanceNorm2d(3), False),
        (nn.GroupNorm(1, 3), False),
        (nn.LayerNorm(3), False),
        (FrozenBatchNorm2d(3), False),
        (Frozen(), False),
        (nn.Sequential(Frozen(), nn.BatchNorm2d(3)), True),
    ],
)
def test_batch_statistics_are_seen(model: nn.Module, expected: bool) -> None:
    assert has_batch_statistics(nn.Sequential(model)) is expected


def offered(workload: Workload) -> tuple[tuple[Any, ...], str]:
    choices = knob("micro_batches").choices(workload, MACHINE)
    return choices.allowed, " ".join(why for _, why in choices.left_out)


def test_parts_are_offered_where_they_are_large_and_equal(tiny_model: Any) -> None:
    model = group_norm(tiny_model)
    assert offered(workload_of(model)) == ((1, 2, 4), "")
    assert offered(workload_of(model, batch_size=8))[0] == (1, 2)
    assert offered(workload_of(model, batch_size=18))[0] == (1, 2)
    assert offered(workload_of(model, batch_size=15))[0] == (1,)


def per_image(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(outputs, labels)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"loss": nn.CrossEntropyLoss(label_smoothing=0.1)}, ""),
        ({"loss": functional.cross_entropy}, ""),
        ({"loss": nn.CrossEntropyLoss(reduction="sum")}, "'sum'"),
        ({"loss": nn.CrossEntropyLoss(weight=torch.ones(3))}, "weighted"),
        ({"loss": nn.CrossEntropyLoss(ignore_index=0)}, "weighted"),
        ({"loss": per_image}, "a loss of your own"),
        ({"step": lambda model, batch: per_image(model(batch[0]), batch[1])}, "a step of your own"),
        ({"collate": torch.utils.data.default_collate}, "a collation of your own"),
    ],
)
def test_only_a_mean_over_images_is_divided(tiny_model: Any, options: dict[str, Any], words: str) -> None:
    workload = workload_of(group_norm(tiny_model), **options)
    allowed, reasons = offered(workload)
    assert (allowed == (1, 2, 4)) is (words == "")
    assert words in reasons
    if words:
        with pytest.raises(SettingsError, match="micro_batches"):
            legal_space(workload, MACHINE, fixed={"micro_batches": 2})


def test_with_batch_norm_only_the_user_may_and_it_is_said(tiny_model: Any, caplog: Any) -> None:
    workload = workload_of(tiny_model())
    allowed, reasons = offered(workload)
    assert allowed == (1,)
    assert "changes what is learned" in reasons
    assert not caplog.messages
    space = legal_space(workload, MACHINE, fixed={"micro_batches": 2})
    assert "changes what is learned" in caplog.text
    assert {entry.micro_batches for entry in space.members} == {2}
    own = workload_of(tiny_model(), settings=Settings(micro_batches=4))
    assert {entry.micro_batches for entry in legal_space(own, MACHINE).members} == {4}


def test_a_batch_has_no_more_parts_than_images(tiny_model: Any) -> None:
    with pytest.raises(SettingsError, match="no 17 parts"):
        legal_space(workload_of(group_norm(tiny_model)), MACHINE, fixed={"micro_batches": 17})


def test_a_rig_divides_its_batches(tiny_model: Any) -> None:
    seen: list[int] = []

    @contextmanager
    def watched(model: nn.Module) -> Iterator[None]:
        hook = model.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
        yield
        hook.remove()

    model = group_norm(tiny_model)
    with watched(model), Rig(workload_of(model), Settings(micro_batches=4)) as rig, rig.active():
        rig.train(rig.move(rig.input.next()))
    assert seen == [4] * 4
