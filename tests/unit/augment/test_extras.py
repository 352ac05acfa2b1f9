import pickle
from dataclasses import replace

import numpy as np
import pytest

from autotrain.augment.extras import Extras
from autotrain.augment.policy import POLICIES, Parameters, policy
from autotrain.augment.space import Op
from autotrain.errors import TaskError

MANY = np.arange(20_000)
ALL = Extras(color_jitter=(0.4, 0.3, 0.2, 0.1), erasing=0.25, mixup=0.2, cutmix=1.0)


def extended(extras: Extras, name: str = "none", positions: np.ndarray = MANY) -> Parameters:
    return extras.extend(policy(name).draw(1, 2, positions), seed=1, epoch=2, positions=positions)


def test_nothing_is_on_by_default() -> None:
    assert not Extras().per_sample
    assert not Extras().mixes
    assert not Extras(color_jitter=(0, 0, 0, 0)).per_sample
    assert extended(Extras()).idle


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"color_jitter": (0.4, 0.4, 0.4)}, "color_jitter: .* is not four numbers. Give brightness"),
        ({"color_jitter": 0.4}, "color_jitter: 0.4 is not four numbers"),
        ({"color_jitter": (0.4, "much", 0.4, 0.1)}, "color_jitter: .* is not four numbers"),
        ({"color_jitter": (0.4, -0.1, 0.4, 0.1)}, r"color_jitter: -0.1 is below 0. Give 0"),
        ({"color_jitter": (0.4, 0.4, 0.4, 0.6)}, "a hue of 0.6 is more than half a turn. Give at most 0.5"),
        ({"color_jitter": (float("nan"), 0.4, 0.4, 0.1)}, "color_jitter: .* is not four numbers"),
        ({"erasing": 1.5}, "erasing: 1.5 is not a probability. Give a number from 0 to 1"),
        ({"erasing": True}, "erasing: True is not a probability"),
        ({"mixup": -1}, "mixup: -1 is not an alpha of the Beta distribution. Give a number above 0"),
        ({"cutmix": float("inf")}, "cutmix: inf is not an alpha"),
    ],
)
def test_a_value_out_of_range_is_refused_with_the_remedy(values: dict[str, object], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        Extras(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [entry.name for entry in POLICIES])
def test_extras_leave_the_policy_as_it_is(name: str) -> None:
    positions = np.arange(64)
    plain, drawn = policy(name).draw(1, 2, positions), extended(ALL, name, positions)
    depth = plain.operators.shape[1]
    assert np.array_equal(plain.flip, drawn.flip)
    assert np.array_equal(plain.geometry, drawn.geometry)
    assert np.array_equal(plain.operators, drawn.operators[:, :depth])
    assert np.array_equal(plain.magnitudes, drawn.magnitudes[:, :depth])
    assert (plain.chains is None) == (drawn.chains is None)
    assert drawn.operators.shape == drawn.magnitudes.shape == (64, depth + 4)
    assert (drawn.operators.dtype, drawn.magnitudes.dtype) == (np.int8, np.float32)


def test_switching_one_extra_on_leaves_the_others_as_they_are() -> None:
    both = extended(ALL)
    jitter, erasing = extended(replace(ALL, erasing=0.0)), extended(replace(ALL, color_jitter=None))
    assert np.array_equal(both.operators, jitter.operators)
    assert np.array_equal(both.magnitudes, jitter.magnitudes)
    assert jitter.erasing is None
    assert both.erasing is not None
    assert erasing.erasing is not None
    assert np.array_equal(both.erasing.applied, erasing.erasing.applied)
    assert np.array_equal(both.erasing.rectangles, erasing.erasing.rectangles)


def test_a_part_of_the_jitter_that_is_off_leaves_the_others_as_they_are() -> None:
    full, part = extended(ALL), extended(Extras(color_jitter=(0.4, 0.0, 0.2, 0.1)))
    off = full.operators == Op.CONTRAST
    assert np.array_equal(part.operators, np.where(off, Op.IDENTITY, full.operators))
    assert np.array_equal(part.magnitudes, np.where(off, 0, full.magnitudes).astype(np.float32))


@pytest.mark.parametrize("positions", [[3], [41, 7, 90, 8000]])
def test_a_sample_draws_the_same_in_any_batch(positions: list[int]) -> None:
    whole, part = extended(ALL, "rand").select(positions), extended(ALL, "rand", np.array(positions))
    assert np.array_equal(whole.operators, part.operators)
    assert np.array_equal(whole.magnitudes, part.magnitudes)
    assert whole.erasing is not None
    assert part.erasing is not None
    assert np.array_equal(whole.erasing.applied, part.erasing.applied)
    assert np.array_equal(whole.erasing.rectangles, part.erasing.rectangles)


def test_erasing_has_its_probability() -> None:
    erasing = extended(ALL).erasing
    assert erasing is not None
    assert abs(erasing.applied.mean() - 0.25) < 0.01
    every = extended(Extras(erasing=1.0)).erasing
    assert every is not None
    assert every.applied.all()
    assert np.array_equal(pickle.loads(pickle.dumps(every)).rectangles, every.rectangles)
