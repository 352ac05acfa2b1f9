import numpy as np
import pytest

from autotrain.augment.draws import Purpose, permutation, sample_seeds, uniforms


def draw(positions: list[int], *, seed: int = 3, epoch: int = 2, count: int = 5, purpose: int = 1) -> np.ndarray:
    return uniforms(seed, epoch, np.array(positions, dtype=np.int64), count=count, purpose=purpose)


@pytest.mark.parametrize(
    "positions",
    [[4], [3, 4, 5], [5, 4, 3], [0, 8, 16, 24], [7, 7, 1], [10, 11, 12, 900_000, 900_001, 5], [2**62, 0, -3], []],
)
def test_a_row_does_not_depend_on_the_other_positions(positions: list[int]) -> None:
    together = draw(positions)
    assert together.shape == (len(positions), 5)
    for row, position in zip(together, positions, strict=True):
        assert np.array_equal(row, draw([position])[0])


def test_numbers_are_pinned() -> None:
    """A change here changes every stored run."""
    expected = [0.3524382800514342, 0.42134117580983843, 0.15989191152947058, 0.5718300593479609]
    assert draw([5], count=4)[0].tolist() == expected


@pytest.mark.parametrize("change", [{"seed": 4}, {"epoch": 3}, {"purpose": 2}])
def test_seed_epoch_and_purpose_each_change_every_number(change: dict[str, int]) -> None:
    assert not (draw([0, 1, 2]) == draw([0, 1, 2], **change)).any()


def test_seeds_of_any_size_are_taken() -> None:
    assert np.array_equal(draw([1], seed=-1), draw([1], seed=2**64 - 1))
    assert np.array_equal(draw([1], seed=2**70 + 9), draw([1], seed=9))


def test_rows_are_distinct_and_uniform() -> None:
    numbers = draw(list(range(20_000)), count=4)
    assert len(np.unique(numbers)) == numbers.size
    assert numbers.min() >= 0
    assert numbers.max() < 1
    shares, _ = np.histogram(numbers, bins=10, range=(0, 1))
    np.testing.assert_allclose(shares / numbers.size, 0.1, atol=0.005)
    assert abs(np.corrcoef(numbers, rowvar=False) - np.eye(4)).max() < 0.03


def test_sample_seeds_are_31_bits_and_depend_on_the_position_alone() -> None:
    seeds = sample_seeds(1, 0, np.arange(5000))
    assert seeds.dtype == np.int64
    assert seeds.min() >= 0
    assert seeds.max() < 2**31
    assert len(np.unique(seeds)) > 4990
    assert sample_seeds(1, 0, np.array([77]))[0] == seeds[77]


@pytest.mark.parametrize("length", [0, 1, 2, 1001])
def test_a_permutation_has_every_index_once(length: int) -> None:
    order = permutation(1, 0, length)
    assert order.dtype == np.int64
    assert np.array_equal(np.sort(order), np.arange(length))


def test_a_permutation_depends_on_seed_and_epoch() -> None:
    orders = [permutation(*key, 1000).tolist() for key in ((1, 0), (1, 1), (2, 0), (1, 0))]
    assert orders[0] == orders[3]
    assert orders[0] != orders[1] != orders[2] != orders[0]


def test_purposes_are_pinned() -> None:
    names = ["ORDER", "GEOMETRY", "POLICY", "SAMPLE", "BATCH", "CHAINS", "JITTER", "ERASING"]
    assert [purpose.name for purpose in Purpose] == names
    assert list(Purpose) == list(range(8))
