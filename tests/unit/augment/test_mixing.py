import numpy as np
import pytest
import torch
from scipy import stats

from autotrain.augment.extras import Extras
from autotrain.augment.mixing import Kind, Mixing, draw_mixing, mix, partners

MIXUP = Mixing(kind=Kind.MIXUP, drawn=0.25)
CUTMIX = Mixing(kind=Kind.CUTMIX, drawn=0.75, middle=(0.9, 0.3))


def noise(number: int, channels: int = 3, height: int = 12, width: int = 10) -> torch.Tensor:
    shape = (number, channels, height, width)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(number))


def drawn(extras: Extras, steps: int) -> list[Mixing]:
    return [entry for step in range(steps) if (entry := draw_mixing(extras, seed=4, epoch=0, step=step))]


@pytest.mark.parametrize(
    ("number", "expected"), [(0, []), (1, [0]), (2, [1, 0]), (5, [1, 0, 3, 2, 3]), (6, [1, 0, 3, 2, 5, 4])]
)
def test_partners_are_neighbours(number: int, expected: list[int]) -> None:
    assert partners(number).tolist() == expected


def test_without_extras_nothing_is_drawn() -> None:
    assert draw_mixing(Extras(erasing=0.5), seed=0, epoch=0, step=0) is None


@pytest.mark.parametrize(("name", "alpha"), [("mixup", 0.2), ("mixup", 1.0), ("cutmix", 1.0), ("cutmix", 3.0)])
def test_shares_follow_the_beta_distribution(name: str, alpha: float) -> None:
    shares = np.array([entry.drawn for entry in drawn(Extras(**{name: alpha}), 3000)])
    assert len(shares) == 3000
    assert shares.min() >= 0
    assert shares.max() <= 1
    assert abs(shares.mean() - 0.5) < 0.02
    assert shares.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.06)
    for place in (0.02, 0.25, 0.5, 0.75, 0.98):
        assert abs(np.mean(shares <= place) - stats.beta(alpha, alpha).cdf(place)) < 0.03


def test_with_both_on_either_has_an_even_chance_and_draws_what_it_draws_alone() -> None:
    both, mixups, cutmixes = (
        drawn(extras, 2000) for extras in (Extras(mixup=0.2, cutmix=1.0), Extras(mixup=0.2), Extras(cutmix=1.0))
    )
    kinds = [entry.kind for entry in both]
    assert abs(kinds.count(Kind.MIXUP) / 2000 - 0.5) < 0.04
    alone = {Kind.MIXUP: mixups, Kind.CUTMIX: cutmixes}
    assert both == [alone[kind][step] for step, kind in enumerate(kinds)]


def test_a_draw_is_a_function_of_seed_epoch_and_step() -> None:
    extras = Extras(mixup=1.0)
    keys = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    shares = [draw_mixing(extras, seed=seed, epoch=epoch, step=step) for seed, epoch, step in keys]
    assert len({entry.drawn for entry in shares if entry}) == 4
    assert shares[0] == draw_mixing(extras, seed=0, epoch=0, step=0)


@pytest.mark.parametrize("number", [2, 5, 8])
def test_mixup_is_the_weighted_sum_to_the_nearest_level(number: int) -> None:
    images = noise(number)
    for share in (0.0, 0.3000030517578125, 0.5, 1.0):
        exact = images.double() * share + images[partners(number)].double() * (1 - share)
        mixed = mix(images, Mixing(kind=Kind.MIXUP, drawn=share))
        assert float((mixed.double() - exact).abs().max()) <= 0.5
    assert MIXUP.share(12, 10) == 0.25


@pytest.mark.parametrize("number", [2, 5, 8])
def test_cutmix_pastes_the_partners_box(number: int) -> None:
    images = noise(number)
    top, left, height, width = CUTMIX.box(12, 10)
    assert (top, left, height, width) == (7, 1, 5, 4)  # cut off below
    expected = images.clone()
    expected[:, :, top : top + height, left : left + width] = images[partners(number)][
        :, :, top : top + height, left : left + width
    ]
    assert torch.equal(mix(images, CUTMIX), expected)
    assert CUTMIX.share(12, 10) == 1 - 20 / 120


@pytest.mark.parametrize("mixing", [MIXUP, CUTMIX], ids=["mixup", "cutmix"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_mixing_keeps_the_layout_and_writes_to_nothing(mixing: Mixing, layout: torch.memory_format) -> None:
    images = noise(7).contiguous(memory_format=layout)
    before = images.clone()
    mixed = mix(images, mixing)
    assert mixed.stride() == images.stride()
    assert torch.equal(images, before)
    assert torch.equal(mixed, mix(before.contiguous(), mixing))
    assert not torch.equal(mixed, images)


@pytest.mark.parametrize("mixing", [MIXUP, CUTMIX], ids=["mixup", "cutmix"])
@pytest.mark.parametrize("split", [2, 4, 6])
def test_two_ranks_mix_what_one_process_mixes(mixing: Mixing, split: int) -> None:
    images = noise(9)
    shares = [mix(images[:split], mixing), mix(images[split:], mixing)]
    assert torch.equal(torch.cat(shares), mix(images, mixing))


def test_a_single_image_stays_as_it_is() -> None:
    image = noise(1)
    assert mix(image, MIXUP) is image
    assert partners(1).tolist() == [0]
