"""Failures: what goes wrong under one candidate's settings is that candidate's, not the probe's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from autotrain.errors import AutotrainError, CandidateError


@contextmanager
def candidate() -> Iterator[None]:
    """Turn errors of torch (a missing kernel, a full /dev/shm) and of the user's code into a line about the candidate.

    Raises:
        CandidateError: in place of any error that is not autotrain's own.
    """
    try:
        yield
    except AutotrainError:
        raise
    except Exception as problem:
        lines = str(problem).strip().splitlines() or [type(problem).__name__]
        raise CandidateError(lines[0]) from problem
