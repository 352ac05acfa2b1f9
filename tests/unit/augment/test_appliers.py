from dataclasses import replace

import numpy as np
import pytest
import torch

from autotrain.augment.batch import apply_batch, apply_each, apply_grouped
from autotrain.augment.draws import uniforms
from autotrain.augment.geometry import erased_window
from autotrain.augment.operators import OPERATORS
from autotrain.augment.policy import Chains, Erasing, Parameters, policy
from autotrain.augment.sample import apply_sample
from autotrain.augment.space import Op


def parameters_of(*steps: tuple[Op, float], flip: bool = False) -> Parameters:
    """Of one sample."""
    return Parameters(
        flip=np.array([flip]),
        geometry=np.empty((1, 0)),
        operators=np.array([[step[0] for step in steps]], dtype=np.int8).reshape(1, -1),
        magnitudes=np.array([[step[1] for step in steps]], dtype=np.float32).reshape(1, -1),
    )


def apply_one(image: torch.Tensor, *steps: tuple[Op, float], flip: bool = False) -> torch.Tensor:
    return apply_sample(image, parameters_of(*steps, flip=flip), 0)


RAMP = torch.arange(3 * 4 * 5, dtype=torch.uint8).view(3, 4, 5)


def test_nothing_to_do_gives_the_image_itself() -> None:
    assert apply_one(RAMP) is RAMP
    assert apply_one(RAMP, (Op.IDENTITY, 0.0)) is RAMP
    batch = RAMP[None]
    assert apply_batch(batch, policy("none").draw(0, 0, np.arange(1))) is batch


def test_the_flip_comes_before_the_operators() -> None:
    moved = apply_one(RAMP, (Op.TRANSLATE_X, 1.9), flip=True)
    assert torch.equal(moved[..., 1:], RAMP.flip(-1)[..., :-1])
    assert not moved[..., 0].any()


def test_operators_go_from_left_to_right() -> None:
    forth = apply_one(RAMP, (Op.BRIGHTNESS, 0.9), (Op.SOLARIZE, 0.2))
    back = apply_one(RAMP, (Op.SOLARIZE, 0.2), (Op.BRIGHTNESS, 0.9))
    assert not torch.equal(forth, back)
    assert torch.equal(forth, apply_one(apply_one(RAMP, (Op.BRIGHTNESS, 0.9)), (Op.SOLARIZE, 0.2)))


@pytest.mark.parametrize("operator", list(Op))
def test_no_operator_writes_to_its_input(operator: Op) -> None:
    image = torch.randint(0, 256, (3, 9, 9), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    before = image.clone()
    changed = apply_one(image, (operator, 0.4))
    changed = changed.clone() if changed is image else changed.fill_(0)
    assert torch.equal(image, before)


@pytest.mark.parametrize("operator", list(Op))
@pytest.mark.parametrize("shape", [(3, 1, 1), (1, 1, 7), (3, 2, 9), (1, 5, 3)])
def test_the_smallest_images_pass_through_every_operator(operator: Op, shape: tuple[int, ...]) -> None:
    image = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    one = apply_one(image, (operator, 1.0))
    parameters = parameters_of((operator, 1.0))
    assert one.shape == image.shape
    assert torch.equal(apply_grouped(image[None], parameters)[0], one)


def test_images_of_any_strides_are_taken() -> None:
    interleaved = RAMP.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    for operator in Op:
        assert torch.equal(apply_one(interleaved, (operator, 0.5)), apply_one(RAMP, (operator, 0.5)))


def test_greyscale_images_keep_their_color() -> None:
    for operator in (Op.COLOR, Op.HUE):
        assert torch.equal(apply_one(RAMP[:1], (operator, 0.3)), RAMP[:1])


def test_a_third_of_a_turn_of_the_hue_moves_red_to_green() -> None:
    image = torch.tensor([200, 100, 100], dtype=torch.uint8).view(3, 1, 1)
    assert apply_one(image, (Op.HUE, 1 / 3)).flatten().tolist() == [100, 200, 100]
    assert apply_one(image, (Op.HUE, -1 / 3)).flatten().tolist() == [100, 100, 200]


def test_what_is_interpolated_blends_with_black_at_the_border() -> None:
    image = torch.full((1, 1, 4), 200, dtype=torch.uint8)
    # The row's own shear is half a pixel of the magnitude.
    assert apply_one(image, (Op.SHEAR_X_BILINEAR, 0.5)).flatten().tolist() == [200, 200, 200, 150]
    assert apply_one(image, (Op.SHEAR_X_BILINEAR, -0.5)).flatten().tolist() == [150, 200, 200, 200]


def chains_of(*, weights: list[float], operators: list[list[Op]], magnitudes: list[list[float]]) -> Parameters:
    chains = Chains(
        operators=np.array([operators], dtype=np.int8),
        magnitudes=np.array([magnitudes], dtype=np.float32),
        weights=np.array([weights], dtype=np.float32),
    )
    return replace(parameters_of((Op.SOLARIZE, 0.5)), chains=chains)


def test_chains_are_blended_with_the_image_before_the_operators() -> None:
    parameters = chains_of(
        weights=[0.5, 0.25, 0.25],
        operators=[[Op.INVERT, Op.INVERT], [Op.BRIGHTNESS, Op.IDENTITY]],
        magnitudes=[[0, 0], [-1, 0]],
    )
    expected = apply_one((RAMP * 0.75).to(torch.uint8), (Op.SOLARIZE, 0.5))
    assert torch.equal(apply_sample(RAMP, parameters, 0), expected)
    assert torch.equal(apply_grouped(RAMP[None], parameters)[0], expected)


def erasing(number: int) -> Parameters:
    rectangles = uniforms(0, 0, np.arange(number), count=22, purpose=1)
    drawn = Erasing(applied=np.arange(number) % 2 == 0, rectangles=rectangles)
    return replace(policy("flip").draw(0, 0, np.arange(number)), erasing=drawn)


@pytest.mark.parametrize(("fill", "shown"), [((9, 8, 7), [9, 8, 7]), (None, [0, 0, 0])])
def test_an_erased_rectangle_shows_the_fill_and_nothing_else_changes(
    fill: tuple[int, ...] | None, shown: list[int]
) -> None:
    parameters = erasing(6)
    images = torch.randint(50, 256, (6, 3, 20, 30), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    before = images.clone()
    for apply in (apply_each, apply_grouped):
        changed = apply(images, parameters, fill=fill)
        for place in range(6):
            expected = images[place].flip(-1) if parameters.flip[place] else images[place].clone()
            window = erased_window(parameters.erasing.rectangles[place], 20, 30)
            if place % 2 == 0:
                top, left, height, width = window
                expected[:, top : top + height, left : left + width] = torch.tensor(shown).view(3, 1, 1)
            assert torch.equal(changed[place], expected)
    assert torch.equal(images, before)


def test_erasing_comes_last() -> None:
    parameters = replace(erasing(1), operators=np.array([[Op.INVERT]], dtype=np.int8))
    parameters = replace(parameters, magnitudes=np.zeros((1, 1), dtype=np.float32))
    image = torch.full((3, 20, 20), 5, dtype=torch.uint8)
    assert apply_sample(image, parameters, 0, fill=(1, 2, 3)).unique().tolist() == [1, 2, 3, 250]


def test_an_image_too_small_for_a_rectangle_stays_whole() -> None:
    image = torch.full((3, 1, 1), 5, dtype=torch.uint8)
    parameters = replace(erasing(1), flip=np.zeros(1, dtype=np.bool_))
    assert torch.equal(apply_sample(image, parameters, 0, fill=(1, 1, 1)), image)
    assert torch.equal(apply_grouped(image[None], parameters, fill=(1, 1, 1))[0], image)


def test_a_translation_by_a_share_of_331_pixels_is_whole() -> None:
    image = torch.zeros(1, 1, 331, dtype=torch.uint8)
    image[..., 0] = 255
    for sign in (1, -1):
        moved = apply_one(image if sign == 1 else image.flip(-1), (Op.TRANSLATE_X_RELATIVE, sign * 45 / 331))
        assert moved.nonzero()[:, 2].tolist() == [45 if sign == 1 else 330 - 45]


def test_a_quarter_turn_is_exact() -> None:
    image = torch.arange(64, dtype=torch.uint8).view(1, 8, 8)
    assert torch.equal(apply_one(image, (Op.ROTATE, 90.0)), torch.rot90(image, 1, dims=(1, 2)))
    assert torch.equal(apply_one(image, (Op.ROTATE, -90.0)), torch.rot90(image, -1, dims=(1, 2)))


def test_another_number_of_parameters_than_images_is_refused() -> None:
    with pytest.raises(ValueError, match="1 images but the parameters of 2"):
        apply_batch(RAMP[None], policy("trivial").draw(0, 0, np.arange(2)))


def test_an_empty_batch_is_taken() -> None:
    empty = torch.empty(0, 3, 8, 8, dtype=torch.uint8)
    assert apply_batch(empty, policy("rand").draw(0, 0, np.arange(0))).shape == empty.shape


def test_names_are_unique() -> None:
    assert len({operator.name for operator in OPERATORS}) == len(OPERATORS)


def test_the_thread_count_is_as_before_even_after_an_error() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        apply_each(RAMP[None], policy("trivial").draw(0, 0, np.arange(1)))
        assert torch.get_num_threads() == 2
        with pytest.raises(IndexError):
            apply_each(RAMP[None], policy("trivial").draw(0, 0, np.arange(0)))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
