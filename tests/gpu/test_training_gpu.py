"""On CUDA the stream is the same, every precision trains, and what was lent comes back to where it was."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

import autotrain
from autotrain.augment.policy import POLICIES
from autotrain.data.transfer import Transfer
from autotrain.engine.lease import ModelLease, OptimizerLease
from autotrain.engine.rig import InputSide, Rig
from autotrain.hardware.machine import Machine, machine_facts
from autotrain.knobs.registry import knob
from autotrain.plan.plan import Plan
from autotrain.preparation import prepare_workload
from autotrain.settings import Settings
from autotrain.task import Task
from autotrain.workload import Workload

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

SIDE, BATCH = 24, 8
Batches = list[tuple[torch.Tensor, torch.Tensor]]


@cache
def machine() -> Machine:
    return machine_facts()


def data(count: int = 40, side: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 5, 5, generator=generator)
    smooth = nn.functional.interpolate(coarse, size=(side, side), mode="bicubic").clamp(0, 1)
    return (smooth * 255).to(torch.uint8), torch.arange(count) % 3


def workload_of(model: nn.Module, *, device: str = "cuda", **options: Any) -> Workload:
    given: dict[str, Any] = {"batch_size": BATCH, "image_size": SIDE, "augmentation": "auto", **options}
    return prepare_workload(Task(model=model, dataset=data(), device=device, **given))


def seen(workload: Workload, settings: Settings, steps: int = 8) -> Batches:
    """Return what the model sees, copied to host memory."""
    count = workload.channels
    transfer = Transfer(workload.device, mean=(0.0,) * count, std=(1.0,) * count, image_size=workload.image_size)
    with InputSide(workload, settings, stop=steps).loader as loader:
        batches = [transfer.finish(transfer.move(batch)) for batch in loader]
    return [(images.cpu(), labels.cpu()) for images, labels in batches]


def levels(batches: Batches) -> torch.Tensor:
    return torch.stack([images for images, _ in batches]).mul(255).round()


# Stream


@pytest.mark.parametrize("policy", [entry.name for entry in POLICIES])
def test_work_in_workers_gives_the_same_on_both_devices(tiny_model: Callable[..., nn.Module], policy: str) -> None:
    """Only scaling and normalising happen on the device then; within the rounding of float32."""
    settings = Settings(augmentation=policy)
    host, device = (seen(workload_of(tiny_model(), device=kind), settings) for kind in ("cpu", "cuda"))
    assert torch.equal(levels(host), levels(device))
    assert all(torch.equal(one[1], other[1]) for one, other in zip(host, device, strict=True))


@pytest.mark.parametrize("policy", [entry.name for entry in POLICIES])
def test_work_on_the_device_gives_nearly_the_same(tiny_model: Callable[..., nn.Module], policy: str) -> None:
    """The resize is within one level of main memory's; an operator may make more of a level in a few values."""
    workload = workload_of(tiny_model())
    worker, device = (seen(workload, Settings(augmentation=policy, placement=name)) for name in ("worker", "device"))
    gap = (levels(worker) - levels(device)).abs()
    assert (gap > 1).double().mean() < 0.01
    assert gap.mean() < 0.5


@pytest.mark.parametrize("values", [{"workers": 2}, {"pinning": True}, {"workers": 2, "pinning": True, "prefetch": 4}])
def test_workers_and_pinning_change_no_bit(tiny_model: Callable[..., nn.Module], values: dict[str, Any]) -> None:
    workload = workload_of(tiny_model())
    base = Settings(augmentation="rand", placement="device")
    plain, changed = seen(workload, base), seen(workload, replace(base, **values))
    for one, other in zip(plain, changed, strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])


@pytest.mark.parametrize("workers", [0, 1])
def test_pinned_batches_lie_in_page_locked_memory(tiny_model: Callable[..., nn.Module], workers: int) -> None:
    settings = Settings(workers=workers, pinning=True)
    with InputSide(workload_of(tiny_model()), settings, stop=2).loader as loader:
        for batch in loader:
            assert all(entry.is_pinned() for entry in batch.content)


def test_copies_are_finished_before_they_are_used(tiny_model: Callable[..., nn.Module]) -> None:
    """The copy runs on a stream of its own; a step that follows at once sees all of it."""
    workload = workload_of(tiny_model(), image_size=None)
    transfer = Transfer(workload.device, mean=(0.0,) * 3, std=(1 / 255,) * 3, image_size=32)
    order = workload.stream()
    images, _ = data()
    with InputSide(workload, Settings(pinning=True), stop=20).loader as loader:
        for step, batch in enumerate(loader):
            finished, _ = transfer.finish(transfer.move(batch))
            expected = images[order.ticket(step).indices].float()
            torch.testing.assert_close(finished.cpu(), expected, rtol=0, atol=1e-3)


# Precision


def flags() -> tuple[Any, ...]:
    return (
        torch.backends.cuda.matmul.fp32_precision,
        torch.backends.cudnn.conv.fp32_precision,
        torch.backends.cudnn.benchmark,
        torch.backends.cudnn.deterministic,
        torch.is_autocast_enabled("cuda"),
    )


def losses(workload: Workload, settings: Settings, steps: int = 4) -> list[float]:
    with Rig(workload, settings) as rig, rig.active():
        return [rig.train(rig.move(rig.input.next())).item() for _ in range(steps)]


@pytest.mark.parametrize("memory_format", ["contiguous", "channels_last"])
@pytest.mark.parametrize("precision", ["tf32", "bf16", "fp16"])
def test_every_precision_trains_nearly_as_fp32(
    tiny_model: Callable[..., nn.Module], precision: str, memory_format: str
) -> None:
    workload = workload_of(tiny_model())
    if precision not in knob("precision").choices(workload, machine()).allowed:
        pytest.skip(f"{precision} is not offered on this device")
    before = flags()
    reference = losses(workload, Settings())
    settings = Settings(precision=precision, memory_format=memory_format)
    found = losses(workload, settings)
    assert flags() == before
    assert all(math.isfinite(loss) for loss in found)
    assert found[0] == pytest.approx(reference[0], rel=2e-2)
    assert found == pytest.approx(reference, rel=5e-2)


def test_tf32_is_on_inside_and_as_before_outside(tiny_model: Callable[..., nn.Module]) -> None:
    before = flags()
    with Rig(workload_of(tiny_model()), Settings(precision="tf32")) as rig:
        with rig.active():
            assert flags()[:2] == ("tf32", "tf32")
        assert flags() == before
        with pytest.raises(ZeroDivisionError), rig.active():
            raise ZeroDivisionError
    assert flags() == before


def test_fp16_has_a_loss_scaler_that_skips_what_overflows(tiny_model: Callable[..., nn.Module]) -> None:
    """At first the scale may be too large: such steps leave the weights, and the scale shrinks."""
    with Rig(workload_of(tiny_model()), Settings(precision="fp16")) as rig, rig.active():
        scaler = rig.step.scaler
        assert scaler is not None
        batch = rig.move(rig.input.next())
        rig.train(batch)
        scaler.update(2.0**40)
        before = [entry.detach().clone() for entry in rig.step.model.parameters()]
        rig.train(rig.move(rig.input.next()))
        assert all(torch.equal(one, other) for one, other in zip(before, rig.step.model.parameters(), strict=True))
        assert scaler.get_scale() < 2.0**40


def test_a_clipped_gradient_is_unscaled_first(tiny_model: Callable[..., nn.Module]) -> None:
    def moved(precision: str) -> float:
        model = tiny_model()
        workload = workload_of(model, optimizer=lambda entries: torch.optim.SGD(entries, lr=1.0))
        start = [entry.detach().clone().cuda() for entry in model.parameters()]
        with Rig(workload, Settings(precision=precision), clip_norm=0.01) as rig, rig.active():
            for _ in range(4):  # the first scales of fp16 may overflow
                rig.train(rig.move(rig.input.next()))
            gaps = [(entry - before).flatten() for entry, before in zip(model.parameters(), start, strict=True)]
            return torch.cat(gaps).norm().item()

    assert 0 < moved("fp16") <= 0.0401
    assert 0 < moved("fp32") <= 0.0401


# Lease


def picture_of(model: nn.Module) -> Any:
    return [
        (name, entry.device, entry.data_ptr(), entry.stride(), entry.detach().cpu().clone().flatten().tolist())
        for name, entry in (*model.named_parameters(), *model.named_buffers())
    ]


def test_a_model_in_main_memory_is_lent_to_the_device_and_comes_back(tiny_model: Callable[..., nn.Module]) -> None:
    model = tiny_model()
    images = torch.linspace(-1, 1, 4 * 3 * SIDE * SIDE).view(4, 3, SIDE, SIDE)
    model(images).sum().backward()  # gradients and their accumulators know the host's memory
    gradients = [(entry.grad, entry.grad.clone()) for entry in model.parameters() if entry.grad is not None]
    before = picture_of(model)
    lease = ModelLease(model, torch.device("cuda"))
    for _ in range(2):
        lease.lend()
        assert {entry.device.type for entry in (*model.parameters(), *model.buffers())} == {"cuda"}
        model(images.cuda()).sum().backward()
        assert all(entry.grad is None or entry.grad.is_cuda for entry in model.parameters())
        lease.take_back()
        assert picture_of(model) == before
        assert all(entry.grad is gradient for entry, (gradient, _) in zip(model.parameters(), gradients, strict=True))
    assert all(torch.equal(gradient, values) for gradient, values in gradients)
    model(images).sum().backward()  # and it still works at home


@pytest.mark.parametrize(
    "make",
    [
        lambda entries: torch.optim.SGD(entries, lr=0.1, momentum=0.9),
        lambda entries: torch.optim.AdamW(entries, lr=1e-3),
        lambda entries: torch.optim.AdamW(entries, lr=1e-3, fused=True),
    ],
    ids=["SGD", "AdamW", "fused AdamW"],
)
def test_an_optimizer_with_a_state_goes_along(tiny_model: Callable[..., nn.Module], make: Any) -> None:
    model = tiny_model()
    optimizer = make(model.parameters())
    model(torch.linspace(-1, 1, 4 * 3 * SIDE * SIDE).view(4, 3, SIDE, SIDE)).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    before = picture_of(model)
    state = {
        key: {name: (value, value.clone()) for name, value in entry.items()} for key, entry in optimizer.state.items()
    }
    found = losses(workload_of(model, optimizer=optimizer), Settings())
    assert all(math.isfinite(loss) for loss in found)
    assert picture_of(model) == before
    for key, entry in optimizer.state.items():
        for name, value in entry.items():
            kept, values = state[key][name]
            assert value is kept
            assert torch.equal(value, values)
            assert value.device.type == "cpu"
    lease = OptimizerLease(optimizer, torch.device("cuda"))
    lease.lend()
    moments = [value for entry in optimizer.state.values() for value in entry.values() if value.ndim]
    assert {value.device.type for value in moments} == {"cuda"}
    lease.take_back()


def test_random_states_of_the_device_are_left(tiny_model: Callable[..., nn.Module]) -> None:
    model = tiny_model()
    model.insert(3, nn.Dropout(0.5))
    before = torch.cuda.get_rng_state()
    first, second = (losses(workload_of(model), Settings()) for _ in range(2))
    assert torch.equal(torch.cuda.get_rng_state(), before)
    assert first == pytest.approx(second, rel=1e-5)


# End to end


def test_fit_trains_on_the_device_and_leaves_the_model_there(tiny_model: Callable[..., nn.Module]) -> None:
    model = tiny_model()
    parameters = dict(model.named_parameters())
    strides = {name: entry.stride() for name, entry in parameters.items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    model(torch.zeros(2, 3, SIDE, SIDE)).sum().backward()
    optimizer.step()  # has a state in main memory, which must go along
    settings = Settings(precision="bf16", memory_format="channels_last", pinning=True, workers=1)
    if "bf16" not in knob("precision").choices(workload_of(tiny_model()), machine()).allowed:
        settings = replace(settings, precision="fp32")
    result = autotrain.fit(
        model,
        data(),
        validation=data(11),
        plan=Plan(settings=settings),
        optimizer=optimizer,
        batch_size=BATCH,
        duration="3ep",
        device="cuda",
        progress=False,
    )
    assert result.model is model
    assert all(entry is parameters[name] and entry.is_cuda for name, entry in model.named_parameters())
    assert {name: entry.stride() for name, entry in model.named_parameters()} == strides
    assert len(result.history) == 3
    assert all(math.isfinite(record.loss) for record in result.history)
    assert result.history[-1].accuracy is not None


@pytest.mark.slow
def test_a_probe_ends_with_a_plan_and_leaves_no_trace(tiny_model: Callable[..., nn.Module]) -> None:
    model = tiny_model()
    before, state, held = picture_of(model), flags(), torch.cuda.memory_allocated()
    images, labels = data(512, 32)
    result = autotrain.probe(
        model, (images, labels), budget="20s", batch_size=64, device="cuda", augmentation="flip", progress=False
    )
    assert result.session.measurements
    assert result.plan.provenance.device == "cuda"
    assert result.plan.evidence.default_rate is not None
    assert result.plan.evidence.default_rate.value > 0
    assert picture_of(model) == before
    assert flags() == state
    assert torch.cuda.memory_allocated() <= held + 2**20
    assert Plan.from_yaml(result.plan.to_yaml()).settings == result.plan.settings
