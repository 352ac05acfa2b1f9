"""Ranks that start again find each other, and not what an earlier life has left in the same store."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from time import sleep

import pytest
from torch.distributed import HashStore, Store

from autotrain.meeting import agree

LONG = timedelta(seconds=20)


def met(store: Store, ranks: int, *, late: Callable[[int], float] = lambda rank: 0.0) -> list[str]:
    """Return the word of each rank of one life."""
    words = [""] * ranks

    def come(rank: int) -> None:
        sleep(late(rank))
        words[rank] = agree(store, rank, ranks, timeout=LONG)

    threads = [threading.Thread(target=come, args=(rank,)) for rank in range(ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return words


def test_one_rank_needs_nobody() -> None:
    assert agree(HashStore(), 0, 1, timeout=LONG)


@pytest.mark.parametrize("last", [0, 1, 2])
def test_lives_do_not_mix_whoever_comes_last(last: int) -> None:
    """The others find the dead one's token for a while, which it has left in its place."""
    store = HashStore()
    lives = [met(store, 3, late=lambda rank: 0.2 if rank == last else 0.0) for _ in range(3)]
    assert [len(set(words)) for words in lives] == [1, 1, 1]
    assert len({words[0] for words in lives}) == 3


def test_a_life_of_another_size_is_another_life() -> None:
    store = HashStore()
    lives = [met(store, ranks)[0] for ranks in (3, 2, 1, 3)]
    assert len(set(lives)) == 4


def test_a_rank_that_was_lost_before_is_named() -> None:
    store = HashStore()
    with pytest.raises(TimeoutError, match="rank 1 did not come"):
        agree(store, 0, 2, timeout=timedelta(seconds=0.1))
    with pytest.raises(TimeoutError, match="rank 0"):
        agree(store, 1, 2, timeout=timedelta(seconds=0.1))


def test_tokens_of_the_dead_convince_nobody() -> None:
    """Rank 1 of the life before is complete in the store; alone, rank 0 must not take it for alive."""
    store = HashStore()
    met(store, 2)
    with pytest.raises(TimeoutError, match="lost at the start"):
        agree(store, 0, 2, timeout=timedelta(seconds=0.2))
