"""Scaling: what to expect of more ranks, from what a step takes on one and how much travels.

Assumptions, none of them measured where the ranks are not at hand: every rank takes as long as one does here for its
part of the batch, which stays as large; gradients are summed in a ring, in which each rank sends and receives
``2 (n - 1) / n`` times their size in ``2 (n - 1)`` messages (Patarasuk and Yuan, 2009, "Bandwidth optimal all-reduce
algorithms for clusters of workstations"); they may travel while the backward pass goes on, two thirds of a step, but
for the last bucket, which is complete only at its end: after the first step DistributedDataParallel cuts buckets anew,
in the order in which gradients are ready, and what is left for the last one is anything up to a whole bucket, half of
one on average; between machines the slower link counts; loading keeps up.
Ranks on CPUs add up gradients on the cores that they train on, and nothing is hidden.
"""

from __future__ import annotations

from dataclasses import dataclass

BACKWARD = 2 / 3
"""Part of a step's arithmetic that the backward pass is: twice the forward pass."""

BUCKET = 25 << 20
"""Bytes of gradients that DistributedDataParallel sends at a time, unless told otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """What gradients travel over."""

    bytes_per_s: float
    """In one direction, per rank."""

    latency_s: float = 0.0
    """Of a message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaled:
    """What to expect of so many ranks."""

    ranks: int
    exchange_s: float
    """Seconds of a step in which gradients are under way."""

    exposed_s: float
    """Of these, in which nothing else is done."""

    efficiency: float
    """Images per second and rank, over those of one rank alone."""


def scaled(step_s: float, size: int, ranks: int, link: Link, *, hides: bool = True, bucket: int = BUCKET) -> Scaled:
    """Return what to expect.

    Args:
        step_s: seconds of a step of one rank alone, on its part of the batch.
        size: bytes of all gradients as they travel.
        ranks: how many.
        link: the slowest that they share.
        hides: whether the exchange goes on beside the backward pass, as on GPUs.
        bucket: bytes of a bucket as they travel: it is cut before gradients are made smaller for the way.
    """
    exchange_s = _ring_s(size, ranks, link)
    last_s = _ring_s(size if size <= bucket else bucket // 2, ranks, link)
    exposed_s = max(last_s, exchange_s - BACKWARD * step_s) if hides else exchange_s
    return Scaled(ranks=ranks, exchange_s=exchange_s, exposed_s=exposed_s, efficiency=step_s / (step_s + exposed_s))


def link_of(small: tuple[int, float], large: tuple[int, float], ranks: int) -> Link:
    """Return the link that two exchanges tell of, each as its bytes and seconds."""
    (few, few_s), (many, many_s) = small, large
    per_byte = max(1e-15, (many_s - few_s) / (many - few)) * ranks / (2 * (ranks - 1))
    latency_s = max(0.0, few_s / (2 * (ranks - 1)) - few * per_byte / ranks)
    return Link(bytes_per_s=1.0 / per_byte, latency_s=latency_s)


def _ring_s(size: int, ranks: int, link: Link) -> float:
    if ranks == 1:
        return 0.0
    return 2 * (ranks - 1) * (size / ranks / link.bytes_per_s + link.latency_s)
