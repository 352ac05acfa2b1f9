"""Failures: what goes wrong under one candidate's settings is that candidate's, not the probe's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from autotrain.errors import CandidateError


@contextmanager
def candidate() -> Iterator[None]:
    """Turn torch's own errors (a kernel that is missing, a full /dev/shm) into one line about the candidate.

    Raises:
        CandidateError: in place of any RuntimeError.
    """
    try:
        yield
    except RuntimeError as problem:
        lines = str(problem).strip().splitlines() or [type(problem).__name__]
        raise CandidateError(lines[0]) from problem
