"""The meeting: a store in which the ranks of this life find each other, and nothing that an earlier life has left.

torchrun keeps one store through all its restarts, and ranks that start again would take what dead ones have written,
such as their addresses, for what the living say (pytorch/pytorch issue 135712).
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from datetime import timedelta
from time import monotonic, sleep

from torch._C._distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from autotrain.world import World

_HERE, _ROSTER, _SEEN, _GO = (f"autotrain/meeting/{name}" for name in ("here", "roster", "seen", "go"))
_PAUSE_S = 0.02


def meet(world: World, *, timeout: timedelta) -> Store:
    """Return a store of this life's ranks alone, through what torchrun has set in the environment.

    Raises:
        RuntimeError: the store or a rank could not be reached in time.
    """
    store, _, _ = next(rendezvous("env://", world.rank, world.world_size, timeout=timeout))
    return PrefixStore(f"autotrain/{agree(store, world.rank, world.world_size, timeout=timeout)}", store)


def agree(store: Store, rank: int, ranks: int, *, timeout: timedelta) -> str:
    """Return a word that the ranks of this life have agreed on, whatever else the store holds.

    Each writes a token of its own. Rank 0 lists those that it finds; a rank confirms a list that has its own token, and
    so has been made in its life; what all have confirmed is the list of the living.

    Raises:
        TimeoutError: a rank did not come in time.
    """
    deadline = monotonic() + timeout.total_seconds()
    token = uuid.uuid4().hex
    store.set(f"{_HERE}/{rank}", token)
    roster = _called(store, ranks, deadline) if rank == 0 else _confirmed(store, rank, token, deadline)
    return hashlib.sha256(roster.encode()).hexdigest()[:16]


def _called(store: Store, ranks: int, deadline: float) -> str:
    """List the tokens anew until all ranks have confirmed the list; return it."""
    here = [f"{_HERE}/{rank}" for rank in range(ranks)]
    seen = [f"{_SEEN}/{rank}" for rank in range(1, ranks)]
    roster = ""
    while True:
        tokens = _values(store, here)
        if tokens is not None and ",".join(tokens) != roster:
            roster = ",".join(tokens)
            store.set(_ROSTER, roster)
        if roster and all(entry == roster for entry in _values(store, seen) or [""] * len(seen)):
            store.set(_GO, roster)
            return roster
        missing = [rank for rank, key in enumerate(here) if not store.check([key])]
        _pause(deadline, f"rank {missing[0]} did not come" if missing else "a rank was lost at the start")


def _confirmed(store: Store, rank: int, token: str, deadline: float) -> str:
    """Confirm lists that have this rank's token, until all have confirmed the last; return it."""
    seen = ""
    while True:
        roster = (_values(store, [_ROSTER]) or [""])[0]
        if roster != seen and token in roster.split(","):
            store.set(f"{_SEEN}/{rank}", roster)
            seen = roster
        if seen and _values(store, [_GO]) == [seen]:
            return seen
        _pause(deadline, "rank 0 or another one did not come")


def _values(store: Store, keys: Sequence[str]) -> list[str] | None:
    """Return what stands under all the keys, None where one is missing."""
    if not store.check(list(keys)):
        return None
    return [store.get(key).decode() for key in keys]


def _pause(deadline: float, words: str) -> None:
    if monotonic() > deadline:
        raise TimeoutError(words)
    sleep(_PAUSE_S)
