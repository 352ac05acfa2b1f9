import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import v2

from autotrain.augment.batch import apply_each, apply_grouped
from autotrain.augment.draws import uniforms
from autotrain.augment.extras import Extras
from autotrain.augment.geometry import center_window, crop_window, erased_window, resize_batch, resize_by_products
from autotrain.augment.mixing import Kind, Mixing, mix, partners
from autotrain.augment.policy import POLICIES

SIDE = st.integers(1, 3000)
UNIFORM = st.floats(0, 1, exclude_max=True)


@settings(max_examples=150, deadline=None)
@given(st.lists(UNIFORM, min_size=22, max_size=22), SIDE, SIDE)
def test_a_crop_window_lies_inside_the_image(drawn: list[float], height: int, width: int) -> None:
    top, left, tall, wide = crop_window(np.array(drawn), height, width)
    assert tall > 0
    assert wide > 0
    assert 0 <= top <= height - tall
    assert 0 <= left <= width - wide


@settings(max_examples=80, deadline=None)
@given(SIDE, SIDE, st.integers(1, 600))
def test_an_evaluation_window_is_a_square_inside_the_image(height: int, width: int, size: int) -> None:
    top, left, tall, wide = center_window(height, width, size)
    assert tall == wide > 0
    assert 0 <= top <= height - tall
    assert 0 <= left <= width - wide


@settings(max_examples=40, deadline=None)
@given(st.integers(-(2**70), 2**70), st.lists(st.integers(0, 2**40), min_size=1, max_size=6), st.integers(1, 9))
def test_rows_do_not_depend_on_the_grouping(seed: int, positions: list[int], count: int) -> None:
    together = uniforms(seed, 1, np.array(positions), count=count, purpose=2)
    apart = [uniforms(seed, 1, np.array([position]), count=count, purpose=2)[0] for position in positions]
    assert np.array_equal(together, np.array(apart))


@st.composite
def cropped(draw: st.DrawFn) -> tuple[int, int, tuple[int, int, int, int]]:
    height, width = draw(st.integers(1, 60)), draw(st.integers(1, 60))
    top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    return height, width, (top, left, draw(st.integers(1, height - top)), draw(st.integers(1, width - left)))


@settings(max_examples=60, deadline=None)
@given(cropped(), st.integers(2, 40), st.integers(0, 10**6))  # for one pixel torch's own kernel fails
def test_products_resize_within_a_level_of_torchvision(
    geometry: tuple[int, int, tuple[int, int, int, int]], size: int, seed: int
) -> None:
    height, width, window = geometry
    image = torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (1, 3, height, width), dtype=np.uint8))
    ours = resize_by_products(image, np.array([window]), size)[0]
    theirs = v2.functional.resized_crop(image[0], *window, size=[size, size], antialias=True)
    assert int((ours.to(torch.int16) - theirs.to(torch.int16)).abs().max()) <= 1


def test_a_batch_can_be_resized_to_one_pixel() -> None:
    image = torch.full((1, 3, 4, 5), 77, dtype=torch.uint8)
    assert resize_batch(image, np.array([(0, 1, 3, 2)]), 1).flatten().tolist() == [77, 77, 77]


@settings(max_examples=100, deadline=None)
@given(st.lists(UNIFORM, min_size=22, max_size=22), SIDE, SIDE)
def test_an_erased_window_lies_inside_the_image_and_leaves_some_of_it(
    drawn: list[float], height: int, width: int
) -> None:
    window = erased_window(np.array(drawn), height, width)
    if window is None:
        return
    top, left, tall, wide = window
    assert 0 <= top <= height - tall
    assert 0 <= left <= width - wide
    assert tall < height
    assert wide < width


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(POLICIES),
    st.integers(0, 2**40),
    st.lists(st.integers(0, 2**40), min_size=1, max_size=5),
    st.integers(1, 24),
    st.sampled_from([1, 3]),
)
def test_a_samples_image_depends_on_its_own_draws_alone(
    entry: object, seed: int, positions: list[int], side: int, channels: int
) -> None:
    extras = Extras(color_jitter=(0.4, 0.4, 0.4, 0.1), erasing=0.5)

    def parameters(places: list[int]) -> object:
        drawn = entry.draw(seed, 1, np.array(places))  # type: ignore[attr-defined]
        return extras.extend(drawn, seed=seed, epoch=1, positions=np.array(places))

    generator = np.random.default_rng(seed)
    shape = (len(positions), channels, side, side + 1)
    images = torch.from_numpy(generator.integers(0, 256, shape, dtype=np.uint8))
    fill = (1, 2, 3)[:channels]
    together = apply_grouped(images, parameters(positions), fill=fill)  # type: ignore[arg-type]
    for place, position in enumerate(positions):
        alone = apply_each(images[place : place + 1], parameters([position]), fill=fill)  # type: ignore[arg-type]
        assert torch.equal(together[place : place + 1], alone)


@settings(max_examples=60, deadline=None)
@given(UNIFORM, UNIFORM, UNIFORM, st.integers(1, 40), st.integers(1, 40), st.integers(2, 7))
def test_the_share_of_cutmix_is_what_is_left_of_an_image(
    drawn: float, down: float, across: float, height: int, width: int, number: int
) -> None:
    mixing = Mixing(kind=Kind.CUTMIX, drawn=drawn, middle=(down, across))
    images = torch.arange(number, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, height, width)
    mixed = mix(images.contiguous(), mixing)
    own = (mixed == images).double().mean(dim=(1, 2, 3))
    torch.testing.assert_close(own, torch.full((number,), mixing.share(height, width), dtype=torch.float64))
    others = images[partners(number)]
    assert bool(((mixed == images) | (mixed == others)).all())
