"""The batched applier on CUDA gives what the per-sample applier gives in main memory."""

import numpy as np
import pytest
import torch

from autotrain.augment.batch import apply_batch
from autotrain.augment.geometry import crop_window, resize_batch
from autotrain.augment.operators import OPERATORS
from autotrain.augment.policy import Parameters, policy
from autotrain.augment.space import RAND, TRIVIAL, Space

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

CASES = [
    pytest.param(space, row, id=f"{name}-{OPERATORS[op].name}")
    for name, space in (("trivial", TRIVIAL), ("rand", RAND))
    for row, op in enumerate(space.operators.tolist())
]


def photographs(number: int, height: int, width: int, *, channels: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(number, channels, 5, 5, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic")
    texture = torch.randn(smooth.shape, generator=generator)
    return ((smooth * 0.9 + texture * 0.04).clamp(0, 1) * 255).to(torch.uint8)


def gap(ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    return (ours.cpu().to(torch.int16) - theirs.to(torch.int16)).abs().double()


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize(("space", "row"), CASES)
def test_every_operator_agrees_with_main_memory(space: Space, row: int, channels: int) -> None:
    magnitudes = np.concatenate([space.magnitudes[row], -space.magnitudes[row][: 31 * int(space.signed[row])]])
    parameters = Parameters(
        flip=np.arange(len(magnitudes)) % 2 == 0,
        geometry=np.empty((len(magnitudes), 0)),
        operators=np.full((len(magnitudes), 1), space.operators[row], dtype=np.int8),
        magnitudes=magnitudes.astype(np.float32)[:, None],
    )
    batch = photographs(len(magnitudes), 96, 80, channels=channels)
    difference = gap(apply_batch(batch.cuda(), parameters), apply_batch(batch, parameters))
    assert float((difference > 1).double().mean()) == 0
    blends = OPERATORS[int(space.operators[row])].name in ("Color", "Sharpness")
    assert float(difference.mean()) <= (0.001 if blends else 0)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", ["flip", "trivial", "rand"])
def test_a_policy_agrees_with_main_memory_and_waits_for_nothing(name: str, layout: torch.memory_format) -> None:
    parameters = policy(name).draw(3, 0, np.arange(128))
    batch = photographs(128, 64, 72).contiguous(memory_format=layout)
    resident = batch.cuda()
    apply_batch(resident, parameters)
    torch.cuda.set_sync_debug_mode("error")
    try:
        changed = apply_batch(resident, parameters)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert changed.stride() == resident.stride()
    assert torch.equal(resident.cpu(), batch)
    difference = gap(changed, apply_batch(batch, parameters))
    assert float((difference > 1).double().mean()) < 1e-4
    assert float(difference.mean()) < 1e-3


@pytest.mark.parametrize("autocast", [False, True])
def test_windows_are_resized_within_a_level_of_main_memory(autocast: bool) -> None:
    batch = photographs(64, 120, 150)
    geometry = policy("crop").draw(0, 0, np.arange(64)).geometry
    windows = np.array([crop_window(row, 120, 150) for row in geometry])
    resident = batch.cuda()
    resize_batch(resident, windows, 64)
    torch.cuda.set_sync_debug_mode("error")
    try:
        with torch.autocast("cuda", enabled=autocast):
            resized = resize_batch(resident, windows, 64)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert int(gap(resized, resize_batch(batch, windows, 64)).max()) <= 1
