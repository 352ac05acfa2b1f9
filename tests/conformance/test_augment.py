"""The per-sample applier, the batched applier and torchvision agree, operator by operator."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms import v2

from autotrain.augment.batch import apply_batch, apply_each, apply_grouped
from autotrain.augment.geometry import resize_batch, resize_by_products
from autotrain.augment.operators import OPERATORS
from autotrain.augment.policy import Parameters, policy
from autotrain.augment.sample import apply_sample
from autotrain.augment.space import RAND, TRIVIAL, Op, Space

SIDES = ((32, 32), (61, 48), (40, 97))

BOUNDS = {
    # operator: (share of values that differ by more than one level, mean difference in levels) from torchvision
    "ShearX": (0.0005, 0.02),
    "ShearY": (0.0005, 0.02),
    "Rotate": (0.0005, 0.02),
    "Color": (0.0, 0.005),
    "Contrast": (0.0, 0.005),
    "Sharpness": (0.0, 0.005),
}
"""What is not here is equal to the last bit. Blends may cut a value to the next level; a source point half-way between
two pixels may fall to either."""


def photograph(height: int, width: int, *, channels: int = 3, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, channels, 5, 5, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic")[0]
    texture = torch.randn(channels, height, width, generator=generator)
    return ((smooth * 0.9 + texture * 0.04).clamp(0, 1) * 255).to(torch.uint8)


def images(height: int, width: int, *, channels: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [
        photograph(height, width, channels=channels),
        torch.randint(0, 256, (channels, height, width), generator=generator, dtype=torch.uint8),
        photograph(height, width, channels=channels, seed=2) // 4 + 60,
        torch.full((channels, height, width), 17, dtype=torch.uint8),
    ]


def levels(space: Space, row: int) -> list[float]:
    """Every magnitude that the policy of this space draws."""
    bins = slice(9, 10) if space is RAND else slice(None)
    magnitudes = space.magnitudes[row][bins].tolist()
    return magnitudes + [-entry for entry in magnitudes] if space.signed[row] else magnitudes


CASES = [
    pytest.param(space, row, id=f"{name}-{OPERATORS[op].name}")
    for name, space in (("trivial", TRIVIAL), ("rand", RAND))
    for row, op in enumerate(space.operators.tolist())
]


def is_tie(operator: int, magnitude: float, height: int, width: int) -> bool:
    """Whether every source point lies half-way between pixels, where only torchvision's rounding errors decide."""
    return operator == Op.ROTATE and abs(magnitude) == 90 and (height + width) % 2 == 1


def reference(image: Tensor, operator: int, magnitude: float) -> Tensor:
    """What torchvision does to a uint8 tensor."""
    name = OPERATORS[operator].name
    if name.endswith("Relative"):
        magnitude *= image.shape[2] if "X" in name else image.shape[1]
        name = name.removesuffix("Relative")
    transform = v2.TrivialAugmentWide()
    return transform._apply_image_or_video_transform(image, name, magnitude, transform.interpolation, transform._fill)


def differences(ours: Tensor, theirs: Tensor) -> tuple[float, float]:
    gap = (ours.to(torch.int16) - theirs.to(torch.int16)).abs().double()
    return float((gap > 1).double().mean()), float(gap.mean())


def parameters_of(operator: int, magnitudes: list[float]) -> Parameters:
    number = len(magnitudes)
    return Parameters(
        flip=np.arange(number) % 3 == 1,
        geometry=np.empty((number, 0)),
        operators=np.full((number, 1), operator, dtype=np.int8),
        magnitudes=np.array(magnitudes, dtype=np.float32)[:, None],
    )


def one_by_one(batch: Tensor, parameters: Parameters) -> Tensor:
    rows = zip(batch, parameters.flip.tolist(), parameters.operators, parameters.magnitudes, strict=True)
    return torch.stack([apply_sample(image, flip, operators, levels) for image, flip, operators, levels in rows])


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize(("space", "row"), CASES)
def test_a_sample_is_what_torchvision_makes_of_it(space: Space, row: int, channels: int) -> None:
    operator = int(space.operators[row])
    share, mean = [], []
    for height, width in SIDES:
        for image in images(height, width, channels=channels):
            for magnitude in levels(space, row)[:: 7 if channels == 3 else 13]:
                if is_tie(operator, magnitude, height, width):
                    continue
                ours = apply_sample(image, False, np.array([operator]), np.array([magnitude], dtype=np.float32))
                one = differences(ours, reference(image, operator, magnitude))
                share.append(one[0])
                mean.append(one[1])
    bound = BOUNDS.get(OPERATORS[operator].name, (0.0, 0.0))
    assert np.mean(share) <= bound[0]
    assert np.mean(mean) <= bound[1]


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize(("space", "row"), CASES)
def test_a_batch_is_what_its_samples_are_one_by_one(space: Space, row: int, channels: int) -> None:
    """To the last bit, whatever the operator."""
    operator = int(space.operators[row])
    magnitudes = levels(space, row)[:: 1 if channels == 3 else 7]
    for height, width in SIDES:
        sources = images(height, width, channels=channels)
        batch = torch.stack([sources[index % len(sources)] for index in range(len(magnitudes))])
        parameters = parameters_of(operator, magnitudes)
        expected = one_by_one(batch, parameters)
        assert torch.equal(apply_batch(batch, parameters), expected)
        assert torch.equal(apply_each(batch, parameters), expected)
        assert torch.equal(apply_grouped(batch, parameters), expected)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", ["none", "flip", "crop", "trivial", "rand"])
@pytest.mark.parametrize(("height", "width"), [(40, 52), (70, 66)])
def test_a_policy_gives_the_same_images_on_either_path(
    height: int, width: int, name: str, layout: torch.memory_format
) -> None:
    parameters = policy(name).draw(5, 1, np.arange(48))
    batch = torch.stack([photograph(height, width, seed=index) for index in range(48)]).contiguous(memory_format=layout)
    before = batch.clone()
    expected = one_by_one(batch, parameters)
    for apply in (apply_batch, apply_each, apply_grouped):
        changed = apply(batch, parameters)
        assert torch.equal(changed, expected)
        assert changed.stride() == batch.stride()
    assert torch.equal(batch, before)


def test_operators_have_the_numbers_that_policies_draw() -> None:
    names = [operator.name for operator in OPERATORS]
    assert [Op(number).name.replace("_", "").lower() for number in range(len(OPERATORS))] == [
        name.lower() for name in names
    ]


@pytest.mark.parametrize(
    ("space", "theirs", "sides"),
    [(TRIVIAL, v2.TrivialAugmentWide, (1, 1)), (RAND, v2.RandAugment, (331, 331)), (RAND, v2.RandAugment, (500, 224))],
)
def test_magnitudes_are_those_of_torchvision(space: Space, theirs: type, sides: tuple[int, int]) -> None:
    known = theirs._AUGMENTATION_SPACE
    names = [OPERATORS[number].name for number in space.operators.tolist()]
    assert {name.removesuffix("Relative") for name in names} == set(known)
    for row, name in enumerate(names):
        function, signed = known[name.removesuffix("Relative")]
        expected = function(31, *sides)
        expected = np.zeros(31) if expected is None else expected.numpy()
        unit = {"TranslateXRelative": sides[1], "TranslateYRelative": sides[0]}.get(name, 1)
        np.testing.assert_allclose(space.magnitudes[row] * unit, expected, rtol=1e-5, atol=1e-6)
        assert bool(space.signed[row]) == signed


@pytest.mark.parametrize("size", [8, 31, 64])
@pytest.mark.parametrize("resize", [resize_batch, resize_by_products])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_batch_of_windows_is_resized_as_by_torchvision(
    size: int, resize: object, layout: torch.memory_format
) -> None:
    windows: NDArray[np.int64] = np.array(
        [(0, 0, 50, 70), (3, 5, 40, 20), (49, 69, 1, 1), (7, 0, 3, 70), (10, 20, 31, 31)]
    )
    batch = torch.stack([*images(50, 70), photograph(50, 70, seed=5)]).contiguous(memory_format=layout)
    resized = resize(batch, windows, size)  # type: ignore[operator]
    expected = torch.stack(
        [
            v2.functional.resized_crop(image, *window, size=[size, size], antialias=True)
            for image, window in zip(batch, windows.tolist(), strict=True)
        ]
    )
    gap = (resized.to(torch.int16) - expected.to(torch.int16)).abs()
    assert int(gap.max()) <= 1
    assert float(gap.double().mean()) < 0.2
    assert resized.is_contiguous(memory_format=layout)
