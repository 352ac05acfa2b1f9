"""The batched applier on CUDA gives what the per-sample applier gives in main memory."""

import numpy as np
import pytest
import torch

from autotrain.augment.batch import apply_batch
from autotrain.augment.extras import Extras
from autotrain.augment.geometry import crop_window, resize_batch
from autotrain.augment.mixing import draw_mixing, mix, partners
from autotrain.augment.operators import OPERATORS
from autotrain.augment.policy import POLICIES, Parameters, policy
from autotrain.augment.space import AUGMIX, RAND, TRIVIAL, Op

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def signed(magnitudes: np.ndarray, both: bool) -> np.ndarray:
    return np.concatenate([magnitudes, -magnitudes]) if both else magnitudes


CASES = [
    *(
        pytest.param(op, signed(space.magnitudes[row], space.signed[row]), id=f"{name}-{OPERATORS[op].name}")
        for name, space in (("trivial", TRIVIAL), ("rand", RAND), ("augmix", AUGMIX))
        for row, op in enumerate(space.operators.tolist())
    ),
    pytest.param(Op.INVERT, np.zeros(4, dtype=np.float32), id="Invert"),
    pytest.param(Op.HUE, signed(np.linspace(0, 0.5, 31, dtype=np.float32), True), id="Hue"),
]
MEAN = (124, 116, 104)
EXTRAS = Extras(color_jitter=(0.4, 0.4, 0.4, 0.1), erasing=0.5)


def photographs(number: int, height: int, width: int, *, channels: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(number, channels, 5, 5, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic")
    texture = torch.randn(smooth.shape, generator=generator)
    return ((smooth * 0.9 + texture * 0.04).clamp(0, 1) * 255).to(torch.uint8)


def gap(ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    return (ours.cpu().to(torch.int16) - theirs.to(torch.int16)).abs().double()


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize(("operator", "magnitudes"), CASES)
def test_every_operator_agrees_with_main_memory(operator: int, magnitudes: np.ndarray, channels: int) -> None:
    parameters = Parameters(
        flip=np.arange(len(magnitudes)) % 2 == 0,
        geometry=np.empty((len(magnitudes), 0)),
        operators=np.full((len(magnitudes), 1), operator, dtype=np.int8),
        magnitudes=magnitudes.astype(np.float32)[:, None],
    )
    batch = photographs(len(magnitudes), 96, 80, channels=channels)
    difference = gap(apply_batch(batch.cuda(), parameters), apply_batch(batch, parameters))
    assert float((difference > 1).double().mean()) == 0
    blends = OPERATORS[operator].name in ("Color", "Sharpness", "Hue") or OPERATORS[operator].kind == "bilinear"
    assert float(difference.mean()) <= (0.001 if blends else 0)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("extras", [Extras(), EXTRAS], ids=["plain", "extras"])
@pytest.mark.parametrize("name", [entry.name for entry in POLICIES])
def test_a_policy_agrees_with_main_memory_and_waits_for_nothing(
    name: str, extras: Extras, layout: torch.memory_format
) -> None:
    positions = np.arange(128)
    parameters = extras.extend(policy(name).draw(3, 0, positions), seed=3, epoch=0, positions=positions)
    batch = photographs(128, 64, 72).contiguous(memory_format=layout)
    resident = batch.cuda()
    apply_batch(resident, parameters, fill=MEAN)
    torch.cuda.set_sync_debug_mode("error")
    try:
        changed = apply_batch(resident, parameters, fill=MEAN)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert changed.stride() == resident.stride()
    assert torch.equal(resident.cpu(), batch)
    difference = gap(changed, apply_batch(batch, parameters, fill=MEAN))
    assert float((difference > 1).double().mean()) < 1e-4
    assert float(difference.mean()) < 1e-3


@pytest.mark.parametrize("name", ["rand", "augmix"])
def test_a_large_batch_in_parts_has_the_same_bits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    resident = photographs(48, 64, 72).cuda()
    parameters = policy(name).draw(3, 0, np.arange(48))
    whole = apply_batch(resident, parameters)
    monkeypatch.setattr("autotrain.augment.batch._CHUNK_LEVELS", 2 * 3 * 64 * 72)
    assert torch.equal(apply_batch(resident, parameters), whole)


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


@pytest.mark.parametrize("extras", [Extras(mixup=0.8), Extras(cutmix=1.0)], ids=["mixup", "cutmix"])
@pytest.mark.parametrize("number", [2, 33, 64])
def test_mixing_has_the_bits_of_main_memory_and_waits_for_nothing(extras: Extras, number: int) -> None:
    batch = photographs(number, 96, 80)
    for layout in (torch.contiguous_format, torch.channels_last):
        resident = batch.cuda().contiguous(memory_format=layout)
        for step in range(4):
            mixing = draw_mixing(extras, seed=0, epoch=0, step=step)
            assert mixing is not None
            mix(resident, mixing)
            torch.cuda.set_sync_debug_mode("error")
            try:
                mixed = mix(resident, mixing)
                places = partners(number, device="cuda")
            finally:
                torch.cuda.set_sync_debug_mode("default")
            assert mixed.stride() == resident.stride()
            assert torch.equal(mixed.cpu(), mix(batch, mixing))
            assert torch.equal(places.cpu(), partners(number))
