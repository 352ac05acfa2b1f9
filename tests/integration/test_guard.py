"""Faults planted in a candidate are caught by the guard, each for its own reason; what is healthy passes."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from autotrain.knobs.memory_format import MemoryFormat
from autotrain.knobs.precision import Precision
from autotrain.measure.session import Guard
from autotrain.preparation import prepare_workload
from autotrain.search.guard import Guardian, guard
from autotrain.settings import Settings
from autotrain.task import Task
from autotrain.workload import Workload

pytestmark = pytest.mark.usefixtures("one_thread", "own_draws")

STEPS = 6
OTHER_LAYOUT, BF16, FP16 = (
    Settings(memory_format="channels_last"),
    Settings(precision="bf16"),
    Settings(precision="fp16"),
)
SGD = partial(torch.optim.SGD, lr=0.05, momentum=0.9)
ADAMW = partial(torch.optim.AdamW, lr=1e-3)


class Fault:
    """Whether a candidate with a planted fault is training, and for how many steps it has been."""

    active = False
    batches = 0


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> type[Fault]:
    """Have the fault of a model or an optimizer show in candidates with channels-last only."""

    @contextmanager
    def flags(knob: MemoryFormat, value: object) -> Iterator[None]:
        Fault.active, Fault.batches = value == "channels_last", 0
        try:
            yield
        finally:
            Fault.active = False

    monkeypatch.setattr(MemoryFormat, "flags", flags)
    return Fault


class Backward(torch.autograd.Function):
    """Passes values on, and gradients times a factor back."""

    @staticmethod
    def forward(context: Any, values: torch.Tensor, factor: float) -> torch.Tensor:
        context.factor = factor
        return values.clone()

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradients[0] * context.factor, None


class Spot(nn.Module):
    """A place in a model where a fault shows while it is active."""

    def __init__(self, fault: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.fault = fault

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        Fault.batches += self.training
        return self.fault(values) if Fault.active else values


class OddWeight(nn.Conv2d):
    """A convolution whose weight, and nothing else, gets a wrong gradient."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        weight = Backward.apply(self.weight, -1.0) if Fault.active else self.weight
        return nn.functional.conv2d(values, weight, self.bias, self.stride, self.padding)


class OddStatistics(nn.BatchNorm2d):
    """Batch statistics that are right in training, and kept wrongly."""

    def __init__(self, channels: int, momentum: float, *, after: int = 0) -> None:
        super().__init__(channels)
        self.wrong, self.after, self.count = momentum, after, 0

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        self.count += 1
        self.momentum = self.wrong if Fault.active and self.count > self.after else 0.1
        return super().forward(values)


class Forgetful(torch.optim.SGD):
    """Leaves every parameter but the first few alone while the fault is active, from some step on."""

    since, count = 1, 0

    def step(self, closure: Any = None) -> Any:
        self.count += 1
        if Fault.active and self.count >= self.since:
            for entry in self.param_groups[0]["params"][3:]:
                entry.grad = None
        return super().step(closure)


class FewChannels(nn.Module):
    """Forward values of every fourth channel that are off by a few percent."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        factors = torch.ones(values.shape[1], 1, 1)
        factors[::4] = 1.05
        return values * factors if Fault.active else values


def network(*, spot: nn.Module | None = None, norm: nn.Module | None = None, last: type[nn.Conv2d] = nn.Conv2d):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False),
        norm or nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.GroupNorm(4, 16),
        nn.ReLU(),
        spot or nn.Identity(),
        last(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 4),
    )


def work(model: nn.Module, **options: Any) -> Workload:
    draws = torch.Generator().manual_seed(0)
    labels = torch.arange(96) % 4
    coarse = torch.rand(4, 3, 4, 4, generator=draws)[labels] + 0.5 * torch.rand(96, 3, 4, 4, generator=draws)
    images = (nn.functional.interpolate(coarse / 1.5, size=(16, 16), mode="bilinear") * 255).to(torch.uint8)
    given: dict[str, Any] = {"optimizer": SGD, "batch_size": 16, "device": "cpu", **options}
    return prepare_workload(Task(model=model, dataset=(images, labels), **given))


def judged(workload: Workload, candidate: Settings = OTHER_LAYOUT, *, parts: int = 1) -> Guard:
    return guard(workload, candidate, Settings(), steps=STEPS, parts=parts)


on_a_part_too = pytest.mark.parametrize("parts", [1, 2])
"""What shows after the first step, and what is healthy, does so too where the later steps take part of a batch."""


# Scale of the gradients


class Unscaled(torch.amp.GradScaler):
    """A loss scaler that never takes its scale out."""

    def step(self, optimizer: torch.optim.Optimizer, *args: Any, **options: Any) -> None:
        optimizer.step()

    def update(self, new_scale: Any = None) -> None:
        pass


class Ignoring(torch.optim.AdamW):
    """An optimizer that promises to take the scale out itself, and does not."""

    _step_supports_amp_scaling = True

    def step(self, closure: Any = None) -> Any:
        handed = self.__dict__.pop("grad_scale", None), self.__dict__.pop("found_inf", None)
        result = super().step(closure)
        self.grad_scale, self.found_inf = handed  # whoever handed them over takes them away
        return result


def scaled_by(monkeypatch: pytest.MonkeyPatch, make: Callable[[], torch.amp.GradScaler | None]) -> None:
    monkeypatch.setattr(Precision, "scaler", lambda knob, value, device: None if value == "fp32" else make())


@pytest.mark.parametrize("optimizer", [SGD, ADAMW])
@pytest.mark.parametrize(("scale", "words"), [(1024.0, "1,02"), (1 / 1024, "0.00098")])
def test_gradients_that_are_never_unscaled(optimizer, scale, words, monkeypatch):
    scaled_by(monkeypatch, lambda: Unscaled("cpu", init_scale=scale))
    problem = judged(work(network(), optimizer=optimizer), BF16).problem
    assert f"the gradient is {words}" in problem
    assert "scale" in problem


def test_a_scale_that_only_the_optimizers_state_shows(monkeypatch):
    scaled_by(monkeypatch, lambda: torch.amp.GradScaler("cpu", init_scale=1024.0))
    assert "the optimizer's exp_avg is 1,02" in judged(work(network(), optimizer=Ignoring), BF16).problem


def test_a_scaler_that_works_passes(monkeypatch):
    """It skips the first batch until its scale is small enough; that is calibration."""
    scaled_by(monkeypatch, lambda: torch.amp.GradScaler("cpu", init_scale=2.0**24))
    result = judged(work(network()), FP16)
    assert result.problem is None
    assert len(result.candidate) == STEPS
    assert dict(result.shares)["loss scaler"] > 0


class Skipping(torch.amp.GradScaler):
    """A loss scaler that finds overflows where there are none, at every step after the first."""

    def __init__(self, first: int) -> None:
        super().__init__("cpu")
        self.left = first

    def update(self, new_scale: Any = None) -> None:
        self.left -= 1
        super().update(self.get_scale() / 2 if self.left < 0 else None)


@pytest.mark.parametrize(("first", "words"), [(0, "skipped the first batch 16 times"), (1, "skipped 5 of 6 steps")])
def test_a_scaler_that_keeps_skipping(first, words, monkeypatch):
    scaled_by(monkeypatch, lambda: Skipping(first))
    assert words in judged(work(network()), BF16).problem


def test_small_gradients_that_fp16_drops_without_a_scaler(monkeypatch):
    def small(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(outputs, labels) * 1e-5

    scaled_by(monkeypatch, lambda: None)
    workload = work(network(), loss=small, optimizer=ADAMW)
    assert "gradient" in judged(workload, FP16).problem
    scaled_by(monkeypatch, lambda: torch.amp.GradScaler("cpu"))
    assert judged(workload, FP16).problem is None


# No numbers


class Fragile(nn.Module):
    """Right in fp32, no number under autocast."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values * math.nan if torch.is_autocast_enabled("cpu") else values


def test_a_layer_that_gives_no_number_in_low_precision():
    assert "the loss is nan at step 1" in judged(work(network(spot=Fragile())), BF16).problem


@on_a_part_too
def test_no_number_after_some_steps(parts, planted):
    fault = Spot(lambda values: values * math.nan if planted.batches > 3 else values)
    assert "the loss is nan at step 4" in judged(work(network(spot=fault)), parts=parts).problem


def test_a_gradient_that_is_no_number_where_the_loss_is_one(planted):
    fault = Spot(lambda values: Backward.apply(values, math.nan))
    assert "is not finite, where the default's is" in judged(work(network(spot=fault))).problem


# Broken kernels


def test_a_backward_pass_that_gives_zeros(planted):
    problem = judged(work(network(spot=Spot(lambda values: Backward.apply(values, 0.0))))).problem
    assert "most of all that of 4.bias (cosine 0.00)" in problem


@pytest.mark.parametrize("candidate", [OTHER_LAYOUT, Settings(memory_format="channels_last", precision="bf16")])
def test_a_backward_pass_of_the_wrong_sign(candidate, planted):
    problem = judged(work(network(spot=Spot(lambda values: Backward.apply(values, -1.0)))), candidate).problem
    assert "most of all that of 4.bias (cosine -1.00)" in problem


def test_a_forward_pass_that_is_off_by_5_percent_on_some_channels(planted):
    assert "gradient" in judged(work(network(spot=FewChannels()))).problem


@pytest.mark.parametrize("candidate", [OTHER_LAYOUT, Settings(memory_format="channels_last", precision="bf16")])
def test_a_weight_gradient_that_is_wrong_for_one_parameter_alone(candidate, planted):
    assert "that of 7.weight (cosine -1.00)" in judged(work(network(last=OddWeight)), candidate).problem


# Statistics


@pytest.mark.parametrize(
    ("momentum", "words"),
    [
        (0.0, "is not updated, where the default updates it"),
        (0.2, "is 100% of its size away from the default's"),
    ],
)
def test_statistics_that_are_kept_wrongly(momentum, words, planted):
    """In training the loss is the default's to the last bit: only the statistics tell."""
    result = judged(work(network(norm=OddStatistics(16, momentum))))
    assert words in result.problem


@on_a_part_too
def test_statistics_that_go_stale_after_the_first_step(parts, planted):
    norm = OddStatistics(16, 0.0, after=1)
    problem = judged(work(network(norm=norm)), parts=parts).problem
    assert "running_" in problem
    assert "is not updated after the first step" in problem


@on_a_part_too
def test_an_evaluation_that_is_broken(parts, planted):
    class Careless(nn.Module):
        def forward(self, values: torch.Tensor) -> torch.Tensor:
            return values if self.training or not Fault.active else values * 50 + 20

    problem = judged(work(network(spot=Careless())), parts=parts).problem
    assert "the loss in evaluation mode is" in problem


# Parameters that stay


@on_a_part_too
@pytest.mark.parametrize(("since", "when"), [(1, "in the first step"), (2, "from step 2 to 6")])
def test_parameters_that_are_left_out(since, when, parts, planted):
    made = type("Left", (Forgetful,), {"since": since})
    problem = judged(work(network(), optimizer=partial(made, lr=0.05)), parts=parts).problem
    assert f"3.weight does not move {when}, where the default moves it" in problem


# What is healthy


@on_a_part_too
@pytest.mark.parametrize("candidate", [OTHER_LAYOUT, BF16, Settings(precision="bf16", memory_format="channels_last")])
@pytest.mark.parametrize("optimizer", [SGD, ADAMW, partial(torch.optim.AdamW, lr=1e-3, fused=True)])
def test_what_is_healthy_passes(candidate, optimizer, parts):
    result = judged(work(network(), optimizer=optimizer), candidate, parts=parts)
    assert result.problem is None
    assert max(share for _, share in result.shares) < 0.7


@pytest.mark.parametrize(
    "changes", [{"optimizer_kernel": "fused"}, {"optimizer_kernel": "foreach"}, {"micro_batches": 2}]
)
def test_other_ways_to_the_same_step_pass(changes):
    result = judged(work(network(norm=nn.GroupNorm(4, 16)), optimizer=ADAMW), Settings(**changes))
    assert result.problem is None
    assert max(share for _, share in result.shares) < 0.7


@pytest.mark.parametrize("candidate", [Settings(placement="device"), Settings(placement="device", precision="bf16")])
def test_pixel_work_on_the_device_passes(candidate, jpeg_folder):
    options = {"augmentation": "trivial", "image_size": 32, "batch_size": 8, "device": "cpu"}
    workload = prepare_workload(Task(model=network(), dataset=jpeg_folder, **options))
    default = Settings(augmentation="trivial")
    assert guard(workload, replace(candidate, augmentation="trivial"), default, steps=STEPS).problem is None


def test_random_layers_draw_otherwise_under_other_settings_and_pass():
    class Drawn(nn.Module):
        def forward(self, values: torch.Tensor) -> torch.Tensor:
            return nn.functional.dropout(values, 0.3, self.training)

    assert judged(work(network(spot=nn.Dropout(0.5)))).problem is None
    assert judged(work(network(spot=Drawn()))).problem is None


def test_a_model_is_given_back_with_its_dropout():
    model = network(spot=nn.Dropout(0.5))
    judged(work(model))
    assert model[6].p == 0.5


def test_where_the_default_is_unstable_only_what_is_no_number_counts(planted):
    wild = partial(torch.optim.SGD, lr=3.0, momentum=0.9)
    healthy, broken = network(), network(spot=Spot(lambda values: values * math.nan if planted.batches > 4 else values))
    assert judged(work(healthy, optimizer=wild), Settings(precision="bf16")).problem is None
    assert "the loss is nan at step 5" in judged(work(broken, optimizer=wild)).problem


def test_runs_of_the_default_are_shared_between_candidates(monkeypatch):
    from autotrain.search import guard as module

    runs: list[Settings] = []
    rig = module.Rig
    monkeypatch.setattr(module, "Rig", lambda *args, **options: runs.append(args[1]) or rig(*args, **options))
    guardian = Guardian(work(network()), Settings(), steps=STEPS)
    assert guardian.judge(OTHER_LAYOUT).problem is None
    before = len(runs)
    assert guardian.judge(Settings(memory_format="channels_last", workers=0, prefetch=3)).problem is None
    assert runs[before:] == [Settings(memory_format="channels_last", prefetch=3)]


def test_of_a_slow_model_the_later_steps_take_a_part_of_each_batch():
    seen: list[int] = []

    class Counting(nn.Module):
        def forward(self, values: torch.Tensor) -> torch.Tensor:
            if self.training:
                seen.append(len(values))
            return values

    judged(work(network(spot=Counting())), parts=2)
    assert seen.count(8) == 4 * (STEPS - 1)
    assert seen.count(16) == len(seen) - seen.count(8)


def test_a_verdict_crosses_to_another_process():
    result = judged(work(network()))
    assert pickle.loads(pickle.dumps(result)) == result
