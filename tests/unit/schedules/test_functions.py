"""Shapes at their ends and in the middle."""

import pytest

from autotrain.schedules.functions import constant, cosine, linear


@pytest.mark.parametrize("shape", [linear, cosine])
@pytest.mark.parametrize(("start", "end"), [(1.0, 0.0), (0.1, 0.7), (1.0, 1e-9)])
def test_the_ends_are_exact_and_progress_beyond_them_counts_as_the_end(shape, start, end):
    assert shape(0.0, start=start, end=end) == shape(-1.0, start=start, end=end) == start
    assert shape(1.0, start=start, end=end) == shape(2.0, start=start, end=end) == end
    assert shape(0.5, start=start, end=end) == pytest.approx((start + end) / 2)


def test_quarter_points():
    assert linear(0.25) == 0.75
    assert cosine(0.25) == pytest.approx(0.8535533905932737)
    assert constant(0.25) == 1.0
