import hashlib
import pickle

import numpy as np
import pytest
from scipy import stats

from autotrain.augment.policy import CROP_UNIFORMS, POLICIES, WEIGHT_STEPS, policy
from autotrain.augment.space import AUGMIX, AUTO, RAND, TRIVIAL, Op
from autotrain.errors import SettingsError

MANY = np.arange(60_000)


def test_policies_are_listed_weakest_first() -> None:
    assert [entry.name for entry in POLICIES] == ["none", "flip", "crop", "trivial", "rand", "autoaugment", "augmix"]
    assert [entry.strength for entry in POLICIES] == list(range(7))
    assert [entry.crops for entry in POLICIES] == [False, False, True, True, True, True, True]
    assert [entry.depth for entry in POLICIES] == [0, 0, 0, 1, 2, 2, 3]


def digest(*arrays: np.ndarray) -> str:
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()[:16]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("flip", "f7c64aa86c165888"),
        ("trivial", "18618de6eb7413c5"),
        ("rand", "ebaacd7ec26aceba"),
        ("autoaugment", "068f966960871882"),
        ("augmix", "287f905fa899cf37"),
    ],
)
def test_draws_are_pinned(name: str, expected: str) -> None:
    """A change here changes every stored run."""
    drawn = policy(name).draw(3, 1, np.arange(500))
    chains = drawn.chains
    more = () if chains is None else (chains.operators, chains.magnitudes, chains.weights)
    assert digest(drawn.flip, drawn.operators, drawn.magnitudes, *more) == expected


def test_an_unknown_policy_is_named_with_a_hint() -> None:
    with pytest.raises(SettingsError, match=r"unknown policy 'trivail'. Did you mean 'trivial'\? Known: none"):
        policy("trivail")


@pytest.mark.parametrize("entry", POLICIES, ids=lambda entry: entry.name)
def test_shapes_and_types(entry: object) -> None:
    drawn = entry.draw(1, 0, np.arange(7))  # type: ignore[attr-defined]
    assert len(drawn) == 7
    assert (drawn.flip.shape, drawn.flip.dtype) == ((7,), np.bool_)
    assert drawn.geometry.shape == (7, CROP_UNIFORMS if entry.crops else 0)  # type: ignore[attr-defined]
    shape = (7, 0 if drawn.chains is not None else entry.depth)  # type: ignore[attr-defined]
    assert (drawn.operators.shape, drawn.operators.dtype) == (shape, np.int8)
    assert (drawn.magnitudes.shape, drawn.magnitudes.dtype) == (shape, np.float32)
    back = pickle.loads(pickle.dumps(drawn))
    assert np.array_equal(back.magnitudes, drawn.magnitudes)


def test_shapes_and_types_of_chains() -> None:
    chains = policy("augmix").draw(1, 0, np.arange(7)).chains
    assert chains is not None
    assert (chains.operators.shape, chains.operators.dtype) == ((7, 3, 3), np.int8)
    assert (chains.magnitudes.shape, chains.magnitudes.dtype) == ((7, 3, 3), np.float32)
    assert (chains.weights.shape, chains.weights.dtype) == ((7, 4), np.float32)
    assert np.array_equal(pickle.loads(pickle.dumps(chains)).weights, chains.weights)


@pytest.mark.parametrize("entry", POLICIES, ids=lambda entry: entry.name)
def test_a_sample_draws_the_same_in_any_batch(entry: object) -> None:
    whole = entry.draw(9, 4, np.arange(100))  # type: ignore[attr-defined]
    part = entry.draw(9, 4, np.array([41, 7, 90]))  # type: ignore[attr-defined]
    chosen = whole.select(np.array([41, 7, 90]))
    for name in ("flip", "geometry", "operators", "magnitudes"):
        assert np.array_equal(getattr(part, name), getattr(chosen, name))
    if part.chains is not None:
        for name in ("operators", "magnitudes", "weights"):
            assert np.array_equal(getattr(part.chains, name), getattr(chosen.chains, name))


def test_stronger_policies_keep_the_flips_and_crops_of_weaker_ones() -> None:
    flip, crop, *others = (entry.draw(2, 3, np.arange(50)) for entry in POLICIES[1:])
    for stronger in (crop, *others):
        assert np.array_equal(flip.flip, stronger.flip)
        assert np.array_equal(crop.geometry, stronger.geometry)


def test_half_of_the_samples_are_flipped() -> None:
    assert not policy("none").draw(0, 0, MANY).flip.any()
    for name in ("flip", "crop", "trivial", "rand", "autoaugment", "augmix"):
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


def test_auto_applies_each_operator_of_a_pair_with_its_own_chance() -> None:
    drawn = policy("autoaugment").draw(11, 0, MANY)
    for step in range(2):
        for op in Op:
            expected = np.mean((AUTO.operators[:, step] == op) * AUTO.probabilities[:, step])
            if op is Op.IDENTITY:
                expected = 1 - AUTO.probabilities[:, step].mean()
            assert abs(np.mean(drawn.operators[:, step] == op) - expected) < 0.006
    both = np.mean((drawn.operators > 0).all(axis=1))
    assert abs(both - AUTO.probabilities.prod(axis=1).mean()) < 0.006
    turned = drawn.magnitudes[drawn.operators == Op.ROTATE]
    assert abs(np.mean(turned < 0) - 0.5) < 0.02
    assert not drawn.magnitudes[drawn.operators == Op.IDENTITY].any()


def test_augmix_draws_chains_of_one_to_three_operators() -> None:
    chains = policy("augmix").draw(11, 0, MANY[:20_000]).chains
    assert chains is not None
    used = chains.operators > 0
    lengths = used.sum(axis=2)
    _, counts = np.unique(lengths, return_counts=True)
    np.testing.assert_allclose(counts / lengths.size, 1 / 3, atol=0.01)
    assert np.array_equal(used, np.arange(3) < lengths[..., None])
    numbers, counts = np.unique(chains.operators[used], return_counts=True)
    assert np.array_equal(numbers, AUGMIX.operators)
    np.testing.assert_allclose(counts / used.sum(), 1 / 13, atol=0.003)
    for row, number in enumerate(AUGMIX.operators.tolist()):
        magnitudes = chains.magnitudes[chains.operators == number]
        assert np.array_equal(np.unique(np.abs(magnitudes)), np.unique(AUGMIX.magnitudes[row, :3]))
        negative = np.mean(magnitudes < 0)
        assert abs(negative - 1 / 3) < 0.03 if AUGMIX.signed[row] else negative == 0


def test_augmix_weighs_as_beta_and_dirichlet_do() -> None:
    chains = policy("augmix").draw(11, 0, MANY).chains
    assert chains is not None
    weights = chains.weights.astype(np.float64)
    assert (weights.sum(axis=1) == 1).all()
    assert weights.min() >= 0
    assert np.array_equal(weights * WEIGHT_STEPS, np.round(weights * WEIGHT_STEPS))
    share = 1 - weights[:, 0]
    assert stats.kstest(share, stats.beta(1, 1).cdf).pvalue > 1e-3
    parts = weights[share > 0.1, 1:] / share[share > 0.1, None]
    for chain in range(3):  # each part of a Dirichlet(1, 1, 1) is Beta(1, 2)
        assert stats.kstest(parts[:, chain], stats.beta(1, 2).cdf).pvalue > 1e-3
    correlation = np.corrcoef(np.column_stack([share[share > 0.1], parts]), rowvar=False)
    np.testing.assert_allclose(correlation[1:, 1:], 1.5 * np.eye(3) - 0.5, atol=0.02)
    np.testing.assert_allclose(correlation[0, 1:], 0, atol=0.02)


def test_seed_and_epoch_change_the_draw() -> None:
    draws = [policy("trivial").draw(seed, epoch, np.arange(200)).magnitudes for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    assert not np.array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])
