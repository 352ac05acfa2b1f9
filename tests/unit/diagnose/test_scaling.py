"""The model of scaling: what it says of one rank, of more, and of links that are slow."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotrain.diagnose.scaling import BUCKET, Link, link_of, scaled

steps = st.floats(1e-3, 1.0)
sizes = st.integers(1 << 10, 1 << 30)
links = st.builds(Link, bytes_per_s=st.floats(1e6, 1e12), latency_s=st.floats(0.0, 1e-3))


@given(steps, sizes, links)
def test_one_rank_exchanges_nothing(step_s: float, size: int, link: Link) -> None:
    found = scaled(step_s, size, 1, link)
    assert (found.exchange_s, found.exposed_s, found.efficiency) == (0.0, 0.0, 1.0)


@given(steps, sizes, links, st.integers(2, 64))
def test_more_ranks_and_slower_links_are_never_more_efficient(step_s: float, size: int, link: Link, ranks: int) -> None:
    found = scaled(step_s, size, ranks, link)
    assert 0 < found.efficiency <= 1
    assert 0 <= found.exposed_s <= found.exchange_s + 1e-12
    assert scaled(step_s, size, 2 * ranks, link).efficiency <= found.efficiency + 1e-12
    slower = Link(bytes_per_s=link.bytes_per_s / 2, latency_s=link.latency_s)
    assert scaled(step_s, size, ranks, slower).efficiency <= found.efficiency + 1e-12


def test_a_ring_sends_each_gradient_nearly_twice_and_hides_it_under_the_backward_pass() -> None:
    link = Link(bytes_per_s=1e9)
    found = scaled(0.1, 100_000_000, 8, link)
    assert found.exchange_s == pytest.approx(2 * 7 / 8 * 0.1)
    assert found.exposed_s == pytest.approx(0.175 - 0.1 * 2 / 3)
    assert scaled(0.1, 100_000_000, 8, link, hides=False).exposed_s == found.exchange_s
    hidden = scaled(1.0, 100_000_000, 8, link)
    assert hidden.exposed_s == pytest.approx(2 * 7 / 8 * BUCKET / 2 / 1e9)  # the last bucket has nothing to hide under
    halved = scaled(1.0, 50_000_000, 8, link, bucket=BUCKET // 2)
    assert halved.exposed_s == pytest.approx(hidden.exposed_s / 2)  # as it would be in bfloat16
    small = scaled(1.0, 1 << 20, 8, link)
    assert small.exposed_s == small.exchange_s  # one bucket takes all, and is complete at the end


@pytest.mark.parametrize("ranks", [2, 8])
def test_a_link_is_told_from_two_exchanges(ranks: int) -> None:
    link = Link(bytes_per_s=2e9, latency_s=3e-5)
    seconds = [scaled(1.0, size, ranks, link).exchange_s for size in (4096, 1 << 24)]
    found = link_of((4096, seconds[0]), (1 << 24, seconds[1]), ranks)
    assert found.bytes_per_s == pytest.approx(link.bytes_per_s, rel=1e-6)
    assert found.latency_s == pytest.approx(link.latency_s, rel=1e-6)
