import numpy as np
import pytest
import torch

from autotrain.augment.batch import apply_batch, apply_grouped
from autotrain.augment.operators import OPERATORS
from autotrain.augment.policy import Parameters, policy
from autotrain.augment.sample import apply_sample
from autotrain.augment.space import Op


def apply_one(image: torch.Tensor, *steps: tuple[Op, float], flip: bool = False) -> torch.Tensor:
    operators = np.array([step[0] for step in steps], dtype=np.int8)
    return apply_sample(image, flip, operators, np.array([step[1] for step in steps], dtype=np.float32))


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
    changed = apply_one(image, (operator, 0.7))
    changed = changed.clone() if changed is image else changed.fill_(0)
    assert torch.equal(image, before)


@pytest.mark.parametrize("operator", list(Op))
@pytest.mark.parametrize("shape", [(3, 1, 1), (1, 1, 7), (3, 2, 9), (1, 5, 3)])
def test_the_smallest_images_pass_through_every_operator(operator: Op, shape: tuple[int, ...]) -> None:
    image = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    one = apply_one(image, (operator, 1.0))
    parameters = Parameters(
        flip=np.zeros(1, dtype=np.bool_),
        geometry=np.empty((1, 0)),
        operators=np.array([[operator]], dtype=np.int8),
        magnitudes=np.ones((1, 1), dtype=np.float32),
    )
    assert one.shape == image.shape
    assert torch.equal(apply_grouped(image[None], parameters)[0], one)


def test_images_of_any_strides_are_taken() -> None:
    interleaved = RAMP.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    for operator in Op:
        assert torch.equal(apply_one(interleaved, (operator, 0.5)), apply_one(RAMP, (operator, 0.5)))


def test_greyscale_images_keep_their_color() -> None:
    assert torch.equal(apply_one(RAMP[:1], (Op.COLOR, 0.8)), RAMP[:1])


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
