"""The per-sample applier, the batched applier and torchvision agree, operator by operator."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torchvision.transforms as v1
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from autotrain.augment.batch import apply_batch, apply_each, apply_grouped
from autotrain.augment.draws import uniforms
from autotrain.augment.extras import Extras
from autotrain.augment.geometry import erased_window, resize_batch, resize_by_products
from autotrain.augment.operators import OPERATORS
from autotrain.augment.policy import POLICIES, Chains, Parameters, policy
from autotrain.augment.sample import apply_sample
from autotrain.augment.space import AUGMIX, AUTO, RAND, SEVERITY, TRIVIAL, Op, Space

SIDES = ((32, 32), (61, 48), (40, 97))
MEAN = (124, 116, 104)
ALL = Extras(color_jitter=(0.4, 0.4, 0.4, 0.2), erasing=0.5)

BOUNDS = {
    # operator: (share of values that differ by more than one level, mean difference in levels) from torchvision
    "ShearX": (0.0005, 0.02),
    "ShearY": (0.0005, 0.02),
    "Rotate": (0.0005, 0.02),
    "Color": (0.0, 0.005),
    "Contrast": (0.0, 0.005),
    "Sharpness": (0.0, 0.005),
    "Hue": (0.0, 0.005),
    "ShearXBilinear": (0.0, 0.08),
    "ShearYBilinear": (0.0, 0.08),
    "RotateBilinear": (0.0, 0.005),
}
"""What is not here is equal to the last bit. Blends may cut a value to the next level; a source point half-way between
two pixels may fall to either; a value half-way between two levels (shears by tenths have many) is rounded to either.
Between our own appliers every operator is equal to the last bit."""


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
    bins = slice(9, 10) if space is RAND else slice(SEVERITY) if space is AUGMIX else slice(None)
    magnitudes = space.magnitudes[row][bins].tolist()
    return magnitudes + [-entry for entry in magnitudes] if space.signed[row] else magnitudes


def auto_levels(operator: int) -> list[float]:
    """Every magnitude that AutoAugment draws for an operator."""
    here = AUTO.operators == operator
    magnitudes = np.unique(AUTO.magnitudes[here]).tolist()
    return magnitudes + [-entry for entry in magnitudes] if AUTO.signed[here].any() else magnitudes


def jitter_levels(reach: float, *, below: float = 1.0) -> list[float]:
    return np.linspace(-min(reach, below), reach, 15).astype(np.float32).tolist()


CASES = [
    *(
        pytest.param(op, levels(space, row), id=f"{name}-{OPERATORS[op].name}")
        for name, space in (("trivial", TRIVIAL), ("rand", RAND), ("augmix", AUGMIX))
        for row, op in enumerate(space.operators.tolist())
    ),
    *(pytest.param(op, auto_levels(op), id=f"auto-{OPERATORS[op].name}") for op in np.unique(AUTO.operators).tolist()),
    *(
        pytest.param(int(op), jitter_levels(reach), id=f"jitter-{OPERATORS[op].name}")
        for op, reach in ((Op.BRIGHTNESS, 1.5), (Op.CONTRAST, 1.5), (Op.COLOR, 1.5), (Op.HUE, 0.5))
    ),
]


def is_tie(operator: int, magnitude: float, height: int, width: int) -> bool:
    """Whether every source point lies half-way between pixels, where only torchvision's rounding errors decide."""
    return operator == Op.ROTATE and abs(magnitude) == 90 and (height + width) % 2 == 1


def reference(image: Tensor, operator: int, magnitude: float) -> Tensor:
    """What torchvision does to a uint8 tensor."""
    name = OPERATORS[operator].name
    if name == "Hue":
        return v2.functional.adjust_hue(image, magnitude)
    if name == "Invert":
        return v2.functional.invert(image)
    smooth = name.endswith("Bilinear")
    if name.endswith("Relative"):
        magnitude *= image.shape[2] if "X" in name else image.shape[1]
    name = name.removesuffix("Relative").removesuffix("Bilinear")
    interpolation = InterpolationMode.BILINEAR if smooth else InterpolationMode.NEAREST
    transform = v2.TrivialAugmentWide()
    return transform._apply_image_or_video_transform(image, name, magnitude, interpolation, transform._fill)


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


def one_by_one(batch: Tensor, parameters: Parameters, *, fill: tuple[int, ...] | None = None) -> Tensor:
    return torch.stack([apply_sample(image, parameters, place, fill=fill) for place, image in enumerate(batch)])


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize(("operator", "magnitudes"), CASES)
def test_a_sample_is_what_torchvision_makes_of_it(operator: int, magnitudes: list[float], channels: int) -> None:
    share, mean = [], []
    for height, width in SIDES:
        for image in images(height, width, channels=channels):
            for magnitude in magnitudes[:: 1 if len(magnitudes) < 7 else 7 if channels == 3 else 13]:
                if is_tie(operator, magnitude, height, width):
                    continue
                ours = one_by_one(image[None], parameters_of(operator, [magnitude]))[0]
                one = differences(ours, reference(image, operator, magnitude))
                share.append(one[0])
                mean.append(one[1])
    bound = BOUNDS.get(OPERATORS[operator].name, (0.0, 0.0))
    assert np.mean(share) <= bound[0]
    assert np.mean(mean) <= bound[1]


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize(("operator", "magnitudes"), CASES)
def test_a_batch_is_what_its_samples_are_one_by_one(operator: int, magnitudes: list[float], channels: int) -> None:
    """To the last bit, whatever the operator."""
    magnitudes = magnitudes[:: 1 if channels == 3 else 7]
    for height, width in SIDES[1:]:
        sources = images(height, width, channels=channels)
        batch = torch.stack([sources[index % len(sources)] for index in range(len(magnitudes))])
        parameters = parameters_of(operator, magnitudes)
        expected = one_by_one(batch, parameters)
        assert torch.equal(apply_each(batch, parameters), expected)
        assert torch.equal(apply_grouped(batch, parameters), expected)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("extras", [None, ALL], ids=["plain", "extras"])
@pytest.mark.parametrize("name", [entry.name for entry in POLICIES])
@pytest.mark.parametrize(("height", "width"), [(40, 52), (70, 66)])
def test_a_policy_gives_the_same_images_on_either_path(
    height: int, width: int, name: str, extras: Extras | None, layout: torch.memory_format
) -> None:
    parameters = policy(name).draw(5, 1, np.arange(24))
    if extras is not None:
        parameters = extras.extend(parameters, seed=5, epoch=1, positions=np.arange(24))
    batch = torch.stack([photograph(height, width, seed=index) for index in range(24)]).contiguous(memory_format=layout)
    before = batch.clone()
    expected = one_by_one(batch, parameters, fill=MEAN)
    for apply in (apply_batch, apply_each, apply_grouped):
        changed = apply(batch, parameters, fill=MEAN)
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
    [
        (TRIVIAL, v2.TrivialAugmentWide, (1, 1)),
        (RAND, v2.RandAugment, (331, 331)),
        (RAND, v2.RandAugment, (500, 224)),
        (AUGMIX, v2.AugMix, (81, 224)),
    ],
)
def test_magnitudes_are_those_of_torchvision(space: Space, theirs: type, sides: tuple[int, int]) -> None:
    known = theirs._AUGMENTATION_SPACE
    names = [OPERATORS[number].name for number in space.operators.tolist()]
    assert {name.removesuffix("Relative").removesuffix("Bilinear") for name in names} == set(known)
    bins = space.magnitudes.shape[1]
    for row, name in enumerate(names):
        function, signed = known[name.removesuffix("Relative").removesuffix("Bilinear")]
        expected = function(bins, *sides)
        expected = np.zeros(bins) if expected is None else expected.numpy()
        unit = {"TranslateXRelative": sides[1], "TranslateYRelative": sides[0]}.get(name, 1)
        np.testing.assert_allclose(space.magnitudes[row] * unit, expected, rtol=1e-5, atol=1e-6)
        assert bool(space.signed[row]) == signed


def test_auto_has_the_pairs_of_torchvision() -> None:
    theirs = v2.AutoAugment(v2.AutoAugmentPolicy.IMAGENET)
    assert len(theirs._policies) == len(AUTO.operators)
    for row, pair in enumerate(theirs._policies):
        for step, (name, probability, place) in enumerate(pair):
            function, signed = theirs._AUGMENTATION_SPACE[name]
            magnitude = 0.0 if place is None else float(function(10, 1, 1)[place])
            assert OPERATORS[AUTO.operators[row, step]].name == name
            assert AUTO.probabilities[row, step] == probability
            assert AUTO.magnitudes[row, step] == pytest.approx(magnitude, rel=1e-6)
            assert bool(AUTO.signed[row, step]) == signed


@pytest.mark.parametrize("channels", [3, 1])
def test_augmix_blends_as_torchvision_does(channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its draws are put into ours; the rest is compared."""
    image = photograph(64, 81, channels=channels, seed=4)
    space = {OPERATORS[op].name.removesuffix("Relative").removesuffix("Bilinear"): op for op in AUGMIX.operators}
    seen: list[tuple[str, float]] = []
    theirs = v2.AugMix(chain_depth=2)
    weights = iter([torch.tensor([[0.25, 0.75]]), torch.tensor([[0.5, 0.25, 0.25]])])
    monkeypatch.setattr(theirs, "_sample_dirichlet", lambda params: next(weights))
    original = theirs._apply_image_or_video_transform

    def recorded(batch: Tensor, name: str, magnitude: float, **options: object) -> Tensor:
        seen.append((name, magnitude))
        return original(batch, name, magnitude, **options)

    monkeypatch.setattr(theirs, "_apply_image_or_video_transform", recorded)
    state = torch.get_rng_state()
    torch.manual_seed(channels)
    expected = theirs(image)
    torch.set_rng_state(state)
    operators = [space[name] for name, _ in seen]
    side = {"TranslateX": 81, "TranslateY": 64}
    magnitudes = [magnitude / side.get(name, 1) for name, magnitude in seen]
    chains = Chains(
        operators=np.array(operators, dtype=np.int8).reshape(1, 3, 2),
        magnitudes=np.array(magnitudes, dtype=np.float32).reshape(1, 3, 2),
        weights=np.array([[0.25, 0.375, 0.1875, 0.1875]], dtype=np.float32),
    )
    parameters = replace(policy("none").draw(0, 0, np.arange(1)), chains=chains)
    share, mean = differences(apply_sample(image, parameters, 0), expected)
    # A rounded half may cross the next operator's threshold; a sum a hair below a whole level is cut to that below.
    assert share <= 0.005
    assert mean <= 0.06
    assert differences(image, expected)[1] > 1


def test_jitter_draws_what_color_jitter_draws() -> None:
    number = 3000
    reach = (0.4, 1.5, 0.3, 0.1)
    none = policy("none").draw(0, 0, np.arange(number))
    ours = Extras(color_jitter=reach).extend(none, seed=3, epoch=0, positions=np.arange(number))
    transform = v1.ColorJitter(*reach)
    state = torch.get_rng_state()
    torch.manual_seed(0)
    options = (transform.brightness, transform.contrast, transform.saturation, transform.hue)
    drawn = [transform.get_params(*options) for _ in range(number)]
    torch.set_rng_state(state)
    for place, op in enumerate((Op.BRIGHTNESS, Op.CONTRAST, Op.COLOR, Op.HUE)):
        magnitudes = ours.magnitudes[ours.operators == op] + (place < 3)
        assert len(magnitudes) == number
        assert stats.ks_2samp(magnitudes, [entry[1 + place] for entry in drawn]).pvalue > 1e-4
    orders, counts = np.unique(ours.operators, axis=0, return_counts=True)
    assert len(orders) == 24
    np.testing.assert_allclose(counts / number, 1 / 24, atol=0.015)


def test_color_jitter_in_a_drawn_order_is_that_of_torchvision() -> None:
    image = photograph(50, 60, seed=6)
    parameters = Extras(color_jitter=(0.4, 0.4, 0.4, 0.3)).extend(
        policy("none").draw(0, 0, np.arange(12)), seed=0, epoch=0, positions=np.arange(12)
    )
    for place in range(12):
        expected = image
        for op, magnitude in zip(parameters.operators[place], parameters.magnitudes[place].tolist(), strict=True):
            expected = reference(expected, int(op), magnitude)
        share, mean = differences(apply_sample(image, parameters, place), expected)
        assert share <= 0.001
        assert mean <= 0.02


@pytest.mark.parametrize(("height", "width"), [(224, 224), (30, 90)])
def test_rectangles_are_distributed_as_in_torchvision(height: int, width: int) -> None:
    number = 2000
    rows = uniforms(0, 0, np.arange(number), count=22, purpose=1)
    ours = np.array([erased_window(row, height, width) for row in rows])
    state = torch.get_rng_state()
    torch.manual_seed(0)
    image, transform = torch.zeros(1, height, width), v1.RandomErasing()
    drawn = [transform.get_params(image, transform.scale, transform.ratio, [0.0])[:4] for _ in range(number)]
    torch.set_rng_state(state)
    theirs = np.array(drawn)
    for column in range(4):
        assert stats.ks_2samp(ours[:, column], theirs[:, column]).pvalue > 1e-4
    areas = [entry[:, 2] * entry[:, 3] for entry in (ours, theirs)]
    assert stats.ks_2samp(*areas).pvalue > 1e-4


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
