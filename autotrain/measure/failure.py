"""Failures: what goes wrong under one candidate's settings is that candidate's, not the probe's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from autotrain.errors import AutotrainError, CandidateError, first_line
from autotrain.team import loss_of_ranks


class RanksLostError(AutotrainError):
    """Other ranks are gone while all measure together: nothing that a candidate did, and nothing goes on."""


@contextmanager
def candidate() -> Iterator[None]:
    """Turn errors of torch (a missing kernel, a full /dev/shm) and of the user's code into a line about the candidate.

    Raises:
        CandidateError: in place of any error that is not autotrain's own.
        RanksLostError: in place of those that say that other ranks are gone.
    """
    try:
        with answered():
            yield
    except AutotrainError:
        raise
    except Exception as problem:
        lines = str(problem).strip().splitlines() or [type(problem).__name__]
        raise CandidateError(lines[0]) from problem


@contextmanager
def answered() -> Iterator[None]:
    """Turn what torch says when other ranks are gone into a line for people.

    Raises:
        RanksLostError: they are gone, or too slow to answer.
    """
    try:
        yield
    except RuntimeError as problem:
        if not loss_of_ranks(problem):
            raise
        raise RanksLostError(
            f"probe: other processes are gone or do not answer ({first_line(problem)}). Start all again"
        ) from problem
