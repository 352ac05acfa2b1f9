"""Every knob through one suite: its values, its effect, and that a rig under it leaves no trace."""

from __future__ import annotations

import itertools
import math
import os
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from autotrain.augment.policy import POLICIES
from autotrain.data.transfer import Transfer
from autotrain.decode.decoder import DECODERS
from autotrain.engine.rig import InputSide, Rig
from autotrain.errors import SettingsError
from autotrain.hardware.machine import Machine, machine_facts
from autotrain.knobs.base import Effect, Knob
from autotrain.knobs.registry import KNOBS, canonical, default_settings, illegal, knob, legal_space, without_each
from autotrain.preparation import prepare_workload
from autotrain.settings import Settings
from autotrain.task import Task
from autotrain.workload import Workload

pytestmark = pytest.mark.usefixtures("one_thread")

SIDE, BATCH = 16, 4
NAMES = tuple(entry.name for entry in KNOBS)
by_name = pytest.mark.parametrize("entry", KNOBS, ids=NAMES)


@cache
def machine() -> Machine:
    return machine_facts()


class FrozenNorm(nn.Module):
    """A network whose batch norm stays in evaluation mode, as people freeze it, and that counts its forward passes."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 8, 3, stride=2)
        self.norm = nn.BatchNorm2d(8)
        self.live = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 3)
        self.register_buffer("seen", torch.zeros(1), persistent=False)
        self.norm.weight.requires_grad_(False)
        self.passes = 0
        self.history: list[int] = []
        self.train()

    def train(self, mode: bool = True) -> FrozenNorm:
        super().train(mode)
        self.norm.eval()
        return self

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.passes += 1
        self.history.append(len(images))
        self.last_mean = images.mean()
        self.seen = self.seen + 1
        outputs: torch.Tensor = self.head(self.live(self.norm(self.features(images)).relu()).mean((2, 3)))
        return outputs


def data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (32, 3, 20, 20), generator=generator, dtype=torch.uint8)
    return images, torch.arange(32) % 3


def equal_start(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return make()


def workload_of(model: nn.Module, **options: Any) -> Workload:
    fields = {"dataset": data(), "batch_size": BATCH, "image_size": SIDE, "device": "cpu", **options}
    return prepare_workload(Task(model=model, **fields))


@pytest.fixture
def workload(tiny_model: Any) -> Workload:
    """A task that leaves everything open, so that every knob has choices."""
    return workload_of(tiny_model(), augmentation="auto")


def helped(settings: Settings, name: str) -> Settings:
    """Return settings under which the knob has an effect."""
    changes: dict[str, Any] = {
        "placement": {"augmentation": "rand"},
        "prefetch": {"workers": 1},
        "loader": {"workers": 2},
        **{crops: {"augmentation": "crop"} for crops in ("decoder", "resize", "cache")},
    }.get(name, {})
    return replace(settings, **changes)


# Values


def test_settings_and_knobs_have_the_same_names() -> None:
    assert sorted(NAMES) == sorted(entry.name for entry in fields(Settings)) == sorted(Settings.names())
    assert len(set(NAMES)) == len(NAMES)
    assert all(knob(name).name == name for name in NAMES)
    with pytest.raises(SettingsError, match="Did you mean 'precision'"):
        knob("precison")


@by_name
def test_check_accepts_the_values_that_there_are(entry: Knob) -> None:
    values = entry.known if entry.known is not None else (entry.least, entry.least + 1, 64)
    assert all(entry.check(value) is None for value in values)
    assert entry.check(getattr(Settings(), entry.name)) is None


@by_name
def test_check_refuses_everything_else(entry: Knob) -> None:
    others: list[Any] = ["nonsense", "", None, 1.5, -1, ()]
    if entry.known is None:
        others += [True, False, "2", entry.least - 1, 2.0]
    elif isinstance(entry.known[0], bool):
        others += [0, 1, "true", "True"]
    else:
        others += [0, 1, True, str(entry.known[0]).upper(), f" {entry.known[0]}"]
    for value in others:
        problem = entry.check(value)
        assert problem is not None, value
        assert repr(value) in problem


@by_name
def test_facts_are_stated(entry: Knob) -> None:
    assert isinstance(entry.effect, Effect)
    assert (entry.effect is Effect.RECIPE) == (entry.name == "augmentation")
    assert type(entry).__doc__


@by_name
def test_choices_are_legal_hold_the_default_and_give_reasons(entry: Knob, workload: Workload) -> None:
    offered = entry.choices(workload, machine())
    default = default_settings(workload)
    assert getattr(default, entry.name) in offered.allowed
    assert len(set(offered.allowed)) == len(offered.allowed)
    for value in offered.allowed:
        assert entry.check(value) is None
        settings = replace(helped(default, entry.name), **{entry.name: value})
        assert illegal(canonical(settings, workload), workload, machine()) is None
    for value, reason in offered.left_out:
        assert entry.check(value) is None
        assert value not in offered.allowed
        assert len(reason.split()) > 2
    if entry.known is not None and entry.effect is not Effect.RECIPE:
        assert {*offered.allowed, *(value for value, _ in offered.left_out)} == {*entry.known}


@pytest.mark.parametrize("allow", [Effect.EXACT, Effect.NUMERICS])
def test_the_space_is_legal_canonical_and_begins_with_the_default(workload: Workload, allow: Effect) -> None:
    space = legal_space(workload, machine(), allow=allow)
    assert space.members[0] == space.default == default_settings(workload)
    assert len(set(space.members)) == len(space.members)
    for settings in space.members:
        assert canonical(settings, workload) == settings
        assert illegal(settings, workload, machine()) is None
        effects = {knob(name).effect for name in settings.changes(space.default)}
        assert Effect.RECIPE not in effects
        assert allow is Effect.NUMERICS or effects <= {Effect.EXACT}
        for name, less in without_each(settings, space.default, workload).items():
            assert getattr(less, name) == getattr(space.default, name)


def test_members_are_all_combinations_though_made_of_two_halves(tiny_model: Any) -> None:
    """Compute knobs and the others look only at their own kind, so that the halves can be joined freely."""
    workload = workload_of(tiny_model(), augmentation="rand")
    only = {"threads": (0, 1), "workers": (0, 1)}
    space = legal_space(workload, machine(), only=only)
    values = {name: only.get(name, entry.allowed) for name, entry in space.choices.items()}
    everything = (Settings(**dict(zip(values, chosen, strict=True))) for chosen in itertools.product(*values.values()))
    folded = {canonical(settings, workload) for settings in everything}
    expected = {settings for settings in folded if illegal(settings, workload, machine()) is None}
    assert set(space.members) == expected
    assert len(space.members) == len(expected)
    assert all(settings in space.members for settings in expected)
    assert replace(space.default, workers=7) not in space.members
    assert [space.members[place] for place in range(len(space.members))] == list(space.members)
    assert space.members[-2:] == tuple(space.members)[-2:]


def test_what_may_take_the_process_down_is_named() -> None:
    risky = {(entry.name, value) for entry in KNOBS for value in SAMPLES[entry.name] if entry.risky(value)}
    modes = {("compile", mode) for mode in ("default", "reduce-overhead", "max-autotune")}
    assert risky == modes | {("decoder", "nvjpeg")}


def test_a_fixed_setting_stays_fixed(workload: Workload) -> None:
    space = legal_space(workload, machine(), fixed={"workers": 1, "precision": "fp32"})
    assert {(entry.workers, entry.precision) for entry in space.members} == {(1, "fp32")}
    with pytest.raises(SettingsError, match="fixed setting 'workers': True is not a whole number"):
        legal_space(workload, machine(), fixed={"workers": True})


SAMPLES = {
    "precision": ("fp32", "bf16"),
    "memory_format": ("contiguous", "channels_last"),
    "compile": ("none", "default", "reduce-overhead", "max-autotune"),
    "optimizer_kernel": ("own", "foreach", "fused"),
    "cudnn_benchmark": (False, True),
    "micro_batches": (1, 2, 4),
    "sharding": ("none", "full"),
    "bucket_mib": (25, 5, 100),
    "gradient_precision": ("fp32", "bf16"),
    "gradient_views": (False, True),
    "static_graph": (False, True),
    "augmentation": tuple(entry.name for entry in POLICIES),
    "placement": ("worker", "device"),
    "decoder": tuple(entry.name for entry in DECODERS),
    "resize": ("pillow", "torch"),
    "cache": ("none", "ram", "disk"),
    "threads": (0, 1),
    "loader": ("processes", "threads"),
    "workers": (0, 1),
    "prefetch": (1, 3),
    "pinning": (False, True),
}
"""Values of every knob, legal or not: what settings can say."""


def combinations() -> list[Settings]:
    draws = random.Random(0)
    return [Settings(**{name: draws.choice(values) for name, values in SAMPLES.items()}) for _ in range(200)]


def test_canonical_is_idempotent(workload: Workload) -> None:
    assert set(SAMPLES) == set(NAMES)
    for settings in combinations():
        folded = canonical(settings, workload)
        assert canonical(folded, workload) == folded
        assert folded.augmentation == settings.augmentation
        assert folded.workers == settings.workers


def stream_of(workload: Workload, settings: Settings) -> list[torch.Tensor]:
    options: dict[str, Any] = {}
    knob("memory_format").transfer_options(settings.memory_format, options)
    transfer = Transfer(workload.device, mean=workload.mean, std=workload.std, image_size=SIDE, **options)
    side = InputSide(workload, settings, stop=3)
    with side.loader as loader:
        return [transfer.finish(transfer.move(batch))[0] for batch in loader]


def test_canonical_changes_nothing_that_the_model_sees(tiny_model: Any) -> None:
    small = workload_of(tiny_model(), augmentation="auto")
    for settings in combinations()[:60]:
        plain = replace(settings, pinning=False, workers=0)  # pinning is impossible here; workers have their own suite
        if plain.decoder.startswith("pillow_simd"):
            plain = replace(plain, decoder="pillow")  # Pillow-SIMD is impossible without workers
        for one, other in zip(stream_of(small, plain), stream_of(small, canonical(plain, small)), strict=True):
            assert torch.equal(one, other)
            assert one.stride() == other.stride()


# Flags


def flags() -> tuple[Any, ...]:
    return (
        torch.get_num_threads(),
        torch.get_float32_matmul_precision(),
        torch.backends.cuda.matmul.fp32_precision,
        torch.backends.cudnn.conv.fp32_precision,
        torch.backends.cudnn.benchmark,
        torch.is_grad_enabled(),
        torch.is_autocast_enabled("cpu"),
    )


@by_name
@pytest.mark.parametrize("raises", [False, True])
def test_flags_are_restored(entry: Knob, raises: bool) -> None:
    before = flags()
    values = entry.known if entry.known is not None else (0, 1, 2)
    for value in values:
        with suppress(ZeroDivisionError), entry.flags(value):
            if raises:
                raise ZeroDivisionError
        assert flags() == before


def test_threads_and_tf32_are_set_inside() -> None:
    other = 1 if torch.get_num_threads() > 1 else 2
    with knob("threads").flags(other):
        assert torch.get_num_threads() == other
    with knob("precision").flags("tf32"):
        assert torch.backends.cuda.matmul.fp32_precision == torch.backends.cudnn.conv.fp32_precision == "tf32"


# No trace


def random_states() -> tuple[Any, ...]:
    name, keys, *rest = np.random.get_state()
    return random.getstate(), name, keys.tobytes(), tuple(rest), torch.default_generator.get_state().tolist()


def picture_of(tensor: torch.Tensor | None) -> Any:
    """Return all of a tensor that can be compared: the object, its memory, layout and values."""
    if tensor is None:
        return None
    values = tensor.detach().clone(memory_format=torch.contiguous_format).view(-1).view(torch.uint8)
    return id(tensor), tensor.data_ptr(), tensor.stride(), tensor.dtype, str(tensor.device), values.numpy().tobytes()


def frozen(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return picture_of(value)
    return dict(value) if isinstance(value, dict) else value


def everything(model: nn.Module, optimizer: torch.optim.Optimizer | None) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "parameters": {name: picture_of(entry) for name, entry in model.named_parameters()},
        "requires_grad": {name: entry.requires_grad for name, entry in model.named_parameters()},
        "gradients": {name: picture_of(entry.grad) for name, entry in model.named_parameters()},
        "buffers": {name: picture_of(entry) for name, entry in model.named_buffers()},
        "modes": {name: module.training for name, module in model.named_modules()},
        "attributes": {
            (name, key): (id(value), repr(value))
            for name, module in model.named_modules()
            for key, value in vars(module).items()
            if not key.startswith("_")
        },
        "random states": random_states(),
        "flags": flags(),
        "environment": dict(os.environ),
    }
    if optimizer is not None:
        facts["options"] = [
            {key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups
        ]
        facts["groups"] = [[id(entry) for entry in group["params"]] for group in optimizer.param_groups]
        facts["state"] = {
            id(key): {name: frozen(value) for name, value in entry.items()} for key, entry in optimizer.state.items()
        }
    return facts


def used(model: nn.Module, make: Callable[..., torch.optim.Optimizer]) -> torch.optim.Optimizer:
    """Return an optimizer that has a state from steps of the user's, with new gradients left in the model."""
    optimizer = make(model.parameters())
    images = torch.linspace(-1, 1, 4 * 3 * SIDE * SIDE).view(4, 3, SIDE, SIDE)
    for _ in range(2):
        optimizer.zero_grad()
        model(images).square().sum().backward()
        optimizer.step()
    return optimizer


CASES = [
    (entry.name, value)
    for entry in KNOBS
    for value in (entry.known if entry.known is not None else (0, 1, 2) if entry.least == 0 else (1, 2, 4))
    if (entry.name, value) != ("compile", "default")  # takes a minute: tests/unit/engine/test_compiled.py
]


def live_settings(workload: Workload, name: str, value: Any) -> Settings:
    offered = knob(name).choices(workload, machine())
    if knob(name).known is not None and value not in offered.allowed:
        reason = dict(offered.left_out)[value]
        pytest.skip(f"{name}={value} is not offered here: {reason}")
    return replace(helped(Settings(), name), **{name: value})


MODELS: dict[str, Callable[[Any], nn.Module]] = {
    "sequential": lambda tiny_model: tiny_model(),
    "frozen norm": lambda tiny_model: equal_start(FrozenNorm),
}
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "momentum": lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=1e-3),
}


OF_FILES = ("decoder", "resize", "cache", "loader")
"""Knobs that need image files to have a choice."""


def of_files(name: str, folder: Path, kept: Path) -> dict[str, Any]:
    return {"dataset": folder, "cache_dir": kept} if name in OF_FILES else {}


@pytest.mark.parametrize(("name", "value"), CASES)
def test_two_steps_train_and_leave_no_trace(
    tiny_model: Any, jpeg_folder: Path, tmp_path: Path, name: str, value: Any
) -> None:
    for (_, make), (_, make_optimizer) in zip(MODELS.items(), OPTIMIZERS.items(), strict=True):
        model = make(tiny_model)
        optimizer = used(model, make_optimizer)
        files = of_files(name, jpeg_folder, tmp_path)
        workload = workload_of(model, augmentation="auto", optimizer=optimizer, **files)
        settings = live_settings(workload, name, value)
        before = everything(model, optimizer)
        weights = [entry.detach().clone() for entry in model.parameters()]
        with Rig(workload, settings) as rig:
            assert everything(model, optimizer) == before  # entered, but not active
            with rig.active():
                losses = [float(rig.train(rig.move(rig.input.next()))) for _ in range(2)]
                trained = [entry.detach().clone() for entry in model.parameters()]
            assert everything(model, optimizer) == before
        assert everything(model, optimizer) == before
        assert all(math.isfinite(loss) for loss in losses)
        assert any(not torch.equal(one, other) for one, other in zip(weights, trained, strict=True))


RAISING = ("precision", "memory_format", "optimizer_kernel", "micro_batches", "threads", "workers")
"""Knobs that change what a step is, so that one that raises may be left half-way."""


class Explosive(nn.Module):
    """Fails in the forward pass or in the backward pass of the second step, or is interrupted in the latter."""

    def __init__(self, body: nn.Module, where: str) -> None:
        super().__init__()
        self.body, self.where, self.armed = body, where, 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.armed += 1
        outputs: torch.Tensor = self.body(images)
        if self.armed == 2 and self.where == "forward":
            raise ZeroDivisionError
        if self.armed == 2:
            outputs.register_hook(self._explode)
        return outputs

    def _explode(self, gradient: torch.Tensor) -> None:
        raise KeyboardInterrupt if self.where == "interrupt" else ZeroDivisionError


@pytest.mark.parametrize("where", ["forward", "backward", "interrupt"])
@pytest.mark.parametrize(("name", "value"), [case for case in CASES if case[0] in RAISING])
def test_a_step_that_raises_leaves_no_trace(tiny_model: Any, name: str, value: Any, where: str) -> None:
    model = Explosive(equal_start(FrozenNorm), where)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    workload = workload_of(model, augmentation="auto", optimizer=optimizer)
    settings = live_settings(workload, name, value)
    before = everything(model, optimizer)

    def train() -> None:
        with Rig(workload, settings) as rig, rig.active():
            for _ in range(2):
                rig.train(rig.move(rig.input.next()))

    with pytest.raises(KeyboardInterrupt if where == "interrupt" else ZeroDivisionError):
        train()
    assert everything(model, optimizer) == before


def test_an_optimizer_function_that_raises_leaves_no_trace(tiny_model: Any) -> None:
    model = tiny_model()
    before = everything(model, None)
    rig = Rig(workload_of(model, optimizer=lambda parameters: None), Settings(memory_format="channels_last"))
    with pytest.raises(Exception, match="optimizer"):
        rig.__enter__()
    assert everything(model, None) == before


# Numerics


def first_losses(workload: Workload, settings: Settings, steps: int = 3) -> list[float]:
    with Rig(workload, settings) as rig, rig.active():
        return [float(rig.train(rig.move(rig.input.next()))) for _ in range(steps)]


@pytest.mark.parametrize(("name", "value"), [case for case in CASES if knob(case[0]).effect is Effect.NUMERICS])
def test_other_rounding_gives_nearly_the_same_losses(
    tiny_model: Any, jpeg_folder: Path, tmp_path: Path, name: str, value: Any
) -> None:
    model = tiny_model()
    if name == "micro_batches":
        model[1] = nn.GroupNorm(2, 8)  # the number of parts is more than rounding to batch statistics
    workload = workload_of(model, augmentation="auto", **of_files(name, jpeg_folder, tmp_path))
    settings = live_settings(workload, name, value)
    reference = first_losses(workload, replace(settings, **{name: getattr(Settings(), name)}))
    losses = first_losses(workload, settings)
    assert losses[0] == pytest.approx(reference[0], rel=1e-2 if name in ("precision", "decoder") else 1e-4)
    assert losses == pytest.approx(reference, rel=3e-2)


@pytest.mark.parametrize(("name", "value"), [case for case in CASES if knob(case[0]).effect is Effect.EXACT])
def test_exact_knobs_give_the_same_losses_bit_for_bit(
    tiny_model: Any, jpeg_folder: Path, tmp_path: Path, name: str, value: Any
) -> None:
    workload = workload_of(tiny_model(), augmentation="auto", **of_files(name, jpeg_folder, tmp_path))
    settings = live_settings(workload, name, value)
    reference = replace(settings, **{name: getattr(Settings(), name)})
    assert first_losses(workload, settings) == first_losses(workload, reference)


@pytest.mark.parametrize("knob", KNOBS, ids=lambda knob: knob.name)
def test_a_plan_accepts_what_the_knob_accepts(knob: Knob) -> None:
    from autotrain.plan.values import check_value as plan_check

    for value in ("fp32", "channels_last", "trivial", "device", "none", "fp64", True, False, -1, 0, 1, 2, 64):
        assert (plan_check(knob.name, value) is None) == (knob.check(value) is None), value
