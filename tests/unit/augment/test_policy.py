import pickle

import numpy as np
import pytest

from autotrain.augment.policy import CROP_UNIFORMS, POLICIES, policy
from autotrain.augment.space import RAND, TRIVIAL, Op
from autotrain.errors import SettingsError

MANY = np.arange(60_000)


def test_policies_are_listed_weakest_first() -> None:
    assert [entry.name for entry in POLICIES] == ["none", "flip", "crop", "trivial", "rand"]
    assert [entry.strength for entry in POLICIES] == [0, 1, 2, 3, 4]
    assert [entry.crops for entry in POLICIES] == [False, False, True, True, True]
    assert [entry.depth for entry in POLICIES] == [0, 0, 0, 1, 2]


def test_an_unknown_policy_is_named_with_a_hint() -> None:
    with pytest.raises(SettingsError, match=r"unknown policy 'trivail'. Did you mean 'trivial'\? Known: none"):
        policy("trivail")


@pytest.mark.parametrize("entry", POLICIES, ids=lambda entry: entry.name)
def test_shapes_and_types(entry: object) -> None:
    drawn = entry.draw(1, 0, np.arange(7))  # type: ignore[attr-defined]
    assert len(drawn) == 7
    assert (drawn.flip.shape, drawn.flip.dtype) == ((7,), np.bool_)
    assert drawn.geometry.shape == (7, CROP_UNIFORMS if entry.crops else 0)  # type: ignore[attr-defined]
    assert (drawn.operators.shape, drawn.operators.dtype) == ((7, entry.depth), np.int8)  # type: ignore[attr-defined]
    assert (drawn.magnitudes.shape, drawn.magnitudes.dtype) == ((7, entry.depth), np.float32)  # type: ignore[attr-defined]
    back = pickle.loads(pickle.dumps(drawn))
    assert np.array_equal(back.magnitudes, drawn.magnitudes)


@pytest.mark.parametrize("entry", POLICIES, ids=lambda entry: entry.name)
def test_a_sample_draws_the_same_in_any_batch(entry: object) -> None:
    whole = entry.draw(9, 4, np.arange(100))  # type: ignore[attr-defined]
    part = entry.draw(9, 4, np.array([41, 7, 90]))  # type: ignore[attr-defined]
    chosen = whole.select(np.array([41, 7, 90]))
    for name in ("flip", "geometry", "operators", "magnitudes"):
        assert np.array_equal(getattr(part, name), getattr(chosen, name))


def test_stronger_policies_keep_the_flips_and_crops_of_weaker_ones() -> None:
    flip, crop, trivial, rand = (policy(name).draw(2, 3, np.arange(50)) for name in ("flip", "crop", "trivial", "rand"))
    for stronger in (crop, trivial, rand):
        assert np.array_equal(flip.flip, stronger.flip)
        assert np.array_equal(crop.geometry, stronger.geometry)


def test_half_of_the_samples_are_flipped() -> None:
    assert not policy("none").draw(0, 0, MANY).flip.any()
    for name in ("flip", "crop", "trivial", "rand"):
        assert abs(policy(name).draw(0, 0, MANY).flip.mean() - 0.5) < 0.01


def test_trivial_draws_operators_bins_and_signs_uniformly() -> None:
    drawn = policy("trivial").draw(11, 0, MANY)
    numbers, counts = np.unique(drawn.operators, return_counts=True)
    assert numbers.tolist() == list(range(14))
    np.testing.assert_allclose(counts / len(MANY), 1 / 14, atol=0.005)
    for row, number in enumerate(TRIVIAL.operators.tolist()):
        magnitudes = drawn.magnitudes[drawn.operators == number]
        bins, counts = np.unique(np.abs(magnitudes), return_counts=True)
        assert np.array_equal(bins, np.unique(TRIVIAL.magnitudes[row]))
        if len(bins) == 31:
            np.testing.assert_allclose(counts / len(magnitudes), 1 / 31, atol=0.01)
        negative = np.mean(magnitudes < 0)
        assert abs(negative - 0.5 * 30 / 31) < 0.03 if TRIVIAL.signed[row] else negative == 0


def test_rand_draws_two_operators_independently_at_one_magnitude() -> None:
    drawn = policy("rand").draw(11, 0, MANY)
    pairs, counts = np.unique(drawn.operators, axis=0, return_counts=True)
    assert len(pairs) == 14 * 14
    np.testing.assert_allclose(counts / len(MANY), 1 / 196, atol=0.002)
    assert not np.isin(drawn.operators, [Op.TRANSLATE_X, Op.TRANSLATE_Y]).any()
    for row, number in enumerate(RAND.operators.tolist()):
        magnitudes = drawn.magnitudes[drawn.operators == number]
        assert np.unique(np.abs(magnitudes)).tolist() == [RAND.magnitudes[row, 9]]
        negative = np.mean(magnitudes < 0)
        assert abs(negative - 0.5) < 0.03 if RAND.signed[row] else negative == 0


def test_seed_and_epoch_change_the_draw() -> None:
    draws = [policy("trivial").draw(seed, epoch, np.arange(200)).magnitudes for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    assert not np.array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])
