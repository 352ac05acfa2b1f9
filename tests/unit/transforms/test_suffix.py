"""The tail that can move is as long as one row of parameters can say what it does, and no longer."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms as v1
from torchvision.transforms import v2

from autotrain.augment.space import Op
from autotrain.transforms.crop import cut
from autotrain.transforms.generators import seeded
from autotrain.transforms.move import Row
from autotrain.transforms.steps import trace
from autotrain.transforms.suffix import Suffix, erase, find_suffix

FLOAT = [v1.ToTensor(), v1.Normalize([0.5], [0.25])]
FLIP, TRIVIAL = v1.RandomHorizontalFlip(), v1.TrivialAugmentWide()


def deprecated(kind: Any) -> Any:
    with pytest.warns(UserWarning, match="deprecated"):
        return kind()


def found(*transforms: Any) -> Suffix | str:
    with seeded(0):
        return find_suffix(trace(list(transforms), Image.new("RGB", (40, 40), (9, 99, 199))))


def suffix_of(*transforms: Any) -> Suffix:
    suffix = found(*transforms)
    assert isinstance(suffix, Suffix), suffix
    return suffix


@pytest.mark.parametrize(
    ("transforms", "start"),
    [
        (FLOAT, 0),
        ([v1.Resize(32), FLIP, TRIVIAL, *FLOAT], 1),
        ([v1.RandomCrop(32), *FLOAT, FLIP], 0),
        ([v1.Resize(36), v1.RandomCrop(32, 4), FLIP, TRIVIAL, *FLOAT], 1),
        ([FLIP, v2.RandomCrop(32), *FLOAT], 0),
        ([FLIP, v1.RandomCrop(32), FLIP, *FLOAT], 1),
        ([v1.RandomCrop(36), v1.RandomCrop(32), *FLOAT], 1),
        ([TRIVIAL, v1.RandomCrop(32), *FLOAT], 1),
        ([TRIVIAL, FLIP, v1.RandomCrop(32), *FLOAT], 1),
        ([v1.RandomCrop(32, 4, padding_mode="reflect"), *FLOAT], 1),
        ([v1.RandomCrop(32, pad_if_needed=True), *FLOAT], 1),
        ([v1.RandomCrop(32, 4, fill=(1, 2, 3)), *FLOAT], 0),
        ([v2.RandomCrop(32, 4, fill={Image.Image: 0}), *FLOAT], 1),
        ([v1.RandomCrop(32, padding_mode="reflect"), *FLOAT], 0),
        ([TRIVIAL, FLIP, *FLOAT], 1),
        ([FLIP, FLIP, *FLOAT], 1),
        ([FLIP, v1.RandomVerticalFlip(), TRIVIAL, *FLOAT], 2),
        ([FLIP, v1.Lambda(lambda image: image), FLIP, *FLOAT], 2),
        ([FLIP, v1.ColorJitter(0.1), TRIVIAL, v1.AutoAugment(), *FLOAT], 0),
        ([v1.TrivialAugmentWide(fill=(0, 0, 0)), *FLOAT], 0),
        ([v1.TrivialAugmentWide(fill=[1.0, 0.0, 0.0]), *FLOAT], 1),
        ([v2.TrivialAugmentWide(interpolation="nearest"), *FLOAT], 0),
        ([v2.TrivialAugmentWide(interpolation="bilinear"), *FLOAT], 1),
        ([v2.RandAugment(fill={Image.Image: 0}), *FLOAT], 1),
        ([v1.AugMix(), *FLOAT], 1),
        ([FLIP, v1.RandomApply([TRIVIAL]), *FLOAT], 2),
        ([v2.ToImage(), FLIP, v2.ToDtype(torch.float32, scale=True), v2.ToPureTensor()], 0),
        ([FLIP, TRIVIAL, *FLOAT, v1.RandomErasing(value=(1, 2, 3))], 0),
    ],
)
def test_where_the_movable_tail_begins(transforms: list[Any], start: int) -> None:
    assert suffix_of(*transforms).start == start


@pytest.mark.parametrize(
    ("transforms", "why"),
    [
        ([], "do not end as float32"),
        ([FLIP], "do not end as float32"),
        ([FLIP, v1.PILToTensor()], "do not end as float32"),
        ([v2.ToImage(), v2.ToDtype(torch.float16, scale=True)], "do not end as float32"),
        ([v2.ToImage(), deprecated(v2.ToTensor)], "do not end as float32"),
        ([*FLOAT, v1.ToPILImage(), *FLOAT], "more than once"),
        ([lambda image: v1.functional.to_tensor(image)], "<lambda> is not known"),
        ([*FLOAT, v1.RandomCrop(8)], r"RandomCrop\(8\), which comes after"),
        ([*FLOAT, lambda image: image], "<lambda>, which comes after"),
        ([v1.ToTensor(), v1.ColorJitter(0.1)], "ColorJitter, which comes after"),
        ([*FLOAT, v1.Normalize([0.5], [0.5])], "Normalize, which comes after"),
        ([*FLOAT, v1.RandomErasing(value="random")], "RandomErasing, which comes after"),
        ([*FLOAT, v2.RandomErasing(value="random")], "RandomErasing, which comes after"),
        ([*FLOAT, v1.RandomErasing(), FLIP], "RandomErasing, which comes after"),
        ([*FLOAT, v1.RandomErasing(), v1.RandomErasing()], "RandomErasing, which comes after"),
    ],
)
def test_why_nothing_moves(transforms: list[Any], why: str) -> None:
    reason = found(*transforms)
    assert isinstance(reason, str)
    assert re.search(why, reason)


def test_constants_are_those_of_images_scaled_to_one() -> None:
    assert suffix_of(v1.ToTensor()).mean == (0.0,)
    assert suffix_of(v1.ToTensor()).std == (1.0,)
    assert suffix_of(*FLOAT).mean == (0.5,)
    unscaled = suffix_of(v2.ToImage(), v2.ToDtype(torch.float32), v2.Normalize([51.0], [102.0]))
    assert unscaled.mean == pytest.approx((0.2,))
    assert unscaled.std == pytest.approx((0.4,))


def test_rows_of_any_length_make_a_batch() -> None:
    suffix = suffix_of(FLIP, v1.RandAugment(num_ops=3), *FLOAT)
    rows = [Row(), Row(flip=True, operations=[(int(Op.ROTATE), -9.0), (int(Op.INVERT), 0.0)])]
    parameters = suffix.stack(rows)
    assert parameters.flip.tolist() == [False, True]
    assert parameters.operators.tolist() == [[0, 0, 0], [5, 16, 0]]
    assert parameters.magnitudes.tolist() == [[0, 0, 0], [-9, 0, 0]]
    assert suffix.erased(rows) is None


def test_erasing_fills_each_image_s_own_window() -> None:
    images = torch.ones(3, 2, 6, 5)
    windows = np.array([(0, 0, 0, 0), (1, 2, 3, 2), (0, 0, 6, 5)])
    changed = erase(images, windows, torch.tensor([7.0, 8.0]).view(-1, 1, 1))
    expected = images.clone()
    expected[1, :, 1:4, 2:4] = torch.tensor([7.0, 8.0]).view(-1, 1, 1)
    expected[2] = torch.tensor([7.0, 8.0]).view(-1, 1, 1)
    assert torch.equal(changed, expected)
    assert torch.equal(images, torch.ones(3, 2, 6, 5))


@pytest.mark.parametrize("m", [v1, v2])
def test_an_image_too_small_to_be_cut_is_said(m: Any) -> None:
    suffix = suffix_of(m.RandomCrop(32, 2), *FLOAT)
    with pytest.raises(ValueError, match="32 x 32 pixels cannot be cut out of an image of 40 x 27"):
        suffix.begin(torch.zeros(3, 40, 27, dtype=torch.uint8))
    assert suffix.begin(torch.zeros(3, 28, 28, dtype=torch.uint8))[0].shape == (3, 32, 32)


def test_a_window_wholly_outside_shows_the_fill_alone() -> None:
    image = torch.full((3, 4, 4), 9, dtype=torch.uint8)
    made = cut(image, (-6, 1, 3, 2), (1, 2, 3))
    assert torch.equal(made, torch.tensor([1, 2, 3], dtype=torch.uint8).view(3, 1, 1).expand(3, 3, 2))


@pytest.mark.parametrize("m", [v1, v2])
def test_a_rectangle_that_never_fits_erases_nothing(m: Any, own_draws: None) -> None:
    suffix = suffix_of(v1.Resize((2, 40)), *FLOAT, m.RandomErasing(1.0, scale=(0.9, 1.0), ratio=(1.0, 1.0)))
    _, row = suffix.begin(torch.zeros(3, 2, 40, dtype=torch.uint8))
    assert row.erased is None
    windows = suffix.erased([row])
    assert windows is not None
    assert not windows.any()
